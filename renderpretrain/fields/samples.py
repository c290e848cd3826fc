"""What a field says about the samples along rays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_alike, check_on_grid, check_shape
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid


@dataclass(frozen=True)
class LinearChannel:
    """A channel that is a linear map of values at the samples, which is computed once per ray.

    Compositing is linear: ``sum_i w_i (A x_i + b) = A sum_i w_i x_i + opacity b``. A wide embedding of narrow
    values, such as PonderV2's of 512 channels, so costs what the narrow values cost.

    Attributes:
        inputs: The values ``x``, in parts that lie one behind the other.
        weight: The map ``A``.
        bias: The vector ``b``.
    """

    inputs: tuple[Float[Tensor, "*batch S _"], ...]
    weight: Float[Tensor, "K I"]
    bias: Float[Tensor, " K"]

    def __post_init__(self) -> None:
        width = sum(part.shape[-1] for part in self.inputs)
        check_shape("weight", self.weight, "K I", I=width, K=len(self.bias))

    def at_samples(self) -> Float[Tensor, "*batch S K"]:
        """The channel at every sample. Differentiable."""
        return nn.functional.linear(torch.cat(self.inputs, -1), self.weight, self.bias)

    def composite(
        self, weights: Float[Tensor, "*batch S"], opacity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch K"]:
        """The channel of every ray. Differentiable."""
        mixed = torch.cat([ops.accumulate(weights, part) for part in self.inputs], -1)
        return nn.functional.linear(mixed, self.weight) + opacity[..., None] * self.bias


Channel: TypeAlias = Float[Tensor, "*batch S C"] | LinearChannel
"""What is composited along rays: values at the samples, or a linear map of such values."""


@runtime_checkable
class FieldAnswer(Protocol):
    """What a field says about samples, and how that is composited.

    Attributes:
        channels: What is composited along the ray, by name.
        sdf: Signed distance at the interval's middle, metres; absent in density fields.
        gradients: Derivative of ``sdf`` by position, world axes.
    """

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The further values at the samples, by name."""

    @property
    def sdf(self) -> Float[Tensor, "*batch S"] | None:
        """Signed distances at the samples in metres."""

    @property
    def gradients(self) -> Float[Tensor, "*batch S 3"] | None:
        """Gradients of the signed distance, along the axes of the world."""

    def composite(self, samples: RaySamples) -> ops.Composited:
        """Depth, opacity and every sample's share, in float32 or float64; there are no values."""


@runtime_checkable
class SurfaceField(Protocol):
    """A field whose surface can be a mesh: :class:`~renderpretrain.fields.SDFField` and its like."""

    grid: VoxelGrid

    def surface(
        self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]
    ) -> Float[Tensor, "B P"]:
        """Positive in free space, zero on the surface."""

    def __call__(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples) -> FieldAnswer:
        """The field along rays, with ``"rgb"`` among its channels if it has colour."""


@dataclass(frozen=True)
class FieldSamples:
    """A field's answer at every sample, as opacities.

    Attributes:
        alphas: Opacity of each interval in [0, 1]; 0 where the sample is not valid.
        channels: What is composited along the ray, by name; ``"rgb"`` is colour in [0, 1], ``"semantic"`` an
            embedding.
        sdf: Signed distance at the interval's middle, metres, positive in free space; absent in density
            fields.
        gradients: Derivative of ``sdf`` by position, world axes.
    """

    alphas: Float[Tensor, "*batch S"]
    channels: Mapping[str, Channel] = field(default_factory=dict)
    sdf: Float[Tensor, "*batch S"] | None = None
    gradients: Float[Tensor, "*batch S 3"] | None = None

    def composite(self, samples: RaySamples) -> ops.Composited:
        """Composite by :func:`renderpretrain.ops.composite_values`, with the intervals' middles for ``t``."""
        check_alike(**{"samples.valid": samples.valid, "answer.alphas": self.alphas})
        return ops.composite_values(self.alphas, self.alphas.new_empty(*self.alphas.shape, 0), samples.t_mids)


@dataclass(frozen=True)
class NeuSSamples:
    """A field's answer as signed distances under NeuS's law: composited in one pass, without opacities.

    Attributes:
        sdf: Signed distance at the interval's middle, metres, positive in free space.
        gradients: Derivative of ``sdf`` by position, world axes.
        cosines: Slope of ``sdf`` along the ray.
        inv_s: Sharpness, 1/m.
        samples: The intervals.
        channels: What is composited along the ray, by name.
    """

    sdf: Float[Tensor, "*batch S"]
    gradients: Float[Tensor, "*batch S 3"]
    cosines: Float[Tensor, "*batch S"]
    inv_s: Float[Tensor, ""]
    samples: RaySamples
    channels: Mapping[str, Channel] = field(default_factory=dict)

    def composite(self, samples: RaySamples) -> ops.Composited:
        """Composite by :func:`renderpretrain.ops.neus_render`, with the intervals' middles for ``t``."""
        check_alike(**{"samples.valid": samples.valid, "answer.sdf": self.sdf})
        intervals = self.sdf, self.cosines, samples.deltas, samples.t_mids
        no_values = self.sdf.new_empty(*self.sdf.shape, 0)
        return ops.neus_render(*intervals, self.inv_s, no_values, valid=samples.valid)

    @property
    def alphas(self) -> Float[Tensor, "*batch S"]:
        """Opacity of each interval in [0, 1], computed when asked for; 0 where the sample is not valid."""
        opacities = ops.neus_alphas(self.sdf, self.cosines, self.samples.deltas, self.inv_s)
        return torch.where(self.samples.valid, opacities, 0.0)


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
