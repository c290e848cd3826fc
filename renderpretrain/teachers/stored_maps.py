"""A teacher's maps on the disk: made once, few channels wide, known by the images and the teacher.

A folder holds ``teacher.safetensors``, with the directions that are kept of every layer, and in ``maps`` a
file for each scene. Every file says which teacher made it, a scene's file of which images.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.storage.files import write_atomically
from renderpretrain.storage.safetensors_file import pack_tensors, unpack_tensors
from renderpretrain.teachers.images import ImageTeacher

TEACHER = "teacher.safetensors"
"""In the folder: what makes a few channels of a layer's many."""

MOST_KEPT = 2**30
"""Bytes of maps that stay in memory once they are read, in each process: several thousand small scenes."""

LOOKED_AT = 8
"""Rows and columns of every image, at least, that tell whether maps in memory are of the same images."""

FORMAT = "renderpretrain teacher maps 1"
"""What every file of such a folder says it is."""


@runtime_checkable
class Pictured(Protocol):
    """A scene: what it is called, and its images ``(N, 3, H, W)`` of RGB in [0, 1]."""

    @property
    def name(self) -> str:
        """A name that no other scene of the data has."""

    @property
    def images(self) -> Tensor | None:
        """What its cameras saw; ``None`` of one without cameras."""


