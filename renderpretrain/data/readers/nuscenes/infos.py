"""The info files that mmdetection3d and OpenPCDet make of nuScenes, ``nuscenes_infos_*.pkl``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.formats.pickles import load_pickle
from renderpretrain.data.formats.quaternions import rotations
from renderpretrain.data.readers.nuscenes.names import CAMERAS, COLUMNS, DETECTED, LIDAR, OWN_VEHICLE
from renderpretrain.data.readers.tables import TABLE_BYTES, picture_size

LONG = ("car", "truck", "bus", "trailer")
"""Classes that are longer than wide: they tell in which order an info file of 0.x or 1.0 has the sizes."""


@dataclass
class _Moment:
    """What an info of any form says of a key frame.

    Attributes:
        token: Of the sample.
        file: Of the sweep, as the info says it.
        stamp: Microseconds.
        lidar_to_ego: ``(4, 4)``.
        ego_to_global: ``(4, 4)``.
        sweeps: File, microseconds, and ``(4, 4)`` to the key frame's LiDAR frame of each older sweep.
        cameras: File, intrinsics, and ``(4, 4)`` from the LiDAR frame of each camera, by its name.
        labels: Class of each box.
        boxes: ``(K, 7)`` centre, length, width, height, yaw in the LiDAR frame.
        velocities: ``(K, 2)``, NaN where unknown.
    """

    token: str
    file: Any
    stamp: int
    lidar_to_ego: np.ndarray
    ego_to_global: np.ndarray
    sweeps: list[tuple[Any, int, np.ndarray]]
    cameras: dict[str, tuple[Any, Any, np.ndarray]]
    labels: list[str] = field(default_factory=list)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))
    velocities: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))


def frames_of_infos(
    access: FolderAccess, infos: str, raw_classes: bool
) -> list[dict[str, Any] | UnreadFrame]:
    """The frames of an info file, as ``frames.json`` would describe them; no table is opened.

    Args:
        access: Of the folder that holds ``samples`` and ``sweeps``.
        infos: The pickle; nothing but arrays and plain containers is made of it.
        raw_classes: Whether objects that are of none of the ten classes are kept, too.

    Raises:
        SceneFolderError: If it is no such file. What is broken in one info is a frame that is not read.
    """
    where = f"{access.path / infos}"
    try:
        content = load_pickle(access.read(infos, "infos", TABLE_BYTES), "infos of nuScenes")
    except ValueError as error:
        if isinstance(error, SceneFolderError):
            raise
        raise SceneFolderError(f"{where}: {error}") from error
    listed = content.get("data_list", content.get("infos")) if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed:
        raise SceneFolderError(f"{where}: expected a list of infos, got {brief(type(listed).__name__)}")
    frames: list[dict[str, Any] | UnreadFrame] = []
    writer = _Frames(access, raw_classes)
    for number, moment in enumerate(_moments(content, listed)):
        try:
            frames.append(writer.frame(moment()))
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
        except KeyError as error:
            line = SceneFolderError(f"{where}: info {number}: expected {brief(error.args[0])}, got nothing")
            frames.append(UnreadFrame(str(line)))
        except ODD_VALUES as error:
            line = SceneFolderError(f"{where}: info {number}: expected an info of nuScenes, got: {error}")
            frames.append(UnreadFrame(str(line)))
    return frames


def _moments(content: Any, listed: list[Any]) -> Iterator[Any]:
    """What makes a moment of each info, by the form that the file has."""
    if isinstance(content, list):
        yield from ((lambda info=info: _of_openpcdet(info)) for info in listed)
    elif "data_list" in content:
        names = _names(content.get("metainfo"))
        yield from ((lambda info=info: _of_version_2(info, names)) for info in listed)
    else:
        wide_first = _is_wide_first(listed)
        yield from ((lambda info=info: _of_version_1(info, wide_first)) for info in listed)


def _names(metainfo: Any) -> dict[int, str]:
    """The class of each label of an info file from 1.1 on."""
    categories = metainfo.get("categories") if isinstance(metainfo, dict) else None
    return {number: name for name, number in categories.items()} if isinstance(categories, dict) else {}


def _is_wide_first(listed: list[Any]) -> bool:
    """Whether boxes have the width before the length, as they had before 1.0."""
    votes = 0
    for info in listed:
        if isinstance(info, dict) and "gt_boxes" in info:
            long = np.isin(np.asarray(info.get("gt_names", ())), LONG)
            sizes = np.asarray(info["gt_boxes"])
            if sizes.ndim == 2 and len(sizes) == len(long) and sizes.shape[1] > 4:
                votes += int(np.sign(sizes[long, 4] - sizes[long, 3]).sum())
    return votes > 0


def _of_version_1(info: dict[str, Any], wide_first: bool) -> _Moment:
    """An info of mmdetection3d up to 1.0: quaternions, sensors to LiDAR, boxes as arrays."""
    sweeps = [
        (sweep["data_path"], int(sweep["timestamp"]), _sensor_to_lidar(sweep)) for sweep in info["sweeps"]
    ]
    cameras = {name: _camera(camera, "cam_intrinsic") for name, camera in info.get("cams", {}).items()}
    moment = _Moment(
        token=str(info["token"]),
        file=info["lidar_path"],
        stamp=int(info["timestamp"]),
        lidar_to_ego=_pose(info["lidar2ego_rotation"], info["lidar2ego_translation"]),
        ego_to_global=_pose(info["ego2global_rotation"], info["ego2global_translation"]),
        sweeps=sweeps,
        cameras=cameras,
    )
    if "gt_boxes" in info:
        boxes = _numbers(info["gt_boxes"], (-1, 7))
        if wide_first:
            boxes = np.concatenate([boxes[:, [0, 1, 2, 4, 3, 5]], -boxes[:, 6:] - np.pi / 2], 1)
        moment.boxes, moment.labels = boxes, [str(name) for name in info["gt_names"]]
        moment.velocities = _speeds(info.get("gt_velocity", np.full((len(boxes), 2), np.nan)))
    return moment


def _of_version_2(info: dict[str, Any], names: dict[int, str]) -> _Moment:
    """An info of mmdetection3d from 1.1 on: matrices in float32, LiDAR to cameras, a list of instances."""
    points, objects = info["lidar_points"], info.get("instances", [])
    sweeps = [
        (
            sweep["lidar_points"]["lidar_path"],
            round(1e6 * sweep["timestamp"]),
            np.linalg.inv(_numbers(sweep["lidar_points"]["lidar2sensor"], (4, 4))),
        )
        for sweep in info.get("lidar_sweeps", [])
    ]
    cameras = {
        name: (image["img_path"], image["cam2img"], _numbers(image["lidar2cam"], (4, 4)))
        for name, image in info["images"].items()
    }
    return _Moment(
        token=str(info["token"]),
        file=points["lidar_path"],
        stamp=round(1e6 * info["timestamp"]),
        lidar_to_ego=_numbers(points["lidar2ego"], (4, 4)),
        ego_to_global=_numbers(info["ego2global"], (4, 4)),
        sweeps=sweeps,
        cameras=cameras,
        labels=[names.get(int(thing["bbox_label_3d"]), "") for thing in objects],
        boxes=_numbers([thing["bbox_3d"] for thing in objects] or np.zeros((0, 7)), (-1, 7)),
        velocities=_speeds([thing["velocity"] for thing in objects] or np.zeros((0, 2))),
    )


def _of_openpcdet(info: dict[str, Any]) -> _Moment:
    """An info of OpenPCDet: matrices to the reference, sweeps repeated where there are too few."""
    stamp = float(info["timestamp"])
    to_lidar, to_ego = (_numbers(info[key], (4, 4)) for key in ("ref_from_car", "car_from_global"))
    sweeps = [
        (
            sweep["lidar_path"],
            round(1e6 * (stamp - float(sweep["time_lag"]))),
            _numbers(sweep["transform_matrix"], (4, 4)),
        )
        for sweep in info["sweeps"]
        if sweep["transform_matrix"] is not None
    ]
    cameras = {name: _camera(camera, "camera_intrinsics") for name, camera in info.get("cams", {}).items()}
    moment = _Moment(
        token=str(info["token"]),
        file=info["lidar_path"],
        stamp=round(1e6 * stamp),
        lidar_to_ego=np.linalg.inv(to_lidar),
        ego_to_global=np.linalg.inv(to_ego),
        sweeps=sweeps,
        cameras=cameras,
    )
    if "gt_boxes" in info:
        boxes = np.asarray(info["gt_boxes"])
        moment.boxes, moment.velocities = _numbers(boxes[:, :7], (-1, 7)), _speeds(boxes[:, 7:])
        moment.labels = [str(name) for name in info["gt_names"]]
    return moment


def _speeds(value: Any) -> np.ndarray:
    """Velocities ``(K, 2)``, which are not finite where nobody knows them."""
    return _numbers(value, (-1, 2), finite=False)


def _camera(camera: dict[str, Any], intrinsics: str) -> tuple[Any, Any, np.ndarray]:
    """A camera of an info that says where it is in the LiDAR frame of the key frame."""
    matrix = _numbers(camera[intrinsics], (3, 3)).tolist()
    return camera["data_path"], matrix, np.linalg.inv(_sensor_to_lidar(camera))


def _sensor_to_lidar(sensor: dict[str, Any]) -> np.ndarray:
    """Where a sensor was in the LiDAR frame of the key frame: the motion of the vehicle is in it."""
    pose = np.eye(4)
    pose[:3, :3] = _numbers(sensor["sensor2lidar_rotation"], (3, 3))
    pose[:3, 3] = _numbers(sensor["sensor2lidar_translation"], (3,))
    return pose


def _pose(rotation: Any, translation: Any) -> np.ndarray:
    """A pose from a quaternion w, x, y, z and a translation."""
    pose = np.eye(4)
    pose[:3, :3] = rotations(_numbers(rotation, (4,))[None])[0]
    pose[:3, 3] = _numbers(translation, (3,))
    return pose


def _numbers(value: Any, shape: tuple[int, ...], *, finite: bool = True) -> np.ndarray:
    """Numbers of a shape, of which -1 is any."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"numbers of shape {array.shape} for {shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError("numbers that are not finite")
    return array


class _Frames:
    """Makes frames of moments; the files are looked for under the recording's folder."""

    def __init__(self, access: FolderAccess, raw_classes: bool) -> None:
        self.access, self.raw_classes = access, raw_classes
        self.has_sweeps = (access.path / "sweeps").is_dir()
        self.sizes: dict[str, tuple[int, int]] = {}

    def frame(self, moment: _Moment) -> dict[str, Any]:
        """A frame of ``frames.json``."""
        file = _file(moment.file, "samples", LIDAR)
        return {
            "frame_id": moment.token,
            "scene": PurePosixPath(file).name.partition("__")[0],
            "timestamp_us": moment.stamp,
            "lidar": {
                "file": file,
                "layout": "rows",
                "columns": COLUMNS,
                "lidar_to_ego": moment.lidar_to_ego.tolist(),
                "ego_to_global": moment.ego_to_global.tolist(),
                "sensor_origin": [0.0, 0.0, 0.0],
                "own_vehicle": OWN_VEHICLE,
            },
            "sweeps": list(self._sweeps(moment)),
            "cameras": self._cameras(moment),
            "boxes_lidar_frame": list(self._boxes(moment)),
        }

    def _sweeps(self, moment: _Moment) -> Iterator[dict[str, Any]]:
        """The older sweeps, each by its pose; what repeats the key frame is left out."""
        to_global = moment.ego_to_global @ moment.lidar_to_ego
        to_lidar = np.linalg.inv(moment.lidar_to_ego)
        for path, stamp, motion in moment.sweeps:
            file = _file(path, "sweeps", LIDAR)
            if file.startswith("sweeps/") and not self.has_sweeps:
                words = "expected the sweeps between key frames, got nothing: key frames are merged alone"
                self.access.doubt("no sweeps", "sweeps", LIDAR, words)
            elif stamp < moment.stamp:
                pose = to_global @ motion @ to_lidar
                yield {"file": file, "timestamp_us": stamp, "ego_to_global": pose.tolist()}

    def _cameras(self, moment: _Moment) -> dict[str, Any]:
        """The pictures; all of a camera have the size of its first."""
        cameras = {}
        names = [*(n for n in CAMERAS if n in moment.cameras), *sorted(moment.cameras.keys() - set(CAMERAS))]
        for name in names:
            path, intrinsics, to_camera = moment.cameras[name]
            file = _file(path, "samples", name)
            if name not in self.sizes:
                self.sizes[name] = picture_size(self.access, file, f"info {moment.token}: {name}")
            height, width = self.sizes[name]
            matrix = _numbers(intrinsics, (3, 3)).tolist()
            cameras[name] = {"file": file, "width": width, "height": height, "intrinsics": matrix}
            cameras[name]["lidar_to_camera"] = to_camera.tolist()
        return cameras

    def _boxes(self, moment: _Moment) -> Iterator[dict[str, Any]]:
        """The boxes of the ten classes, or of all that have a name."""
        classes = set(DETECTED.values())
        for label, box, velocity in zip(moment.labels, moment.boxes, moment.velocities, strict=True):
            if label in classes or (self.raw_classes and label not in ("", "ignore")):
                center, size, yaw = box[:3].tolist(), box[3:6].tolist(), float(box[6])
                entry = {"label": label, "center": center, "size_lwh": size, "yaw": yaw}
                yield entry | ({"velocity_xy": velocity.tolist()} if np.isfinite(velocity).all() else {})


def _file(path: Any, folder: str, channel: str) -> str:
    """Where a file is in the recording: from ``samples`` or ``sweeps`` on, or by its name alone."""
    if not isinstance(path, str):
        raise TypeError(f"{brief(path)} in the place of a path")
    parts = PurePosixPath(path.replace("\\", "/")).parts
    for place, part in enumerate(parts):
        if part in ("samples", "sweeps"):
            return "/".join(parts[place:])
    return f"{folder}/{channel}/{parts[-1] if parts else ''}"
