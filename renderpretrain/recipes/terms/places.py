"""Where features are compared, and reading them there: places of the world, of images, and rays.

All are drawn from the batch's seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.encoders import GridLevel, GridLevels, ImageLevel, Level, image_levels
from renderpretrain.fields.samples import query_points
from renderpretrain.geometry import RaySamples, VoxelGrid
from renderpretrain.recipes.branches import ImageBranch, PointBranch
from renderpretrain.recipes.terms.rendering import Rendering
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import RayTargets
from renderpretrain.samplers.pixels import draw


@dataclass(frozen=True)
class Places:
    """Where the features of some levels are compared.

    Attributes:
        where: Of grids: ``(x, y, z)`` in metres. Of images: ``(u, v)`` as shares of width and height, the
            cameras' places one behind the other.
        valid: Where there is one.
        hidden: Which of them the step hides from the student.
    """

    where: Float[Tensor, "B P _"]
    valid: Bool[Tensor, "B P"]
    hidden: Bool[Tensor, "B P"]


def world_places(step: Step, count: int, purpose: str) -> Places:
    """Returns of the key sweep within the grid, drawn without replacement.

    Args:
        step: Whose batch and mask.
        count: Places of every sample.
        purpose: What they are drawn for: the same gives the same.
    """
    points = step.batch.points
    if not points.xyz.shape[1]:
        nowhere = points.xyz.new_zeros(len(points.xyz), count, 3)
        none = torch.zeros_like(nowhere[..., 0], dtype=torch.bool)
        return Places(nowhere, none, none)
    chosen, valid = draw(_within(step), count, ops.fold_in(step.batch.seeds, purpose))
    where = points.xyz.gather(1, chosen[..., None].expand(-1, -1, 3))
    masked = step.hidden.points
    hidden = torch.zeros_like(valid) if masked is None else masked.gather(1, chosen) & valid
    return Places(where, valid, hidden)


def _within(step: Step) -> Bool[Tensor, "B P"]:
    """Which returns of the key sweep an encoder of points can see, or lie where something is rendered."""
    points, masked = step.batch.points, step.hidden.voxels
    if masked is not None:
        return points.key & (masked.voxels.point_to_voxel >= 0)
    if step.renderer is not None:
        return points.key & step.renderer.field.grid.contains(points.xyz)
    return points.key


def image_places(step: Step, count: int, purpose: str) -> Places:
    """Places in images, evenly distributed; those that a camera did not see are not valid.

    Args:
        step: Whose batch and mask.
        count: Places of every camera.
        purpose: What they are drawn for: the same gives the same.
    """
    views = step.batch.require_views("a recipe for points")
    cameras = views.valid.shape[1]
    where = ops.uniform(ops.fold_in(step.batch.seeds, purpose), (cameras, count, 2))
    span = ops.constant(views.cameras.image_size[::-1], where)
    valid = views.seen_at(where * span, views.valid[..., None].expand(-1, -1, count))
    hidden = torch.zeros_like(valid)
    patches = step.hidden.patches
    if patches is not None:
        rows, columns = patches.shape[-2:]
        row, column = ((where[..., axis] * n).long() for axis, n in ((1, rows), (0, columns)))
        hidden = patches.flatten(2).gather(2, row * columns + column) & valid
    return Places(where.flatten(1, 2), valid.flatten(1), hidden.flatten(1))


def read_level(level: Level, places: Places) -> Float[Tensor, "B P C"]:
    """A level's features at places of its kind. Differentiable in the features."""
    if isinstance(level, GridLevel):
        return level.read(places.where)
    cameras = level.maps.shape[1]
    each = places.where.unflatten(1, (cameras, -1)).flatten(0, 1)[:, None]
    read = nn.functional.grid_sample(
        level.maps.flatten(0, 1).float(), 2 * each - 1, padding_mode="border", align_corners=False
    )
    return read[:, :, 0].unflatten(0, level.maps.shape[:2]).movedim(2, -1).flatten(1, 2)


