"""S3DIS (http://buildingparser.stanford.edu): scanned rooms, with the photographs of 2D-3D-Semantics.

A room's points are ``Area_N/ROOM/Annotations/CLASS_K.txt`` of Stanford3dDataset_v1.2 (``x y z r g b``, metres
in the frame of its area; not of the aligned version) or ``Area_N/ROOM/{coord,color,segment,normal}.npy`` of
Pointcept. As PonderV2 does it, its views are the scanner's photographs, ``area_N/raw`` of
Stanford2d3dDataset_noXYZ: ``UUID_iP_Y.jpg`` and ``UUID_dP_Y.png`` (a depth unit is a quarter of a millimetre,
from 65500 on nothing was measured) with ``UUID_pose_P_Y.txt``, camera to area, and ``UUID_intrinsics_P.txt``;
``area_N/3d/camera_to_room.json`` says whose they are. Their lens is left as it is. Views have the points that
they see and pixels the classes around. Rooms are single sweeps where there are no pictures.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.rgbd import stride_of
from renderpretrain.data.readers.tables import json_of, numbers_in, picture_size, rows_of, text_of
from renderpretrain.data.readers.views import Listing, say_absent

CLASSES = (
    "ceiling",
    "floor",
    "wall",
    "beam",
    "column",
    "window",
    "door",
    "table",
    "chair",
    "sofa",
    "bookcase",
    "board",
    "clutter",
)
"""Class numbers are places from 1 on; what has another name, as stairs, is clutter."""

AREAS = {"1": ("1",), "2": ("2",), "3": ("3",), "4": ("4",), "5": ("5a", "5b"), "6": ("6",)}
"""Areas by number, with the names of their pictures."""

PLACES = {"clouds": ("", "Stanford3dDataset_v1.2/"), "pictures": ("", "Stanford2d3dDataset_noXYZ/", "noXYZ/")}
"""Where areas lie in the folder."""

B_TO_A = np.array([[0, 1, 0, -4.09703582], [-1, 0, 0, 6.22617759], [0, 0, 1, 0], [0, 0, 0, 1]])
"""From the frame of area 5b to that of 5a, in which the points of both are."""

PICTURE = re.compile(r"([0-9a-f]+)_pose_(\d+)_(\d+)\.txt")
"""Files of poses."""

UNMEASURED = list(range(65500, 65536))
"""What depth images hold where nothing was measured, besides 0."""


@dataclass(frozen=True)
class Room:
    """A room with points: of an area by number, of a name, described as a sweep."""

    area: str
    name: str
    cloud: dict[str, Any]

    @property
    def scene(self) -> str:
        """How the room is called."""
        return f"Area_{self.area}/{self.name}"


def read_s3dis(access: FolderAccess, areas: tuple[str, ...] | None = None, stride: int = 1) -> dict[str, Any]:
    """The views of all rooms or, without pictures, their points, as ``frames.json`` would describe them.

    Args:
        access: Of the folder that holds ``Area_1`` and so on and, for pictures, ``area_1`` and so on.
        areas: Numbers of areas; ``None`` for all.
        stride: Every so many-th view of a room is read.

    Raises:
        SceneFolderError: If there is no room with points, or a table is damaged.
    """
    listing = Listing(access)
    rooms = [room for area in areas or AREAS for room in _rooms(access, listing, area)]
    if not rooms:
        expected = "Area_1/ROOM with Annotations or coord.npy, and so on"
        raise SceneFolderError(f"{access.path}: areas: expected {expected}, got none")
    common: dict[str, Any] = {"dataset": "S3DIS", "semseg_classes": dict(enumerate(CLASSES, 1))}
    pictured = [
        (area, part, place)
        for area in dict.fromkeys(room.area for room in rooms)
        for part in AREAS[area]
        for place in PLACES["pictures"]
        if listing.has(f"{place}area_{part}/raw")
    ]
    if not pictured:
        frames = [{"frame_id": room.scene, "scene": room.scene, "lidar": room.cloud} for room in rooms]
        return {**common, "format": "lidar_sequence", "frames": frames}
    of_rooms: dict[str, list[dict[str, Any] | UnreadFrame | None]] = {room.scene: [] for room in rooms}
    for area, part, place in pictured:
        for scene, views in _views(access, listing, area, f"{place}area_{part}").items():
            of_rooms.get(scene, []).extend(views)
    views = [view for room in of_rooms.values() for view in room[::stride]]
    there = [view for view in views if view is not None]
    say_absent(access, "", len(views) - len(there), len(views), "views")
    clouds = {room.scene: room.cloud for room in rooms if of_rooms[room.scene]}
    content = {**common, "format": "posed_rgbd", "depth_scale": 4000, "depth_invalid": UNMEASURED}
    return {**content, "clouds": clouds, "frames": there}


def _rooms(access: FolderAccess, listing: Listing, area: str) -> list[Room]:
    """The rooms of an area that have points."""
    place = next((place for place in PLACES["clouds"] if listing.has(f"{place}Area_{area}")), None)
    if place is None:
        return []
    rooms = []
    for name in access.names(f"{place}Area_{area}"):
        folder = f"{place}Area_{area}/{name}"
        if not (access.path / folder).is_dir():
            continue
        if listing.has(f"{folder}/Annotations"):
            rooms.append(Room(area, name, _annotated(access, folder)))
        elif listing.has(f"{folder}/coord.npy"):
            rooms.append(Room(area, name, _arrays(listing, folder)))
    return rooms


def _annotated(access: FolderAccess, folder: str) -> dict[str, Any]:
    """The points of a room by its objects, a text file each."""
    names = [name for name in access.names(f"{folder}/Annotations") if name.endswith(".txt")]
    if not names:
        raise SceneFolderError(f"{access.path / folder}/Annotations: expected CLASS_1.txt, got none")
    numbers = {name: number for number, name in enumerate(CLASSES, 1)}
    parts = [
        {"file": f"{folder}/Annotations/{name}", "semseg": numbers.get(name.split("_")[0], len(CLASSES))}
        for name in names
    ]
    columns = ["x", "y", "z", "r_0_255", "g_0_255", "b_0_255", "semseg"]
    return {"file": parts[0]["file"], "layout": "text", "columns": columns, "parts": parts}


def _arrays(listing: Listing, folder: str) -> dict[str, Any]:
    """The points of a room as Pointcept keeps them: an array for each kind of column, classes from 0 on."""
    columns, beside = ["x", "y", "z"], []
    of_kinds = {"color": ["r_0_255", "g_0_255", "b_0_255"], "normal": ["nx", "ny", "nz"]}
    for kind, names in of_kinds.items():
        if listing.has(f"{folder}/{kind}.npy"):
            beside.append({"file": f"{folder}/{kind}.npy", "columns": names})
            columns += names
    cloud: dict[str, Any] = {"file": f"{folder}/coord.npy", "columns": columns, "beside": beside}
    if listing.has(f"{folder}/segment.npy"):
        shifted = {stored: stored + 1 for stored in range(len(CLASSES))}
        cloud |= {"semseg_file": f"{folder}/segment.npy", "semseg_column": "0", "semseg_map": shifted}
    return cloud


def _views(
    access: FolderAccess, listing: Listing, area: str, folder: str
) -> dict[str, list[dict[str, Any] | UnreadFrame | None]]:
    """The views of a folder's photographs by their rooms; ``None`` for one that lacks a file."""
    table = f"{folder}/3d/camera_to_room.json"
    rooms = json_of(access, table)
    if not isinstance(rooms, dict):
        raise SceneFolderError(f"{access.path / table}: expected rooms by the cameras' names, got others")
    size, found = None, dict[str, list[dict[str, Any] | UnreadFrame | None]]()
    for match in filter(None, map(PICTURE.fullmatch, access.names(f"{folder}/raw"))):
        camera, pitch, yaw = match.groups()
        room = str(rooms.get(camera)).removesuffix(f"_{area}")
        color, depth = (
            f"{folder}/raw/{camera}_i{pitch}_{yaw}.jpg",
            f"{folder}/raw/{camera}_d{pitch}_{yaw}.png",
        )
        views = found.setdefault(f"Area_{area}/{room}", [])
        if not (listing.has(color) and listing.has(depth)):
            views.append(None)
            continue
        try:
            size = size or picture_size(access, color, "picture")
            lens = _lens(access, f"{folder}/raw/{camera}_intrinsics_{pitch}.txt")
            pose = rows_of(access, f"{folder}/raw/{match[0]}", 4)
            if pose.shape != (4, 4):
                where = access.path / folder / "raw" / match[0]
                raise SceneFolderError(f"{where}: expected 4 rows of 4 numbers, got {len(pose)}")
        except SceneFolderError as error:
            views.append(UnreadFrame(str(error)))
            continue
        pose = B_TO_A @ pose if folder.endswith("b") else pose
        view: dict[str, Any] = {
            "frame_id": PurePosixPath(color).stem,
            "scene": f"Area_{area}/{room}",
            "color": color,
        }
        view |= {"depth": depth, "height": size[0], "width": size[1], **lens}
        views.append({**view, "camera_to_world": pose.tolist(), "cloud": f"Area_{area}/{room}"})
    return found


def _lens(access: FolderAccess, file: str) -> dict[str, Any]:
    """Intrinsics and lens of a camera: width, height, fx, fy, cx, cy, k1, k2, p1, p2, k3."""
    _, _, fx, fy, cx, cy, *bends = numbers_in(text_of(access, file).split(), 11, str(access.path / file))
    return {"intrinsics": [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], "distortion": bends}


def _areas(text: str) -> tuple[str, ...]:
    """Numbers of areas with commas."""
    numbers = tuple(text.split(","))
    if len(set(numbers)) < len(numbers) or not set(numbers) <= set(AREAS):
        raise ValueError
    return numbers


S3DIS = Reader(
    "s3dis",
    read_s3dis,
    "",
    {
        "areas": (_areas, "different numbers from 1 to 6 with commas"),
        "stride": (stride_of, "a whole number of at least 1"),
    },
)
