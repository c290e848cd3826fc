"""Where the outputs of strided convolutions lie in the world.

Output ``j`` of a convolution is centred on input ``stride * j - padding + (kernel - 1) / 2``. With kernel 3,
stride 2, padding 1 that is input ``2 j``: the first of the two cells it stands for, not the middle between
them. Three such layers leave the outputs 3.5 input cells below the middle of their blocks of eight, which
nothing downstream can see.
"""

from collections.abc import Callable, Sequence

from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.neighbor_search import Triple


def output_grid(grid: VoxelGrid, convs: Sequence[ConvSpec], shape: tuple[int, int, int]) -> VoxelGrid:
    """The grid on whose voxel centres the last convolution's outputs are centred.

    Args:
        grid: Grid of the first convolution's input.
        convs: Strided convolutions in order; submanifold ones of odd kernels change nothing and may be left
            out.
        shape: ``(Z, Y, X)`` of the first convolution's input; larger than the grid's where empty cells are
            appended.
    """
    first, step = [0.0, 0.0, 0.0], [1, 1, 1]
    for conv in convs:
        shape = conv.output_shape(shape)
        for axis in range(3):
            first[axis] += step[axis] * ((conv.kernel_size[axis] - 1) / 2 - conv.padding[axis])
            step[axis] *= conv.stride[axis]
    return grid_of_outputs(grid, first, step, shape)


def grid_of_outputs(
    grid: VoxelGrid, first: Sequence[int | float], step: Sequence[int], shape: tuple[int, int, int]
) -> VoxelGrid:
    """The grid of outputs ``step`` voxels apart, the first one centred ``first`` voxels from the first voxel.

    Args:
        grid: The voxels'.
        first: ``(z, y, x)``, from centre to centre.
        step: ``(z, y, x)``.
        shape: ``(Z, Y, X)`` of the outputs.
    """
    # Everything above is (z, y, x); the grid counts (x, y, z).
    size = [s * n for s, n in zip(grid.voxel_size, step[::-1], strict=True)]
    lower = [
        low + (f + 0.5) * s - big / 2
        for low, f, s, big in zip(grid.lower, first[::-1], grid.voxel_size, size, strict=True)
    ]
    upper = [low + n * big for low, n, big in zip(lower, shape[::-1], size, strict=True)]
    return VoxelGrid(
        (lower[0], lower[1], lower[2], upper[0], upper[1], upper[2]), (size[0], size[1], size[2])
    )


def covering_shape(shape: tuple[int, int, int], convs: Sequence[ConvSpec]) -> tuple[int, int, int]:
    """The input shape, enlarged by the few cells it takes to get ``ceil(n / total stride)`` outputs per axis.

    SECOND feeds 41 slices where its grid has 40: without the empty one, the outputs of its unpadded third
    layer would end a slice early.
    """
    z, y, x = (_covering_size(n, axis, convs) for axis, n in enumerate(shape))
    return z, y, x


def _covering_size(size: int, axis: int, convs: Sequence[ConvSpec]) -> int:
    """The enlarged size of the input along one axis."""
    total = 1
    for conv in convs:
        total *= conv.stride[axis]
    enlarged = size
    while _output_size(enlarged, axis, convs) < -(-size // total):
        enlarged += 1
    return enlarged


def _output_size(size: int, axis: int, convs: Sequence[ConvSpec]) -> int:
    """Outputs along one axis after all convolutions."""
    for conv in convs:
        size = (size + 2 * conv.padding[axis] - conv.kernel_size[axis]) // conv.stride[axis] + 1
    return size


def strides_of(level_grids: Callable[[VoxelGrid], Sequence[VoxelGrid]]) -> tuple[Triple, ...]:
    """How many cells of its input a cell of every level spans, ``(z, y, x)``.

    Args:
        level_grids: Of a network: the grids of its levels, given that of its input.
    """
    unit = VoxelGrid((0, 0, 0, 64, 64, 64), (1, 1, 1))
    return tuple(
        (round(z), round(y), round(x)) for x, y, z in (grid.voxel_size for grid in level_grids(unit))
    )
