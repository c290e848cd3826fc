"""Does what the sensors saw lie where the recipe looks? If not, nothing can be learned, and this says why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from pydantic import BaseModel
from torch import Tensor, nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.recipe import DrawsRays, HasGrid, settings_of
from renderpretrain.samplers import in_range
from renderpretrain.training.order import held_out_batch

SAMPLED_SCENES = 3
"""How many scenes are compared, evenly spread over the data set."""

FEW, OUTSIDE = 0.05, 0.05
"""Shares of the points that are worth a word: so few inside, so many outside of the range."""


@dataclass(frozen=True)
class Overlap:
    """How a recipe's ranges and a few scenes go together.

    Attributes:
        points: How many the scenes have.
        inside: How many of them lie in the recipe's grid; ``None`` where it has none.
        reached: How many lie between the radii that the settings name; ``None`` where they name none.
        spans: What the points span, as text.
        box: The recipe's range, as text.
        radii: The settings' radii, as text.
        rays: How many rays the recipe drew.
        hits: How many of them end on something measured, within the range.
    """

    points: int
    inside: int | None
    reached: int | None
    spans: str
    box: str
    radii: str
    rays: int = 0
    hits: int = 0

    @property
    def reason(self) -> str:
        """Why nothing is learned, and which setting to change; empty where the ranges are not at fault."""
        if not self.points:
            return "the scenes have no points"
        if self.inside == 0:
            return (
                f"point_cloud_range: none of {self.points:,} points lies in {self.box}; "
                f"they span {self.spans}: "
                "set point_cloud_range, and voxel sizes with it, to what the data spans (is its unit metres?)"
            )
        if self.reached == 0:
            return (
                f"{self.radii}: none of {self.points:,} points is so far from its sensor; they span "
                f"{self.spans}: set it to what the data spans"
            )
        return ""

    @property
    def figures(self) -> str:
        """So many rays, so many in range."""
        told = [f"{self.hits:,} of {self.rays:,} rays end on a return in range"] if self.rays else []
        if self.inside is not None:
            told.append(f"{self.inside:,} of {self.points:,} points lie in {self.box}")
        if self.reached is not None:
            told.append(f"{self.reached:,} lie within {self.radii}")
        return "; ".join([*told, f"the points span {self.spans}"])


def measure_overlap(recipe: nn.Module, dataset: SceneDataset, count: int, *, draw: bool = True) -> Overlap:
    """Compare the ranges of a recipe with a few of the first ``count`` scenes; draws no random numbers.

    Args:
        recipe: With a ``grid``, and settings in ``config``, where it has them.
        dataset: The scenes.
        count: How many are trained on.
        draw: Also draw the recipe's rays.
    """
    grid = recipe.grid if isinstance(recipe, HasGrid) else None
    device = _device(recipe) if draw else torch.device("cpu")
    near, far = (_setting(recipe, name) for name in ("near_radius", "far_radius"))
    least, most = near[1] if near else -1.0, far[1] if far else float("inf")
    everything, inside, reached, rays, hits = [], 0, 0, 0, 0
    for index in range(0, count, -(-count // SAMPLED_SCENES)):
        batch = held_out_batch(dataset, index).to(device)
        valid, points = batch.points.valid, batch.points.xyz
        everything.append(points[valid].cpu())
        inside += 0 if grid is None else int((grid.contains(points) & valid).sum())
        reached += int((in_range(batch.points, least, most) & valid).sum())
        hit = _hits(recipe, batch) if draw else None
        rays += 0 if hit is None else hit.numel()
        hits += 0 if hit is None else int(hit.sum())
    known, radii = torch.cat(everything), [f"{part[0]}={part[1]:g} m" for part in (near, far) if part]
    return Overlap(
        points=len(known),
        inside=None if grid is None else inside,
        reached=reached if radii else None,
        spans=_spans(known),
        box=_box(grid),
        radii=", ".join(radii),
        rays=rays,
        hits=hits,
    )


def check_overlap(seen: Overlap, recipe: nn.Module) -> str:
    """What is worth a word before the first step; empty if nothing is.

    Raises:
        ValueError: If no point lies where the recipe looks, though it learns from them; says what they
            span.
    """
    if seen.points and seen.reason and (seen.inside == 0 or _learns_depth(recipe)):
        raise ValueError(seen.reason)
    shares = [n / seen.points for n in (seen.inside, seen.reached) if n is not None and seen.points]
    if shares and min(shares) < FEW:
        return f"little of the data is in range: {seen.figures}"
    outside = 0.0 if seen.inside is None or not seen.points else 1 - seen.inside / seen.points
    if outside < OUTSIDE:
        return ""
    return (
        f"{outside:.1%} of the points lie outside of point_cloud_range ({seen.box}); they span {seen.spans}"
    )


def _learns_depth(recipe: nn.Module) -> bool:
    """Whether a recipe asks for measured depth; so does one that does not say."""
    return bool(getattr(getattr(settings_of(recipe), "losses", None), "depth", 1))


def _hits(recipe: nn.Module, batch: Batch) -> Bool[Tensor, "B R"] | None:
    """Which of the recipe's rays end on something measured."""
    if not isinstance(recipe, DrawsRays):
        return None
    with torch.no_grad():
        return recipe.targets(batch).hit


def _device(recipe: nn.Module) -> torch.device:
    """The device on which the recipe computes."""
    return next((p.device for p in recipe.parameters()), torch.device("cpu"))


def _setting(recipe: nn.Module, name: str) -> tuple[str, float] | None:
    """Dotted name and value of a recipe's setting, if it has it."""
    config = settings_of(recipe)
    return None if config is None else next(_found(config, name, ""), None)


def _found(config: BaseModel, name: str, section: str) -> Iterator[tuple[str, float]]:
    """All settings of a name, in whatever section they stand, with their dotted names."""
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, BaseModel):
            yield from _found(value, name, f"{section}{key}.")
        elif key == name:
            yield section + key, float(value)


def _spans(points: torch.Tensor) -> str:
    """What points span, metres per axis."""
    if not len(points):
        return "nothing"
    return _axes(points.amin(0).tolist(), points.amax(0).tolist())


def _box(grid: VoxelGrid | None) -> str:
    """A grid's range, metres per axis."""
    return "" if grid is None else _axes(grid.lower, grid.upper)


def _axes(lower: Sequence[float], upper: Sequence[float]) -> str:
    """A box in words, axis by axis."""
    return (
        ", ".join(f"{a} {low:.4g} to {high:.4g}" for a, low, high in zip("xyz", lower, upper, strict=True))
        + " m"
    )
