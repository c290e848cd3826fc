"""Waymo Open Dataset, version 2 (https://waymo.com/open): one folder a component, one parquet file a segment.

The frame of points and boxes is that of the vehicle at the frame's time: x forward, y left, z up. Of the five
sensors the one on the roof is read, its first returns, and others or second returns where they are asked for.
Only the sensor on the roof has poses of its pixels and classes, the latter in some frames. Reading needs the
extra ``av2``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import MOST_TABLE, FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.formats.feather import read_parquet
from renderpretrain.data.readers.waymo_classes import CLASSES as POINT_CLASSES

CAMERAS = ("front", "front_left", "front_right", "side_left", "side_right")
"""Names of cameras 1 to 5."""

CLASSES: Mapping[int, str] = {1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
"""Names of the types of boxes."""

LIDARS = ("top", "front", "side_left", "side_right", "rear")
"""Names of sensors 1 to 5."""

RETURNS = ("1", "2")
"""Numbers of returns."""

KEYS = {
    "key.camera_name": {name.upper(): number for number, name in enumerate(CAMERAS, 1)},
    "key.laser_name": {name.upper(): number for number, name in enumerate(LIDARS, 1)},
}
"""Numbers of sensors by their names, which some tables have in their place."""

STAMP, CAMERA, LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"
TRANSFORM = "[VehiclePoseComponent].world_from_vehicle.transform"
IMAGE = "[CameraImageComponent].image"
IMAGE_POSE = "[CameraImageComponent].pose.transform"
RANGES, POSES, SEGMENTATION = (
    f"[LiDAR{name}Component].range_image_return" for name in ("", "Pose", "SegmentationLabel")
)
LENS_NAMES = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
LENS = [f"[CameraCalibrationComponent].intrinsic.{name}" for name in LENS_NAMES]
SIZE = [f"[CameraCalibrationComponent].{n}" for n in ("width", "height")]
MOUNT = "[CameraCalibrationComponent].extrinsic.transform"
SENSOR = "[LiDARCalibrationComponent].extrinsic.transform"
INCLINATIONS = [f"[LiDARCalibrationComponent].beam_inclination.{name}" for name in ("values", "min", "max")]
BOX = [f"[LiDARBoxComponent].box.{part}.{axis}" for part in ("center", "size") for axis in "xyz"]
BOX.append("[LiDARBoxComponent].box.heading")
BOX_TYPE = "[LiDARBoxComponent].type"

TO_OPENCV = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From OpenCV's axes of a camera to Waymo's: x forward, y left, z up."""


def read_waymo(
    access: FolderAccess,
    segments: tuple[str, ...] | None = None,
    lidars: tuple[str, ...] = LIDARS[:1],
    returns: tuple[str, ...] = RETURNS[:1],
) -> dict[str, Any]:
    """The frames of all segments, as ``frames.json`` would describe them.

    Args:
        access: Of the folder of components: ``vehicle_pose``, ``lidar``, ``lidar_calibration``, and where
            there are such ``lidar_pose``, ``lidar_segmentation``, ``lidar_box``, ``camera_image`` with
            ``camera_calibration``.
        segments: Which segments; all where nobody says.
        lidars: Which sensors; rays start at the first.
        returns: Which returns of a beam.

    Raises:
        SceneFolderError: If there are none.
    """
    names = [n.removesuffix(".parquet") for n in access.names("lidar") if n.endswith(".parquet")]
    chosen = [name for name in names if segments is None or name in segments]
    frames = [frame for name in chosen for frame in _segment(access, name, lidars, returns)]
    if not frames:
        got = f"{len(names)} others" if names else "none"
        raise SceneFolderError(f"{access.path / 'lidar'}: expected SEGMENT.parquet of version 2, got {got}")
    content: dict[str, Any] = {"format": "multicam_lidar", "dataset": "Waymo Open Dataset", "frames": frames}
    lidar_entries = [frame["lidar"] for frame in frames if isinstance(frame, dict)]
    if any("semseg" in entry["columns"] for entry in lidar_entries):
        content["semseg_classes"] = dict(enumerate(POINT_CLASSES, 1))
        content["semseg_map"] = {0: -1} | {number: number for number in range(1, 1 + len(POINT_CLASSES))}
    return content


def _segment(
    access: FolderAccess, name: str, lidars: tuple[str, ...], returns: tuple[str, ...]
) -> list[dict[str, Any] | UnreadFrame]:
    """The frames of one segment; where its own tables are at fault, none of them can be described."""
    try:
        segment = _Segment(access, name, lidars, returns)
    except SceneFolderError as error:
        return [UnreadFrame(str(error))]
    frames: list[dict[str, Any] | UnreadFrame] = []
    for stamp in sorted(segment.sweeps[segment.lidars[0]]):
        try:
            frames.append(segment.frame(stamp))
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
    return frames


