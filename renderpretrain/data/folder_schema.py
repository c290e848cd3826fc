"""What ``frames.json`` may say, and one line where it says something else; see ``docs/scene_folder.md``.

Unknown fields are left alone, so that folders may say more than is read here.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

INDEX = "frames.json"
"""Name of the file that describes a folder."""

ROTATION_TOLERANCE = 1e-2
"""How far ``R R^T`` may be from the identity: published calibrations are off by 1e-4, wrong ones by more."""

OUTDOOR = ("multicam_lidar", "lidar_sequence")
INDOOR = ("posed_rgbd", "posed_rgb")


class SceneFolderError(ValueError):
    """A scene folder cannot be read; the message is one line that names file, frame and field."""


def _expected(what: str, got: object) -> PydanticCustomError:
    """An error in the house's form."""
    text = str(got).replace("\n", " ")
    got = text if len(text) <= 90 else text[:87] + "..."
    return PydanticCustomError("expected", "expected {what}, got {got}", {"what": what, "got": got})


def _array(value: list[Any], shape: tuple[int, ...], what: str) -> np.ndarray:
    """The nested list as float64, or an error."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise _expected(what, value) from None
    if array.shape != shape or not np.isfinite(array).all():
        raise _expected(f"{what} of finite numbers", value)
    return array


def _check_pose(value: list[list[float]]) -> list[list[float]]:
    """A rigid 4x4 motion."""
    pose = _array(value, (4, 4), "a 4x4 matrix")
    rotation = pose[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise _expected("an orthonormal right-handed rotation within 0.01", f"an error of {off:.3g}, {value}")
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise _expected("a last row of 0 0 0 1", value[3])
    return value


def _check_intrinsics(value: list[list[float]]) -> list[list[float]]:
    """An invertible upper triangular 3x3 matrix in pixels."""
    matrix = _array(value, (3, 3), "a 3x3 matrix")
    upper = np.abs(np.tril(matrix, -1)).max() < 1e-9 and abs(matrix[2, 2] - 1) < 1e-9
    if not upper or abs(np.linalg.det(matrix)) < 1e-6:
        raise _expected("an invertible matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]]", value)
    return value


def _check_vector(value: list[float]) -> list[float]:
    """Three finite numbers."""
    _array(value, (3,), "3 numbers")
    return value


def _check_distortion(value: list[float]) -> list[float]:
    """Five finite numbers."""
    _array(value, (5,), "k1, k2, p1, p2, k3")
    return value


def _check_columns(value: list[str]) -> list[str]:
    """Coordinates must be there."""
    if not {"x", "y", "z"} <= set(value):
        raise _expected("columns with x, y and z", value)
    return value


Pose = Annotated[list[list[float]], AfterValidator(_check_pose)]
Intrinsics = Annotated[list[list[float]], AfterValidator(_check_intrinsics)]
Vector = Annotated[list[float], AfterValidator(_check_vector)]
Distortion = Annotated[list[float], AfterValidator(_check_distortion)]
Columns = Annotated[list[str], AfterValidator(_check_columns)]


class LidarEntry(BaseModel):
    """One sweep."""

    file: str
    dtype: Literal["float32", "float64"] = "float32"
    columns: Columns
    lidar_to_ego: Pose = np.eye(4).tolist()
    ego_to_global: Pose | None = None
    sensor_origin: Vector | None = None
    semseg_file: str | None = None


class CameraEntry(BaseModel):
    """One picture and how it was taken; ``lidar_to_camera`` wins over the chain through ego and global."""

    file: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    intrinsics: Intrinsics
    distortion: Distortion | None = None
    lidar_to_camera: Pose | None = None
    camera_to_ego: Pose | None = None
    ego_to_global: Pose | None = None
    camera_to_global: Pose | None = None
    lidar_to_rectified_cam0: Pose | None = None


class BoxEntry(BaseModel):
    """An object in the LiDAR frame."""

    label: str
    center: Vector
    size_lwh: Vector
    yaw: float
    velocity_xy: list[float] | None = None


class KittiBoxEntry(BaseModel):
    """An object as KITTI labels it, in the rectified frame of camera 0."""

    label: str
    height_width_length: Vector
    bottom_center: Vector
    rotation_y: float


class OutdoorFrame(BaseModel):
    """One moment of a recording with a LiDAR."""

    frame_id: int | str = ""
    scene: str = ""
    timestamp_s: float | None = None
    timestamp_us: int | None = None
    timestamp_ns: int | None = None
    lidar: LidarEntry
    cameras: dict[str, CameraEntry] = {}
    boxes_lidar_frame: list[BoxEntry] = []
    boxes_rectified_cam0: list[KittiBoxEntry] = []

    @model_validator(mode="after")
    def _cameras_are_placed(self) -> "OutdoorFrame":
        for name, camera in self.cameras.items():
            through_global = camera.camera_to_global is not None and self.lidar.ego_to_global is not None
            if camera.lidar_to_camera is None and camera.camera_to_ego is None and not through_global:
                raise PydanticCustomError(
                    "expected",
                    "cameras.{name}: expected lidar_to_camera, camera_to_ego, or camera_to_global with "
                    "lidar.ego_to_global, got none of them",
                    {"name": name},
                )
        return self

    @property
    def seconds(self) -> float | None:
        """The time stamp in seconds."""
        if self.timestamp_s is not None:
            return self.timestamp_s
        if self.timestamp_us is not None:
            return self.timestamp_us / 1e6
        return None if self.timestamp_ns is None else self.timestamp_ns / 1e9


class IndoorFrame(BaseModel):
    """One posed picture, perhaps with depth."""

    frame_id: int | str = ""
    scene: str = ""
    timestamp_s: float | None = None
    color: str
    depth: str | None = None
    semseg: str | None = None
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    camera_to_world: Pose
    intrinsics: Intrinsics | None = None


class OutdoorFolder(BaseModel):
    """``multicam_lidar`` or ``lidar_sequence``."""

    format: Literal["multicam_lidar", "lidar_sequence"]
    dataset: str = ""
    scene: str = ""
    semseg_classes: dict[int, str] = {}
    frames: list[OutdoorFrame] = Field(min_length=1)


class IndoorFolder(BaseModel):
    """``posed_rgbd`` or ``posed_rgb``."""

    format: Literal["posed_rgbd", "posed_rgb"]
    dataset: str = ""
    scene: str = ""
    views_per_scene: int | None = Field(None, ge=1)
    intrinsics: Intrinsics
    distortion: Distortion | None = Field(
        None, validation_alias=AliasChoices("distortion", "distortion_k1k2p1p2k3")
    )
    depth_scale: float = Field(1000.0, gt=0)
    semseg_classes: dict[int, str] = {}
    frames: list[IndoorFrame] = Field(min_length=1)


def read_index(path: Path) -> OutdoorFolder | IndoorFolder:
    """The parsed ``frames.json`` of a folder.

    Raises:
        SceneFolderError: With the first problem.
    """
    index, problems = parse_index(path)
    if index is None:
        raise SceneFolderError(problems[0])
    return index


def parse_index(path: Path) -> tuple[OutdoorFolder | IndoorFolder | None, list[str]]:
    """The parsed ``frames.json``, or everything that is wrong with it, one line each."""
    file = path / INDEX
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        return None, [f"{path}: expected a folder with {INDEX}, got {got}"]
    if not file.is_file():
        return None, [f"{file}: expected a file, got nothing"]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return None, [f"{file}: line {error.lineno}, column {error.colno}: expected JSON, got: {error.msg}"]
    except UnicodeDecodeError as error:
        return None, [f"{file}: byte {error.start}: expected UTF-8 text, got: {error.reason}"]
    kind = content.get("format") if isinstance(content, dict) else None
    if kind not in OUTDOOR + INDOOR:
        return None, [f"{file}: format: expected one of {', '.join(OUTDOOR + INDOOR)}, got {kind!r}"]
    try:
        model: type[OutdoorFolder] | type[IndoorFolder] = OutdoorFolder if kind in OUTDOOR else IndoorFolder
        return model.model_validate(content), []
    except ValidationError as error:
        return None, [f"{file}: {_line(detail, content)}" for detail in error.errors()]


def frame_name(position: int, frame: OutdoorFrame | IndoorFrame) -> str:
    """How messages call a frame."""
    return f"frame {position} ({frame.frame_id})"


def _line(detail: ErrorDetails, content: dict[str, Any]) -> str:
    """One validation error as ``frame 3 (id): field: expected ..., got ...``."""
    location = list(detail["loc"])
    where = ""
    if len(location) > 1 and location[0] == "frames" and isinstance(location[1], int):
        frame = content["frames"][location[1]]
        name = frame.get("frame_id", "") if isinstance(frame, dict) else ""
        where = f"frame {location[1]} ({name}): "
        location = location[2:]
    field = ".".join(str(part) for part in location) + ": " if location else ""
    if detail["type"] == "missing":
        return f"{where}{field}expected a value, got nothing"
    if detail["type"] == "expected":
        return f"{where}{field}{detail['msg']}"
    return f"{where}{field}{_expected(detail['msg'], detail['input']).message()}"
