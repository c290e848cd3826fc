"""A field asked from front to back, and not where nothing is seen any more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.fields import Channel, FieldAnswer, LinearChannel
from renderpretrain.geometry import Rays, RaySamples

RUNS = 4
"""Into how many runs a ray's samples are cut: more save little, and each is asked for by itself."""

UNSEEN = 1e-4
"""Light behind which a picture ends: it changes no color by a step of 1 / 255, and 50 m by 5 mm."""


@dataclass(frozen=True)
class FrontToBack:
    """What a field says about runs of samples that lie one behind the other along the same rays.

    Attributes:
        runs: Answers, and what is seen of each run alone, near to far.
    """

    runs: tuple[tuple[FieldAnswer, ops.Composited], ...]

    @property
    def channels(self) -> dict[str, Channel]:
        """The further values at all samples, by name."""
        names = self.runs[0][0].channels
        return {name: _joined([answer.channels[name] for answer, _ in self.runs]) for name in names}

    @property
    def sdf(self) -> Float[Tensor, "*batch S"] | None:
        """Signed distances at all samples in metres."""
        parts = [answer.sdf for answer, _ in self.runs if answer.sdf is not None]
        return torch.cat(parts, -1) if parts else None

    @property
    def gradients(self) -> Float[Tensor, "*batch S 3"] | None:
        """Gradients of the signed distance, along the axes of the world."""
        parts = [answer.gradients for answer, _ in self.runs if answer.gradients is not None]
        return torch.cat(parts, -2) if parts else None

    def composite(self, samples: RaySamples) -> ops.Composited:
        """Depth, opacity and shares of all samples, from those of every run and the light that reaches it."""
        passed = samples.t_starts.new_ones(samples.t_starts.shape[:-1])
        depth, opacity, weights = torch.zeros_like(passed), torch.zeros_like(passed), []
        for _, found in self.runs:
            share = passed * found.opacity
            weights.append(passed[..., None] * found.weights)
            depth, opacity = depth + share * found.depth, opacity + share
            passed = passed * (1 - found.opacity)
        expected = torch.where(opacity > 0, depth / torch.where(opacity > 0, opacity, 1.0), 0.0)
        return ops.Composited(passed.new_empty(*passed.shape, 0), expected, opacity, torch.cat(weights, -1))


def ask_front_to_back(
    field: Callable[[Tensor, Rays, RaySamples], FieldAnswer],
    volume: Float[Tensor, "B C Z Y X"],
    rays: Rays,
    samples: RaySamples,
    early_stop: float,
) -> tuple[FrontToBack, RaySamples]:
    """Ask a field about one run of samples after the other, until no ray lets more light through.

    Args:
        field: ``(volume, rays, samples) -> FieldAnswer``, which says of a sample what it says whatever others
            are asked about.
        volume: What it reads.
        rays: ``(B, R)`` of them.
        samples: On them.
        early_stop: Share of the light below which a ray has ended.

    Returns:
        The answers, and the samples of which those behind the end are not valid.
    """
    passed = samples.t_starts.new_ones(samples.t_starts.shape[:-1])
    length = -(-samples.t_starts.shape[-1] // RUNS)
    runs, valid = [], []
    for parts in zip(
        *(x.split(length, -1) for x in (samples.t_starts, samples.t_ends, samples.valid)), strict=True
    ):
        run = RaySamples(parts[0], parts[1], parts[2] & (passed >= early_stop)[..., None])
        answer = field(volume, rays, run)
        with torch.autocast(volume.device.type, enabled=False):
            found = answer.composite(run)
        passed = passed * (1 - found.opacity)
        runs.append((answer, found))
        valid.append(run.valid)
    return FrontToBack(tuple(runs)), RaySamples(samples.t_starts, samples.t_ends, torch.cat(valid, -1))


def _joined(parts: list[Tensor | LinearChannel]) -> Channel:
    """A channel of all samples from those of the runs."""
    first = parts[0]
    if not isinstance(first, LinearChannel):
        return torch.cat([part for part in parts if isinstance(part, Tensor)], -2)
    pieces = zip(*(part.inputs for part in parts if isinstance(part, LinearChannel)), strict=True)
    return LinearChannel(tuple(torch.cat(piece, -2) for piece in pieces), first.weight, first.bias)