@runtime_checkable
class PicturedScenes(Protocol):
    """Scenes by their places: a list, or a data set."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Pictured:
        """One of them."""


@dataclass(frozen=True)
class Kept:
    """Maps of a scene in memory, in half precision.

    Attributes:
        maps: One of each layer.
        pixels: Some of the images that they were found to be of, in bytes.
    """

    maps: list[Tensor]
    pixels: Tensor


@dataclass(frozen=True)
class StoredMaps:
    """The maps in a folder, as :func:`write_maps` made them.

    What has been read stays in memory until ``most_kept`` is full; what comes later is read every time. (What
    was read longest ago does not make room: where all scenes come around in turn, none would be found again.)

    Attributes:
        folder: Where they are.
        teacher: Checksum of the teacher.
        channels: Width of every layer.
        most_kept: Bytes of maps that stay in memory.
        kept: Those that do, by scene.
    """

    folder: Path
    teacher: str
    channels: tuple[int, ...]
    most_kept: int = MOST_KEPT
    kept: dict[str, Kept] = field(default_factory=dict, repr=False, compare=False)

    def read(self, name: str, images: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N _ _ _"]]:
        """The maps of a scene's images, one of each layer, on the images' device.

        The first time the file is read, and the checksum of the images compared; from then on some of their
        pixels are.

        Raises:
            ValueError: If there are none, they are of other images or another teacher, or are damaged.
        """
        found, pixels = self.kept.get(name), _some_pixels(images)
        if found is None or not torch.equal(found.pixels, pixels):
            found = Kept(self.load(name, images), pixels)
            size = sum(one.nbytes for kept in (*self.kept.values(), found) for one in kept.maps)
            if size <= self.most_kept:
                self.kept[name] = found
        return [maps.to(images.device).float() for maps in found.maps]

    def load(self, name: str, images: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N _ _ _"]]:
        """The maps of a scene's images from their file, as :meth:`read` checks them the first time.

        Raises:
            ValueError: As there.
        """
        path = self.folder / "maps" / _file_name(name)
        if not path.is_file():
            raise ValueError(
                f"{self.folder}: expected maps of scene {name!r}, found none; `renderpretrain data "
                "maps` with the data of the run makes what is missing"
            )
        tensors, said = _unpacked(path)
        _check_teacher(path, said, self.teacher)
        if said.get("images") != image_checksum(images):
            raise ValueError(
                f"{path}: expected maps of the images that scene {name!r} has now, got those of others: "
                "write them anew, or leave images as they are (no turns, crops or colors)"
            )
        return [tensors[str(i)] for i in range(len(self.channels))]

    def batch(
        self,
        names: Sequence[str],
        images: Float[Tensor, "B N 3 H W"],
        valid: Bool[Tensor, "B N"],
    ) -> list[Float[Tensor, "B N _ _ _"]]:
        """The maps of several scenes, 0 for a camera that is padding; see :meth:`read`."""
        counts = valid.sum(1).tolist()
        found = [self.read(name, own[:count]) for name, own, count in zip(names, images, counts, strict=True)]
        missing = images.shape[1]
        return [torch.stack([_padded(maps, missing) for maps in layer]) for layer in zip(*found, strict=True)]


def write_maps(
    folder: str | Path,
    teacher: ImageTeacher,
    scenes: PicturedScenes,
    *,
    channels: int = 64,
    fit_on: int = 64,
    say: Callable[[str], None] | None = None,
) -> StoredMaps:
    """Make the maps of all scenes' images, of which a folder keeps the main directions in half precision.

    Directions are the principal components of ``fit_on`` scenes that are evenly spread; a layer that is not
    wider than ``channels`` stays as it is. Scenes whose file is there, of the same teacher and images, are
    passed over: who is interrupted goes on.

    Args:
        folder: Made if it is not there.
        teacher: What makes the maps.
        scenes: Read one by one; those without images have no maps.
        channels: Width that is kept.
        fit_on: Scenes that the directions are found with.
        say: Told how far it is, a line for every hundred scenes.

    Raises:
        ValueError: If the folder holds maps of another teacher, or of other widths, or no scene has images.
    """
    folder, known = Path(folder), teacher.checksum()
    if channels < 1 or fit_on < 1:
        raise ValueError(f"channels, fit_on: expected at least 1, got {channels} and {fit_on}")
    if not (folder / TEACHER).is_file():
        (folder / "maps").mkdir(parents=True, exist_ok=True)
        kept = _fit(teacher, scenes, channels, fit_on)
        said = {"format": FORMAT, "teacher": known, "channels": str(channels)}
        _pack(folder / TEACHER, kept, said)
    stored = open_maps(folder, teacher)
    kept, said = _unpacked(folder / TEACHER)
    if said["channels"] != str(channels):
        raise ValueError(f"{folder}: holds maps of {said['channels']} channels, got channels={channels}")
    for i in range(len(scenes)):
        scene = scenes[i]
        if scene.images is not None and not _is_there(stored, scene.name, scene.images):
            _write(stored, kept, scene.name, scene.images, teacher(scene.images))
        if say is not None and (i + 1) % 100 == 0:
            say(f"teacher: maps of {i + 1} of {len(scenes)} scenes")
    return stored


def open_maps(folder: str | Path, teacher: ImageTeacher | None = None) -> StoredMaps:
    """The maps in a folder.

    Args:
        folder: Where :func:`write_maps` put them.
        teacher: Who is to have made them; anybody by default.

    Raises:
        ValueError: If there are none, or another teacher made them.
    """
    folder = Path(folder)
    path = folder / TEACHER
    if not path.is_file():
        raise ValueError(f"{folder}: expected a teacher's maps with {TEACHER}, found none; see write_maps")
    kept, said = _unpacked(path)
    known = said["teacher"] if teacher is None else teacher.checksum()
    _check_teacher(path, said, known)
    layers = sum(name.startswith("basis/") for name in kept)
    return StoredMaps(folder, known, tuple(kept[f"basis/{i}"].shape[1] for i in range(layers)))


def image_checksum(images: Float[Tensor, "N 3 H W"]) -> str:
    """SHA-256 of images as they are in files: their shape, and eight bits of every number."""
    pixels = _in_bytes(images).contiguous()
    return hashlib.sha256(repr(tuple(images.shape)).encode() + pixels.numpy().tobytes()).hexdigest()


def _in_bytes(images: Tensor) -> Tensor:
    """Images as they are in files, on the host."""
    return (images.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def _some_pixels(images: Float[Tensor, "N 3 H W"]) -> Tensor:
    """Pixels of a grid over every image, in bytes: what turns, crops or colors change."""
    down, right = (max(1, side // LOOKED_AT) for side in images.shape[-2:])
    return _in_bytes(images[..., ::down, ::right])


def _write(
    stored: StoredMaps, kept: dict[str, Tensor], name: str, images: Tensor, maps: Sequence[Tensor]
) -> None:
    """Write what is kept of a scene's maps."""
    few = {str(layer): _reduced(wide, kept, layer) for layer, wide in enumerate(maps)}
    said = {"format": FORMAT, "teacher": stored.teacher, "scene": name, "images": image_checksum(images)}
    _pack(stored.folder / "maps" / _file_name(name), few, said)


