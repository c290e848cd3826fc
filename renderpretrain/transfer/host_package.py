"""The host's own encoder on the exported file, where its package is installed on this machine.

What cannot be imported or built, whatever the reason, is passed over: the re-statement in
:mod:`dense_voxels` and :mod:`dense_images` has been run by then.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseTensor
from renderpretrain.transfer.architecture import Spec

State = dict[str, Tensor]


def run_host_package(host: str, spec: Spec, state: State, x: SparseTensor) -> Tensor | None:
    """What the host's encoder computes from the file, as ``(B, C, Z, Y, X)``.

    Args:
        host: ``"openpcdet"``, ``"mmdet3d"`` or ``"pointcept"``; others have no package to run here.
        spec: Our encoder.
        state: The file's tensors by the host's keys, without prefix.
        x: Voxels.

    Returns:
        ``None`` where the package is absent, broken, or has no such encoder.

    Raises:
        ValueError: If the package's own encoder does not take the file's tensors.
    """
    whole = spec["kind"] == "SparseUNet" or any(key.startswith("conv_out.") for key in state)
    if host not in RUNNERS or not whole:
        return None
    try:
        network = RUNNERS[host][0](spec, x)
    except Exception:  # an absent package, a broken one, or another version of it
        return None
    found = network.load_state_dict(state, strict=False)
    if found.unexpected_keys:
        raise ValueError(f"verify: {host}'s own encoder has no {found.unexpected_keys[0]}")
    _prepare(network)
    return RUNNERS[host][1](network, x)


def _prepare(network: nn.Module) -> None:
    """Evaluation on a CPU: spconv has one algorithm there, and adds a bias in training mode alone."""
    network.eval()
    native = importlib.import_module("spconv.pytorch").ConvAlgo.Native
    for module in network.modules():
        if hasattr(module, "conv1x1"):
            module.algo = native
            module.train()


def _openpcdet(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("pcdet.models.backbones_3d.spconv_backbone")
    name = "VoxelResBackBone8x" if spec["kind"] == "SparseEncoder" else "VoxelBackBone8x"
    size = importlib.import_module("numpy").array(x.spatial_shape[::-1])
    return getattr(package, name)({}, spec["in_channels"], size)


def _run_openpcdet(network: nn.Module, x: SparseTensor) -> Tensor:
    out = network(
        {
            "voxel_features": x.features,
            "voxel_coords": x.coords.int().contiguous(),
            "batch_size": x.batch_size,
        }
    )
    return _dense(out["encoded_spconv_tensor"])


def _mmdet3d(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("mmdet3d.models.middle_encoders")
    z, y, w = x.spatial_shape
    paddings = [[1] * (len(c) - 1) + [p] for c, p in zip(spec["channels"], spec["paddings"], strict=False)]
    return package.SparseEncoder(
        spec["in_channels"],
        [z + 1, y, w],
        base_channels=spec["channels"][0][0],
        output_channels=spec["out_channels"],
        encoder_channels=spec["channels"],
        encoder_paddings=[*paddings, [1] * len(spec["channels"][-1])],
        block_type="basicblock",
    )


def _run_mmdet3d(network: nn.Module, x: SparseTensor) -> Tensor:
    out = network(x.features, x.coords.int().contiguous(), x.batch_size)
    channels: Any = network.output_channels
    return out.unflatten(1, (channels, -1))


def _pointcept(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("pointcept.models.sparse_unet.spconv_unet_v1m1_base")
    return package.SpUNetBase(
        spec["in_channels"],
        num_classes=0,
        base_channels=spec["stem_channels"],
        channels=spec["channels"],
        layers=spec["depths"],
    )


def _run_pointcept(network: nn.Module, x: SparseTensor) -> Tensor:
    places = x.coords[:, [3, 2, 1]]
    counts = torch.bincount(x.coords[:, 0], minlength=x.batch_size)
    features = network({"grid_coord": places, "feat": x.features, "offset": counts.cumsum(0)})
    return x.with_features(features).dense()


def _dense(x: Any) -> Tensor:
    """The volume of a sparse tensor of spconv's."""
    z, y, w = x.spatial_shape
    return SparseTensor(x.features, x.indices.long(), (z, y, w), x.batch_size).dense()


RUNNERS: dict[
    str, tuple[Callable[[Spec, SparseTensor], nn.Module], Callable[[nn.Module, SparseTensor], Tensor]]
] = {
    "openpcdet": (_openpcdet, _run_openpcdet),
    "mmdet3d": (_mmdet3d, _run_mmdet3d),
    "pointcept": (_pointcept, _run_pointcept),
}
"""How a host's encoder is built and run."""
