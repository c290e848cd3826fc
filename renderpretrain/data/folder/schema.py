"""What ``frames.json`` may say, and one line where it says something else; see ``docs/scene_folder.md``.

Unknown fields are left alone, so that folders may say more than is read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from renderpretrain.data.folder.classes import StoredClasses
from renderpretrain.data.folder.fields import (
    MOST_PIXELS,
    Angle,
    Classes,
    ClassMap,
    Distortion,
    Extent,
    File,
    Fisheye,
    Intrinsics,
    Levels,
    Pixels,
    Pose,
    Seconds,
    TrackedPose,
    Vector,
    Velocity,
    brief,
    check_sizes,
    expected,
    named_lens,
    within,
)
from renderpretrain.data.folder.lidar_entry import LidarEntry

DepthLayout = Literal["raw16", "zlib16"]
"""Depth images that are no picture's file: rows of little-endian 16-bit integers, perhaps compressed."""

Orientation = Literal["stored", "exif"]
"""Whether pictures are as their pixels are stored, or as their EXIF data turns them."""


LONGEST_NAME = 200
"""Characters of a camera's name."""

SAME_TIME = 1e-3
"""Seconds by which a frame's time stamps in several units may differ: some are rounded."""


def _check_codes(value: object) -> object:
    """What a pixel of a depth image may hold, one number or several."""
    codes = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(code) is int and 0 <= code <= 65535 for code in codes):
        raise expected("a stored number from 0 to 65535 that is no depth, or a list of them", value)
    return value


class Picture(BaseModel):
    """A picture's size, and how it was taken."""

    width: Pixels
    height: Pixels

    @model_validator(mode="after")
    def _is_not_huge(self) -> "Picture":
        if self.width * self.height > MOST_PIXELS:
            raise expected(f"at most {MOST_PIXELS} pixels", f"width x height of {self.width} x {self.height}")
        return self


class Lens(BaseModel):
    """What bends a picture: OpenCV's pinhole, or its fisheye where the second field is there."""

    distortion: Distortion | None = None
    distortion_k1k2k3k4: Fisheye | None = None

    _lens = model_validator(mode="before")(named_lens)


class CameraEntry(Picture, Lens):
    """One picture and how it was taken; ``lidar_to_camera`` wins over the chain through ego and global."""

    file: File
    intrinsics: Intrinsics
    orientation: Orientation | None = None
    levels: Levels | None = None
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
    yaw: Angle
    velocity_xy: Velocity | None = None

    @model_validator(mode="after")
    def _has_a_size(self) -> "BoxEntry":
        check_sizes("size_lwh", self.label, self.size_lwh)
        return self


class KittiBoxEntry(BaseModel):
    """An object as KITTI labels it, in the rectified frame of camera 0."""

    label: str
    height_width_length: Vector
    bottom_center: Vector
    rotation_y: Angle

    @model_validator(mode="after")
    def _has_a_size(self) -> "KittiBoxEntry":
        check_sizes("height_width_length", self.label, self.height_width_length)
        return self


class _Timed(BaseModel):
    """Something that was taken at a moment."""

    timestamp_s: Seconds | None = None
    timestamp_us: Annotated[int, within("microseconds, within 1e17", -1e17, 1e17)] | None = None
    timestamp_ns: Annotated[int, within("nanoseconds, within 1e20", -1e20, 1e20)] | None = None

    @model_validator(mode="after")
    def _one_time(self) -> "_Timed":
        stamps = list(self._stamps())
        if stamps and max(stamps) - min(stamps) > SAME_TIME:
            times = " and ".join(f"{stamp:.17g} s" for stamp in stamps)
            raise expected("timestamp_s, timestamp_us and timestamp_ns to say the same time", times)
        return self

    @property
    def seconds(self) -> float | None:
        """The time stamp in seconds."""
        return next(self._stamps(), None)

    def _stamps(self) -> Iterator[float]:
        """All times that are named, in seconds."""
        for stamp, unit in ((self.timestamp_s, 1.0), (self.timestamp_us, 1e6), (self.timestamp_ns, 1e9)):
            if stamp is not None:
                yield stamp / unit


class SweepEntry(_Timed):
    """A sweep taken before a frame's own; what is not said here is as in the frame's ``lidar``."""

    file: File
    ego_to_global: Pose
    lidar_to_ego: Pose | None = None


