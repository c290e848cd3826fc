"""ScanNet (http://www.scan-net.org): rooms recorded by a depth camera beside a tablet's colour camera.

Three layouts, several rooms in each: frames that were exported (``SCENE/color``, ``depth``, ``pose`` and
``intrinsic``), mmdetection3d's ``posed_images/SCENE``, and the recordings themselves, ``SCENE/SCENE.sens``,
of which nothing is unpacked to disk. The colour camera has 1296 x 968 pixels, the depth camera 640 x 480,
which are 1296 x 972 of the former's: each has intrinsics of its own, both look through one point along one
axis, and depth is registered to the pictures on reading. Poses are camera to world, in the frame of the scan
as it was recorded (no ``axisAlignment``); where tracking was lost they are infinite. Depth is in millimetres,
0 where nothing was measured. Integer pixel (0, 0) is the first pixel's centre.

Where the mesh ``SCENE_vh_clean_2.ply`` lies beside a room's recording, the points of a view are those of its
vertices that the view sees, with their colours and, of ``SCENE_vh_clean_2.labels.ply``, classes, which its
pixels have from them, too, unless there are ``label-filt`` pictures. Otherwise they are those of its depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.rgbd import stride_of
from renderpretrain.data.readers.scannet_classes import CLASSES, benchmark_classes, raw_classes
from renderpretrain.data.readers.scannet_infos import INFOS, Known, read_infos
from renderpretrain.data.readers.scannet_sens import sens_frames
from renderpretrain.data.readers.tables import picture_size, rows_of, text_of
from renderpretrain.data.readers.views import Listing, say_absent

PLACES = ("", "scans", "posed_images", "rgbd")
"""Where rooms lie in the folder."""

COLOR_INTRINSICS = (
    "intrinsic/intrinsic_color.txt",
    "intrinsic_color.txt",
    "intrinsics_color.txt",
    "intrinsic.txt",
)
DEPTH_INTRINSICS = ("intrinsic/intrinsic_depth.txt", "intrinsic_depth.txt", "intrinsics_depth.txt")
"""Where a room's intrinsics lie, by the tool that exported it."""

NO_DEPTH = 65535
"""What some exports hold where nothing was measured, besides 0."""


