"""A room's cloud of points: which of them a view sees, and the classes of its pixels by them."""

from collections.abc import Sequence

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.files import Sweep, read_sweep
from renderpretrain.data.folder.geometry import room_shift
from renderpretrain.data.folder.schema import IndoorFolder, IndoorFrame, frame_name
from renderpretrain.geometry import Cameras

NEAR = 0.1
"""Metres between a point and the depth of its pixel within which the view sees it, as in PonderV2."""

CELLS = (0.02, 0.04, 0.08)
"""Metres: sides of the cells in which a pixel's class is looked for, one after another."""


def cloud_name(name: str) -> str:
    """What messages call a cloud that several views share."""
    return f"cloud {brief(name)}"


def read_cloud(access: FolderAccess, folder: IndoorFolder, frame: IndoorFrame) -> Sweep:
    """The cloud of a view's room, in the room's frame with its origin moved.

    Raises:
        SceneFolderError: If a file is missing or damaged, or the view has no cloud.
    """
    entry = folder.cloud_of(frame)
    if entry is None:
        raise SceneFolderError(f"{access.described_in}: {frame_name(frame)}: cloud: expected one, got none")
    name = cloud_name(frame.cloud) if isinstance(frame.cloud, str) else frame_name(frame)
    sweep = read_sweep(access, entry, name, folder.classes)
    return sweep.moved(np.eye(4), room_shift(folder, frame.scene))


def seen_points(
    cloud: Sweep, camera: Cameras, along: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the points that a camera sees, and the pixels ``(v, u)`` that they fall on.

    Args:
        cloud: In the camera's world.
        camera: Of the view, at the size of its depth image.
        along: ``(H, W)`` depths as ``Cameras.project`` gives them, 0 = not measured: a point that lies more
            than :data:`NEAR` from its pixel's is hidden. ``None`` takes all points in the picture.
    """
    pixels, depth, inside = camera.project(torch.from_numpy(cloud.points[:, :3]))
    rows = torch.nonzero(inside)[:, 0]
    u, v = pixels[rows].long().unbind(-1)
    if along is not None:
        there = along[v, u]
        kept = (there > 0) & ((there - depth[rows]).abs() < NEAR)
        rows, u, v = rows[kept], u[kept], v[kept]
    return rows, torch.stack([v, u], -1)


def classes_nearby(points: np.ndarray, labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The class that most points around each place have, -1 where there are none.

    Asked is the cell of the place in a lattice of :data:`CELLS`: the finest in which it holds points.

    Args:
        points: ``(P, 3)``, metres.
        labels: ``(P,)``, class numbers, -1 for none.
        places: ``(Q, 3)``, metres.

    Returns:
        ``(Q,)`` class numbers.
    """
    found = np.full(len(places), -1, dtype=np.int64)
    open_ = np.arange(len(places))
    if not len(points) or not len(places):
        return found
    for side in CELLS:
        cells, wanted = _numbered(points, places[open_], side)
        names, classes = _commonest(cells, labels)
        place = np.searchsorted(names, wanted).clip(max=len(names) - 1)
        there = names[place] == wanted
        found[open_[there]] = classes[place[there]]
        open_ = open_[~there]
    return found


def _numbered(points: np.ndarray, places: np.ndarray, side: float) -> Sequence[np.ndarray]:
    """The cells of points and places, each as one number; rooms span some kilometres at the most."""
    # Half a cell before the first point, for floors and walls often lie in planes of the axes.
    least = points.min(0) - side / 2
    cells = [np.floor((rows - least) / side).astype(np.int64) for rows in (points, places)]
    # What lies beyond the points has a number that no point has.
    span = cells[0].max(0) + 1
    beyond = ((cells[1] < 0) | (cells[1] >= span)).any(-1)
    numbers = [(rows[:, 0] * span[1] + rows[:, 1]) * span[2] + rows[:, 2] for rows in cells]
    return numbers[0], np.where(beyond, -1, numbers[1])


def _commonest(cells: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells that hold points, in order, and the class that most of a cell's points have."""
    classes = labels.astype(np.int64) + 1
    most = int(classes.max()) + 1
    pairs, counts = np.unique(cells * most + classes, return_counts=True)
    order = np.lexsort((counts, pairs // most))
    names = pairs[order] // most
    last = np.append(names[1:] != names[:-1], True)
    return names[last], pairs[order][last] % most - 1