def read_at_rays(
    level: ImageLevel, targets: RayTargets, image_size: tuple[int, int], every: int = 1
) -> Float[Tensor, "B _ C"]:
    """A map's features at the pixel of every ``every``-th camera ray, bilinear; of beams they mean nothing.

    Args:
        level: Features that span the images. Differentiable.
        targets: The rays.
        image_size: Height and width of the images, in whose pixels rays are told.
        every: Of how many rays one is read.
    """
    maps = level.maps
    size, cameras, channels, height, width = maps.shape
    pixels, camera = targets.pixels[:, ::every], targets.camera[:, ::every].clamp(min=0)
    u = (pixels[..., 0] / image_size[1] * width - 0.5).clamp(0, width - 1)
    v = (pixels[..., 1] / image_size[0] * height - 0.5).clamp(0, height - 1)
    left, top = u.floor().long(), v.floor().long()
    table = maps.permute(0, 1, 3, 4, 2).reshape(size, cameras * height * width, channels).float()
    total = torch.zeros((), device=maps.device)
    for down in (0, 1):
        for right in (0, 1):
            column, row = (left + right).clamp(max=width - 1), (top + down).clamp(max=height - 1)
            share = (1 - (u - left - right).abs()) * (1 - (v - top - down).abs())
            index = ((camera * height + row) * width + column)[..., None].expand(-1, -1, channels)
            total = total + share[..., None] * table.gather(1, index)
    return total


def along_rays(
    volume: Float[Tensor, "B C Z Y X"], grid: VoxelGrid, seen: Rendering, every: int = 1
) -> Float[Tensor, "B _ C"]:
    """A volume's features along every ``every``-th ray, each place as far as the ray sees it.

    What a ray sees is given: features learn where the surface is, and do not move it. Differentiable in the
    volume.

    Args:
        volume: On the grid.
        grid: Of the volume, which may be another one than the field's.
        seen: The rays of the step.
        every: Of how many rays one is read.

    Raises:
        ValueError: If the renderer has no samples along rays.
    """
    along = seen.rendered.along
    if along is None:
        raise ValueError("terms: expected a renderer with samples along its rays, got one without")
    samples, weights = along.samples, along.weights.detach()[:, ::every]
    kept = RaySamples(*(x[:, ::every] for x in (samples.t_starts, samples.t_ends, samples.valid)))
    with torch.autocast(volume.device.type, enabled=False):
        places, _ = query_points(seen.targets.rays[:, ::every], kept)
        read = grid.read(volume.float(), places).unflatten(1, kept.valid.shape[1:])
        return ops.accumulate(weights, read)


def level_widths(
    branches: Sequence[PointBranch | ImageBranch], image_size: tuple[int, int] | None = None
) -> dict[str, int]:
    """The width of every level that branches say, by its name, in their order.

    Image networks are asked what they say of a small black image.

    Args:
        branches: Of a recipe.
        image_size: Height and width for networks that take images of that size alone.
    """
    found: dict[str, int] = {}
    for branch in branches:
        if isinstance(branch, PointBranch):
            for name, part in branch.encoders().items():
                own = part.level_channels if isinstance(part, GridLevels) else (part.out_channels,)
                found |= {f"{name}/{i}": int(width) for i, width in enumerate(own)}  # type: ignore[arg-type]
        else:
            found |= {level.name: level.channels for level in _tried(branch, image_size)}
    return found


@torch.no_grad()
def _tried(branch: ImageBranch, image_size: tuple[int, int] | None) -> list[ImageLevel]:
    """What an image branch says of a black image, without a trace of it in running statistics."""
    modes = {module: module.training for module in branch.modules()}
    branch.eval()
    small, like = (4 * branch.patch_size,) * 2, next(branch.parameters())
    try:
        return image_levels(branch.backbone, branch.neck, like.new_zeros(1, 1, 3, *small))
    except (ValueError, RuntimeError):  # it takes no images of that size
        return image_levels(branch.backbone, branch.neck, like.new_zeros(1, 1, 3, *(image_size or small)))
    finally:
        for module, mode in modes.items():
            module.training = mode


def chosen_levels(widths: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """Those levels that names say: ``point_neck/3``, or ``point_encoder`` for all of a part; none says all.

    Raises:
        ValueError: If a name says no level.
    """
    for name in names:
        if not any(_says(name, level) for level in widths):
            raise ValueError(f"levels: expected some of {', '.join(widths)}, got {name!r}")
    return {
        level: width
        for level, width in widths.items()
        if not names or any(_says(name, level) for name in names)
    }


def _says(name: str, level: str) -> bool:
    """Whether a name is a level's, or that of its part."""
    return level in (name, f"{name}/{level.rpartition('/')[2]}")
