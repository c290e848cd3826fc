"""Small squares of pixels, for losses that look at more than one pixel at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_count
from renderpretrain.geometry import Rays, Sensors, Views
from renderpretrain.samplers.pixels import colors_at
from renderpretrain.samplers.rays import RayTargets, seeds_of, views_of


@dataclass(frozen=True)
class PatchRays:
    """Camera rays through the pixels of squares, patch by patch and row by row.

    Attributes:
        num_patches: Per sample, over all of its cameras.
        size: Rays along an edge.
        stride: Pixels from one to the next.
        top: Share of the image height, from the top, without patches.
    """

    num_patches: int = 8
    size: int = 8
    stride: int = 2
    top: int | float = 0.2

    def __post_init__(self) -> None:
        check_count("num_patches", self.num_patches)
        if self.size < 3 or self.stride < 1 or not 0 <= self.top < 1:
            raise ValueError(
                "size, stride, top: expected at least 3, at least 1, and a share in [0, 1), got "
                f"{self.size}, {self.stride} and {self.top}"
            )

    def __call__(self, batch: Sensors, seeds: Int[Tensor, " B"] | None = None) -> RayTargets:
        """Draw ``num_patches * size ** 2`` rays per sample; nothing is differentiable.

        Args:
            batch: Views and seeds.
            seeds: One per sample, instead of the batch's.

        Raises:
            ValueError: If there are no views, or patches do not fit into them.
        """
        views, seeds = views_of(batch, "PatchRays"), seeds_of(batch, seeds, self)
        camera, corner = self._corners(views, seeds)
        steps = torch.arange(self.size, device=seeds.device) * self.stride
        square = torch.stack(torch.meshgrid(steps, steps, indexing="ij")[::-1], -1)
        pixels = (corner[:, :, None, None] + square).flatten(1, 3) + 0.5
        camera = camera[..., None].expand(-1, -1, self.size**2).flatten(1)
        # Every camera looks at the pixels of all, and of these its own are taken.
        of_all = pixels[:, None].expand(-1, views.valid.shape[1], -1, -1)
        rays = views.cameras.rays(of_all)
        known = views.seen_at(of_all, views.valid[..., None].expand(of_all.shape[:-1]))
        return RayTargets(
            Rays(own(rays.origins, camera), own(rays.directions, camera)),
            torch.zeros_like(pixels[..., 0]),
            torch.zeros_like(camera, dtype=torch.bool),
            own(colors_at(views.images, of_all), camera),
            own(known[..., None], camera)[..., 0],
            camera,
            pixels,
        )

    def _corners(
        self, views: Views, seeds: Tensor
    ) -> tuple[Int[Tensor, "B patches"], Int[Tensor, "B patches 2"]]:
        """The camera of every patch, of those that there are, and its first pixel ``(u, v)``."""
        height, width = views.cameras.image_size
        first, span = int(height * self.top), (self.size - 1) * self.stride + 1
        if span > min(width, height - first):
            raise ValueError(
                f"size, stride: expected patches that fit into {height - first} x {width} pixels, got {span}"
            )
        which, right, down = ops.uniform(seeds, (3, self.num_patches)).unbind(1)
        ends = views.valid.long().cumsum(1)
        rank = (which * ends[:, -1:]).long()
        camera = torch.searchsorted(ends, rank, right=True).clamp(max=ends.shape[1] - 1)
        u = (right * (width - span + 1)).long().clamp(max=width - span)
        v = (down * (height - first - span + 1)).long().clamp(max=height - first - span) + first
        return camera, torch.stack([u, v], -1)


def own(values: Shaped[Tensor, "B N R C"], camera: Int[Tensor, "B R"]) -> Shaped[Tensor, "B R C"]:
    """Of values for every camera those of each ray's own."""
    return values.gather(1, camera[:, None, :, None].expand(-1, 1, -1, values.shape[-1]))[:, 0]
