"""Scores on scenes that were never trained on."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.recipes.recipe import (
    HasScores,
    RendersRays,
    SaysClasses,
    Volume,
    lacking,
)
from renderpretrain.recipes.rendering import depth_and_color, render_parts
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import RayTargets
from renderpretrain.training.distributed import Process
from renderpretrain.training.held_out import HeldOutScene, held_out_scenes, no_sums, scores_of
from renderpretrain.training.scores import ClassCount, class_counts, mean_iou


def evaluate(
    recipe: nn.Module, dataset: SceneDataset, indices: Sequence[int], *, process: Process, num_rays: int
) -> dict[str, float]:
    """Render the scenes with nothing hidden and compare with the sensors, and with classes where there are.

    They are encoded once more without some of their returns (:mod:`renderpretrain.training.withheld`), and
    rays towards these are rendered. A recipe that looks at no points, whose volume stays the same, is spared
    that: no return was ever given to it.

    A recipe that :class:`~renderpretrain.recipes.SaysClasses` gets a ``semantic_miou`` on scenes whose rays
    have ``labels``; one that :class:`~renderpretrain.recipes.HasScores` of its own gets them, too.

    Args:
        recipe: It :class:`~renderpretrain.recipes.RendersRays`; runs in ``eval()`` mode and is put back.
        dataset: Where the scenes are.
        indices: Which ones; the processes share them.
        process: Whose device is used.
        num_rays: Rays per camera, or per sweep where there are no cameras; always the same ones.

    Returns:
        See :func:`renderpretrain.training.scores.scores`, ``depth_in_blocks_abs_rel`` and
        ``depth_between_beams_abs_rel`` likewise of returns that were taken out, and the recipe's own; by
        intervals of the true depth ``over_range/depth/8-16/abs_rel`` and ``over_range/depth/8-16/rays``.

    Raises:
        ValueError: If the recipe cannot render.
    """
    if not isinstance(recipe, RendersRays):
        raise lacking(recipe, RendersRays, "evaluation")
    was_training = recipe.training
    recipe.eval()
    sums, own = no_sums(process), own_sums(recipe, process)
    counts: tuple[ClassCount, ...] = ()
    share, reads_points = indices[process.rank :: process.world_size], True
    try:
        with torch.no_grad():
            for scene in held_out_scenes(recipe, dataset, share, process=process, num_rays=num_rays):
                volume = recipe.encode(scene.batch)
                parts = list(render_parts(recipe, volume, scene.targets.rays))
                depth, rgb = depth_and_color(parts)
                left = depth
                if reads_points and len(scene.not_given):
                    left, reads_points = _depth_of_left(recipe, scene, volume, depth)
                sums += scene.score_sums(depth, left, rgb)
                counts += _class_counts(recipe, scene.batch, parts, scene.targets)
                if isinstance(recipe, HasScores):
                    own += recipe.score_sums(scene.batch, volume)
    finally:
        recipe.train(was_training)
    miou = mean_iou(process.collect(counts))
    named = {} if miou is None else {"semantic_miou": miou}
    return scores_of(process.total(sums)) | named | own_scores(recipe, process.total(own))


def _depth_of_left(
    recipe: RendersRays, scene: HeldOutScene, volume: Volume, depth: Float[Tensor, "1 R"]
) -> tuple[Float[Tensor, "1 R"], bool]:
    """Depths, of which those that are not given are of what is left; and whether the volumes differ."""
    left = recipe.encode(scene.left)
    if left.shape == volume.shape and torch.equal(left, volume):
        return depth, False
    chosen = scene.not_given
    rendered, _ = depth_and_color(render_parts(recipe, left, scene.targets.rays[:, chosen]))
    return depth.index_copy(1, chosen, rendered), True


def _class_counts(
    recipe: nn.Module, batch: Batch, parts: Sequence[Rendered], targets: RayTargets
) -> tuple[ClassCount, ...]:
    """Counts of the rendered classes of one scene, where there are any."""
    if targets.labels is None or not isinstance(recipe, SaysClasses):
        return ()
    said = [classes for part in parts if (classes := recipe.classes(batch, part)) is not None]
    if len(said) < len(parts):
        return ()
    return class_counts(torch.cat(said, 1)[0], targets.labels[0], batch.class_names[0])


def own_sums(recipe: nn.Module, process: Process) -> Float[Tensor, "scores 2"]:
    """Where a recipe's own scores add up."""
    count = len(recipe.score_names) if isinstance(recipe, HasScores) else 0
    return torch.zeros((count, 2), dtype=torch.float64, device=process.device)


def own_scores(recipe: nn.Module, sums: Float[Tensor, "scores 2"]) -> dict[str, float]:
    """A recipe's own scores by name."""
    names = recipe.score_names if isinstance(recipe, HasScores) else ()
    rows = zip(names, sums.tolist(), strict=True)
    return {name: numerator / denominator for name, (numerator, denominator) in rows if denominator}
