"""Several scenes at once, as a step of training takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from renderpretrain import ops
from renderpretrain.data.scene import Boxes, Scene, with_tensors
from renderpretrain.geometry import Cameras, Points, Views


@dataclass(frozen=True)
class Batch:
    """Several scenes, padded to common sizes; padding is marked False in the ``valid`` of what is padded.

    Attributes:
        names: The scenes' names.
        points: What LiDARs and depth cameras measured; no rows where no scene has points.
        seeds: One number per sample: all randomness of a training step derives from it, so a sample is
            treated alike whatever batch, rank or device it lands on.
        views: What the cameras saw, or ``None`` if no scene has any.
        boxes: Annotated or simulated objects, or ``None`` if no scene has any.
        class_names: As in :class:`Scene`, for every sample.
        domains: Number of the data set that each sample comes from.
        world_to_global: As in :class:`Scene`; ``None`` if a scene has none.
        occupied: As in ``Scene.occupancy``; ``None`` if no scene has any.
        observed: As in ``Scene.occupancy``; False everywhere for a scene without.
        previous: Earlier moments, oldest first, each a batch of as many samples.
        columns: What is known of each sample's points, see ``Scene.columns``.
        following: Later moments, the next one first, each a batch of as many samples; see :attr:`followed`.
    """

    names: tuple[str, ...]
    points: Points
    seeds: Int[Tensor, " B"]
    views: Views | None = None
    boxes: Boxes | None = None
    class_names: tuple[tuple[str, ...], ...] = ()
    domains: tuple[int, ...] = ()
    world_to_global: Float[Tensor, "B 4 4"] | None = None
    occupied: Bool[Tensor, "B Z Y X"] | None = None
    observed: Bool[Tensor, "B Z Y X"] | None = None
    previous: tuple["Batch", ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    following: tuple["Batch", ...] = ()

    @property
    def size(self) -> int:
        """How many samples the batch has."""
        return len(self.names)

    @property
    def followed(self) -> tuple[bool, ...]:
        """Which samples have a next moment: the last one of a recording is its own."""
        if not self.following:
            return (False,) * self.size
        return tuple(next != own for next, own in zip(self.following[0].names, self.names, strict=True))

    @property
    def device(self) -> torch.device:
        """The device that the tensors are on."""
        return self.points.xyz.device

    def require_views(self, instead: str) -> Views:
        """What the cameras saw.

        Args:
            instead: What does without cameras, for the error message.

        Raises:
            ValueError: If there are none.
        """
        if self.views is None:
            raise ValueError(
                f"scene {self.names[0]!r} has no images: a recipe with cameras needs them; use {instead}"
            )
        return self.views

    def require_points(self, reader: str, instead: str) -> Points:
        """What was measured.

        Args:
            reader: What needs points, for the error message.
            instead: What to do without them, likewise.

        Raises:
            ValueError: If there are none.
        """
        if not self.points.xyz.shape[1]:
            raise ValueError(f"scene {self.names[0]!r} has no points: {reader} needs them; {instead}")
        return self.points

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device.

        Args:
            device: Which one.
            non_blocking: Do not wait for the copies; from page-locked memory (:meth:`pin_memory`) to a GPU.
        """
        return with_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, which a GPU reads by itself; ``DataLoader`` asks for this."""
        return with_tensors(self, Tensor.pin_memory)


def collate(scenes: Sequence[Scene], seeds: Int[Tensor, " B"] | None = None) -> Batch:
    """Stack scenes into a batch.

    Args:
        scenes: At least one. Some may lack cameras, depth images or labels, which are invalid there; image
            sizes agree.
        seeds: One per sample; drawn from ``torch``'s global generator when absent.

    Raises:
        ValueError: Naming the scene that does not fit the first one.
    """
    if not scenes:
        raise ValueError("collate: expected at least one scene, got none")
    _check_alike(scenes)
    if seeds is None:
        seeds = ops.draw_seeds(len(scenes))
    return Batch(
        names=tuple(scene.name for scene in scenes),
        points=_points(scenes),
        seeds=seeds,
        views=_views(scenes),
        boxes=_boxes(scenes),
        class_names=tuple(scene.class_names for scene in scenes),
        domains=tuple(scene.domain for scene in scenes),
        world_to_global=_stacked([scene.world_to_global for scene in scenes]),
        occupied=_voxels("occupied", scenes),
        observed=_voxels("observed", scenes),
        previous=_moments([scene.previous for scene in scenes], seeds),
        following=_moments([scene.following for scene in scenes], seeds),
        columns=tuple(scene.columns for scene in scenes),
    )


def _moments(moments: Sequence[tuple[Scene, ...]], seeds: Tensor) -> tuple[Batch, ...]:
    """The scenes' other moments side by side."""
    return tuple(collate(scenes, seeds) for scenes in zip(*moments, strict=True))


