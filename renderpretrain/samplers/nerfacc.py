"""To and from nerfacc (https://github.com/nerfstudio-project/nerfacc): packed samples and occupancy grids.

nerfacc keeps the samples of all rays in one list, each with the number of its ray; here they are dense,
``(B, R, S)`` with a mask. ``values[samples.valid]`` is the list of any values of samples, in the order of
:func:`to_packed`. Neither function needs nerfacc; :func:`to_estimator` does.
"""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_alike, check_shape
from renderpretrain.geometry import RaySamples, VoxelGrid


class PackedSamples(NamedTuple):
    """Samples as nerfacc has them; its functions take the three in this order or by these names.

    Attributes:
        ray_indices: The ray of each sample, which rises; rays of a batch are counted through.
        t_starts: Where each interval begins, metres.
        t_ends: Where it ends.
    """

    ray_indices: Int[Tensor, " M"]
    t_starts: Float[Tensor, " M"]
    t_ends: Float[Tensor, " M"]


def to_packed(samples: RaySamples) -> PackedSamples:
    """The samples that are valid, one after the other; on a GPU this waits for their number.

    Args:
        samples: Of any leading axes, such as ``(B, R, S)``. Differentiable in both ends.
    """
    valid = samples.valid.flatten(0, -2) if samples.valid.ndim > 1 else samples.valid[None]
    ray_indices = valid.nonzero()[:, 0]
    return PackedSamples(ray_indices, samples.t_starts[samples.valid], samples.t_ends[samples.valid])


def from_packed(
    ray_indices: Int[Tensor, " M"],
    t_starts: Float[Tensor, " M"],
    t_ends: Float[Tensor, " M"],
    rays: Sequence[int],
    *,
    capacity: int | None = None,
) -> RaySamples:
    """Dense samples of what ``OccGridEstimator.sampling`` gives. Differentiable in both ends.

    Args:
        ray_indices: The ray of each sample; they rise, as nerfacc gives them.
        t_starts: Where each interval begins, metres, near to far on a ray.
        t_ends: Where it ends.
        rays: Sizes of the leading axes, such as ``(B, R)``.
        capacity: Slots per ray; a ray with more samples keeps the first. By default as many as the ray with
            most samples needs. Indices are looked at, which waits for a GPU.

    Returns:
        Samples ``(*rays, S)``. Slots without one are not valid, and begin and end at 0.

    Raises:
        ValueError: If indices do not rise or name no ray, or the slots are none.
    """
    count = check_shape("ray_indices", ray_indices, "M")["M"]
    check_shape("t_starts", t_starts, "M", M=count)
    check_alike(t_starts=t_starts, t_ends=t_ends)
    total = 1
    for size in rays:
        total *= size
    if count and not bool((ray_indices[1:] >= ray_indices[:-1]).all()):
        raise ValueError("ray_indices: expected indices that rise, as nerfacc gives them")
    if count and not 0 <= int(ray_indices[0]) <= int(ray_indices[-1]) < total:
        got = f"{int(ray_indices[0])} to {int(ray_indices[-1])}"
        raise ValueError(f"ray_indices: expected rays from 0 to {total - 1}, got {got}")
    per_ray = torch.bincount(ray_indices, minlength=total)
    slots = int(per_ray.max()) if capacity is None and total else capacity or 0
    if capacity is not None and capacity < 1:
        raise ValueError(f"capacity: expected at least 1, got {capacity}")
    place = torch.arange(count, device=ray_indices.device) - (per_ray.cumsum(0) - per_ray)[ray_indices]
    kept = place < slots
    at = ray_indices[kept], place[kept]
    starts, ends = (
        t.new_zeros(total, slots).index_put(at, t[kept]).unflatten(0, tuple(rays)) for t in (t_starts, t_ends)
    )
    valid = torch.arange(slots, device=ray_indices.device) < per_ray[:, None]
    return RaySamples(starts, ends, valid.unflatten(0, tuple(rays)))


def from_estimator(estimator: Any, level: int = 0) -> tuple[VoxelGrid, Bool[Tensor, "Z Y X"]]:
    """The voxels that an ``OccGridEstimator`` looks into, which a CPU can march through, too.

    ``Occupied(grid, occupied[None], step=...)`` samples there; nerfacc's own ``sampling`` needs CUDA.

    Args:
        estimator: ``nerfacc.OccGridEstimator``.
        level: Of its grids, each twice as large as the one before.

    Returns:
        The grid, and which of its voxels are occupied.

    Raises:
        ValueError: If it has no such level.
    """
    if not 0 <= level < len(estimator.binaries):
        raise ValueError(f"level: expected 0 to {len(estimator.binaries) - 1}, got {level}")
    low_x, low_y, low_z, high_x, high_y, high_z = (float(x) for x in estimator.aabbs[level])
    x, y, z = (int(n) for n in estimator.resolution)
    size = ((high_x - low_x) / x, (high_y - low_y) / y, (high_z - low_z) / z)
    grid = VoxelGrid((low_x, low_y, low_z, high_x, high_y, high_z), size)
    return grid, estimator.binaries[level].permute(2, 1, 0).contiguous()


def to_estimator(grid: VoxelGrid, occupied: Bool[Tensor, "Z Y X"]) -> Any:
    """An ``OccGridEstimator`` of one level that looks into these voxels.

    Args:
        grid: Where they are.
        occupied: Which of them hold something.

    Raises:
        ValueError: If the voxels are not the grid's, or nerfacc is not installed.
    """
    if tuple(occupied.shape) != grid.shape:
        raise ValueError(f"occupied: expected {grid.shape} as the grid has it, got {tuple(occupied.shape)}")
    try:
        library = importlib.import_module("nerfacc")
    except Exception as error:  # a broken binary package raises anything
        reason = str(error).partition("\n")[0]
        raise ValueError(f'to_estimator: needs pip install "renderpretrain[nerfacc]" ({reason})') from error
    estimator = library.OccGridEstimator(list(grid.point_cloud_range), list(grid.shape[::-1]))
    estimator = estimator.to(occupied.device)
    binaries = occupied.permute(2, 1, 0)
    estimator.binaries.copy_(binaries[None])
    estimator.occs.copy_(binaries.flatten())
    return estimator