def _pack(path: Path, tensors: dict[str, Tensor], said: dict[str, str]) -> None:
    """Write a file whole or not at all."""
    content = pack_tensors(tensors, said)
    write_atomically(path, lambda file: file.write(content))


def _file_name(name: str) -> str:
    """A file for a scene of any name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32] + ".safetensors"


def _unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What a file of maps holds, and what it says of itself."""
    try:
        tensors, said = unpack_tensors(path)
        if said.get("format") != FORMAT:
            raise ValueError(f"expected a file of a teacher's maps, got one that says {said.get('format')!r}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return tensors, said


def _check_teacher(path: Path, said: dict[str, str], teacher: str) -> None:
    """Raise ``ValueError`` unless a file was made by a teacher."""
    if said.get("teacher") != teacher:
        raise ValueError(
            f"{path}: expected maps of teacher {teacher[:12]}, got those of {said.get('teacher', '')[:12]}: "
            "its weights, layers, size or normalization differ; write them to another folder"
        )


def _is_there(stored: StoredMaps, name: str, images: Tensor) -> bool:
    """Whether a scene has its maps already."""
    try:
        return bool(stored.load(name, images))
    except ValueError:
        return False


def _fit(teacher: ImageTeacher, scenes: PicturedScenes, channels: int, fit_on: int) -> dict[str, Tensor]:
    """Mean and main directions of every layer; both do nothing to a layer that is narrow."""
    count = min(fit_on, len(scenes))
    rows: dict[int, Tensor] = {}
    sums: dict[int, tuple[Tensor, Tensor, int]] = {}
    for place in range(count):
        images = scenes[place * len(scenes) // count].images
        for layer, maps in enumerate(() if images is None else teacher(images)):
            rows[layer] = maps.movedim(1, -1).flatten(0, 2).double().cpu()
            width = rows[layer].shape[1]
            nothing = rows[layer].new_zeros(width), rows[layer].new_zeros(width, width), 0
            total, squares, number = sums.get(layer, nothing)
            sums[layer] = (
                total + rows[layer].sum(0),
                squares + rows[layer].mT @ rows[layer],
                number + len(rows[layer]),
            )
    if not sums:
        raise ValueError(f"scenes: expected some with images, found none in {count}")
    kept: dict[str, Tensor] = {}
    for layer, (total, squares, number) in sums.items():
        mean = total / number
        basis = torch.eye(len(mean), dtype=torch.float64)
        if len(mean) > channels:
            _, vectors = torch.linalg.eigh(squares / number - mean[:, None] * mean)
            basis = vectors[:, -channels:].flip(1)
        else:
            mean = torch.zeros_like(mean)
        kept |= {f"mean/{layer}": mean.float(), f"basis/{layer}": basis.float().contiguous()}
    return kept


def _reduced(maps: Float[Tensor, "N C h w"], kept: dict[str, Tensor], layer: int) -> Tensor:
    """A layer's maps in its main directions, in half precision."""
    mean, basis = (kept[f"{name}/{layer}"].to(maps.device) for name in ("mean", "basis"))
    if maps.shape[1] != len(mean):
        raise ValueError(f"network: expected {len(mean)} channels of layer {layer}, got {maps.shape[1]}")
    few = torch.einsum("nchw,ck->nkhw", maps - mean.view(1, -1, 1, 1), basis).half()
    if not few.isfinite().all():
        raise ValueError(f"network: expected features of layer {layer} that half precision holds, got larger")
    return few.cpu().contiguous()


def _padded(maps: Float[Tensor, "N C h w"], count: int) -> Float[Tensor, "M C h w"]:
    """Maps of ``count`` cameras, 0 for those that are padding."""
    return torch.cat([maps, maps.new_zeros(count - len(maps), *maps.shape[1:])])
