"""The host's own encoder on the exported file, where its package is installed on this machine.

What cannot be imported or built, whatever the reason, is passed over: the re-statement has been run by then.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from renderpretrain.encoders import SparseTensor
from renderpretrain.transfer.architecture import Spec
from renderpretrain.transfer.part import Pair, State


@dataclass(frozen=True)
class OwnCode:
    """How a host's own encoder is built and run.

    Attributes:
        host: Its name.
        build: Its network, given ours and the voxels; raises whatever an absent or broken package does.
        run: What that computes of voxels, as ``(B, C, Z, Y, X)``.
    """

    host: str
    build: Callable[[Spec, SparseTensor], nn.Module]
    run: Callable[[nn.Module, SparseTensor], Tensor]

    def beside(self, outputs: Pair, spec: Spec, state: State, x: SparseTensor) -> Pair:
        """The outputs, and once more the last of ours beside the host's own, where it can be run.

        Args:
            outputs: Ours and those of the re-statement.
            spec: Our encoder.
            state: The file's tensors by the host's keys, without prefix.
            x: Voxels.

        Raises:
            ValueError: If the package's own encoder does not take the file's tensors.
        """
        try:
            network = self.build(spec, x)
        except Exception:  # an absent package, a broken one, or another version of it
            return outputs
        found = network.load_state_dict(state, strict=False)
        if found.unexpected_keys:
            raise ValueError(f"verify: {self.host}'s own encoder has no {found.unexpected_keys[0]}")
        _prepare(network)
        return [*outputs[0], outputs[0][-1]], [*outputs[1], self.run(network, x)]


def dense(x: Any) -> Tensor:
    """The volume of a sparse tensor of spconv's."""
    z, y, w = x.spatial_shape
    return SparseTensor(x.features, x.indices.long(), (z, y, w), x.batch_size).dense()


def _prepare(network: nn.Module) -> None:
    """Evaluation on a CPU: spconv has one algorithm there, and adds a bias in training mode alone."""
    network.eval()
    native = importlib.import_module("spconv.pytorch").ConvAlgo.Native
    for module in network.modules():
        if hasattr(module, "conv1x1"):
            module.algo = native
            module.train()
