"""What a moment looked like (:class:`Scene`).

Everything is in the world frame of the point cloud range: the LiDAR or ego frame of the moment outdoors,
the room frame indoors. A data set is anything with ``__len__`` and ``__getitem__(index) -> Scene``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Cameras, VoxelGrid
from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS

SHAPES = {
    "points": "P 5",
    "lidar_origin": "3",
    "images": "N 3 H W",
    "z_depths": "N H W",
    "z_depth_valid": "N H W",
    "world_to_global": "4 4",
    "point_labels": "P",
    "pixel_labels": "N H W",
    "point_key": "P",
    "camera_valid": "N",
    "image_valid": "N H W",
}
"""Axes of a scene's tensors; the same letter is the same size."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of R, G, B (ITU-R BT.601): the intensity of a point whose sensor sees nothing but colour."""


@dataclass(frozen=True)
class Boxes:
    """Oriented boxes standing on the ground; of several scenes with a leading axis.

    Attributes:
        centers: Geometric centres, metres.
        sizes: Length (along the heading), width, height, metres.
        yaws: Heading about +z, radians, 0 along +x.
        labels: Class index of each box.
        velocities: Metres per second in the world frame; zero for a parked object.
        valid: False for padding, which is zero; ``None`` where all boxes are real.
    """

    centers: Float[Tensor, "*batch K 3"]
    sizes: Float[Tensor, "*batch K 3"]
    yaws: Float[Tensor, "*batch K"]
    labels: Int[Tensor, "*batch K"]
    velocities: Float[Tensor, "*batch K 3"]
    valid: Bool[Tensor, "*batch K"] | None = None


@dataclass(frozen=True)
class GroundTruth:
    """What only a simulator knows exactly. Per pixel of every camera, and per voxel of ``grid``.

    Attributes:
        depth: Distance along the pixel's unit ray, metres; meaningful where ``hit``.
        hit: False in the sky.
        normals: Outward unit normals in the world frame.
        semantics: Class index per pixel; names in ``class_names``.
        occupancy: Class index per voxel centre, 0 = free.
        grid: The grid of ``occupancy``.
        class_names: Name of every class index; 0 is ``"free"``.
    """

    depth: Float[Tensor, "N H W"]
    hit: Bool[Tensor, "N H W"]
    normals: Float[Tensor, "N 3 H W"]
    semantics: Int[Tensor, "N H W"]
    occupancy: Int[Tensor, "Z Y X"]
    grid: VoxelGrid
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class OccupancyLabels:
    """What beams know of a grid at the key frame's moment.

    Attributes:
        occupied: Some beam ended in the voxel.
        observed: It is occupied, or seen to be free; where not, nothing is known and no loss belongs.
    """

    occupied: Bool[Tensor, "Z Y X"]
    observed: Bool[Tensor, "Z Y X"]

    @property
    def free(self) -> Bool[Tensor, "Z Y X"]:
        """Beams passed nearly everywhere in the voxel and none ended."""
        return self.observed & ~self.occupied