def _points(scenes: Sequence[Scene]) -> Points:
    """The scenes' points side by side."""
    keys = [scene.of_key_sweep for scene in scenes]
    tables = [scene.points for scene in scenes]
    return Points(
        xyz=pad_sequence([table[:, :3] for table in tables], batch_first=True),
        intensity=pad_sequence([table[:, 3] for table in tables], batch_first=True),
        lag=pad_sequence([table[:, 4] for table in tables], batch_first=True),
        valid=pad_sequence([torch.ones_like(key) for key in keys], batch_first=True),
        origin=torch.stack([scene.lidar_origin for scene in scenes]),
        labels=_padded_labels(scenes),
        colors=_padded_vectors("colors", scenes),
        normals=_padded_vectors("normals", scenes),
        key_sweep=pad_sequence(keys, batch_first=True),
    )


def _boxes(scenes: Sequence[Scene]) -> Boxes | None:
    """The scenes' boxes side by side, or ``None`` if no scene has any."""
    found = [scene.boxes for scene in scenes]
    known = next((boxes for boxes in found if boxes is not None), None)
    if known is None:
        return None
    rows = [with_tensors(known, lambda tensor: tensor[:0]) if boxes is None else boxes for boxes in found]

    def padded(name: str) -> Tensor:
        return pad_sequence([getattr(boxes, name) for boxes in rows], batch_first=True)

    valid = [torch.ones_like(boxes.labels, dtype=torch.bool) for boxes in rows]
    return Boxes(
        padded("centers"),
        padded("sizes"),
        padded("yaws"),
        padded("labels"),
        padded("velocities"),
        pad_sequence(valid, batch_first=True),
    )


def _views(scenes: Sequence[Scene]) -> Views | None:
    """What the scenes' cameras saw, those of scenes with fewer padded; ``None`` if no scene has any."""
    if not any(scene.cameras for scene in scenes):
        return None
    most = max(len(scene.camera_names) for scene in scenes)
    size = next(scene.cameras.image_size for scene in scenes if scene.cameras)
    there = [scene.points.new_ones(len(scene.camera_names), dtype=torch.bool) for scene in scenes]
    valid = [
        known if scene.camera_valid is None else scene.camera_valid
        for scene, known in zip(scenes, there, strict=True)
    ]
    images = _images("images", scenes, most)
    if images is None:
        return None
    cameras = Cameras.stack([_pad_cameras(scene.cameras, size, most) for scene in scenes])
    return Views(
        images=images,
        cameras=cameras.to(images.device),
        valid=torch.stack([_pad(rows, most) for rows in valid]),
        z_depths=_images("z_depths", scenes, most),
        z_depth_valid=_images("z_depth_valid", scenes, most),
        labels=_pixel_labels(scenes, size, most),
        image_valid=_seen_pixels(scenes, size, most),
    )


def _images(what: str, scenes: Sequence[Scene], count: int) -> Tensor | None:
    """What ``count`` cameras saw, zeros where there is nothing, or ``None`` if no scene has any."""
    found: list[Tensor | None] = [getattr(scene, what) for scene in scenes]
    known = next((images for images in found if images is not None), None)
    if known is None:
        return None
    return torch.stack([_pad(known[:0] if images is None else images, count) for images in found])


