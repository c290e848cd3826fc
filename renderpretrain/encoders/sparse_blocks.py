"""What sparse encoders are built of: row norms, sequences, residual blocks."""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.sparse_backend import Backend, with_strided
from renderpretrain.encoders.sparse_conv import Size, SparseConv3d, SparseInverseConv3d, SubMConv3d
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.ops.batch_norm import BatchNorm1d


class RowBatchNorm(BatchNorm1d):
    """Batch normalisation over the rows of a sparse tensor, with SECOND's constants.

    With fewer than two rows there is nothing to learn statistics from: the running ones are used and kept.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Float[Tensor, "M C"]) -> Float[Tensor, "M C"]:
        """The rows, normalised over each channel. Differentiable."""
        if len(x) > 1:
            return super().forward(x)
        mean, var = self.running_mean, self.running_var
        return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)


class SparseSequential(nn.Sequential):
    """Modules in order; sparse ones get the sparse tensor, all others its features."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Apply the modules one after the other."""
        for module in self:
            takes_sparse = isinstance(
                module, (SubMConv3d, SparseConv3d, SparseInverseConv3d, SparseSequential, SparseBasicBlock)
            )
            x = module(x) if takes_sparse else x.with_features(module(x.features))
        return x


class SparseBasicBlock(nn.Module):
    """Two submanifold convolutions around a skip; keys ``conv1, bn1, conv2, bn2`` as in mmdetection3d.

    Args:
        channels: Channels in and out.
        indice_key: Shared by everything on the same voxels with the same kernel.
        backend: See :class:`SubMConv3d`.
    """

    def __init__(self, channels: int, *, indice_key: str, backend: Backend = "auto") -> None:
        super().__init__()
        self.conv1 = SubMConv3d(channels, channels, 3, bias=False, indice_key=indice_key, backend=backend)
        self.bn1 = RowBatchNorm(channels)
        self.conv2 = SubMConv3d(channels, channels, 3, bias=False, indice_key=indice_key, backend=backend)
        self.bn2 = RowBatchNorm(channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the same voxels."""
        y = self.conv1(x)
        y = self.conv2(y.with_features(self.bn1(y.features).relu()))
        return y.with_features((self.bn2(y.features) + x.features).relu())


def submanifold_layer(
    in_channels: int, out_channels: int, *, indice_key: str, backend: Backend
) -> SparseSequential:
    """A 3x3x3 submanifold convolution, normalised and rectified; keys ``0`` and ``1``."""
    conv = SubMConv3d(in_channels, out_channels, 3, bias=False, indice_key=indice_key, backend=backend)
    return SparseSequential(conv, RowBatchNorm(out_channels), nn.ReLU())


def strided_layer(
    in_channels: int,
    out_channels: int,
    geometry: tuple[Size, Size, Size],
    *,
    indice_key: str,
    backend: Backend,
) -> SparseSequential:
    """A convolution (kernel size, stride, padding), normalised and rectified; keys ``0`` and ``1``."""
    conv = SparseConv3d(
        in_channels, out_channels, geometry, bias=False, indice_key=indice_key, backend=backend
    )
    return SparseSequential(conv, RowBatchNorm(out_channels), nn.ReLU())


def with_strided_layers(x: SparseTensor, module: nn.Module) -> SparseTensor:
    """The tensor with what the strided convolutions of an encoder make of its voxels, known in advance.

    See :func:`with_strided`; the layers run in the order they were built, the first one on these voxels.
    """
    layers = (layer for layer in module.modules() if isinstance(layer, SparseConv3d))
    return with_strided(x, [(layer.spec, layer.backend) for layer in layers])


def strided_specs(module: nn.Module) -> list[ConvSpec]:
    """The strided convolutions of an encoder, in the order they were built and run."""
    return [layer.spec for layer in module.modules() if isinstance(layer, SparseConv3d)]
