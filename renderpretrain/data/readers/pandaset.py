"""PandaSet as it is published (https://pandaset.org): a folder for each sequence, points in the world frame.

In the LiDAR frame of the spinning sensor x points right, y forward, z up. The pictures are undistorted. The
lists of poses and times are indexed by the number in a file's name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.folder.stored import SWEEP_BYTES
from renderpretrain.data.formats.pickles import pickled_columns
from renderpretrain.data.readers.poses import heading_of, stored_pose
from renderpretrain.data.readers.tables import json_of, picture_size

DEVICES: Mapping[str, int | None] = {"spinning": 0, "forward": 1, "both": None}
"""The sensors: a Pandar64 that spins, and a PandarGT that looks ahead, by their numbers in the files."""

SPINNING_ORIGIN = [0.0, 0.75, 1.86]
"""Where the spinning sensor's beams meet in the frame of its poses, which is on the ground: in three frames
of a sequence its cones are sharpest there, within 5 cm, around an axis that leans back by 0.9 degrees."""

FIELDS = ["x", "y", "z", "i", "d"]
COLUMNS = ["x", "y", "z", "intensity_0_255", "device"]

BOX_FIELDS = ("position.x", "position.y", "position.z", "dimensions.y", "dimensions.x", "dimensions.z")
"""Centre, then length, width and height: a box is long along its y axis."""

ENDING = ".pkl.gz"


def read_pandaset(
    access: FolderAccess, sequences: tuple[str, ...] | None = None, device: str = "spinning"
) -> dict[str, Any]:
    """The frames of all sequences, as ``frames.json`` would describe them.

    Args:
        access: Of the folder of sequences, or of one sequence.
        sequences: Which ones; all where nobody says.
        device: Whose points: ``spinning``, ``forward`` or ``both``.

    Raises:
        SceneFolderError: If there are no frames.
    """
    alone = (access.path / "lidar").is_dir()
    within = [""] if alone else [n for n in access.names("") if (access.path / n / "lidar").is_dir()]
    missing = set(sequences or ()) - set(within)
    if missing or not within:
        got = f"no {brief(min(missing))}" if missing else "none"
        raise SceneFolderError(f"{access.path}: expected folders of sequences with lidar, got {got}")
    chosen = [name for name in within if sequences is None or name in sequences]
    frames = [frame for name in chosen for frame in _sequence(access, name, device)]
    if not frames:
        raise SceneFolderError(f"{access.path}: expected sweeps lidar/NN{ENDING}, got none")
    names = _class_names(access, within)
    return {"format": "multicam_lidar", "dataset": "PandaSet", "semseg_classes": names, "frames": frames}


def _class_names(access: FolderAccess, within: list[str]) -> Any:
    """Names of the classes of points, which are the same in all sequences that have some."""
    files = [f"{name}/annotations/semseg/classes.json".lstrip("/") for name in within]
    found = next((file for file in files if (access.path / file).is_file()), None)
    return {} if found is None else json_of(access, found)


def _sequence(access: FolderAccess, name: str, device: str) -> list[dict[str, Any] | UnreadFrame]:
    """The frames of one sequence; where its own tables are at fault, none of them can be described."""
    base = f"{name}/" if name else ""
    numbers = [n[: -len(ENDING)] for n in access.names(f"{base}lidar") if n.endswith(ENDING)]
    try:
        tables = _Tables(access, base)
    except SceneFolderError as error:
        return [UnreadFrame(str(error))] * len(numbers)
    frames: list[dict[str, Any] | UnreadFrame] = []
    for number in numbers:
        try:
            frames.append(_frame(access, tables, number, device))
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
    return frames


class _Tables:
    """What a sequence says for all its frames: lists with an entry for each, and the cameras."""

    def __init__(self, access: FolderAccess, base: str) -> None:
        self.access, self.base = access, base
        self.scene = base.rstrip("/") or access.path.resolve().name
        self.poses, self.times = (json_of(access, f"{base}lidar/{n}.json") for n in ("poses", "timestamps"))
        self.cameras: dict[str, dict[str, Any]] = {}
        there = access.names(f"{base}camera") if (access.path / base / "camera").is_dir() else []
        for folder in there:
            if folder.endswith("_camera"):
                self.cameras[folder.removesuffix("_camera")] = self._camera(f"{base}camera/{folder}")

    def _camera(self, folder: str) -> dict[str, Any]:
        """What is the same in all pictures of a camera, its poses, and which pictures there are."""
        pictures = {n[:-4] for n in self.access.names(folder) if n.endswith(".jpg")}
        lens = json_of(self.access, f"{folder}/intrinsics.json")
        try:
            fx, fy, cx, cy = (float(lens[name]) for name in ("fx", "fy", "cx", "cy"))
        except ODD_VALUES:
            where = self.access.path / folder / "intrinsics.json"
            raise SceneFolderError(f"{where}: expected fx, fy, cx and cy, got {brief(lens)}") from None
        size = picture_size(self.access, f"{folder}/{min(pictures)}.jpg", "picture") if pictures else (1, 1)
        return {
            "pictures": pictures,
            "poses": json_of(self.access, f"{folder}/poses.json"),
            "width": size[1],
            "height": size[0],
            "intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
        }

    def at(self, table: Any, number: str, file: str) -> Any:
        """The entry of a list for a frame."""
        known = isinstance(table, list) and number.isdecimal() and int(number) < len(table)
        if not known:
            count = len(table) if isinstance(table, list) else "no list"
            where = f"{self.access.path / self.base / file}: frame {brief(number)}"
            raise SceneFolderError(f"{where}: expected an entry for it, got {count}")
        return table[int(number)]

    def pose(self, table: Any, number: str, file: str) -> np.ndarray:
        """The pose of a frame in the world, 4x4."""
        entry = self.at(table, number, file)
        where = f"{self.access.path / self.base / file}: frame {brief(number)}"
        try:
            place, turn = entry["position"], entry["heading"]
            numbers = [turn[k] for k in "wxyz"] + [place[k] for k in "xyz"]
        except ODD_VALUES:
            raise SceneFolderError(f"{where}: expected position and heading, got {brief(entry)}") from None
        return stored_pose(numbers, where)


def _frame(access: FolderAccess, tables: _Tables, number: str, device: str) -> dict[str, Any]:
    """One frame: the points come from the world's frame into that of the LiDAR's pose."""
    base, labels = tables.base, f"{tables.base}annotations/semseg/{number}{ENDING}"
    pose = tables.pose(tables.poses, number, "lidar/poses.json")
    lidar: dict[str, Any] = {
        "file": f"{base}lidar/{number}{ENDING}",
        "columns": COLUMNS,
        "fields": FIELDS,
        "file_to_lidar": np.linalg.inv(pose).tolist(),
        "ego_to_global": pose.tolist(),
    }
    if device != "forward":
        lidar["sensor_origin"] = SPINNING_ORIGIN
    if DEVICES[device] is not None:
        lidar["only"] = {"device": DEVICES[device]}
    if (access.path / labels).is_file():
        lidar |= {"semseg_file": labels, "semseg_column": "class"}
    cameras = {}
    for name, camera in tables.cameras.items():
        if number in camera["pictures"]:
            at = tables.pose(camera["poses"], number, f"camera/{name}_camera/poses.json")
            shared = {key: camera[key] for key in ("width", "height", "intrinsics")}
            file = f"{base}camera/{name}_camera/{number}.jpg"
            cameras[name] = {"file": file, "camera_to_global": at.tolist(), **shared}
    return {
        "frame_id": f"{tables.scene}/{number}",
        "scene": tables.scene,
        "timestamp_s": tables.at(tables.times, number, "lidar/timestamps.json"),
        "lidar": lidar,
        "cameras": cameras,
        "boxes_lidar_frame": _boxes(access, f"{base}annotations/cuboids/{number}{ENDING}", pose, device),
    }


def _boxes(access: FolderAccess, file: str, pose: np.ndarray, device: str) -> list[dict[str, Any]]:
    """The cuboids of a frame in its LiDAR frame; an object that both sensors saw is there once."""
    if not (access.path / file).is_file():
        return []
    try:
        table = pickled_columns(access.read(file, "cuboids", SWEEP_BYTES))
        numbers = np.stack([table[name].astype(np.float64) for name in (*BOX_FIELDS, "yaw")], -1)
        sensors, labels, twins = (table[n] for n in ("cuboids.sensor_id", "label", "cuboids.sibling_id"))
    except ODD_VALUES as error:
        if isinstance(error, SceneFolderError):
            raise
        got = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SceneFolderError(f"{access.path / file}: cuboids: expected their columns, got: {got}") from None
    to_lidar, boxes = np.linalg.inv(pose), []
    for row, sensor, label, twin in zip(numbers, sensors, labels, twins, strict=True):
        if sensor == 1 - (DEVICES[device] or 0) and (device != "both" or twin not in ("", "-", None)):
            continue
        ahead = (-np.sin(row[6]), np.cos(row[6]), 0.0)
        boxes.append(
            {
                "label": str(label),
                "center": (to_lidar[:3, :3] @ row[:3] + to_lidar[:3, 3]).tolist(),
                "size_lwh": row[3:6].tolist(),
                "yaw": heading_of(to_lidar, ahead),
            }
        )
    return boxes


def _sequences(text: str) -> tuple[str, ...]:
    """Names of sequences with commas: no paths."""
    names = tuple(text.split(","))
    if not all(name.replace("_", "").replace("-", "").isalnum() for name in names):
        raise ValueError
    return names


def _device(text: str) -> str:
    """The name of a sensor."""
    if text not in DEVICES:
        raise ValueError
    return text


PANDASET = Reader(
    "pandaset",
    read_pandaset,
    "",
    {
        "sequences": (_sequences, "names of sequences with commas"),
        "device": (_device, f"one of {', '.join(DEVICES)}"),
    },
)
