"""Waymo Open Dataset, version 2 (https://waymo.com/open): one folder a component, one parquet file a segment.

The frame of points and boxes is that of the vehicle at the frame's time: x forward, y left, z up. Of the five
sensors the one on the roof is read, its first returns. Reading needs the extra ``av2``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import MOST_TABLE, FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.formats.feather import read_parquet

CAMERAS = ("front", "front_left", "front_right", "side_left", "side_right")
"""Names of cameras 1 to 5."""

CLASSES: Mapping[int, str] = {1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
"""Names of the types of boxes."""

TOP = 1
"""The number of the sensor on the roof."""

KEYS = {
    "key.camera_name": {name.upper(): number for number, name in enumerate(CAMERAS, 1)},
    "key.laser_name": {"TOP": TOP},
}
"""Numbers of sensors by their names, which some tables have in their place."""

STAMP, CAMERA, LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"
TRANSFORM = "[VehiclePoseComponent].world_from_vehicle.transform"
IMAGE = "[CameraImageComponent].image"
IMAGE_POSE = "[CameraImageComponent].pose.transform"
RANGES, POSES = (f"[{name}].range_image_return1" for name in ("LiDARComponent", "LiDARPoseComponent"))
LENS_NAMES = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
LENS = [f"[CameraCalibrationComponent].intrinsic.{name}" for name in LENS_NAMES]
SIZE = [f"[CameraCalibrationComponent].{n}" for n in ("width", "height")]
MOUNT = "[CameraCalibrationComponent].extrinsic.transform"
SENSOR = "[LiDARCalibrationComponent].extrinsic.transform"
INCLINATIONS = "[LiDARCalibrationComponent].beam_inclination.values"
BOX = [f"[LiDARBoxComponent].box.{part}.{axis}" for part in ("center", "size") for axis in "xyz"]
BOX.append("[LiDARBoxComponent].box.heading")
BOX_TYPE = "[LiDARBoxComponent].type"

TO_OPENCV = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From OpenCV's axes of a camera to Waymo's: x forward, y left, z up."""