class OutdoorFrame(_Timed):
    """One moment of a recording with a LiDAR.

    ``position`` is its place in the list, whatever the file says.
    """

    position: int = 0
    frame_id: int | str = ""
    scene: str = ""
    lidar: LidarEntry
    sweeps: list[SweepEntry] = []
    cameras: dict[str, CameraEntry] = {}
    boxes_lidar_frame: list[BoxEntry] = []
    boxes_rectified_cam0: list[KittiBoxEntry] = []

    @model_validator(mode="after")
    def _cameras_are_placed(self) -> "OutdoorFrame":
        for name, camera in self.cameras.items():
            if not name.strip() or len(name) > LONGEST_NAME:
                raise expected(f"cameras to have names of 1 to {LONGEST_NAME} characters", repr(name))
            through_global = camera.camera_to_global is not None and self.lidar.ego_to_global is not None
            if camera.lidar_to_camera is None and camera.camera_to_ego is None and not through_global:
                raise PydanticCustomError(
                    "expected",
                    "cameras.{name}: expected lidar_to_camera, camera_to_ego, or camera_to_global with "
                    "lidar.ego_to_global, got none of them",
                    {"name": brief(name)},
                )
        return self

    @model_validator(mode="after")
    def _sweeps_are_older(self) -> "OutdoorFrame":
        if not self.sweeps:
            return self
        if self.seconds is None or self.lidar.ego_to_global is None:
            raise expected("a time stamp and lidar.ego_to_global beside sweeps", "none")
        for number, sweep in enumerate(self.sweeps):
            if sweep.seconds is None or sweep.seconds >= self.seconds:
                got = "none" if sweep.seconds is None else f"{sweep.seconds:.17g} s"
                raise expected(f"sweeps.{number} to have a time before {self.seconds:.17g} s", got)
        return self


class DepthCamera(BaseModel):
    """Where depth images are from, if they are not registered to their pictures; without a lens of its own.

    Their own intrinsics, at their own size, and the way from this camera to that of the picture: without the
    latter both look through one point along one axis.
    """

    depth_intrinsics: Intrinsics | None = None
    depth_to_color: Pose | None = None


class IndoorFrame(Picture, Lens, DepthCamera):
    """One posed picture, perhaps with depth; without a pose where tracking was lost.

    ``position`` is its place in the list, whatever the file says.
    """

    position: int = 0
    frame_id: int | str = ""
    scene: str = ""
    timestamp_s: Seconds | None = None
    color: File
    depth: File | None = None
    depth_layout: DepthLayout | None = None
    depth_width: Pixels | None = None
    depth_height: Pixels | None = None
    semseg: File | None = None
    cloud: LidarEntry | str | None = None
    camera_to_world: TrackedPose
    intrinsics: Intrinsics = []

    @model_validator(mode="after")
    def _has_a_size(self) -> "IndoorFrame":
        if self.depth_layout is not None and (self.depth_width is None or self.depth_height is None):
            raise expected(f"depth_width and depth_height of {self.depth_layout}", "none")
        return self


class _Folder(BaseModel):
    """What folders of all formats may say."""

    dataset: str = ""
    scene: str = ""
    semseg_classes: Classes = {}
    semseg_map: ClassMap | None = None
    orientation: Orientation | None = None
    levels: Levels | None = None

    @property
    def classes(self) -> StoredClasses:
        """Which stored numbers are classes: those below the largest that has a name, or as the map says."""
        return StoredClasses(max(self.semseg_classes, default=0) + 1, self.semseg_map)


class OutdoorFolder(_Folder):
    """A ``frames.json`` of the formats ``multicam_lidar`` and ``lidar_sequence``."""

    format: Literal["multicam_lidar", "lidar_sequence"]
    intensity_scale: Annotated[float, within("a number from 1e-6 to 1e9", 1e-6, 1e9)] | None = None
    frames: list[OutdoorFrame] = Field(min_length=1)

    @model_validator(mode="after")
    def _said_for_all(self) -> "OutdoorFolder":
        """Give the entries what the folder says for all of them."""
        for frame in self.frames:
            if frame.lidar.intensity_scale is None:
                frame.lidar.intensity_scale = self.intensity_scale
            for camera in frame.cameras.values():
                camera.orientation = camera.orientation or self.orientation
                camera.levels = camera.levels or self.levels
        return self

    @cached_property
    def first_of_scene(self) -> dict[str, int]:
        """The first frame of each ``scene`` whose global pose is known."""
        posed = [i for i, frame in enumerate(self.frames) if frame.lidar.ego_to_global is not None]
        return {self.frames[i].scene: i for i in reversed(posed)}


