"""What a sparse convolution does to voxels: its geometry, and which input meets which output.

Axes are ``(z, y, x)``; kernel cells are counted with x fastest, as the weights are laid out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int, Int32
from torch import Tensor

from renderpretrain import ops
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.ops.neighbor_search import Triple, strided_shape


@dataclass(frozen=True)
class ConvSpec:
    """What a sparse convolution does to voxels, apart from its weights.

    Attributes:
        kind: ``"submanifold"`` keeps the voxels, ``"strided"`` makes those its kernel reaches, ``"inverse"``
            goes back to the voxels a strided one of the same ``indice_key`` came from.
        kernel_size: Per axis.
        stride: Per axis.
        padding: Per axis.
        indice_key: Name under which layers share the search; ``None`` searches anew.
    """

    kind: str
    kernel_size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    indice_key: str | None = None

    @property
    def pointwise(self) -> bool:
        """One kernel cell, and every voxel stays where it is."""
        stays = self.kind == "submanifold" or (self.kind == "strided" and self.stride == (1, 1, 1))
        return stays and self.kernel_size == (1, 1, 1)

    def output_shape(self, shape: Triple) -> Triple:
        """``floor((n + 2 padding - kernel) / stride) + 1`` per axis of a strided convolution."""
        return strided_shape(shape, self.kernel_size, self.stride, self.padding)


@dataclass(frozen=True)
class Rulebook:
    """Who reads whom in a convolution, and the two sets of voxels it connects.

    Attributes:
        inputs: The row each output reads under each kernel cell, -1 for none.
        outputs: The converse, the output that reads a row; ``None`` where that is ``inputs.flip(0)``.
        spec: The convolution it was made for.
        in_coords: Voxels of the input.
        in_shape: Volume of the input.
        out_coords: Voxels of the output.
        out_shape: Volume of the output.
    """

    inputs: Int32[Tensor, "K N"]
    outputs: Int32[Tensor, "K M"] | None
    spec: ConvSpec
    in_coords: Int[Tensor, "M 4"]
    in_shape: Triple
    out_coords: Int[Tensor, "N 4"]
    out_shape: Triple

    def inverted(self) -> "Rulebook":
        """The way back: inputs and outputs exchanged."""
        inputs, outputs = (self.inputs.flip(0), None) if self.outputs is None else (self.outputs, self.inputs)
        return Rulebook(
            inputs, outputs, self.spec, self.out_coords, self.out_shape, self.in_coords, self.in_shape
        )


def submanifold_rulebook(x: SparseTensor, spec: ConvSpec) -> Rulebook:
    """Each voxel reads its occupied neighbours; the kernel's sizes are odd."""
    inputs = ops.submanifold_neighbors(x.coords, (x.batch_size, *x.spatial_shape), spec.kernel_size)
    return Rulebook(inputs, None, spec, x.coords, x.spatial_shape, x.coords, x.spatial_shape)


def strided_rulebook(x: SparseTensor, spec: ConvSpec) -> Rulebook:
    """Every output whose kernel reaches a voxel; the outputs are sorted by position.

    Output ``j`` reads the inputs ``j * stride - padding + k`` for ``k`` in the kernel.
    """
    found = ops.strided_neighbors(
        x.coords, (x.batch_size, *x.spatial_shape), spec.kernel_size, spec.stride, spec.padding
    )
    return _strided(x.coords, x.spatial_shape, spec, found)


def chained_rulebooks(x: SparseTensor, specs: Sequence[ConvSpec]) -> list[Rulebook]:
    """Those of strided convolutions, each of which reads the outputs of the one before; found together."""
    convs = [(spec.kernel_size, spec.stride, spec.padding) for spec in specs]
    chain = ops.strided_chain(x.coords, (x.batch_size, *x.spatial_shape), convs)
    made, coords, shape = list[Rulebook](), x.coords, x.spatial_shape
    for spec, found in zip(specs, chain, strict=True):
        made.append(_strided(coords, shape, spec, found))
        coords, shape = made[-1].out_coords, made[-1].out_shape
    return made


def _strided(
    coords: Int[Tensor, "M 4"], shape: Triple, spec: ConvSpec, found: ops.StridedNeighbors
) -> Rulebook:
    """What was found, with the outputs' numbers of the inputs' type."""
    out_shape, out_coords = spec.output_shape(shape), found.coords.to(coords.dtype)
    return Rulebook(found.inputs, found.outputs, spec, coords, shape, out_coords, out_shape)
