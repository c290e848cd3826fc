"""Structured3D (https://structured3d-dataset.org): rendered rooms of 3,500 houses.

Read are the perspective pictures, ``SCENE/2D_rendering/ROOM/perspective/full/VIEW`` with
``rgb_rawlight.png``, ``depth.png``, ``semantic.png`` and ``camera_pose.txt``, unpacked; panoramas are not. A
pose is one line: the place in millimetres, the direction of view, the direction up, and half of the
horizontal and of the vertical angle of view, radians, from the middle to the edge of the picture. z is up.
Depth is in millimetres along the optical axis; 0, and 65535 in copies that other code made, is none. Classes
are those of NYU's 40 that the
data set's pictures contain often, as PonderV2 and PPT take them.
"""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.nyu40 import NYU40
from renderpretrain.data.readers.rgbd import stride_of
from renderpretrain.data.readers.tables import numbers_in, picture_size, text_of
from renderpretrain.data.readers.views import Listing, say_absent

STORED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 17, 18, 19, 22, 24, 25, 32, 34, 35, 38, 39, 40)
"""NYU's numbers of the 25 classes; class numbers are their places, from 1 on."""

INVALID = frozenset(f"scene_{number:05d}" for number in (1155, 1192, 1714, 1816, 1852, 3398))
"""Houses that the data set's own list of errata calls invalid."""

SPLITS = {"train": range(3000), "val": range(3000, 3250), "test": range(3250, 3500)}
"""The official ones, by the houses' numbers."""

FILES = ("rgb_rawlight.png", "depth.png", "camera_pose.txt")
"""What a view needs."""


def read_structured3d(
    access: FolderAccess, split: str | None = None, scenes: tuple[str, ...] | None = None, stride: int = 1
) -> dict[str, Any]:
    """The views of all rooms, as ``frames.json`` would describe them; a view that lacks a file is left out.

    Args:
        access: Of the folder of the houses, or of one that holds it as ``Structured3D``.
        split: ``train``, ``val`` or ``test``; all by default.
        scenes: Names of houses; ``None`` for all.
        stride: Every so many-th view of a room is read.

    Raises:
        SceneFolderError: If there is no house, or no view.
    """
    listing = Listing(access)
    root = "Structured3D/" if listing.has("Structured3D") else ""
    there = [name for name in access.names(root) if name.startswith("scene_")]
    lacking = [name for name in scenes or () if name not in there]
    if not there or lacking:
        known = brief(", ".join(there)) if there else "scene_00000/2D_rendering and so on"
        raise SceneFolderError(f"{access.path}: scenes: expected {known}, got {', '.join(lacking) or 'none'}")
    wanted = [name for name in scenes or there if name not in INVALID and _in_split(name, split)]
    views = [view for name in wanted for view in _views(access, root, name)]
    if not views:
        raise SceneFolderError(f"{access.path}: expected SCENE/2D_rendering/ROOM/perspective/full, got none")
    chosen = [view for room in _by_room(views) for view in room[::stride]]
    whole = [view for view in chosen if all(listing.has(f"{view}/{file}") for file in FILES)]
    say_absent(access, "", len(chosen) - len(whole), len(chosen), "views")
    sizes: dict[str, tuple[int, int]] = {}
    return {
        "format": "posed_rgbd",
        "dataset": "Structured3D",
        "depth_scale": 1000,
        "depth_invalid": 65535,
        "semseg_classes": {number: NYU40[stored - 1] for number, stored in enumerate(STORED, 1)},
        "semseg_map": dict.fromkeys(range(len(NYU40) + 1), -1) | {s: n for n, s in enumerate(STORED, 1)},
        "frames": [_frame(access, listing, view, sizes) for view in whole],
    }


def _in_split(scene: str, split: str | None) -> bool:
    """Whether a house is in a split; those whose names have no number are in none."""
    number = scene.removeprefix("scene_")
    return split is None or (number.isascii() and number.isdigit() and int(number) in SPLITS[split])


