"""NeuS rendering in two passes: even samples find the surface, finer ones gather there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, RaySamples
from renderpretrain.renderers.uniform import check_rays, grid_span
from renderpretrain.renderers.volume import Rendered, render
from renderpretrain.samplers import uniform_positions


class NeuSRenderer(nn.Module):
    """Render an :class:`~renderpretrain.fields.SDFField` within its grid, whatever its law of opacity.

    Args:
        field: The field; its grid bounds the rays.
        num_samples: Even samples between the ray's entry to and exit from the grid.
        num_importance: Samples added where a field of fixed sharpness would be opaque.
        near: Metres in front of the origin that hold nothing (the sensor's own car).
        sharpness: Sharpness of the importance pass in 1/extent of the field; the published code uses 64.
    """

    def __init__(
        self,
        field: SDFField,
        *,
        num_samples: int = 72,
        num_importance: int = 24,
        near: int | float = 1.0,
        sharpness: int | float = 64.0,
    ) -> None:
        super().__init__()
        missing = [name for name in ("grid", "extent", "sdf") if not hasattr(field, name)]
        if missing:
            raise ValueError(
                f"field: expected a field of signed distances such as SDFField, got {type(field).__name__} "
                f"without {', '.join(missing)}; UniformRenderer(field, grid) renders any field"
            )
        self.field = field
        self.num_samples = num_samples
        self.num_importance = num_importance
        self.near = near
        self.sharpness = sharpness

    def forward(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> Rendered:
        """Render ``(B, R)`` rays; with ``seeds`` the even samples are jittered, one offset per ray."""
        return render_samples(self.field, volume, rays, self.sample(volume, rays, seeds))

    @torch.no_grad()
    def sample(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Where along the rays to ask the field. No gradient flows through the choice."""
        seeds = check_rays(volume, self.field.grid, rays, seeds, "NeuSRenderer")
        span = grid_span(self.field.grid, rays, near=self.near)
        positions = uniform_positions(span.near, span.far, self.num_samples, seeds)
        if self.num_importance:
            points = rays.at(positions)
            with torch.autocast(volume.device.type, enabled=False):
                sdf = self.field.sdf(volume.float(), points.flatten(1, 2)).reshape(positions.shape)
            inv_s = self.sharpness / self.field.extent
            positions = ops.neus_upsample(positions, sdf, inv_s, self.num_importance)
        return span.around(positions)


def render_samples(
    field: SDFField, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples
) -> Rendered:
    """Ask the field at the samples and composite its answer."""
    return render(field(volume, rays, samples), samples)
