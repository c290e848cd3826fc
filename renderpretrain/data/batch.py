"""Several scenes at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.data.scene import Scene, to_device
from renderpretrain.geometry import Cameras

T = TypeVar("T")


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
        point_labels: As in :class:`Scene`, -1 for padding and scenes without any; ``None`` if none has any.
        pixel_labels: The same for pixels.
        class_names: As in :class:`Scene`, for every sample.
        domains: Number of the data set that each sample comes from.
        world_to_global: As in :class:`Scene`; ``None`` if a scene has none.
        occupied: As in ``Scene.occupancy``; ``None`` if a scene has none.
        observed: As in ``Scene.occupancy``; ``None`` if a scene has none.
        previous: Earlier moments, oldest first, each a batch of as many samples.
        columns: What is known of each sample's points, see ``Scene.columns``.
        colors: As in :class:`Scene`, 0 for padding and samples without any; ``None`` if no sample has any.
        normals: The same for normals.
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
    point_labels: Int[Tensor, "B P"] | None = None
    pixel_labels: Int[Tensor, "B N H W"] | None = None
    class_names: tuple[tuple[str, ...], ...] = ()
    domains: tuple[int, ...] = ()
    world_to_global: Float[Tensor, "B 4 4"] | None = None
    occupied: Bool[Tensor, "B Z Y X"] | None = None
    observed: Bool[Tensor, "B Z Y X"] | None = None
    previous: tuple["Batch", ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    colors: Float[Tensor, "B P 3"] | None = None
    normals: Float[Tensor, "B P 3"] | None = None

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
        return to_device(self, device)


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
    if seeds is None:
        seeds = torch.randint(2**62, (len(scenes),))
    batch = Batch(
        names=tuple(scene.name for scene in scenes),
        points=torch.nn.utils.rnn.pad_sequence([scene.points for scene in scenes], batch_first=True),
        point_valid=torch.nn.utils.rnn.pad_sequence(
            [scene.points.new_ones(len(scene.points), dtype=torch.bool) for scene in scenes], batch_first=True
        ),
        lidar_origins=torch.stack([scene.lidar_origin for scene in scenes]),
        seeds=seeds,
        point_labels=_padded_labels(scenes),
        class_names=tuple(scene.class_names for scene in scenes),
        domains=tuple(scene.domain for scene in scenes),
        world_to_global=_stacked([scene.world_to_global for scene in scenes]),
        occupied=_stacked([scene.occupancy.occupied if scene.occupancy else None for scene in scenes]),
        observed=_stacked([scene.occupancy.observed if scene.occupancy else None for scene in scenes]),
        previous=tuple(
            collate(moment, seeds) for moment in zip(*(scene.previous for scene in scenes), strict=True)
        ),
        columns=tuple(scene.columns for scene in scenes),
        colors=_padded_vectors("colors", scenes),
        normals=_padded_vectors("normals", scenes),
    )
    return batch if scenes[0].cameras is None else _with_cameras(batch, scenes)


def _with_cameras(batch: Batch, scenes: Sequence[Scene]) -> Batch:
    """The batch with what its cameras saw."""
    most = max(len(scene.camera_names) for scene in scenes)
    images = torch.stack([_pad(_present(scene.images), most) for scene in scenes])
    camera_valid = torch.stack([torch.arange(most) < len(scene.camera_names) for scene in scenes])
    batch = replace(
        batch,
        images=images,
        cameras=Cameras.stack([_pad_cameras(_present(scene.cameras), most) for scene in scenes]),
        camera_valid=camera_valid.to(images.device),
        pixel_labels=_pixel_labels(scenes, most),
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
            ("number of earlier scenes", len(first.previous), len(scene.previous)),
        ):
            if a != b:
                raise ValueError(
                    f"collate: {what}: scene {first.name!r} has {a}, scene {scene.name!r} has {b}"
                )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """The scenes' tensors as one, or ``None`` if one is absent."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if len(present) == len(tensors) else None


def _padded_labels(scenes: Sequence[Scene]) -> Tensor | None:
    """The points' classes side by side, -1 where there is none, or ``None`` if no scene has any."""
    if all(scene.point_labels is None for scene in scenes):
        return None
    labels = [
        _labels("point_labels", scene, scene.point_labels, scene.points.shape[:1]).long() for scene in scenes
    ]
    return torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-1)


def _padded_vectors(what: str, scenes: Sequence[Scene]) -> Tensor | None:
    """The points' colours or normals side by side, 0 where there is none, or ``None`` if no scene has any."""
    found: list[Tensor | None] = [getattr(scene, what) for scene in scenes]
    if all(vectors is None for vectors in found):
        return None
    rows = []
    for scene, vectors in zip(scenes, found, strict=True):
        shape = (len(scene.points), 3)
        if vectors is None or not shape[0]:
            vectors = scene.points.new_zeros(shape)
        if vectors.shape != shape:
            raise ValueError(
                f"collate: {what}: expected {shape} of scene {scene.name!r}, got {tuple(vectors.shape)}"
            )
        rows.append(vectors)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _pixel_labels(scenes: Sequence[Scene], count: int) -> Tensor | None:
    """The pixels' classes of ``count`` cameras, -1 where there is none, or ``None`` if no scene has any."""
    if all(scene.pixel_labels is None for scene in scenes):
        return None
    shapes = [(len(image), *image.shape[2:]) for image in (_present(scene.images) for scene in scenes)]
    labels = [
        _labels("pixel_labels", scene, scene.pixel_labels, shape).to(torch.int16)
        for scene, shape in zip(scenes, shapes, strict=True)
    ]
    # Padding is 0 - 1.
    return torch.stack([_pad(rows + 1, count) for rows in labels]) - 1


def _labels(what: str, scene: Scene, labels: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The classes of one scene, -1 if it has none."""
    if labels is None:
        return torch.full(shape, -1, device=scene.points.device)
    if labels.shape != shape:
        raise ValueError(
            f"collate: {what}: expected {tuple(shape)} of scene {scene.name!r}, got {tuple(labels.shape)}"
        )
    return labels


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
