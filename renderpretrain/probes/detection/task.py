"""The task whose answer is boxes: where the objects of a scene are, how large and how turned."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.detection.bev import bev_features
from renderpretrain.probes.detection.boxes import CountedBoxes, box_labels, counted_boxes
from renderpretrain.probes.detection.head import CenterHead, said_boxes
from renderpretrain.probes.detection.metrics import detection_scores, matched, mean_average_precision
from renderpretrain.probes.detection.targets import CODES, detection_loss
from renderpretrain.probes.handmade import ground_numbers
from renderpretrain.probes.task import Drawing, ProbeSamples, Task, one_batch
from renderpretrain.viz import boxes_from_above, class_colors

WHITE = (1.0, 1.0, 1.0)
"""Colour of true boxes behind those that were said."""


def detection(parts: Mapping[str, Sequence[Scene]], grid: VoxelGrid) -> Task:
    """Boxes of a scene, found from above by a small head with a heat map for every class (CenterPoint).

    The classes are those that any box of the scenes has. ``map`` is nuScenes' mean average precision, over
    the classes and centre distances of 0.5, 1, 2 and 4 m; ``ate``, ``ase`` and ``aoe`` its errors of hits
    within 2 m. Boxes that lie beside the map, and such as no point lies in, count neither as found nor as
    missed; classes that no scored scene has are left out of means.

    Args:
        parts: The scenes by what they are for: ``train``, ``test``. One without boxes has no objects.
        grid: The map, see :func:`~renderpretrain.probes.detection.bev.bev_grid`.

    Raises:
        ValueError: If the scenes of a part have no box that counts, or one has a class without a name.
    """
    everything = [scene for scenes in parts.values() for scene in scenes]
    labels, class_names = box_labels(everything), everything[0].class_names
    counted = _counted(parts, labels, grid)
    names = [class_names[label] for label in labels]

    def asked(scene: Scene, maps: Tensor) -> ProbeSamples:
        rows = counted_boxes(scene, labels, grid).rows
        return ProbeSamples(maps, rows, scene.points[scene.of_key_sweep, :3])

    def read(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        return asked(scene, bev_features(recipe, one_batch(scene), grid))

    def by_hand(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        return asked(scene, ground_numbers(scene, grid))

    def sums(outputs: Tensor, rows: Tensor) -> Tensor:
        return matched(rows, said_boxes(outputs, grid), names)

    return Task(
        "detection",
        "map",
        False,
        len(labels) + CODES,
        read,
        lambda outputs, rows: detection_loss(outputs, rows, grid),
        sums,
        lambda rows: detection_scores(rows, names),
        join=lambda sums: torch.cat(list(sums)),
        by_place=False,
        make_head=lambda features, seed: CenterHead(features.shape[1], len(labels), seed),
        drawing=_drawing(names, grid),
        handmade=by_hand,
        compared=lambda rows: mean_average_precision(rows, len(labels)),
        settings=(labels, tuple(names), grid),
        notes=tuple(_notes(counted, names)),
    )


def _counted(
    parts: Mapping[str, Sequence[Scene]], labels: Sequence[int], grid: VoxelGrid
) -> dict[str, list[CountedBoxes]]:
    """The boxes that count of every scene of every part; some in each, or it is an error."""
    counted = {
        part: [counted_boxes(scene, labels, grid) for scene in scenes] for part, scenes in parts.items()
    }
    for part, scenes in parts.items():
        _check_boxes(part, scenes, counted[part])
    return counted


def _notes(parts: Mapping[str, Sequence[CountedBoxes]], names: Sequence[str]) -> Iterator[str]:
    """How many boxes every part has, which do not count, and which classes it does not have."""
    for part, counted in parts.items():
        there = {int(label) for boxes in counted for label in boxes.rows[:, 7].tolist()}
        missing = [name for k, name in enumerate(names) if k not in there]
        none = f"; no box that counts is of {', '.join(missing)}" if missing else ""
        yield f"{part}: {left_out(counted)}{none}"


def _drawing(names: Sequence[str], grid: VoxelGrid) -> Drawing:
    """Boxes in their class's colour; behind those that were said, of which as many as there are, the true."""
    span = (*grid.lower[:2], *grid.upper[:2])

    def layer(boxes: Tensor, label: int) -> tuple[Tensor, tuple[float, float, float]]:
        r, g, b = _color(label).tolist()
        return boxes[boxes[:, 7] == label, :7], (r, g, b)

    def picture(read: ProbeSamples, outputs: Tensor | None) -> Tensor:
        boxes = read.answers if outputs is None else said_boxes(outputs, grid, max(len(read.answers), 1))
        layers = [layer(boxes.cpu(), label) for label in range(len(names))]
        points = read.answers[:, :3] if read.positions is None else read.positions
        return boxes_from_above(points, span, [(read.answers[:, :7].cpu(), WHITE), *layers])

    legend = {name: _color(label) for label, name in enumerate(names)}
    return Drawing(picture, {"true, behind what is said": torch.tensor(WHITE)} | legend)


def _color(label: int) -> Float[Tensor, "3"]:
    """A class's colour."""
    return class_colors(torch.tensor([[label + 1]]))[:, 0, 0]


def left_out(counted: Sequence[CountedBoxes]) -> str:
    """How many boxes of scenes count, and how many do not and why: a line."""
    kept = sum(len(boxes.rows) for boxes in counted)
    outside, empty = sum(boxes.outside for boxes in counted), sum(boxes.empty for boxes in counted)
    ignored = f"{outside} beside the map and {empty} without a point of the key sweep do not count"
    return f"{kept} boxes in {len(counted)} scenes; {ignored}"


def _check_boxes(name: str, scenes: Sequence[Scene], counted: Sequence[CountedBoxes]) -> None:
    """There must be something to learn from, and something to find."""
    if all(scene.boxes is None for scene in scenes):
        raise ValueError(
            f"{name}: detection needs boxes, which none of the {len(scenes)} scenes from {scenes[0].name!r} "
            "on has"
        )
    if not any(len(boxes.rows) for boxes in counted):
        raise ValueError(f"{name}: expected boxes that count, got {left_out(counted)}")
