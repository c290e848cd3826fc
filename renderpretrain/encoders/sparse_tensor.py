"""A volume of which only some voxels exist."""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.checks import check_integer, check_shape, check_volume


@dataclass(frozen=True)
class SparseTensor:
    """Features on the occupied voxels of a batch of volumes.

    Attributes:
        features: One row per occupied voxel.
        coords: ``(b, z, y, x)`` of each row, inside ``batch_size`` and ``spatial_shape``, none twice, in any
            order.
        spatial_shape: ``(Z, Y, X)`` of the volume.
        batch_size: Number of volumes.
        rulebooks: Which voxels each convolution connects, by backend and then by the layer's ``indice_key``,
            so that layers on the same voxels share the search. Layers hand it on; nobody else looks inside.
    """

    features: Float[Tensor, "M C"]
    coords: Int[Tensor, "M 4"]
    spatial_shape: tuple[int, int, int]
    batch_size: int
    rulebooks: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_shape("SparseTensor.features", self.features, "M C")
        check_shape("SparseTensor.coords", self.coords, "M 4", M=len(self.features))
        check_integer("SparseTensor.coords", self.coords)
        check_volume(self.spatial_shape)

    def with_features(self, features: Float[Tensor, "M _"]) -> "SparseTensor":
        """Other features on the same voxels."""
        return replace(self, features=features)

    def dense(self) -> Float[Tensor, "B C Z Y X"]:
        """The volume, zero where no voxel exists. Differentiable in the features.

        In ``torch.channels_last_3d`` memory: a voxel is a row as it is here, a CPU's 3D convolutions run
        twice as fast, and :func:`renderpretrain.ops.grid_sample` reads what comes out of them as it is.
        """
        rows = self.features.new_zeros(self.batch_size, *self.spatial_shape, self.features.shape[1])
        rows[tuple(self.coords.long().unbind(1))] = self.features
        return rows.permute(0, 4, 1, 2, 3)


def check_sparse(x: Any) -> None:
    """Raise ``ValueError`` unless this is a sparse tensor, and not the voxels it is made from."""
    if not isinstance(x, SparseTensor):
        raise ValueError(f"x: expected a SparseTensor, as of voxels.to_sparse(), got {type(x).__name__}")
