"""What a moment looked like (:class:`Scene`) and several of them at once (:class:`Batch`).

Everything is in the world frame of the point cloud range: the LiDAR or ego frame of the moment outdoors,
the room frame indoors. A data set is anything with ``__len__`` and ``__getitem__(index) -> Scene``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.geometry import Cameras, VoxelGrid

T = TypeVar("T")


@dataclass(frozen=True)
class Boxes:
    """Oriented boxes standing on the ground.

    Attributes:
        centers: Geometric centres, metres.
        sizes: Length (along the heading), width, height, metres.
        yaws: Heading about +z, radians, 0 along +x.
        labels: Class index of each box.
        velocities: Metres per second in the world frame; zero for a parked object.
    """

    centers: Float[Tensor, "K 3"]
    sizes: Float[Tensor, "K 3"]
    yaws: Float[Tensor, " K"]
    labels: Int[Tensor, " K"]
    velocities: Float[Tensor, "K 3"]


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
class Scene:
    """One moment as recorded.

    Attributes:
        name: Says where it came from; error messages and pictures carry it.
        points: ``x, y, z`` in metres, intensity in [0, 1], time lag in seconds (0 for the key sweep,
            positive for older ones). Always five columns, never NaN; without a LiDAR or depth sensor there
            are no rows.
        lidar_origin: Where the sensor's rays start, metres.
        images: RGB in [0, 1], or ``None`` without cameras.
        cameras: One per image, or ``None``.
        camera_names: One per image.
        z_depths: Depth images of an RGB-D sensor, metres along the optical axis.
        z_depth_valid: True where the depth sensor measured.
        world_to_global: This moment's world frame in a frame common to the sequence (ego motion).
        timestamp: Seconds.
        boxes: Annotated or simulated objects.
        point_labels: Class index per point.
        truth: Exact answers, from simulators only.
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
    truth: GroundTruth | None = None

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
        return _to(self, device)


@runtime_checkable
class SceneDataset(Protocol):
    """What the library needs of a data set."""

    def __len__(self) -> int:
        """Number of scenes."""

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; the same index gives the same scene."""


@dataclass(frozen=True)
class Batch:
    """Several scenes, padded to common sizes; padding is marked False in the ``*_valid`` masks.

    Attributes:
        names: The scenes' names.
        points: As in :class:`Scene`, padded with zeros.
        point_valid: True for a real point.
        lidar_origins: As in :class:`Scene`.
        seeds: One number per sample: all randomness of a training step derives from it, so a sample is
            treated alike whatever batch, rank or device it lands on.
        images: Padded with black images.
        cameras: Padded with identity cameras.
        camera_valid: True for a real camera; ``None`` without cameras.
        z_depths: As in :class:`Scene`.
        z_depth_valid: As in :class:`Scene`.
    """

    names: tuple[str, ...]
    points: Float[Tensor, "B P C"]
    point_valid: Bool[Tensor, "B P"]
    lidar_origins: Float[Tensor, "B 3"]
    seeds: Int[Tensor, " B"]
    images: Float[Tensor, "B N 3 H W"] | None = None
    cameras: Cameras | None = None
    camera_valid: Bool[Tensor, "B N"] | None = None
    z_depths: Float[Tensor, "B N H W"] | None = None
    z_depth_valid: Bool[Tensor, "B N H W"] | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.names)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.points.device

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return _to(self, device)


def collate(scenes: Sequence[Scene], seeds: Int[Tensor, " B"] | None = None) -> Batch:
    """Stack scenes into a batch.

    Args:
        scenes: At least one. Either all have cameras or none; image sizes and point columns agree.
        seeds: One per sample; drawn from ``torch``'s global generator when absent.

    Raises:
        ValueError: Naming the scene that does not fit the first one.
    """
    if not scenes:
        raise ValueError("collate: expected at least one scene, got none")
    _check_alike(scenes)
    points = [scene.points for scene in scenes]
    if seeds is None:
        seeds = torch.randint(2**62, (len(scenes),))
    batch = Batch(
        names=tuple(scene.name for scene in scenes),
        points=torch.nn.utils.rnn.pad_sequence(points, batch_first=True),
        point_valid=torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(p), dtype=torch.bool, device=p.device) for p in points], batch_first=True
        ),
        lidar_origins=torch.stack([scene.lidar_origin for scene in scenes]),
        seeds=seeds,
    )
    if scenes[0].cameras is None:
        return batch
    most = max(len(scene.camera_names) for scene in scenes)
    images = torch.stack([_pad(_present(scene.images), most) for scene in scenes])
    camera_valid = torch.stack([torch.arange(most) < len(scene.camera_names) for scene in scenes])
    batch = replace(
        batch,
        images=images,
        cameras=Cameras.stack([_pad_cameras(_present(scene.cameras), most) for scene in scenes]),
        camera_valid=camera_valid.to(images.device),
    )
    if scenes[0].z_depths is None:
        return batch
    return replace(
        batch,
        z_depths=torch.stack([_pad(_present(scene.z_depths), most) for scene in scenes]),
        z_depth_valid=torch.stack([_pad(_present(scene.z_depth_valid), most) for scene in scenes]),
    )


def _check_alike(scenes: Sequence[Scene]) -> None:
    """Raise unless the scenes can share a batch."""
    first = scenes[0]
    for scene in scenes[1:]:
        for what, a, b in (
            ("point columns", first.points.shape[1], scene.points.shape[1]),
            ("having cameras", first.cameras is not None, scene.cameras is not None),
            (
                "image size",
                first.cameras and first.cameras.image_size,
                scene.cameras and scene.cameras.image_size,
            ),
            ("having depth images", first.z_depths is not None, scene.z_depths is not None),
        ):
            if a != b:
                raise ValueError(
                    f"collate: {what}: scene {first.name!r} has {a}, scene {scene.name!r} has {b}"
                )


def _present(value: T | None) -> T:
    """Narrow an optional that :func:`_check_alike` has established."""
    if value is None:
        raise ValueError("collate: a scene with cameras needs its images, and depth images their valid masks")
    return value


def _pad(tensor: Tensor, count: int) -> Tensor:
    """Append zeros along the first axis up to ``count`` rows."""
    rows = tensor.new_zeros(count - len(tensor), *tensor.shape[1:])
    return torch.cat([tensor, rows]) if len(rows) else tensor


def _pad_cameras(cameras: Cameras, count: int) -> Cameras:
    """Append identity cameras up to ``count``."""
    missing = count - cameras.shape[0]
    if not missing:
        return cameras

    def padded(tensor: Tensor, row: Tensor) -> Tensor:
        return torch.cat([tensor, row.to(tensor).expand(missing, *row.shape)])

    distortion = cameras.distortion
    return replace(
        cameras,
        intrinsics=padded(cameras.intrinsics, torch.eye(3)),
        camera_to_world=padded(cameras.camera_to_world, torch.eye(4)),
        distortion=None if distortion is None else padded(distortion, torch.zeros(5)),
    )


def _to(value: Any, device: torch.device | str) -> Any:
    """Move every tensor of a dataclass, nested ones included."""
    if isinstance(value, Tensor | Cameras):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, VoxelGrid):
        moved = {f.name: _to(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **moved)  # type: ignore[type-var]
    return value