def _views(access: FolderAccess, root: str, scene: str) -> list[str]:
    """The folders of the views of a house, room by room."""
    found = list[str]()
    rooms = f"{root}{scene}/2D_rendering"
    for room in access.names(rooms) if (access.path / rooms).is_dir() else ():
        views = f"{rooms}/{room}/perspective/full"
        if (access.path / views).is_dir():
            names = sorted(access.names(views), key=lambda name: (len(name), name))
            found += [f"{views}/{name}" for name in names if (access.path / views / name).is_dir()]
    return found


def _by_room(views: list[str]) -> list[list[str]]:
    """Views in lists of one room each."""
    rooms: dict[str, list[str]] = {}
    for view in views:
        rooms.setdefault(view.rpartition("/")[0], []).append(view)
    return list(rooms.values())


def _frame(
    access: FolderAccess, listing: Listing, view: str, sizes: dict[str, tuple[int, int]]
) -> dict[str, Any] | UnreadFrame:
    """One view; pictures of a room have one size, which is looked up once."""
    *_, scene, _, room, _, _, name = view.split("/")
    try:
        of_room = f"{scene}/{room}"
        if of_room not in sizes:
            sizes[of_room] = picture_size(access, f"{view}/{FILES[0]}", "picture")
        height, width = sizes[of_room]
        where = f"{access.path / view / FILES[2]}"
        pose = numbers_in(text_of(access, f"{view}/{FILES[2]}").split()[:11], 11, where)
        return {
            "frame_id": f"{of_room}/{name}",
            "scene": of_room,
            "color": f"{view}/{FILES[0]}",
            "depth": f"{view}/{FILES[1]}",
            "semseg": listing.found(f"{view}/semantic.png"),
            "width": width,
            "height": height,
            "intrinsics": _intrinsics(pose[9:], width, height, where),
            "camera_to_world": _pose(np.array(pose[:9]), where),
        }
    except SceneFolderError as error:
        return UnreadFrame(str(error))


def _intrinsics(half_angles: list[float], width: int, height: int, where: str) -> list[list[float]]:
    """The matrix of a lens by half of its angles of view; the middle of the picture is on its axis."""
    if not all(1e-3 < angle < 1.55 for angle in half_angles):
        angles = " and ".join(f"{angle:g}" for angle in half_angles)
        raise SceneFolderError(f"{where}: expected half angles of view below 1.55 radians, got {angles}")
    across, down = np.array([width, height]) / 2 / np.tan(half_angles)
    matrix = np.array([[across, 0, (width - 1) / 2], [0, down, (height - 1) / 2], [0, 0, 1]])
    rows: list[list[float]] = matrix.tolist()
    return rows


def _pose(numbers: np.ndarray, where: str) -> list[list[float]]:
    """Camera to world, metres, of a place in millimetres and two directions."""
    place, forward, up = numbers.reshape(3, 3)
    right = np.cross(forward, up)
    lengths = np.linalg.norm(forward), np.linalg.norm(right)
    if min(lengths) < 1e-6:
        got = f"{brief(forward.tolist())} and {brief(up.tolist())}"
        raise SceneFolderError(f"{where}: expected directions of view and up that differ, got {got}")
    forward, right = forward / lengths[0], right / lengths[1]
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, place / 1000], -1)
    rows: list[list[float]] = pose.tolist()
    return rows


def _scenes(text: str) -> tuple[str, ...]:
    """Names of houses with commas."""
    names = tuple(text.split(","))
    if len(set(names)) < len(names) or not all(name.replace("_", "").isalnum() for name in names):
        raise ValueError
    return names


def _split(text: str) -> str:
    """The name of a split."""
    if text not in SPLITS:
        raise ValueError
    return text


STRUCTURED3D = Reader(
    "structured3d",
    read_structured3d,
    "",
    {
        "split": (_split, "train, val or test"),
        "scenes": (_scenes, "different names with commas, as scene_00000"),
        "stride": (stride_of, "a whole number of at least 1"),
    },
)