@dataclass(frozen=True)
class Scene:
    """One moment as recorded.

    Attributes:
        name: Says where it came from; error messages and pictures carry it.
        points: ``x, y, z`` in metres, intensity in [0, 1], time lag in seconds (0 for the key sweep,
            positive for older ones). Always five columns, always finite; without a LiDAR or depth sensor
            there are no rows.
        colors: RGB per point in [0, 1], or ``None`` where the recording has none.
        normals: Unit normal per point in the world frame, 0 where none is known; ``None`` where the recording
            has none.
        lidar_origin: Where the sensor's rays start, metres.
        images: RGB in [0, 1], or ``None`` without cameras. The same camera has the same place in all scenes
            of a recording.
        cameras: One per image, or ``None``.
        camera_names: One per image.
        z_depths: Depth images of an RGB-D sensor, metres along the optical axis, or along the ray for a
            fisheye.
        z_depth_valid: True where the depth sensor measured.
        world_to_global: This moment's world frame in a frame common to the sequence (ego motion).
        timestamp: Seconds.
        boxes: Annotated or simulated objects.
        point_labels: Class index per point, -1 for none.
        pixel_labels: Class index per pixel of every camera, -1 for none.
        class_names: Names of the classes; an index means the same in points and pixels.
        truth: Exact answers, from simulators only.
        occupancy: Labels from the beams of neighbouring frames, where
            :class:`~renderpretrain.data.SceneWindows` made them.
        previous: Earlier scenes of the same recording, oldest first, where it gathered them.
        domain: Number of the data set it comes from, where :class:`~renderpretrain.data.MixedScenes` mixes
            several.
        point_key: True for the points of the key sweep; ``None`` where a time lag of 0 tells, as it
            does without older sweeps.
        camera_valid: False for a camera that this moment lacks, whose image is black and whose pose means
            nothing; ``None`` where all are there.
        image_valid: False for a pixel that no camera saw: where a picture was padded to the size of the
            others, and outside of a fisheye's image circle; ``None`` where all were seen.
        following: Later scenes of the same recording, the next one first, where
            :class:`~renderpretrain.data.FollowedScenes` gathered them; the scene itself where there is none.

    Raises:
        ValueError: If a tensor has another shape than the others ask for, or points are not finite.
    """

    name: str
    points: Float[Tensor, "P C"]
    lidar_origin: Float[Tensor, "3"]
    images: Float[Tensor, "N 3 H W"] | None = None
    cameras: Cameras | None = None
    camera_names: tuple[str, ...] = ()
    z_depths: Float[Tensor, "N H W"] | None = None
    z_depth_valid: Bool[Tensor, "N H W"] | None = None
    world_to_global: Float[Tensor, "4 4"] | None = None
    timestamp: float = 0.0
    boxes: Boxes | None = None
    point_labels: Int[Tensor, " P"] | None = None
    pixel_labels: Int[Tensor, "N H W"] | None = None
    class_names: tuple[str, ...] = ()
    truth: GroundTruth | None = None
    occupancy: OccupancyLabels | None = None
    previous: tuple["Scene", ...] = ()
    domain: int = 0
    colors: Float[Tensor, "_ 3"] | None = None
    normals: Float[Tensor, "_ 3"] | None = None
    point_key: Bool[Tensor, " P"] | None = None
    camera_valid: Bool[Tensor, " N"] | None = None
    image_valid: Bool[Tensor, "N H W"] | None = None
    following: tuple["Scene", ...] = ()

    def __post_init__(self) -> None:
        sizes = self._sizes()
        for name, axes in SHAPES.items():
            value = getattr(self, name)
            if value is not None:
                sizes = check_shape(f"scene {self.name!r}: {name}", value, axes, **sizes)
        # One pass tells: the sum is finite where every value is. On a device, looking at it would wait.
        if self.points.device.type == "cpu" and not math.isfinite(self.points.sum()):
            bad = int((~self.points.isfinite()).any(-1).sum())
            if bad:
                raise ValueError(
                    f"scene {self.name!r}: points: expected finite numbers, got {bad} rows without"
                )

    def _sizes(self) -> dict[str, int]:
        """Axes that are known before any tensor is looked at."""
        if self.cameras is None:
            return {}
        if self.cameras.shape != (len(self.camera_names),):
            raise ValueError(
                f"scene {self.name!r}: cameras: expected one for each of the {len(self.camera_names)} "
                f"camera_names, got {tuple(self.cameras.shape)}"
            )
        height, width = self.cameras.image_size
        return {"N": len(self.camera_names), "H": height, "W": width}

    @property
    def columns(self) -> tuple[str, ...]:
        """What is known of a point, by name."""
        colored = () if self.colors is None else COLOR_COLUMNS
        return (*POINT_COLUMNS, *colored, *(() if self.normals is None else NORMAL_COLUMNS))

    @property
    def of_key_sweep(self) -> Bool[Tensor, " P"]:
        """True for the points of the key sweep."""
        return self.points[:, 4] == 0 if self.point_key is None else self.point_key

    @property
    def cameras_there(self) -> list[int]:
        """Places of the cameras that this moment has."""
        places = range(len(self.camera_names))
        return [n for n in places if self.camera_valid is None or bool(self.camera_valid[n])]

    def with_images(
        self,
        images: Float[Tensor, "N 3 H W"],
        cameras: Cameras,
        camera_names: tuple[str, ...],
        z_depths: Float[Tensor, "N H W"] | None = None,
    ) -> "Scene":
        """The scene with pictures and, for an RGB-D sensor, depth images in which 0 is no measurement."""
        valid = None if z_depths is None else z_depths > 0
        return replace(
            self,
            images=images,
            cameras=cameras,
            camera_names=camera_names,
            z_depths=z_depths,
            z_depth_valid=valid,
        )

    def to(self, device: torch.device | str) -> "Scene":
        """The same scene on another device."""
        return with_tensors(self, lambda tensor: tensor.to(device))


@runtime_checkable
class SceneDataset(Protocol):
    """What the library needs of a data set."""

    def __len__(self) -> int:
        """How many scenes there are."""

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; the same index gives the same scene."""


@runtime_checkable
class Recording(SceneDataset, Protocol):
    """A data set that knows which of its scenes follow each other."""

    def sequence(self, index: int) -> Sequence[int]:
        """All scenes of the recording that a scene belongs to, in order of time.

        What a long gap in time parts is two recordings.
        """

    def without_images(self, index: int) -> Scene:
        """Scene ``index`` without its pictures, which are the slow part."""


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor of a dataclass, those of nested ones and of tuples included."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(with_tensors(item, change) for item in value)
    if is_dataclass(value) and not isinstance(value, VoxelGrid):
        changed = {f.name: with_tensors(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **changed)  # type: ignore[type-var]
    return value