class _Segment:
    """The tables of a segment: which row is which sensor's at which time."""

    def __init__(
        self, access: FolderAccess, name: str, lidars: tuple[str, ...], returns: tuple[str, ...]
    ) -> None:
        self.access, self.name, self.returns = access, name, returns
        self.lidars = [LIDARS.index(lidar) + 1 for lidar in lidars]
        self.sweeps = self.rows("lidar")
        poses = self.table("vehicle_pose", [STAMP, TRANSFORM])
        self.poses = {
            int(stamp): self.matrix("vehicle_pose", pose)
            for stamp, pose in zip(poses[STAMP], poses[TRANSFORM], strict=True)
        }
        self.sensors = {lidar: self._sensor(lidar) for lidar in self.lidars}
        self.pixel_poses, self.classes = self.rows("lidar_pose"), self.rows("lidar_segmentation")
        self.cameras = self._cameras() if self.has("camera_image") else {}
        self.boxes = self._boxes() if self.has("lidar_box") else {}

    def file(self, component: str) -> str:
        """The path of a component's table."""
        return f"{component}/{self.name}.parquet"

    def has(self, component: str) -> bool:
        """Whether there is a component's table."""
        return (self.access.path / self.file(component)).is_file()

    def rows(self, component: str) -> dict[int, dict[int, int]]:
        """The rows of each sensor by their times; none where there is no such component, but of ``lidar``."""
        if component != "lidar" and not self.has(component):
            return {lidar: {} for lidar in self.lidars}
        table = self.table(component, [STAMP, LASER])
        return {lidar: _rows_of(table[STAMP], table[LASER], lidar) for lidar in self.lidars}

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
            kinds = (
                "O" if name.endswith(("transform", "values")) else "iu" if name.startswith("key.") else "iuf"
            )
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

    def _sensor(self, lidar: int) -> tuple[list[list[float]], list[float]]:
        """Where a sensor is, and the angles of its beams from the highest down."""
        file = self.file("lidar_calibration")
        lasers = self.table("lidar_calibration", [LASER])[LASER].tolist()
        if lidar not in lasers:
            raise SceneFolderError(f"{self.access.path / file}: expected laser {lidar}, got {brief(lasers)}")
        row = lasers.index(lidar)
        # The sensor on the roof says the angle of each of its beams, others the least and the largest.
        named = INCLINATIONS[:1] if lidar == 1 else INCLINATIONS[1:]
        pose, *values = self.access.row(file, row, [SENSOR, *named], "table")
        try:
            if lidar == 1:
                (values,) = values
            else:
                count = self._height(lidar)
                values = values[0] + (values[1] - values[0]) * (0.5 + np.arange(count)) / count
            beams = np.asarray(values, dtype=np.float64)[::-1].tolist()
        except ODD_VALUES:
            got = brief(values)
            raise SceneFolderError(f"{self.access.path / file}: expected inclinations, got {got}") from None
        return self.matrix("lidar_calibration", pose).tolist(), beams

    def _height(self, lidar: int) -> int:
        """Rows of a sensor's range images; 0 where it has none."""
        row = next(iter(self.sweeps[lidar].values()), None)
        if row is None:
            return 0
        (shape,) = self.access.row(self.file("lidar"), row, [f"{RANGES}1.shape"], "table")
        return int(shape[0])

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
        images = [
            self._range_image(stamp, place, number)
            for place, lidar in enumerate(self.lidars)
            for number in self.returns
            if stamp in self.sweeps[lidar]
        ]
        columns = ["x", "y", "z", "intensity", "elongation", "beam"]
        columns += ["semseg"] if any("semseg" in image for image in images) else []
        lidar: dict[str, Any] = {"file": self.file("lidar"), "layout": "range_image", "columns": columns}
        lidar |= {"range_image": images[0], "further_images": images[1:], "ego_to_global": pose}
        lidar["sensor_origin"] = [row[3] for row in self.sensors[self.lidars[0]][0][:3]]
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

    def _range_image(self, stamp: int, place: int, number: str) -> dict[str, Any]:
        """A sensor's returns of a frame; both returns of a beam were measured from one place."""
        lidar = self.lidars[place]
        sensor, beams = self.sensors[lidar]
        before = sum(len(self.sensors[other][1]) for other in self.lidars[:place])
        told: dict[str, Any] = {"row": self.sweeps[lidar][stamp], "column": f"{RANGES}{number}"}
        told |= {"inclinations": beams, "sensor_to_vehicle": sensor, "first_beam": before}
        if stamp in self.pixel_poses[lidar]:
            told |= {"frame_pose": self.poses[stamp].tolist(), "poses": self.file("lidar_pose")}
            told |= {"poses_row": self.pixel_poses[lidar][stamp], "poses_column": f"{POSES}1"}
        if stamp in self.classes[lidar]:
            told |= {"semseg": self.file("lidar_segmentation"), "semseg_row": self.classes[lidar][stamp]}
            told["semseg_column"] = f"{SEGMENTATION}{number}"
        return told


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


def _chosen(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Some of the words that are known, different ones with commas."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        if len(set(words)) < len(words) or not set(words) <= set(known):
            raise ValueError
        return words

    return read


WAYMO = Reader(
    "waymo",
    read_waymo,
    "",
    {
        "segments": (_names, "names of segments with commas"),
        "lidars": (_chosen(LIDARS), f"different names with commas, of {', '.join(LIDARS)}"),
        "returns": (_chosen(RETURNS), "1, 2 or 1,2"),
    },
)
