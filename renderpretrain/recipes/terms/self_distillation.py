"""A student that sees part of a scene says what its own slow copy says of the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.encoders import FeatureHeads, GridLevel, Level
from renderpretrain.losses import Prototypes, semantic_cosine, standardize
from renderpretrain.recipes.branches import ImageBranch, PointBranch
from renderpretrain.recipes.terms.places import (
    along_rays,
    chosen_levels,
    image_places,
    level_widths,
    read_at_rays,
    read_level,
    world_places,
)
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.teachers import EMATeacher

WEIGHTS: Mapping[str, float] = {"hidden": 1.0, "visible": 0.5, "rendered": 0.5}
"""Of the terms, where nothing else is said."""


class Compared(NamedTuple):
    """A prediction, what it is compared with, and where both count."""

    said: Float[Tensor, "B P C"]
    target: Float[Tensor, "B P C"]
    valid: Bool[Tensor, "B P"]


class SelfDistillation(nn.Module):
    """Predict the features that a slow copy of the encoders has of the whole scene, and render them.

    The copy (:class:`~renderpretrain.teachers.EMATeacher`) sees everything, the student what is not hidden.
    Behind a head of two layers the student's levels, side by side, predict levels of the copy: at returns of
    the key sweep and in images, where things are hidden and where they are not. And the student's features,
    added up along rays by what rays see, predict what the copy says where these end: all rays to a place,
    from wherever, have to show the same. Targets lose what all places have in common
    (:func:`~renderpretrain.losses.standardize`), and are compared by cosine, each level for itself.

    What is rendered is the last level of the points, and with cameras the volume that the recipe renders.

    Args:
        branches: Of the recipe, which holds them; here they are copied.
        channels: Width of the volume that the recipe renders.
        levels: Names of the levels that are predicted, or of parts for all of theirs; by default all.
        weights: Of the terms ``hidden``, ``visible`` and ``rendered``; what is not named is left out.
        hidden_channels: Width of the heads' hidden layer.
        places: Of the world in every sample, and of every image.
        rays: About so many of a sample's are rendered.
        prototypes: Weight of assigning predictions and targets of the last level to 512 directions
            (:class:`~renderpretrain.losses.Prototypes`); 0 leaves it out.
        momentum: Share of its weights that the copy keeps in the first step; it rises to 1.
        updates: Batches of the run, after which it is 1.
        image_size: Height and width, for image networks that take no others.

    Raises:
        ValueError: If there is nothing to copy, a name says no level, a term has another name, or there are
            prototypes of nothing that is predicted.
    """

    def __init__(  # noqa: PLR0913  what is predicted, from what, how much each counts
        self,
        branches: Mapping[str, PointBranch | ImageBranch],
        channels: int,
        *,
        levels: Sequence[str] = (),
        weights: Mapping[str, float] = WEIGHTS,
        hidden_channels: int = 128,
        places: int = 512,
        rays: int = 256,
        prototypes: float = 0.0,
        momentum: float = 0.996,
        updates: int = 1,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_asked(branches, weights, prototypes)
        self.teacher = EMATeacher(nn.ModuleDict(branches), momentum=momentum, updates=updates)
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.places, self.rays, self.prototype_weight = places, rays, prototypes
        widths = level_widths(list(branches.values()), image_size)
        targets = chosen_levels(widths, levels)
        self.from_volume = any(isinstance(branch, ImageBranch) for branch in branches.values())
        self.heads, self.rendered, self.prototypes = (nn.ModuleDict() for _ in range(3))
        for part in ("point", "image"):
            own = {name: width for name, width in targets.items() if name.startswith(f"{part}_")}
            known = [width for name, width in widths.items() if name.startswith(f"{part}_")]
            if own and self.weights.keys() & {"hidden", "visible"}:
                self.heads[part] = FeatureHeads(sum(known), hidden_channels, own)
                if prototypes:
                    self.prototypes[part] = Prototypes(list(own.values())[-1])
            if own and "rendered" in self.weights:
                along = channels if self.from_volume else known[-1]
                self.rendered[part] = FeatureHeads(along, hidden_channels, own)

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms ``self_hidden``, ``self_visible`` and so on.

        In training the copy follows first: the student's weights have been updated since the last step.
        """
        if self.training and torch.is_grad_enabled():
            self.teacher.follow()
        told = self.copied(step)
        parts: dict[str, list[Tensor]] = {}
        for part in self.heads:
            for name, value in self._predicted(part, step, told).items():
                parts.setdefault(name, []).append(value)
        for part in self.rendered:
            parts.setdefault("rendered", []).append(self._along(part, step, told))
        weights = self.weights | {"prototypes": self.prototype_weight}
        return {f"self_{name}": weights[name] * torch.stack(of).mean() for name, of in parts.items()}

    @torch.no_grad()
    def copied(self, step: Step) -> dict[str, Level]:
        """What the copy says of the whole scenes, by the names of the levels. No gradients."""
        found: list[Level] = []
        for branch in self.teacher.copy.children():
            if isinstance(branch, PointBranch):
                masked = step.hidden.voxels
                whole = None if masked is None else replace(masked, hidden=torch.zeros_like(masked.hidden))
                found += branch.levels(step.batch, whole)
            elif isinstance(branch, ImageBranch):
                found += branch.levels(step.batch, None)
        return {level.name: level for level in found}

    def _predicted(self, part: str, step: Step, told: Mapping[str, Level]) -> dict[str, Tensor]:
        """The terms of hidden and of visible places, not weighted."""
        draw = world_places if part == "point" else image_places
        places = draw(step, self.places, "places of self-distillation")
        known = [read_level(level, places) for level in step.levels if level.name.startswith(f"{part}_")]
        compared = [
            Compared(said, standardize(read_level(told[name], places), places.valid), places.valid)
            for name, said in self.heads[part](torch.cat(known, -1)).items()
        ]
        marks = {"hidden": places.hidden, "visible": places.valid & ~places.hidden}
        terms = {
            name: torch.stack([semantic_cosine(c.said, c.target, mark) for c in compared]).mean()
            for name, mark in marks.items()
            if name in self.weights
        }
        if part in self.prototypes:
            terms["prototypes"] = self.prototypes[part](*compared[-1])
        return terms

    def _along(self, part: str, step: Step, told: Mapping[str, Level]) -> Float[Tensor, ""]:
        """The term of features along rays, not weighted."""
        seen = rendering_of(step, self)
        grids = [level for level in step.levels if isinstance(level, GridLevel)]
        volume, grid = (seen.volume, seen.grid) if self.from_volume else (grids[-1].features, grids[-1].grid)
        every = -(-seen.targets.depth.shape[1] // self.rays)
        if not isinstance(volume, Tensor):
            raise ValueError("terms: SelfDistillation renders the last level of points; expected a volume")
        features = along_rays(volume, grid, seen, every)
        valid, views = seen.targets.hit[:, ::every], step.batch.views
        ends = seen.targets.ends[:, ::every]
        if part == "image" and views is not None:
            valid = (seen.targets.rgb_valid & (seen.targets.camera >= 0))[:, ::every]
        terms = []
        for name, said in self.rendered[part](features).items():
            level = told[name]
            if isinstance(level, GridLevel):
                target = level.read(ends)
            else:
                size = step.batch.require_views("a recipe for points").cameras.image_size
                target = read_at_rays(level, seen.targets, size, every)
            terms.append(semantic_cosine(said, standardize(target, valid), valid))
        return torch.stack(terms).mean()


def _check_asked(branches: Mapping[str, nn.Module], weights: Mapping[str, float], prototypes: float) -> None:
    """Raise a ``ValueError`` unless there is something to copy and to predict."""
    if not branches or not set(weights) <= set(WEIGHTS):
        raise ValueError(
            f"branches, weights: expected at least one, and some of {', '.join(WEIGHTS)}; got "
            f"{', '.join(branches) or 'none'} and {', '.join(weights)}"
        )
    if prototypes and not any(weights.get(name) for name in ("hidden", "visible")):
        raise ValueError(
            f"prototypes: expected 0 where neither hidden nor visible places are predicted, got {prototypes}"
        )
