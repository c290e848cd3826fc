"""Tasks whose answer is a class: of every point, or free and occupied of every voxel."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain.data import Scene, label_occupancy
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.features import Levels, place_features
from renderpretrain.probes.handmade import handmade_numbers
from renderpretrain.probes.task import ProbeSamples, Task, one_batch, some
from renderpretrain.recipes.recipe import HasGrid, HasPointFeatures, lacking


def semseg(class_names: Sequence[str], levels: Levels = "all") -> Task:
    """The class of every point of the key sweep in the recipe's grid.

    The loss is a cross-entropy in which a class counts with the root of its places: with equal weights a
    linear head never says a rare class. It was chosen because it is the best of three (equal, root, inverse)
    for encoders that were not pre-trained.

    Class 0 and negative classes mean that nobody labelled the point: it does not count. ``miou`` is the mean
    of the intersection over union over the classes that occur in the test scenes, ``iou/NAME`` each one's.

    Args:
        class_names: By class index; 0 is free.
        levels: What is read of the encoders.
    """
    count = len(class_names)

    def places(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        rows = _labeled_points(recipe, scene, count, limit)
        return ProbeSamples(scene.points[rows], _labels(scene)[rows].long(), scene.points[rows, :3])

    def read(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        found = places(recipe, scene, limit)
        positions = found.features[None, :, :3]
        features = place_features(recipe, one_batch(scene), positions, levels, "semseg")[0]
        return replace(found, features=features)

    def by_hand(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        found = places(recipe, scene, limit)
        points = found.features
        return replace(found, features=handmade_numbers(scene, points[:, :3], points[:, 3]))

    def scores(sums: Tensor) -> dict[str, float]:
        iou = _iou(sums)
        there = [k for k in range(1, count) if sums[k].sum()]
        found = {"miou": float(iou[there].mean()) if there else 0.0}
        return found | {f"iou/{class_names[k]}": float(iou[k]) for k in there}

    return Task(
        "semseg",
        "miou",
        False,
        count,
        read,
        _balanced,
        confusion,
        scores,
        handmade=by_hand,
        is_labeled=lambda scene: scene.point_labels is not None and bool(_counts(scene).any()),
        settings=(levels, tuple(class_names)),
    )


def occupancy(levels: Levels = "all") -> Task:
    """Free or occupied, of voxels.

    Simulators know every voxel, of ``truth.grid``. Otherwise the LiDAR's beams say it
    (:func:`~renderpretrain.data.label_occupancy`), of the recipe's grid: those of a window of frames where
    the data set has them, else the scene's own; voxels that no beam observed do not count. ``iou`` is that of
    the occupied.

    Args:
        levels: What is read of the encoders.
    """

    def places(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        if not isinstance(recipe, HasGrid):
            raise lacking(recipe, HasPointFeatures, "the task occupancy")
        grid, occupied, known = _voxels(recipe.grid, scene)
        rows = some(torch.nonzero(known.flatten())[:, 0], limit)
        centers = grid.centers(scene.points.device).view(-1, 3)[rows]
        return ProbeSamples(centers, occupied.flatten()[rows].long())

    def read(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        found = places(recipe, scene, limit)
        features = place_features(recipe, one_batch(scene), found.features[None], levels, "occupancy")[0]
        return replace(found, features=features)

    def by_hand(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        found = places(recipe, scene, limit)
        return replace(found, features=handmade_numbers(scene, found.features))

    def scores(sums: Tensor) -> dict[str, float]:
        return {"iou": float(_iou(sums)[1])}

    return Task(
        "occupancy",
        "iou",
        False,
        2,
        read,
        nn.functional.cross_entropy,
        confusion,
        scores,
        moves_with_world=False,
        handmade=by_hand,
        settings=(levels,),
    )


def _labels(scene: Scene) -> Int[Tensor, " P"]:
    """The points' classes."""
    if scene.point_labels is None:
        raise ValueError(f"scene {scene.name!r} has no point labels, which semseg needs")
    return scene.point_labels


def _counts(scene: Scene) -> Bool[Tensor, " P"]:
    """Which points somebody labelled, of the key sweep."""
    return (_labels(scene) > 0) & scene.of_key_sweep


def _labeled_points(recipe: nn.Module, scene: Scene, count: int, limit: int) -> Int[Tensor, " M"]:
    """Rows of the points that are asked for: labelled, of the key sweep, in the recipe's grid."""
    if not isinstance(recipe, HasGrid):
        raise lacking(recipe, HasPointFeatures, "the task semseg")
    labels = _labels(scene)
    if (labels >= count).any():
        raise ValueError(
            f"scene {scene.name!r}: expected point labels below {count}, got {int(labels.max())}"
        )
    inside = recipe.grid.contains(scene.points[:, :3])
    return some(torch.nonzero(_counts(scene) & inside)[:, 0], limit)


def _balanced(outputs: Float[Tensor, "M K"], answers: Int[Tensor, " M"]) -> Float[Tensor, ""]:
    """Cross-entropy, every place divided by the root of its class's number of places."""
    counts = torch.bincount(answers, minlength=outputs.shape[1])
    weight = counts.clamp(min=1).to(outputs.dtype).rsqrt()
    return nn.functional.cross_entropy(outputs, answers, weight=weight)


def confusion(outputs: Float[Tensor, "M K"], answers: Int[Tensor, " M"]) -> Int[Tensor, "K K"]:
    """How often each class (row) was taken for each (column)."""
    count = outputs.shape[1]
    pairs = answers * count + outputs.argmax(1)
    return torch.bincount(pairs, minlength=count * count).view(count, count)


def _iou(sums: Int[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """Intersection over union of every class; 0 where a class neither is nor was said to be."""
    both = sums.diagonal().double()
    union = sums.sum(0) + sums.sum(1) - both
    return both / union.clamp(min=1)


def _voxels(own: VoxelGrid, scene: Scene) -> tuple[VoxelGrid, Tensor, Tensor]:
    """A grid, which of its voxels are occupied, and of which that is known."""
    if scene.truth is not None:
        occupied = scene.truth.occupancy > 0
        return scene.truth.grid, occupied, torch.ones_like(occupied)
    labels = scene.occupancy or label_occupancy([scene], 0, own)
    return own, labels.occupied, labels.observed