def read_waymo(access: FolderAccess, segments: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The frames of all segments, as ``frames.json`` would describe them.

    Args:
        access: Of the folder of components: ``vehicle_pose``, ``lidar``, ``lidar_calibration``, and where
            there are such ``lidar_pose``, ``lidar_box``, ``camera_image`` with ``camera_calibration``.
        segments: Which segments; all where nobody says.

    Raises:
        SceneFolderError: If there are none.
    """
    names = [n.removesuffix(".parquet") for n in access.names("lidar") if n.endswith(".parquet")]
    chosen = [name for name in names if segments is None or name in segments]
    frames = [frame for name in chosen for frame in _segment(access, name)]
    if not frames:
        got = f"{len(names)} others" if names else "none"
        raise SceneFolderError(f"{access.path / 'lidar'}: expected SEGMENT.parquet of version 2, got {got}")
    return {"format": "multicam_lidar", "dataset": "Waymo Open Dataset", "frames": frames}


def _segment(access: FolderAccess, name: str) -> list[dict[str, Any] | UnreadFrame]:
    """The frames of one segment; where its own tables are at fault, none of them can be described."""
    try:
        segment = _Segment(access, name)
    except SceneFolderError as error:
        return [UnreadFrame(str(error))]
    frames: list[dict[str, Any] | UnreadFrame] = []
    for stamp in sorted(segment.sweeps):
        try:
            frames.append(segment.frame(stamp))
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
    return frames


class _Segment:
    """The tables of a segment: which row is which sensor's at which time."""

    def __init__(self, access: FolderAccess, name: str) -> None:
        self.access, self.name = access, name
        lidar = self.table("lidar", [STAMP, LASER])
        self.sweeps = _rows_of(lidar[STAMP], lidar[LASER], TOP)
        poses = self.table("vehicle_pose", [STAMP, TRANSFORM])
        self.poses = {
            int(stamp): self.matrix("vehicle_pose", pose)
            for stamp, pose in zip(poses[STAMP], poses[TRANSFORM], strict=True)
        }
        self.sensor, self.inclinations = self._sensor()
        self.pixel_poses: dict[int, int] = {}
        if self.has("lidar_pose"):
            table = self.table("lidar_pose", [STAMP, LASER])
            self.pixel_poses = _rows_of(table[STAMP], table[LASER], TOP)
        self.cameras = self._cameras() if self.has("camera_image") else {}
        self.boxes = self._boxes() if self.has("lidar_box") else {}

    def file(self, component: str) -> str:
        """The path of a component's table."""
        return f"{component}/{self.name}.parquet"

    def has(self, component: str) -> bool:
        """Whether there is a component's table."""
        return (self.access.path / self.file(component)).is_file()

    def table(self, component: str, columns: list[str]) -> dict[str, np.ndarray]:
        """Columns of a component: numbers, or one list of numbers a row."""
        file = self.file(component)
        with self.access.open(file, "table", MOST_TABLE, "table") as stream:
            try:
                table = read_parquet(stream, columns)
            except ValueError as error:
                raise SceneFolderError(f"{self.access.path / file}: {error}") from None
        for name in columns:
            if name in KEYS and table[name].dtype.kind == "O":
                numbers = KEYS[name]
                table[name] = np.array([numbers.get(t, 0) if isinstance(t, str) else 0 for t in table[name]])
            kinds = "O" if name.endswith("transform") else "iu" if name.startswith("key.") else "iuf"
            if table[name].dtype.kind not in kinds:
                where = f"{self.access.path / file}: {brief(name)}"
                raise SceneFolderError(f"{where}: expected numbers, got {table[name].dtype}")
        return table

    def matrix(self, component: str, numbers: Any) -> np.ndarray:
        """A 4x4 matrix of a table."""
        try:
            return np.asarray(numbers, dtype=np.float64).reshape(4, 4)
        except ODD_VALUES:
            where = self.access.path / self.file(component)
            raise SceneFolderError(f"{where}: expected 16 numbers of a pose, got {brief(numbers)}") from None

    def _sensor(self) -> tuple[list[list[float]], list[float]]:
        """Where the sensor on the roof is, and the angles of its beams from the highest down."""
        file = self.file("lidar_calibration")
        lasers = self.table("lidar_calibration", [LASER])[LASER].tolist()
        if TOP not in lasers:
            raise SceneFolderError(f"{self.access.path / file}: expected laser {TOP}, got {brief(lasers)}")
        row = lasers.index(TOP)
        pose, values = self.access.row(file, row, [SENSOR, INCLINATIONS], "table")
        try:
            beams = np.asarray(values, dtype=np.float64)[::-1].tolist()
        except ODD_VALUES:
            got = brief(values)
            raise SceneFolderError(f"{self.access.path / file}: expected inclinations, got {got}") from None
        return self.matrix("lidar_calibration", pose).tolist(), beams

    def _cameras(self) -> dict[int, dict[str, dict[str, Any]]]:
        """The entries of the cameras of each frame."""
        lenses = self.table("camera_calibration", [CAMERA, MOUNT, *LENS, *SIZE])
        known = {}
        for row, number in enumerate(lenses[CAMERA].tolist()):
            fu, fv, cu, cv, *bends = (float(lenses[name][row]) for name in LENS)
            width, height = (lenses[name][row].item() for name in SIZE)
            mount = self.matrix("camera_calibration", lenses[MOUNT][row]) @ TO_OPENCV
            # Waymo's pixel 0 begins at the left edge of the first pixel.
            lens = {"intrinsics": [[fu, 0, cu - 0.5], [0, fv, cv - 0.5], [0, 0, 1]], "distortion": bends}
            known[number] = {**lens, "camera_to_ego": mount.tolist(), "width": width, "height": height}
        table = self.table("camera_image", [STAMP, CAMERA, IMAGE_POSE])
        found: dict[int, dict[str, dict[str, Any]]] = {}
        for row, (stamp, number) in enumerate(
            zip(table[STAMP].tolist(), table[CAMERA].tolist(), strict=True)
        ):
            if number in known and 0 < number <= len(CAMERAS):
                pose = self.matrix("camera_image", table[IMAGE_POSE][row]).tolist()
                entry = {"file": f"{self.file('camera_image')}#{IMAGE}@{row}", "ego_to_global": pose}
                found.setdefault(stamp, {})[CAMERAS[number - 1]] = {**entry, **known[number]}
        return found

    def _boxes(self) -> dict[int, list[dict[str, Any]]]:
        """The boxes of each frame."""
        table = self.table("lidar_box", [STAMP, BOX_TYPE, *BOX])
        rows = np.stack([table[name].astype(np.float64) for name in BOX], -1).tolist()
        found: dict[int, list[dict[str, Any]]] = {}
        for stamp, kind, row in zip(table[STAMP].tolist(), table[BOX_TYPE].tolist(), rows, strict=True):
            box = {"label": CLASSES.get(kind, "unknown"), "center": row[:3], "size_lwh": row[3:6]}
            found.setdefault(stamp, []).append({**box, "yaw": row[6]})
        return found

    def frame(self, stamp: int) -> dict[str, Any]:
        """One frame with the sweep of the sensor on the roof."""
        if stamp not in self.poses:
            where = f"{self.access.path / self.file('vehicle_pose')}: timestamp {stamp}"
            raise SceneFolderError(f"{where}: expected a pose, got none")
        pose = self.poses[stamp].tolist()
        told: dict[str, Any] = {
            "row": self.sweeps[stamp],
            "column": RANGES,
            "inclinations": self.inclinations,
        }
        told |= {"sensor_to_vehicle": self.sensor}
        if stamp in self.pixel_poses:
            told |= {"frame_pose": pose, "poses": self.file("lidar_pose")}
            told |= {"poses_row": self.pixel_poses[stamp], "poses_column": POSES}
        lidar: dict[str, Any] = {"file": self.file("lidar"), "layout": "range_image", "range_image": told}
        lidar |= {"columns": ["x", "y", "z", "intensity", "elongation", "beam"], "ego_to_global": pose}
        lidar["sensor_origin"] = [row[3] for row in self.sensor[:3]]
        frame = {
            "frame_id": f"{self.name}/{stamp}",
            "scene": self.name,
            "timestamp_us": stamp,
            "lidar": lidar,
        }
        return {
            **frame,
            "cameras": self.cameras.get(stamp, {}),
            "boxes_lidar_frame": self.boxes.get(stamp, []),
        }


def _rows_of(stamps: np.ndarray, sensors: np.ndarray, wanted: int) -> dict[int, int]:
    """The rows of one sensor by their time."""
    rows = np.flatnonzero(sensors == wanted).tolist()
    return {int(stamps[row]): row for row in rows}


def _names(text: str) -> tuple[str, ...]:
    """Names of segments with commas: no paths."""
    names = tuple(text.split(","))
    if not all(name.replace("_", "").replace("-", "").isalnum() for name in names):
        raise ValueError
    return names


WAYMO = Reader("waymo", read_waymo, "", {"segments": (_names, "names of segments with commas")})
