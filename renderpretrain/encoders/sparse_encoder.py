"""Sparse 3D encoders: voxels in, a coarser dense volume out."""

import re
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.encoders.described import (
    SWEEP_COLUMNS,
    Role,
    Sizes,
    State,
    count_numbers,
    side_of,
)
from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.sparse_backend import Backend
from renderpretrain.encoders.sparse_blocks import (
    SparseBasicBlock,
    SparseSequential,
    strided_layer,
    strided_specs,
    submanifold_layer,
    with_strided_layers,
)
from renderpretrain.encoders.sparse_conv import Size
from renderpretrain.encoders.sparse_tensor import SparseTensor, check_sparse
from renderpretrain.encoders.strides import covering_shape, output_grid, strides_of
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.neighbor_search import Triple
from renderpretrain.ops.uncompiled import uncompiled

SECOND_PADDINGS = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
"""``(z, y, x)`` of the strided convolutions of SECOND's line."""


class SparseEncoder(nn.Module):
    """SECOND's residual sparse encoder as UniPAD uses it.

    Keys as in mmdetection3d: ``conv_input``, ``encoder_layers.encoder_layer{i}``, ``conv_out``.

    Every stage but the last ends in a strided 3x3x3 convolution; residual blocks come before it. Per axis a
    stage turns ``n`` cells into ``floor((n + 2 padding - 3) / stride) + 1``. The input is enlarged by empty
    cells at the upper end until the total comes to ``ceil(n / total stride)``: with the defaults 40 x 1440 x
    1440 voxels become 41 x 1440 x 1440, then 21, 11 and 5 slices, and a volume of 5 x 180 x 180.

    Args:
        in_channels: Channels of the voxels.
        out_channels: Channels of the volume.
        channels: Per stage the width of every layer. Residual blocks keep their width, so within a stage only
            the last layer, the strided one, may differ from what comes in; the first stage's first width is
            the stem's.
        strides: ``(z, y, x)`` of every stage but the last.
        paddings: ``(z, y, x)`` of every stage but the last.
        out_geometry: Kernel size, stride and padding of the last convolution: UniPAD's keeps the cells, that
            of SECOND and BEVFusion, ``((3, 1, 1), (2, 1, 1), 0)``, halves the height: 5 slices become 2.
        backend: See :class:`SubMConv3d`.

    Differs from UniPAD in: the mask is applied by the caller, who drops the hidden voxels.
    """

    role: ClassVar[Role] = Role(
        "point_encoder",
        "points",
        columns=SWEEP_COLUMNS,
        input_kernels=("conv_input.0.weight",),
        norm_eps=1e-3,
    )

    def __init__(  # noqa: PLR0913  the layers' sizes are the configuration
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        channels: Sequence[Sequence[int]] = ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        strides: Sequence[Triple] = ((2, 2, 2), (2, 2, 2), (2, 2, 2)),
        paddings: Sequence[Triple] = ((1, 1, 1), (1, 1, 1), (0, 1, 1)),
        out_geometry: tuple[Size, Size, Size] = (1, 1, 0),
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if not len(channels) - 1 == len(strides) == len(paddings):
            raise ValueError(
                f"strides, paddings: expected {len(channels) - 1} each for {len(channels)} stages of "
                f"channels, got {len(strides)} and {len(paddings)}"
            )
        _check_widths(channels)
        width = channels[0][0]
        self.out_channels = out_channels
        self.level_channels = (width, *(widths[-1] for widths in channels), out_channels)
        self.conv_input = submanifold_layer(in_channels, width, indice_key="subm1", backend=backend)
        self.encoder_layers = SparseSequential()
        for i, widths in enumerate(channels):
            key = f"subm{i + 1}"
            kept = widths if i == len(strides) else widths[:-1]
            stage = SparseSequential(*(SparseBasicBlock(w, indice_key=key, backend=backend) for w in kept))
            if i < len(strides):
                geometry, key = (3, strides[i], paddings[i]), f"spconv{i + 1}"
                stage.append(strided_layer(width, widths[-1], geometry, indice_key=key, backend=backend))
            width = widths[-1]
            self.encoder_layers.add_module(f"encoder_layer{i + 1}", stage)
        self.conv_out = strided_layer(
            width, out_channels, out_geometry, indice_key="spconv_out", backend=backend
        )

    @uncompiled
    def forward(self, x: SparseTensor) -> Float[Tensor, "B C Z Y X"]:
        """The volume on :meth:`output_grid`. Differentiable.

        Args:
            x: The visible voxels; none at all is fine.
        """
        return self.conv_out(self.encoder_layers(self._stem(x))).dense()

    @uncompiled
    def levels(self, x: SparseTensor) -> list[SparseTensor]:
        """The results of the stem, of every stage and of the last convolution, fine to coarse.

        The last one as a dense volume is what a call gives.
        """
        levels = [self._stem(x)]
        for layer in (*self.encoder_layers, self.conv_out):
            levels.append(layer(levels[-1]))
        return levels

    def _stem(self, x: SparseTensor) -> SparseTensor:
        """Features of the voxels, on the enlarged grid."""
        check_sparse(x)
        shape = covering_shape(x.spatial_shape, strided_specs(self.encoder_layers))
        enlarged = SparseTensor(x.features, x.coords, shape, x.batch_size)
        return self.conv_input(with_strided_layers(enlarged, self))

    def output_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid on whose centres the volume's values are centred, given the voxels' grid."""
        return self.level_grids(grid)[-1]

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the voxels' grid."""
        shape = covering_shape(grid.shape, strided_specs(self.encoder_layers))
        return _grids_after((self.conv_input, *self.encoder_layers, self.conv_out), grid, shape)

    @property
    def level_strides(self) -> tuple[Triple, ...]:
        """Voxels per cell of every level, ``(z, y, x)``."""
        return strides_of(self.level_grids)

    @property
    def strides(self) -> Triple:
        """Voxels per cell of what a call gives, ``(z, y, x)``."""
        return self.level_strides[-1]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Widths; strides and paddings, which weights do not tell, are those of SECOND's line."""
        channels: list[list[int]] = []
        for i in range(count_numbers(state, r"encoder_layers\.encoder_layer(\d+)\.", first=1)):
            stage = f"encoder_layers.encoder_layer{i + 1}"
            widths = []
            for j in range(count_numbers(state, rf"{re.escape(stage)}\.(\d+)\.")):
                key = f"{stage}.{j}.0.weight"
                widths.append(side_of(state, key if key in state else f"{stage}.{j}.conv1.weight", 0))
            channels.append(widths)
        ends = "conv_out.0.weight" in state
        kernel = tuple(state["conv_out.0.weight"].shape[1:4]) if ends else (1, 1, 1)
        flat = kernel == (1, 1, 1)
        return {
            "in_channels": side_of(state, "conv_input.0.weight", 4),
            "out_channels": side_of(state, "conv_out.0.weight", 0) if ends else 256,
            "channels": channels,
            "strides": [[2, 2, 2]] * (len(channels) - 1),
            "paddings": [list(p) for p in SECOND_PADDINGS[: len(channels) - 1]],
            "out_geometry": [1, 1, 0] if flat else [list(kernel), [1 if k == 1 else 2 for k in kernel], 0],
        }

    @property
    def sizes(self) -> Sizes:
        """All arguments, its own strides and paddings among them."""
        *specs, out = strided_specs(self)
        return {
            **self.sizes_of(self.state_dict()),
            "strides": [list(s.stride) for s in specs],
            "paddings": [list(s.padding) for s in specs],
            "out_geometry": [list(out.kernel_size), list(out.stride), list(out.padding)],
        }


class VoxelBackBone8x(nn.Module):
    """The sparse backbone of OpenPCDet's SECOND, PV-RCNN and CenterPoint, with its keys.

    Three stages halve all axes, the fourth leaves z unpadded, and ``conv_out`` halves z once more: 41 x 1600
    x 1408 cells become 2 x 200 x 176. As there, one empty slice is appended to the grid.

    Args:
        in_channels: Channels of the voxels.
        backend: See :class:`SubMConv3d`.
    """

    role: ClassVar[Role] = Role(
        "point_encoder",
        "points",
        columns=SWEEP_COLUMNS,
        input_kernels=("conv_input.0.weight",),
        norm_eps=1e-3,
    )

    def __init__(self, in_channels: int, *, backend: Backend = "auto") -> None:
        super().__init__()
        self.out_channels = 128
        self.level_channels = (16, 32, 64, 64, 128)
        self.conv_input = submanifold_layer(in_channels, 16, indice_key="subm1", backend=backend)
        self.conv1 = SparseSequential(submanifold_layer(16, 16, indice_key="subm1", backend=backend))
        self.conv2 = _openpcdet_stage(16, 32, (1, 1, 1), "2", backend)
        self.conv3 = _openpcdet_stage(32, 64, (1, 1, 1), "3", backend)
        self.conv4 = _openpcdet_stage(64, 64, (0, 1, 1), "4", backend)
        self.conv_out = strided_layer(
            64, 128, ((3, 1, 1), (2, 1, 1), 0), indice_key="spconv_down2", backend=backend
        )

    def forward(self, x: SparseTensor) -> Float[Tensor, "B C Z Y X"]:
        """The volume on :meth:`output_grid`. Differentiable."""
        return self.levels(x)[-1].dense()

    @uncompiled
    def levels(self, x: SparseTensor) -> list[SparseTensor]:
        """Results of ``conv1`` to ``conv4`` and ``conv_out``, at horizontal strides 1, 2, 4, 8, 8.

        The last one as a dense volume is what a call gives.
        """
        check_sparse(x)
        z, y, w = x.spatial_shape
        enlarged = SparseTensor(x.features, x.coords, (z + 1, y, w), x.batch_size)
        x1 = self.conv1(self.conv_input(with_strided_layers(enlarged, self)))
        x2 = self.conv2(x1)
        x3 = self.conv3(x2)
        x4 = self.conv4(x3)
        return [x1, x2, x3, x4, self.conv_out(x4)]

    def output_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid on whose centres the volume's values are centred, given the voxels' grid."""
        return self.level_grids(grid)[-1]

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the voxels' grid."""
        z, y, x = grid.shape
        layers = (self.conv1, self.conv2, self.conv3, self.conv4, self.conv_out)
        return _grids_after(layers, grid, (z + 1, y, x))

    @property
    def level_strides(self) -> tuple[Triple, ...]:
        """Voxels per cell of every level, ``(z, y, x)``."""
        return strides_of(self.level_grids)

    @property
    def strides(self) -> Triple:
        """Voxels per cell of what a call gives, ``(z, y, x)``."""
        return self.level_strides[-1]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """The input's channels; all others are fixed."""
        return {"in_channels": side_of(state, "conv_input.0.weight", 4)}

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""
        return self.sizes_of(self.state_dict())


def _grids_after(
    layers: Sequence[nn.Module], grid: VoxelGrid, shape: tuple[int, int, int]
) -> list[VoxelGrid]:
    """The grid of what each of the layers gives, one after the other.

    Args:
        layers: In order.
        grid: Of the first one's input.
        shape: Of the first one's input, with the empty cells that are appended.
    """
    specs: list[ConvSpec] = []
    grids = []
    for layer in layers:
        specs += strided_specs(layer)
        grids.append(output_grid(grid, specs, shape))
    return grids


def _openpcdet_stage(
    in_channels: int, out_channels: int, padding: Triple, number: str, backend: Backend
) -> SparseSequential:
    """A strided layer and two on the voxels it makes."""
    key = f"subm{number}"
    return SparseSequential(
        strided_layer(
            in_channels, out_channels, (3, 2, padding), indice_key=f"spconv{number}", backend=backend
        ),
        submanifold_layer(out_channels, out_channels, indice_key=key, backend=backend),
        submanifold_layer(out_channels, out_channels, indice_key=key, backend=backend),
    )


def _check_widths(channels: Sequence[Sequence[int]]) -> None:
    """Raise unless every residual block gets the width it keeps."""
    width = channels[0][0]
    for i, widths in enumerate(channels):
        kept = widths if i == len(channels) - 1 else widths[:-1]
        if any(w != width for w in kept):
            raise ValueError(
                f"channels: expected residual blocks of width {width} in stage {i + 1}, got {tuple(widths)}"
            )
        width = widths[-1]
