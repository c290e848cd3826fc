"""Whether other cameras, and the next pictures, show at a rendered place what this pixel shows."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from renderpretrain import losses, ops
from renderpretrain.data import Batch
from renderpretrain.geometry import Views
from renderpretrain.recipes.terms.next_sweep import motion
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import PatchRays, RayTargets

PATCHES, JITTER = "patches of pixels", "samples of patches"
"""Purposes of seeds."""

OPAQUE = 0.5
"""Opacity from which a ray has a place: what meets nothing is sky, and sky is everywhere."""


class ReprojectionTerm(nn.Module):
    """Rendered depth of patches, judged by where neighbors in space and time see their places.

    The photometric term of VisionPAD (https://arxiv.org/abs/2411.14716) after Monodepth2
    (https://arxiv.org/abs/1806.01260): neighbors are the other cameras of the moment and all cameras of the
    next one, where scenes have it. See :func:`~renderpretrain.losses.reprojection`.

    Args:
        sampler: Which patches.
        weight: Of the term.
    """

    def __init__(self, sampler: PatchRays | None = None, *, weight: int | float = 1.0) -> None:
        super().__init__()
        self.sampler = PatchRays() if sampler is None else sampler
        self.weight = weight

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``reprojection``; 0 where no neighbor sees a patch's places."""
        seen, seeds = rendering_of(step, self), step.batch.seeds
        if step.batch.views is None:
            raise ValueError(
                f"scene {step.batch.names[0]!r} has no images: terms.reprojection needs them; set "
                "terms.reprojection=0"
            )
        targets = self.sampler(step.batch, ops.fold_in(seeds, PATCHES))
        rendered = seen.renderer(seen.volume, targets.rays, ops.fold_in(seeds, JITTER))
        error = self.error(step.batch, targets, rendered.depth, rendered.opacity > OPAQUE)
        return {"reprojection": self.weight * error}

    def error(
        self, batch: Batch, targets: RayTargets, depth: Float[Tensor, "B R"], opaque: Bool[Tensor, "B R"]
    ) -> Float[Tensor, ""]:
        """The photometric error of depths along a sampler's rays. Differentiable in depth.

        Args:
            batch: Pictures, and those of the next moment if there are any.
            targets: As the sampler gave them.
            depth: Along the rays, metres.
            opaque: Which rays meet something.
        """
        places = targets.rays.at(depth[..., None])[..., 0, :]
        looks = [_look(neighbor, places, targets) for neighbor in neighbors(batch)]
        warped, valid = (torch.cat(parts, 1) for parts in zip(*looks, strict=True))
        target = self._patches(targets.rgb)
        shape = self._square(targets.rgb_valid)
        return losses.reprojection(
            torch.stack([self._patches(one) for one in warped.unbind(1)], 1),
            torch.stack([self._square(one) for one in valid.unbind(1)], 1),
            target,
            shape & self._square(opaque),
            still=self._still(batch, targets, target),
        )

    def _still(self, batch: Batch, targets: RayTargets, target: Tensor) -> Tensor | None:
        """Error of the same pixels in the next picture of the same camera."""
        after = [neighbor for neighbor in neighbors(batch) if neighbor.next_one]
        if not after:
            return None
        views, known = after[0].views, after[0].known
        pixels = targets.pixels[:, None].expand(-1, views.valid.shape[1], -1, -1)
        colors = _read(views, pixels).gather(1, targets.camera[:, None, :, None].expand(-1, 1, -1, 3))[:, 0]
        there = (known & views.valid).gather(1, targets.camera)
        errors = losses.photometric_errors(self._patches(colors).flatten(0, 1), target.flatten(0, 1))
        return torch.where(self._square(there), errors.view(*target.shape[:2], *target.shape[3:]), 1.0)

    def _patches(self, colors: Float[Tensor, "B R 3"]) -> Float[Tensor, "B P 3 h w"]:
        """Colors of rays as pictures."""
        return self._square(colors).movedim(-1, 2)

    def _square(self, values: Tensor) -> Tensor:
        """Values of rays, patch by patch."""
        size = self.sampler.size
        return values.unflatten(1, (self.sampler.num_patches, size, size))


@dataclass(frozen=True)
class Neighbor:
    """Pictures that may show the places of patches.

    Attributes:
        views: Their cameras are in the world of the patches.
        known: Which samples have them, and which cameras.
        next_one: Whether they are of the next moment.
    """

    views: Views
    known: Bool[Tensor, "B N"]
    next_one: bool = False


def neighbors(batch: Batch) -> list[Neighbor]:
    """The pictures of the moment, and those of the next one where scenes bring them."""
    if batch.views is None:
        return []
    found = [Neighbor(batch.views, batch.views.valid)]
    after = batch.following[0] if batch.following else None
    if after is not None and after.views is not None:
        poses = motion(after, batch)[:, None] @ after.views.cameras.camera_to_world
        views = replace(after.views, cameras=replace(after.views.cameras, camera_to_world=poses))
        followed = ops.constant([float(known) for known in batch.followed], poses) > 0
        if views.valid.shape == batch.views.valid.shape:
            found.append(Neighbor(views, views.valid & followed[:, None], next_one=True))
    return found


def _look(
    neighbor: Neighbor, places: Float[Tensor, "B R 3"], targets: RayTargets
) -> tuple[Float[Tensor, "B N R 3"], Bool[Tensor, "B N R"]]:
    """Colors that every camera shows at places, and where it does; of the own moment not the own camera."""
    pixels, _, inside = neighbor.views.cameras.project(places[:, None])
    seen = neighbor.views.seen_at(pixels, inside & neighbor.known[..., None])
    if not neighbor.next_one:
        cameras = torch.arange(seen.shape[1], device=seen.device)
        seen = seen & (cameras[:, None] != targets.camera[:, None])
    return _read(neighbor.views, torch.where(seen[..., None], pixels, 0.5)), seen


def _read(views: Views, pixels: Float[Tensor, "B N R 2"]) -> Float[Tensor, "B N R 3"]:
    """Colors between pixels' centers. Differentiable in pixels."""
    with torch.autocast(pixels.device.type, enabled=False):
        size = ops.constant(views.cameras.image_size[::-1], pixels)
        places = (2 * pixels / size - 1).flatten(0, 1)[:, :, None]
        images = views.images.flatten(0, 1).float()
        colors = grid_sample(images, places, padding_mode="border", align_corners=False)
        return colors[..., 0].mT.unflatten(0, pixels.shape[:2])
