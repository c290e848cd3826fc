"""Scores on scenes that were never trained on, and what a predictor without geometry scores there."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.geometry import Rays
from renderpretrain.samplers import RayTargets
from renderpretrain.training.baselines import RowMeans
from renderpretrain.training.distributed import Process
from renderpretrain.training.order import held_out_batch
from renderpretrain.training.scores import (
    NUM_SUMS,
    ClassCount,
    class_counts,
    mean_iou,
    score_sums,
    scores,
)


@runtime_checkable
class ScoringRecipe(Protocol):
    """A recipe with scores of its own, each a ratio of sums over scenes.

    Attributes:
        score_names: What its rows are called.
    """

    score_names: tuple[str, ...]

    def score_sums(self, batch: Batch, volume: Any) -> Float[Tensor, "scores 2"]:
        """Numerator and denominator of every score, in float64; a denominator of 0 leaves the score out.

        Args:
            batch: Scenes.
            volume: What :meth:`RenderingRecipe.encode` made of them, or ``None`` for the recipe's predictor
                that looks at nothing.
        """


BASELINE_SCENES = 32
"""Training scenes, evenly spread, that the baseline's means come from."""

CHUNK = 1024
"""Rays rendered at once, which bounds the memory."""


@runtime_checkable
class RenderingRecipe(Protocol):
    """What evaluation needs of a recipe."""

    def encode(self, batch: Batch) -> Any:
        """The volume of scenes with nothing hidden."""

    def render(self, volume: Any, rays: Rays) -> Any:
        """Rays rendered from the volume: ``depth (B, R)`` in metres and ``rgb (B, R, 3)`` or ``None``."""

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors saw along them; the same seeds give the same rays."""


def evaluate(
    recipe: nn.Module, dataset: SceneDataset, indices: Sequence[int], *, process: Process, num_rays: int
) -> dict[str, float]:
    """Render the scenes with nothing hidden and compare with the sensors, and with classes where there are.

    A recipe that says ``classes(batch, rendered) -> (B, R)`` gets a ``semantic_miou`` on scenes whose rays
    have ``labels``.

    Args:
        recipe: A :class:`RenderingRecipe`, perhaps a :class:`ScoringRecipe`; runs in ``eval()`` mode and is
            put back.
        dataset: Where the scenes are.
        indices: Which ones; the processes share them.
        process: Whose device is used.
        num_rays: Rays per camera, or per sweep where there are no cameras; always the same ones.

    Returns:
        See :func:`renderpretrain.training.scores.scores`, and the recipe's own.
    """
    renders = cast(RenderingRecipe, recipe)
    was_training = recipe.training
    recipe.eval()
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=process.device)
    own = _own_sums(recipe, process)
    counts: tuple[ClassCount, ...] = ()
    try:
        with torch.no_grad():
            for seen in _with_targets(renders, dataset, _share(indices, process), process, num_rays):
                batch, targets = seen
                volume = renders.encode(batch)
                parts = render_parts(renders, volume, targets.rays)
                depth, rgb = depth_and_color(parts)
                sums += score_sums(depth, rgb, targets)
                counts += _class_counts(recipe, batch, parts, targets)
                if isinstance(recipe, ScoringRecipe):
                    own += recipe.score_sums(batch, volume)
    finally:
        recipe.train(was_training)
    miou = mean_iou(process.collect(counts))
    named = {} if miou is None else {"semantic_miou": miou}
    return scores(process.total(sums)) | named | _ratios(recipe, process.total(own))


def _class_counts(
    recipe: Any, batch: Batch, parts: Sequence[Any], targets: RayTargets
) -> tuple[ClassCount, ...]:
    """Counts of the rendered classes of one scene, where there are any."""
    if targets.labels is None or not hasattr(recipe, "classes"):
        return ()
    said = [recipe.classes(batch, part) for part in parts]
    if any(classes is None for classes in said):
        return ()
    return class_counts(torch.cat(said, 1)[0], targets.labels[0], batch.class_names[0])


def evaluate_baseline(
    recipe: nn.Module,
    dataset: SceneDataset,
    split: tuple[Sequence[int], Sequence[int]],
    *,
    process: Process,
    num_rays: int,
) -> dict[str, float]:
    """What predictors without geometry score on the same scenes.

    That is :class:`RowMeans` on the rays that :func:`evaluate` renders, and the recipe's own predictor.

    Args:
        recipe: Its ``targets`` choose the rays.
        dataset: Where the scenes are.
        split: Training scenes, whose means are taken, and held-out scenes.
        process: Whose device is used.
        num_rays: Rays per camera, or per sweep where there are no cameras.
    """
    renders = cast(RenderingRecipe, recipe)
    training, held_out = split
    stride = -(-len(training) // BASELINE_SCENES)
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=process.device)
    own = _own_sums(recipe, process)
    with torch.no_grad():
        seen = _with_targets(renders, dataset, training[::stride], process, num_rays)
        means = RowMeans.of(targets for _, targets in seen)
        for batch, targets in _with_targets(renders, dataset, _share(held_out, process), process, num_rays):
            sums += score_sums(means.depth(targets), means.rgb(targets), targets)
            if isinstance(recipe, ScoringRecipe):
                own += recipe.score_sums(batch, None)
    return scores(process.total(sums)) | _ratios(recipe, process.total(own))


def _own_sums(recipe: nn.Module, process: Process) -> Float[Tensor, "scores 2"]:
    """Where a recipe's own scores add up."""
    count = len(recipe.score_names) if isinstance(recipe, ScoringRecipe) else 0
    return torch.zeros((count, 2), dtype=torch.float64, device=process.device)


def _ratios(recipe: nn.Module, sums: Float[Tensor, "scores 2"]) -> dict[str, float]:
    """A recipe's own scores by name."""
    names = recipe.score_names if isinstance(recipe, ScoringRecipe) else ()
    rows = zip(names, sums.tolist(), strict=True)
    return {name: numerator / denominator for name, (numerator, denominator) in rows if denominator}


def refined(recipe: Any, batch: Batch) -> Batch:
    """The batch with its cameras where the recipe believes them to be, to look at what it renders.

    A picture is seen from its camera's true place. A recipe that learns where that is says so with
    ``calibration(batch) -> batch``, which it applies to every batch it is given itself.
    """
    return recipe.calibration(batch) if hasattr(recipe, "calibration") else batch


def render_parts(recipe: Any, volume: Any, rays: Rays) -> list[Any]:
    """Many rays, a few at a time."""
    count = rays.origins.shape[1]
    return [recipe.render(volume, rays[:, start : start + CHUNK]) for start in range(0, count, CHUNK)]


def depth_and_color(parts: list[Any]) -> tuple[Tensor, Tensor | None]:
    """Depth ``(B, R)`` and colour ``(B, R, 3)``, where there is one, of the rays of :func:`render_parts`."""
    depth = torch.cat([part.depth for part in parts], 1)
    return depth, None if parts[0].rgb is None else torch.cat([part.rgb for part in parts], 1)


def _share(indices: Sequence[int], process: Process) -> Sequence[int]:
    """This process's part of the scenes."""
    return indices[process.rank :: process.world_size]


def _with_targets(
    recipe: RenderingRecipe, dataset: SceneDataset, indices: Sequence[int], process: Process, num_rays: int
) -> Iterator[tuple[Batch, RayTargets]]:
    """Scenes one by one, with their rays."""
    for index in indices:
        batch = held_out_batch(dataset, index).to(process.device)
        yield batch, recipe.targets(batch, num_rays)