def _seen_pixels(scenes: Sequence[Scene], size: tuple[int, int], count: int) -> Tensor | None:
    """Which pixels ``count`` cameras saw, or ``None`` if every camera of every scene saw all of them."""
    found = [scene.image_valid for scene in scenes]
    if all(seen is None for seen in found):
        return None
    everything = [
        scene.points.new_ones((len(scene.camera_names), *size), dtype=torch.bool) for scene in scenes
    ]
    seen = [whole if seen is None else seen for seen, whole in zip(found, everything, strict=True)]
    return torch.stack([_pad(rows, count) for rows in seen])


def _check_alike(scenes: Sequence[Scene]) -> None:
    """Raise unless the scenes can share a batch."""
    first = scenes[0]
    seeing = next((scene for scene in scenes if scene.cameras is not None), first)
    for scene in scenes[1:]:
        size = scene.cameras and scene.cameras.image_size
        if size and seeing.cameras and size != seeing.cameras.image_size:
            raise ValueError(
                f"collate: image size: scene {seeing.name!r} has {seeing.cameras.image_size}, scene "
                f"{scene.name!r} has {size}"
            )
        for which, name in (("earlier", "previous"), ("later", "following")):
            one, other = len(getattr(first, name)), len(getattr(scene, name))
            if one != other:
                raise ValueError(
                    f"collate: number of {which} scenes: scene {first.name!r} has {one}, scene "
                    f"{scene.name!r} has {other}"
                )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """The scenes' tensors as one, or ``None`` if one is absent."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if len(present) == len(tensors) else None


def _voxels(what: str, scenes: Sequence[Scene]) -> Tensor | None:
    """The scenes' labels of voxels, False for a scene without, or ``None`` if no scene has any."""
    found = [None if scene.occupancy is None else getattr(scene.occupancy, what) for scene in scenes]
    known = next((labels for labels in found if labels is not None), None)
    if known is None:
        return None
    return torch.stack([torch.zeros_like(known) if labels is None else labels for labels in found])


def _padded_labels(scenes: Sequence[Scene]) -> Tensor | None:
    """The points' classes side by side, -1 where there is none, or ``None`` if no scene has any."""
    if all(scene.point_labels is None for scene in scenes):
        return None
    labels = [_labels(scene, scene.point_labels, scene.points.shape[:1]).long() for scene in scenes]
    return pad_sequence(labels, batch_first=True, padding_value=-1)


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
    return pad_sequence(rows, batch_first=True)


def _pixel_labels(scenes: Sequence[Scene], size: tuple[int, int], count: int) -> Tensor | None:
    """The pixels' classes of ``count`` cameras, -1 where there is none, or ``None`` if no scene has any."""
    if all(scene.pixel_labels is None for scene in scenes):
        return None
    labels = [
        _labels(scene, scene.pixel_labels, (len(scene.camera_names), *size)).to(torch.int16)
        for scene in scenes
    ]
    # Padding is 0 - 1.
    return torch.stack([_pad(rows + 1, count) for rows in labels]) - 1


def _labels(scene: Scene, labels: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The classes of one scene, -1 if it has none."""
    return torch.full(shape, -1, device=scene.points.device) if labels is None else labels


def _pad(tensor: Tensor, count: int) -> Tensor:
    """Append zeros along the first axis up to ``count`` rows."""
    rows = tensor.new_zeros(count - len(tensor), *tensor.shape[1:])
    return torch.cat([tensor, rows]) if len(rows) else tensor


def _pad_cameras(cameras: Cameras | None, size: tuple[int, int], count: int) -> Cameras:
    """Append identity cameras up to ``count``."""
    missing = count - (0 if cameras is None else cameras.shape[0])
    if cameras is not None and not missing:
        return cameras
    blank = Cameras(torch.eye(3), torch.eye(4), size)
    if cameras is not None:
        blank = blank.to(cameras.intrinsics.device)
    there = [] if cameras is None else [cameras[n] for n in range(count - missing)]
    return Cameras.stack([*there, *[blank] * missing])
