"""What a field says about the samples along rays."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_on_grid, check_shape
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid


@dataclass(frozen=True)
class FieldSamples:
    """A field's answer at every sample.

    Attributes:
        alphas: Opacity of each interval in [0, 1]; 0 where the sample is not valid.
        channels: What is composited along the ray, by name; ``"rgb"`` is colour in [0, 1], ``"semantic"`` an
            embedding.
        sdf: Signed distance at the interval's middle, metres, positive in free space; absent in density
            fields.
        gradients: Derivative of ``sdf`` by position, world axes.
    """

    alphas: Float[Tensor, "*batch S"]
    channels: dict[str, Float[Tensor, "*batch S C"]] = field(default_factory=dict)
    sdf: Float[Tensor, "*batch S"] | None = None
    gradients: Float[Tensor, "*batch S 3"] | None = None


def check_volume(volume: Tensor, grid: VoxelGrid, channels: int | None = None) -> None:
    """Raise ``ValueError`` unless a volume lies on its grid and is as wide as a field reads."""
    check_on_grid("volume", volume, grid.shape)
    if channels is not None:
        check_shape("volume", volume, "B C Z Y X", C=channels)


def check_query(volume: Tensor, rays: Rays, samples: RaySamples) -> None:
    """Raise ``ValueError`` unless there are ``(B, R)`` rays for the ``B`` volumes, and samples on them."""
    check_shape("rays.origins", rays.origins, "B R 3", B=len(volume))
    batch, count = rays.shape
    check_shape("samples.valid", samples.valid, "B R S", B=batch, R=count)


def query_points(rays: Rays, samples: RaySamples) -> tuple[Float[Tensor, "B P 3"], Float[Tensor, "B P 3"]]:
    """Where a field is asked, and in which direction, for ``(B, R, S)`` samples with ``P = R * S``.

    Returns:
        The middles of the intervals, world metres, the origin where a sample is not valid; and the unit
        directions of their rays.
    """
    points = torch.where(samples.valid[..., None], rays.at(samples.t_mids), 0.0)
    directions = rays.directions[:, :, None].expand_as(points)
    return points.flatten(1, 2), directions.flatten(1, 2)


def answer_samples(
    alphas: Float[Tensor, "B P"], channels: dict[str, Float[Tensor, "B P C"]], samples: RaySamples
) -> FieldSamples:
    """Opacities and channels at :func:`query_points`, back in the shape of the samples."""
    shape = samples.valid.shape
    channels = {name: values.reshape(*shape, -1) for name, values in channels.items()}
    return FieldSamples(torch.where(samples.valid, alphas.reshape(shape), 0.0), channels)
