"""Boxes as rows of numbers: which of a scene's count, and which points lie in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.data import Boxes, Scene
from renderpretrain.geometry import VoxelGrid

COLUMNS = 8
"""Of a box as a row: centre, size, heading, label."""


@dataclass(frozen=True)
class CountedBoxes:
    """The boxes of a scene that a detection probe asks for, and how many it leaves out.

    Attributes:
        rows: Centre, size, heading, and place of the label among the classes asked for.
        outside: Boxes of these classes whose centre is not over the map.
        empty: Boxes over it that no point lies in.
    """

    rows: Float[Tensor, "K 8"]
    outside: int
    empty: int


NO_CLASS = "ignore"
"""What info files of nuScenes call boxes that are of none of the classes of its benchmark."""


def box_labels(scenes: Sequence[Scene]) -> tuple[int, ...]:
    """The classes that any box of the scenes has, in order, without what a data set ignores.

    Raises:
        ValueError: If a class has no name.
    """
    found: set[int] = set()
    for scene in scenes:
        if scene.boxes is None:
            continue
        labels, names = set(scene.boxes.labels[_real(scene.boxes)].tolist()), scene.class_names
        if labels and max(labels) >= len(names):
            raise ValueError(
                f"scene {scene.name!r}: expected labels of boxes below {len(names)}, the number of class "
                f"names, got {max(labels)}"
            )
        found |= {label for label in labels if names[label] != NO_CLASS}
    return tuple(sorted(found))


def counted_boxes(scene: Scene, labels: Sequence[int], grid: VoxelGrid) -> CountedBoxes:
    """The boxes of a scene that count: of the classes asked for, over the map, with a point of the key sweep.

    As in nuScenes, a box without a point can neither be found nor missed. Where a scene has no points at all,
    as with cameras alone, every box over the map counts. A scene without boxes has none,
    and neither has one if no class is asked for.

    Args:
        scene: One moment.
        labels: The classes asked for, by the scene's numbers.
        grid: The map; a box is over it if its centre is, at any height.
    """
    if scene.boxes is None or not labels:
        return CountedBoxes(scene.points.new_zeros(0, COLUMNS), 0, 0)
    boxes = scene.boxes
    numbers = torch.tensor(labels, device=boxes.labels.device, dtype=boxes.labels.dtype)
    same = boxes.labels[:, None] == numbers
    asked = same.any(1) & _real(boxes)
    place = same.int().argmax(1)
    rows = torch.cat([boxes.centers, boxes.sizes, boxes.yaws[:, None], place[:, None]], 1).float()[asked]
    over = over_map(rows, grid)
    inside = rows[over]
    points = scene.points[scene.of_key_sweep, :3]
    full = points_in_boxes(points, inside) > 0 if len(scene.points) else torch.ones_like(inside[:, 0]) > 0
    return CountedBoxes(inside[full], int((~over).sum()), int((~full).sum()))


def over_map(rows: Float[Tensor, "K C"], grid: VoxelGrid) -> Bool[Tensor, " K"]:
    """Which boxes have their centres over a map, at any height."""
    x, y = rows[:, 0], rows[:, 1]
    (x0, y0), (x1, y1) = grid.lower[:2], grid.upper[:2]
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def points_in_boxes(points: Float[Tensor, "P 3"], rows: Float[Tensor, "K C"]) -> Int[Tensor, " K"]:
    """How many points lie in every box: its centre, size and heading come first in a row."""
    counts = [_inside(points - row[:3], row).sum() for row in rows]
    return torch.stack(counts) if counts else rows.new_zeros(0, dtype=torch.long)


def _inside(away: Float[Tensor, "P 3"], row: Float[Tensor, " C"]) -> Bool[Tensor, " P"]:
    """Which points, given from the box's centre, lie in it."""
    cos, sin = row[6].cos(), row[6].sin()
    along = away[:, 0] * cos + away[:, 1] * sin
    across = away[:, 1] * cos - away[:, 0] * sin
    own = torch.stack([along, across, away[:, 2]], 1)
    return (own.abs() <= row[3:6] / 2).all(1)


def _real(boxes: Boxes) -> Bool[Tensor, " K"]:
    """Which boxes are no padding."""
    return torch.ones_like(boxes.labels, dtype=torch.bool) if boxes.valid is None else boxes.valid
