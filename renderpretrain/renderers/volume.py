"""Volume rendering: what a field says along a ray, summed to one value per ray."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_alike
from renderpretrain.fields import FieldAnswer, LinearChannel
from renderpretrain.geometry import Rays, RaySamples
from renderpretrain.renderers.front_to_back import UNSEEN, ask_front_to_back
from renderpretrain.samplers import RaySampler


@dataclass(frozen=True)
class AlongRays:
    """What lies along the rays, for losses on samples.

    Attributes:
        samples: Where the samples were.
        weights: Share of every sample.
        field: The field's answer at them.
    """

    samples: RaySamples
    weights: Float[Tensor, "*batch S"]
    field: FieldAnswer


@dataclass(frozen=True)
class Rendered:
    """One value per ray, whatever rendered it.

    Attributes:
        depth: Expected distance along the unit ray given a hit, metres: divided by the opacity, so that it
            says where a surface would be however faint it is, and by itself asks for none. 0 where the
            opacity is 0 exactly; where a ray hits something is ``opacity > 0.5``.
        opacity: Share of the light that is stopped, in [0, 1].
        channels: What was composited, by name: ``"rgb"``, ``"semantic"``, anything of the field's.
        along: What lies along the rays; ``None`` of a renderer that has no samples, such as a rasteriser.
    """

    depth: Float[Tensor, "*batch"]
    opacity: Float[Tensor, "*batch"]
    channels: dict[str, Float[Tensor, "*batch C"]] = dataclasses.field(default_factory=dict)
    along: AlongRays | None = None

    @property
    def normals(self) -> Float[Tensor, "*batch 3"] | None:
        """Composited unit normals, computed when asked for; ``None`` for a field without gradients."""
        if "normals" in self.channels or self.along is None or self.along.field.gradients is None:
            return self.channels.get("normals")
        weights = self.along.weights
        with torch.autocast(weights.device.type, enabled=False):
            return ops.accumulate(weights, nn.functional.normalize(self.along.field.gradients, dim=-1))

    @property
    def rgb(self) -> Float[Tensor, "*batch 3"] | None:
        """Composited colour in [0, 1], or ``None`` for a field without colour."""
        return self.channels.get("rgb")


def render(
    answer: FieldAnswer, samples: RaySamples, *, background: Sequence[int | float] | None = None
) -> Rendered:
    """Composite a field's answer, in float32 whatever the autocast state.

    Differentiable in everything the field gave.

    Args:
        answer: What the field says; it knows how it is composited.
        samples: Where it was asked.
        background: RGB in [0, 1] that is seen where nothing stops a ray; black by default.
    """
    said = answer.channels
    for name, channel in said.items():
        parts = channel.inputs if isinstance(channel, LinearChannel) else (channel,)
        for part in parts:
            check_alike(**{"samples.valid": samples.valid, f"channels[{name!r}]": part[..., 0]})
    with torch.autocast(samples.t_starts.device.type, enabled=False):
        _, depth, opacity, weights = answer.composite(samples)
        channels = {
            name: channel.composite(weights, opacity)
            if isinstance(channel, LinearChannel)
            else ops.accumulate(weights, channel)
            for name, channel in said.items()
        }
        if background is not None and "rgb" in channels:
            color = ops.constant([float(x) for x in background], depth)
            channels["rgb"] = channels["rgb"] + (1 - opacity)[..., None] * color
    return Rendered(depth, opacity, channels, AlongRays(samples, weights, answer))


Field = TypeVar("Field", bound=Callable[[Tensor, Rays, RaySamples], FieldAnswer])


class VolumeRenderer(nn.Module, Generic[Field]):
    """A field, and where along rays it is asked.

    Args:
        field: Any field: ``(volume, rays, samples) -> FieldAnswer``.
        sampler: ``(volume, rays, seeds) -> RaySamples``, see :mod:`renderpretrain.samplers.along`.
        background: RGB in [0, 1] that is seen where nothing stops a ray; black by default.

    Raises:
        ValueError: If the sampler has no grid to sample, or the background is no color.
    """

    def __init__(
        self,
        field: Field,
        sampler: RaySampler,
        *,
        background: Sequence[int | float] | None = None,
    ) -> None:
        super().__init__()
        if background is not None and (len(background) != 3 or not all(0 <= x <= 1 for x in background)):
            raise ValueError(f"background: expected RGB in [0, 1], got {background}")
        if isinstance(sampler, type) or isinstance(getattr(sampler, "grid", None), int | float):
            got = sampler.__name__ if isinstance(sampler, type) else repr(sampler)
            raise ValueError(f"sampler: expected one made with a VoxelGrid, such as Even(grid), got {got}")
        self.field = field
        self.sampler = sampler
        self.background = background

    def forward(
        self,
        volume: Float[Tensor, "B C Z Y X"],
        rays: Rays,
        seeds: Int[Tensor, " B"] | None = None,
        *,
        sampler: RaySampler | None = None,
        early_stop: float = 0.0,
    ) -> Rendered:
        """Render rays.

        Args:
            volume: What the field reads.
            rays: ``(B, R)`` of them.
            seeds: With seeds the samples are jittered.
            sampler: Of this call, in place of the renderer's own.
            early_stop: Share of the light in [0, 1) below which a ray ends: the field is asked in runs of
                samples from front to back, and not behind the end, where samples are not valid afterwards.
                0 asks about all at once, as losses on samples need it.

        Raises:
            ValueError: If ``early_stop`` is no such share.
        """
        if not 0 <= early_stop < 1:
            raise ValueError(f"early_stop: expected a share in [0, 1), got {early_stop}")
        # As kernels read it: once for sampler and field, and once on the way back.
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
        samples = (self.sampler if sampler is None else sampler)(volume, rays, seeds)
        answer: FieldAnswer
        if early_stop:
            answer, samples = ask_front_to_back(self.field, volume, rays, samples, early_stop)
        else:
            answer = self.field(volume, rays, samples)
        return render(answer, samples, background=self.background)

    def picture(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> Rendered:
        """Render rays of a picture: without gradients they end where nothing is seen any more.

        Args:
            volume: What the field reads.
            rays: ``(B, R)`` of them.
            seeds: With seeds the samples are jittered.
        """
        return self(volume, rays, seeds, early_stop=0.0 if torch.is_grad_enabled() else UNSEEN)
