"""COLMAP's reconstructions: photographs, the cameras that it found, and the points that they share.

COLMAP counts pixels from the picture's edge, so that the first pixel's centre is (0.5, 0.5)
(https://colmap.github.io/database.html): a ``frames.json`` says half a pixel less. The world is the
reconstruction's, whose unit and axes are its own: metres only where somebody aligned it. The points are not
read as points, since no sensor measured them; they say where what the photographs show lies.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.formats.colmap import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    read_cameras,
    read_images,
    read_points,
)
from renderpretrain.data.readers.tables import TABLE_BYTES
from renderpretrain.data.readers.views import Listing, say_absent

MODELS = ("sparse/0", "sparse", "colmap/sparse/0", "dense/sparse", ".")
"""Where the model lies, the first that there is."""

LEAST_POINTS = 100
"""Points below which they do not say where the scene lies."""

OUTER = 2.0
"""Percent of the points that may lie beyond each side of the scene: some are reconstructed far away."""

Read = TypeVar("Read")


def read_colmap(access: FolderAccess, model: str | None = None, images: str = "images") -> dict[str, Any]:
    """The photographs of a model, in the order of their names, as ``frames.json`` would describe them.

    Those whose files are absent are left out; one line says how many.

    Args:
        access: Of the folder that holds the model and the photographs.
        model: The folder of the model, ``cameras``, ``images`` and ``points3D`` as ``.bin`` or ``.txt``; by
            default the first that there is of ``sparse/0``, ``sparse``, ``colmap/sparse/0``,
            ``dense/sparse`` and the folder itself.
        images: The folder of the photographs.

    Raises:
        SceneFolderError: If there is no model, it is damaged, or no photograph is there.
    """
    listing = Listing(access)
    place, end = _model(access, listing, MODELS if model is None else (model,))
    cameras = _read(access, f"{place}/cameras{end}", read_cameras)
    pictures = sorted(_read(access, f"{place}/images{end}", read_images).values(), key=lambda one: one.name)
    table = f"{place}/images{end}"
    frames, absent = list[dict[str, Any] | UnreadFrame](), 0
    for picture in pictures:
        file = listing.found(f"{images}/{picture.name}")
        if file is None:
            absent += 1
        elif picture.camera not in cameras:
            words = f"expected one of {len(cameras)} cameras, got number {picture.camera}"
            frames.append(UnreadFrame(f"{access.path / table}: image {picture.name}: camera: {words}"))
        else:
            frames.append(_frame(picture, cameras[picture.camera], file))
    say_absent(access, table, absent, len(pictures))
    content: dict[str, Any] = {"format": "posed_rgb", "dataset": "COLMAP", "frames": frames}
    if listing.has(f"{place}/points3D{end}"):
        extent = _extent(_read(access, f"{place}/points3D{end}", read_points))
        content |= {} if extent is None else {"extent": extent}
    return content


def _model(access: FolderAccess, listing: Listing, places: tuple[str, ...]) -> tuple[str, str]:
    """The folder of the model, and how its files end."""
    for place in places:
        for end in (".bin", ".txt"):
            if listing.has(f"{place}/cameras{end}"):
                return place, end
    known = ", ".join(places)
    raise SceneFolderError(f"{access.path}: expected cameras.bin or cameras.txt in {known}, got neither")


def _read(access: FolderAccess, name: str, reader: Callable[..., Read]) -> Read:
    """A table of the model."""
    try:
        return reader(access.read(name, "table", TABLE_BYTES), binary=name.endswith(".bin"))
    except SceneFolderError:
        raise
    except ValueError as error:
        raise SceneFolderError(f"{access.path / name}: {error}") from error


def _frame(picture: ColmapImage, camera: ColmapCamera, file: str) -> dict[str, Any]:
    """One photograph."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= 0.5
    lens = list(camera.distortion)
    return {
        "frame_id": picture.name,
        "color": file,
        "width": camera.width,
        "height": camera.height,
        "intrinsics": intrinsics.tolist(),
        "distortion_k1k2k3k4" if camera.is_fisheye else "distortion": lens
        if camera.is_fisheye or any(lens)
        else None,
        "camera_to_world": np.linalg.inv(picture.world_to_camera).tolist(),
    }


def _extent(points: ColmapPoints) -> list[float] | None:
    """The box of the points without the outermost; ``None`` where there are too few."""
    if len(points.positions) < LEAST_POINTS:
        return None
    low, high = np.percentile(points.positions, (OUTER, 100 - OUTER), axis=0)
    return [*low.tolist(), *high.tolist()] if (low < high).all() else None


def _folder(text: str) -> str:
    """A folder within the recording's."""
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError
    return text


COLMAP = Reader(
    "colmap",
    read_colmap,
    "sparse",
    {"model": (_folder, "a folder within this one"), "images": (_folder, "a folder within this one")},
)