@dataclass(frozen=True)
class Room:
    """A room whose frames are files.

    Attributes:
        access: Of the folder of all rooms.
        listing: Of its files.
        name: Of the room.
        folder: The room's path within the folder.
        infos: What mmdetection3d's infos say of pictures, by their paths.
    """

    access: FolderAccess
    listing: Listing
    name: str
    folder: str
    infos: Mapping[str, Known]

    def within(self, name: str) -> str:
        """The path of a file of the room."""
        return f"{self.folder}/{name}" if self.folder else name

    @cached_property
    def has_folders(self) -> bool:
        """Whether there is a folder for each kind of file."""
        return self.listing.has(self.within("color"))

    @cached_property
    def depths(self) -> str:
        """The folder of the depth images."""
        return self.within("depth") if self.has_folders else self.folder

    @cached_property
    def pictures(self) -> list[str]:
        """The names of all pictures, in the order of their numbers."""
        names = self.access.names(self.within("color") if self.has_folders else self.folder)
        ends = (".jpg", ".png") if self.has_folders else (".jpg",)
        return sorted((name for name in names if name.endswith(ends)), key=lambda name: (len(name), name))

    @cached_property
    def has_depth(self) -> bool:
        """Whether a picture has a depth image."""
        return any(self.listing.has(f"{self.depths}/{name[:-4]}.png") for name in self.pictures)

    @cached_property
    def intrinsics(self) -> dict[str, list[list[float]]]:
        """Of the pictures, and of depth images that have others, as fields of a view."""
        found = {}
        for field, places in (("intrinsics", COLOR_INTRINSICS), ("depth_intrinsics", DEPTH_INTRINSICS)):
            place = next((name for name in map(self.within, places) if self.listing.has(name)), None)
            if place is not None:
                found[field] = rows_of(self.access, place, 4)[:3, :3].tolist()
        if not found:
            expected = f"expected {COLOR_INTRINSICS[0]} or {DEPTH_INTRINSICS[0]}, got neither"
            raise SceneFolderError(f"{self.access.path / self.folder}: {expected}")
        # Pictures that were made as small as the depth images have these images' intrinsics.
        return found if "intrinsics" in found else {"intrinsics": found["depth_intrinsics"]}

    @cached_property
    def cloud(self) -> dict[str, Any] | None:
        """The vertices of its mesh, in the frame of the poses; ``None`` where it has none."""
        mesh, labels = (self.within(f"{self.name}_vh_clean_2{end}") for end in (".ply", ".labels.ply"))
        if not self.listing.has(mesh):
            return None
        entry = {"file": mesh, "columns": ["x", "y", "z", *(f"{c}_0_255" for c in "rgb")]}
        entry["fields"] = ["x", "y", "z", "red", "green", "blue"]
        if not self.listing.has(labels):
            return entry
        return {
            **entry,
            "semseg_file": labels,
            "semseg_column": "label",
            "semseg_map": benchmark_classes(),
        }

    @cached_property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the pictures."""
        first = self.within(f"color/{self.pictures[0]}" if self.has_folders else self.pictures[0])
        return picture_size(self.access, first, "color")

    def view(self, picture: str) -> dict[str, Any] | UnreadFrame | None:
        """What is known of a picture; ``None`` where it lacks its pose or, in a room with depth, depth."""
        stem = picture[:-4]
        color = self.within(f"color/{picture}" if self.has_folders else picture)
        pose = self.listing.found(self.within(f"pose/{stem}.txt" if self.has_folders else f"{stem}.txt"))
        depth = self.listing.found(f"{self.depths}/{stem}.png")
        if (self.has_depth and depth is None) or (pose is None and color not in self.infos):
            return None
        frame: dict[str, Any] = {"frame_id": f"{self.name}/{stem}", "scene": self.name, "color": color}
        frame["depth"], frame["semseg"] = depth, self.listing.found(self.within(f"label-filt/{stem}.png"))
        try:
            frame |= {"height": self.size[0], "width": self.size[1]}
            if pose is None:
                frame["intrinsics"], frame["camera_to_world"] = self.infos[color]
                return frame
            return {**frame, **self.intrinsics, "camera_to_world": _pose(self.access, pose)}
        except SceneFolderError as error:
            return UnreadFrame(str(error))


def read_scannet(
    access: FolderAccess, scenes: tuple[str, ...] | None = None, stride: int = 1, mesh: bool = True
) -> dict[str, Any]:
    """The views of all rooms, as ``frames.json`` would describe them.

    Views without a file of depth, of a room that has others, are left out; one line says how many.

    Args:
        access: Of the folder that holds the rooms, or of one room.
        scenes: Names of rooms; ``None`` for all.
        stride: Every so many-th view of a room is read: neighbours show nearly the same.
        mesh: Whether points are the mesh's, where there is one.

    Raises:
        SceneFolderError: If there is no room, or a table is damaged.
    """
    listing = Listing(access)
    rooms = _rooms(access, listing)
    lacking = [name for name in scenes or () if name not in rooms]
    if not rooms or lacking:
        known = brief(", ".join(rooms)) if rooms else "SCENE/color, SCENE/SCENE.sens or posed_images/SCENE"
        raise SceneFolderError(f"{access.path}: scenes: expected {known}, got {', '.join(lacking) or 'none'}")
    infos = read_infos(access) if listing.has(INFOS) else {}
    views, clouds = list[dict[str, Any] | UnreadFrame | None](), dict[str, Any]()
    for name in scenes or rooms:
        room = Room(access, listing, name, rooms[name], infos)
        if mesh and room.cloud is not None:
            clouds[name] = room.cloud
        if listing.has(room.within(f"{name}.sens")):
            views += sens_frames(access, room.within(f"{name}.sens"), name)[::stride]
        else:
            views += [room.view(picture) for picture in room.pictures[::stride]]
    frames = [view for view in views if view is not None]
    say_absent(access, "", len(views) - len(frames), len(views), "views")
    return _content(access, frames, clouds)


def _content(
    access: FolderAccess, frames: list[dict[str, Any] | UnreadFrame], clouds: dict[str, Any]
) -> dict[str, Any]:
    """What is said of all views, with the clouds of their rooms and with classes where there are some."""
    described = [frame for frame in frames if isinstance(frame, dict)]
    for frame in described:
        frame["cloud"] = frame["scene"] if frame["scene"] in clouds else None
    content: dict[str, Any] = {
        "format": "posed_rgb",
        "dataset": "ScanNet",
        "clouds": clouds,
        "frames": frames,
    }
    if any(frame.get("depth") for frame in described):
        content |= {"format": "posed_rgbd", "depth_scale": 1000, "depth_invalid": NO_DEPTH}
    pictured = any(frame.get("semseg") for frame in described)
    if pictured:
        content["semseg_map"] = raw_classes(access)
    if pictured or any("semseg_file" in cloud for cloud in clouds.values()):
        content["semseg_classes"] = dict(enumerate(CLASSES.values(), 1))
    return content


def _rooms(access: FolderAccess, listing: Listing) -> dict[str, str]:
    """The folders of rooms by their names."""

    def is_room(folder: str, name: str) -> bool:
        return any(listing.has(f"{folder or '.'}/{kind}") for kind in ("color", f"{name}.sens"))

    own = access.path.resolve().name
    if is_room("", own):
        return {own: ""}
    rooms: dict[str, str] = {}
    for place in PLACES:
        if place and not listing.has(place):
            continue
        for name in access.names(place):
            folder = f"{place}/{name}" if place else name
            if (access.path / folder).is_dir() and (place == "posed_images" or is_room(folder, name)):
                rooms.setdefault(name, folder)
    return rooms


def _pose(access: FolderAccess, name: str) -> list[list[float]] | None:
    """A camera's pose; ``None`` where tracking was lost."""
    try:
        matrix = np.array([float(word) for word in text_of(access, name).split()]).reshape(4, 4)
    except ValueError as error:
        if isinstance(error, SceneFolderError):
            raise
        raise SceneFolderError(f"{access.path / name}: expected 4 rows of 4 numbers, got others") from error
    return matrix.tolist() if np.isfinite(matrix[:3]).all() else None


def _scenes(text: str) -> tuple[str, ...]:
    """Names of rooms with commas."""
    names = tuple(text.split(","))
    if len(set(names)) < len(names) or not all(name and name.replace("_", "").isalnum() for name in names):
        raise ValueError
    return names


SCANNET = Reader(
    "scannet",
    read_scannet,
    "",
    {
        "scenes": (_scenes, "different names with commas, as scene0000_00"),
        "stride": (stride_of, "a whole number of at least 1"),
        "mesh": ({"0": False, "1": True}.__getitem__, "0 or 1"),
    },
)