@dataclass(frozen=True)
class StoredDepths:
    """What the numbers of depth images mean.

    Attributes:
        scale: Stored units per metre.
        invalid: Numbers that say that nothing was measured, besides 0. ``None`` is not known: the largest
            number that fits is taken for one, and remarked.
        rotated: Bits by which 16-bit numbers were rotated to the left when they were stored.
    """

    scale: float
    invalid: list[int] | None = None
    rotated: int = 0


class IndoorFolder(_Folder, Lens, DepthCamera):
    """A ``frames.json`` of the formats ``posed_rgbd`` and ``posed_rgb``."""

    format: Literal["posed_rgbd", "posed_rgb"]
    views_per_scene: Annotated[int, within("1 to 10000 views", 1, 10000)] | None = None
    intrinsics: Intrinsics | None = None
    extent: Extent | None = None
    depth_scale: Annotated[float, within("stored units per metre, from 1 to 1e6", 1, 1e6)] = 1000.0
    depth_rotated: Annotated[int, within("0 to 15 bits", 0, 15)] = 0
    depth_invalid: Annotated[int | list[int] | None, BeforeValidator(_check_codes)] = None
    clouds: dict[str, LidarEntry] = {}
    frames: list[IndoorFrame] = Field(min_length=1)

    @model_validator(mode="after")
    def _said_of_all_views(self) -> "IndoorFolder":
        """Give the views what the folder says for all of them."""
        for frame in self.frames:
            if not frame.intrinsics:
                if self.intrinsics is None:
                    raise PydanticCustomError("expected", "intrinsics: expected a value, got nothing")
                frame.intrinsics = self.intrinsics
            if frame.distortion is None and frame.distortion_k1k2k3k4 is None:
                frame.distortion, frame.distortion_k1k2k3k4 = self.distortion, self.distortion_k1k2k3k4
            if frame.depth_intrinsics is None:
                frame.depth_intrinsics, frame.depth_to_color = self.depth_intrinsics, self.depth_to_color
        return self

    @model_validator(mode="after")
    def _clouds_are_there(self) -> "IndoorFolder":
        for frame in self.frames:
            if isinstance(frame.cloud, str) and frame.cloud not in self.clouds:
                raise expected(f"cloud of {frame_name(frame)} to be a name among clouds", frame.cloud)
        return self

    @model_validator(mode="after")
    def _some_view_has_a_pose(self) -> "IndoorFolder":
        if all(frame.camera_to_world is None for frame in self.frames):
            raise expected("frames with a finite camera_to_world", "none")
        return self

    @property
    def depths(self) -> StoredDepths:
        """What the numbers of its depth images mean."""
        alone = isinstance(self.depth_invalid, int)
        invalid = [self.depth_invalid] if alone else self.depth_invalid
        return StoredDepths(self.depth_scale, invalid, self.depth_rotated)  # type: ignore[arg-type]

    def cloud_of(self, frame: IndoorFrame) -> LidarEntry | None:
        """The cloud that a view sees a part of; ``None`` where its points are those of its depth image."""
        return self.clouds[frame.cloud] if isinstance(frame.cloud, str) else frame.cloud

    @cached_property
    def first_of_cloud(self) -> dict[str, int]:
        """The first view that names each of the clouds."""
        named = [i for i in self.tracked if isinstance(self.frames[i].cloud, str)]
        return {str(self.frames[i].cloud): i for i in reversed(named)}

    @cached_property
    def tracked(self) -> list[int]:
        """The views that have a pose."""
        return [i for i, frame in enumerate(self.frames) if frame.camera_to_world is not None]

    @cached_property
    def first_of_scene(self) -> dict[str, int]:
        """The first view of each ``scene`` that has a pose."""
        return {self.frames[i].scene: i for i in reversed(self.tracked)}


def files_of(index: OutdoorFolder | IndoorFolder, frame: OutdoorFrame | IndoorFrame) -> list[str]:
    """The files of a frame, without those of older sweeps."""
    if isinstance(frame, OutdoorFrame):
        return [*frame.lidar.files, *(camera.file for camera in frame.cameras.values())]
    cloud = index.cloud_of(frame) if isinstance(index, IndoorFolder) else None
    named = [frame.color, frame.depth, frame.semseg, *(cloud.files if cloud else ())]
    return [name for name in named if name is not None]


def frame_name(frame: OutdoorFrame | IndoorFrame) -> str:
    """How messages call a frame."""
    return f"frame {frame.position} ({brief(frame.frame_id)})"
