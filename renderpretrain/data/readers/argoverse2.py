"""Argoverse 2's sensor data set as it is published (https://www.argoverse.org): one folder a log, in splits.

Points are x forward, y left, z up, in the frame of the vehicle at the time of the sweep; those of the two
sensors are one sweep. Cameras are not exposed with the sweeps: the nearest picture in time is taken, with the
vehicle's pose at its own time. Reading needs the extra ``av2``.
"""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.formats.feather import read_feather
from renderpretrain.data.readers.poses import heading_of, stored_pose
from renderpretrain.data.readers.tables import TABLE_BYTES

FIELDS = ["x", "y", "z", "intensity", "laser_number"]
COLUMNS = ["x", "y", "z", "intensity_0_255", "laser_number"]

QUATERNION = ["qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m"]
"""Columns of a pose."""

LENS = ["fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3", "height_px", "width_px"]
BOX = ["timestamp_ns", "category", "length_m", "width_m", "height_m", *QUATERNION]

CAMERAS = "ring_"
"""How the names of the cameras begin that see all around; the two of the stereo pair are grey and slower."""

NEAREST_NS = 50_000_000
"""A picture that is farther away in time belongs to another sweep: there are ten sweeps a second."""


def read_argoverse2(
    access: FolderAccess, split: str = "", logs: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """The sweeps of all logs, as ``frames.json`` would describe them.

    Args:
        access: Of the folder of splits, of one split, or of one log.
        split: ``train``, ``val`` or ``test``: a folder within.
        logs: Which logs; all where nobody says.

    Raises:
        SceneFolderError: If there are none.
    """
    within = _logs(access, f"{split}/" if split else "")
    chosen = [place for place in within if logs is None or place.rstrip("/").split("/")[-1] in logs]
    frames = [frame for place in chosen for frame in _log(access, place)]
    if not frames:
        got = f"{len(within)} logs without the chosen ones" if within else "none"
        where = access.path / split
        raise SceneFolderError(f"{where}: expected logs with sensors/lidar/TIMESTAMP.feather, got {got}")
    pictured = any(frame["cameras"] for frame in frames if isinstance(frame, dict))
    kind = "multicam_lidar" if pictured else "lidar_sequence"
    return {"format": kind, "dataset": "Argoverse 2 Sensor", "frames": frames}


def _logs(access: FolderAccess, base: str, deep: bool = True) -> list[str]:
    """The folders of logs: this one, those in it, or those in the splits in it."""
    if (access.path / base / "sensors").is_dir():
        return [base]
    found = []
    for name in access.names(base):
        place = f"{base}{name}/"
        if (access.path / place / "sensors").is_dir():
            found.append(place)
        elif deep and (access.path / place).is_dir():
            found += _logs(access, place, deep=False)
    return found


TEXTS = ("sensor_name", "category")
"""Columns that are no numbers."""


def _table(access: FolderAccess, file: str, columns: list[str]) -> dict[str, np.ndarray]:
    """Columns of a feather file: texts, whole numbers for times, and others."""
    try:
        table = read_feather(access.read(file, "table", TABLE_BYTES), columns)
    except ValueError as error:
        if isinstance(error, SceneFolderError):
            raise
        raise SceneFolderError(f"{access.path / file}: {error}") from None
    for name, column in table.items():
        kinds = "O" if name in TEXTS else "iu" if name == "timestamp_ns" else "iuf"
        if column.dtype.kind not in kinds or (kinds == "O" and not all(isinstance(v, str) for v in column)):
            what = {"O": "texts", "iu": "whole numbers"}.get(kinds, "numbers")
            raise SceneFolderError(f"{access.path / file}: {name}: expected {what}, got {column.dtype}")
    return table


def _stamps(access: FolderAccess, folder: str, ending: str) -> list[int]:
    """The time stamps, nanoseconds, that the files of a folder are named by."""
    names = [n.removesuffix(ending) for n in access.names(folder) if n.endswith(ending)]
    found = (int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 20)
    return sorted(stamp for stamp in found if stamp < 2**63)


def _log(access: FolderAccess, base: str) -> list[dict[str, Any] | UnreadFrame]:
    """The sweeps of one log; where its own tables are at fault, none of them can be described."""
    stamps = _stamps(access, f"{base}sensors/lidar", ".feather")
    try:
        log = _Log(access, base)
    except SceneFolderError as error:
        return [UnreadFrame(str(error))] * len(stamps)
    frames: list[dict[str, Any] | UnreadFrame] = []
    for stamp in stamps:
        try:
            frames.append(log.frame(stamp))
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
    return frames


class _Log:
    """The tables of a log: poses by their time, cameras with the times of their pictures, boxes by sweep."""

    def __init__(self, access: FolderAccess, base: str) -> None:
        self.access, self.base = access, base
        self.name = base.rstrip("/").split("/")[-1] or access.path.resolve().name
        self.pose_file = f"{base}city_SE3_egovehicle.feather"
        poses = _table(access, self.pose_file, ["timestamp_ns", *QUATERNION])
        self.poses = {int(stamp): row for stamp, row in zip(poses["timestamp_ns"], _rows(poses), strict=True)}
        mounted = f"{base}calibration/egovehicle_SE3_sensor.feather"
        placed = _table(access, mounted, ["sensor_name", *QUATERNION])
        self.mounts = {
            name: stored_pose(row, f"{access.path / mounted}: {brief(name)}")
            for name, row in zip(placed["sensor_name"], _rows(placed), strict=True)
        }
        sensors = [pose[:3, 3] for name, pose in self.mounts.items() if name in ("up_lidar", "down_lidar")]
        self.origin = None if not sensors else np.mean(sensors, axis=0).tolist()
        self.cameras = self._cameras()
        self.boxes = self._boxes()

    def _cameras(self) -> dict[str, tuple[dict[str, Any], np.ndarray]]:
        """What is the same in all pictures of each camera, and the times of its pictures."""
        folder = f"{self.base}sensors/cameras"
        there = self.access.names(folder) if (self.access.path / folder).is_dir() else []
        names = [name for name in there if name.startswith(CAMERAS)]
        if not names:
            return {}
        file = f"{self.base}calibration/intrinsics.feather"
        lenses = _table(self.access, file, ["sensor_name", *LENS])
        rows = dict(
            zip(lenses["sensor_name"], zip(*(lenses[n].tolist() for n in LENS), strict=True), strict=True)
        )
        cameras = {}
        for name in names:
            if name not in rows or name not in self.mounts:
                where = self.access.path / self.base / "calibration"
                raise SceneFolderError(f"{where}: expected the lens and place of {brief(name)}, got none")
            fx, fy, cx, cy, k1, k2, k3, height, width = rows[name]
            lens = {"intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "distortion": [k1, k2, 0, 0, k3]}
            place = {"camera_to_ego": self.mounts[name].tolist(), "width": width, "height": height}
            stamps = _stamps(self.access, f"{folder}/{name}", ".jpg")
            cameras[name] = ({**lens, **place}, np.array(stamps, np.int64))
        return cameras

    def _boxes(self) -> dict[int, list[dict[str, Any]]]:
        """The cuboids of each sweep; the test split has none."""
        file = f"{self.base}annotations.feather"
        if not (self.access.path / file).is_file():
            return {}
        table = _table(self.access, file, BOX)
        sizes = np.stack([table[name] for name in BOX[2:5]], -1).tolist()
        boxes: dict[int, list[dict[str, Any]]] = {}
        for stamp, label, size, row in zip(*(table[n] for n in BOX[:2]), sizes, _rows(table), strict=True):
            pose = stored_pose(row, f"{self.access.path / file}: sweep {stamp}")
            box = {"label": str(label), "center": pose[:3, 3].tolist(), "size_lwh": size}
            boxes.setdefault(int(stamp), []).append({**box, "yaw": heading_of(pose, (1.0, 0.0, 0.0))})
        return boxes

    def pose(self, stamp: int) -> list[list[float]]:
        """The vehicle's pose in the city at a time that the table names."""
        where = f"{self.access.path / self.pose_file}: timestamp_ns {stamp}"
        if stamp not in self.poses:
            raise SceneFolderError(f"{where}: expected a pose, got none")
        return stored_pose(self.poses[stamp], where).tolist()

    def frame(self, stamp: int) -> dict[str, Any]:
        """One sweep with the pictures nearest to it."""
        lidar: dict[str, Any] = {"file": f"{self.base}sensors/lidar/{stamp}.feather", "columns": COLUMNS}
        lidar |= {"fields": FIELDS, "ego_to_global": self.pose(stamp), "sensor_origin": self.origin}
        cameras = {}
        for name, (shared, stamps) in self.cameras.items():
            nearest = int(stamps[np.abs(stamps - stamp).argmin()]) if len(stamps) else 0
            if abs(nearest - stamp) <= NEAREST_NS:
                file = f"{self.base}sensors/cameras/{name}/{nearest}.jpg"
                cameras[name] = {"file": file, "ego_to_global": self.pose(nearest), **shared}
        frame = {"frame_id": f"{self.name}/{stamp}", "scene": self.name, "timestamp_ns": stamp}
        return {**frame, "lidar": lidar, "cameras": cameras, "boxes_lidar_frame": self.boxes.get(stamp, [])}


def _rows(table: dict[str, np.ndarray]) -> np.ndarray:
    """The poses of a table, ``(rows, 7)``."""
    return np.stack([table[name] for name in QUATERNION], -1)


def _split(text: str) -> str:
    """The name of a split: no path."""
    if not text.isalnum():
        raise ValueError
    return text


def _names(text: str) -> tuple[str, ...]:
    """Names of logs with commas: no paths."""
    names = tuple(text.split(","))
    if not all(name.replace("_", "").replace("-", "").isalnum() for name in names):
        raise ValueError
    return names


ARGOVERSE2 = Reader(
    "argoverse2",
    read_argoverse2,
    "",
    {
        "split": (_split, "train, val or test"),
        "logs": (_names, "names of logs with commas"),
    },
)
