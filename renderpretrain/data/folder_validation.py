"""Everything that is wrong with a scene folder, found by reading all of it once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from renderpretrain.data.folder_files import (
    PictureFile,
    Sweep,
    read_classes,
    read_depth,
    read_image,
    read_sweep,
)
from renderpretrain.data.folder_geometry import camera_to_lidar, pinhole
from renderpretrain.data.folder_schema import (
    IndoorFolder,
    IndoorFrame,
    OutdoorFolder,
    OutdoorFrame,
    SceneFolderError,
    frame_name,
    parse_index,
)


def validate_scene_folder(path: str | Path) -> list[str]:
    """Problems of a folder, one line each: file, frame, field, what was expected and what came.

    An empty list means that every frame loads and makes sense. Problems that :class:`SceneFolder` only logs
    or does not look for are here too: points that are not finite, a frame whose points no camera sees, a
    camera that has everything behind it, a depth image without a measurement.
    """
    path = Path(path)
    index, problems = parse_index(path)
    if index is None:
        return problems
    found: list[str] = []
    if isinstance(index, OutdoorFolder):
        for position, moment in enumerate(index.frames):
            found += _outdoor_problems(path, moment, frame_name(position, moment))
    else:
        for position, view in enumerate(index.frames):
            found += _indoor_problems(path, index, view, frame_name(position, view))
    return found


def _outdoor_problems(path: Path, frame: OutdoorFrame, name: str) -> Iterator[str]:
    """Problems of one frame's sweep, pictures and calibration."""
    try:
        sweep = read_sweep(path, frame.lidar, name)
    except SceneFolderError as error:
        yield str(error)
    else:
        if sweep.dropped:
            count = sweep.dropped
            yield f"{path / frame.lidar.file}: {name}: lidar.file: expected finite points, got {count} others"
        yield from _sight_problems(path, frame, name, sweep)
    for camera, entry in frame.cameras.items():
        file = PictureFile(path / entry.file, (entry.height, entry.width), f"{name}: cameras.{camera}")
        yield from _picture_problems(file)


def _sight_problems(path: Path, frame: OutdoorFrame, name: str, sweep: Sweep) -> Iterator[str]:
    """Cameras that face away from all points, and frames that no camera sees."""
    points = torch.from_numpy(sweep.points[:, :3])
    seen = not frame.cameras
    for camera, entry in frame.cameras.items():
        pose = camera_to_lidar(entry, frame.lidar)
        view = pinhole(entry.intrinsics, entry.distortion, pose, (entry.height, entry.width))
        _, z_depth, inside = view.project(points)
        seen = seen or bool(inside.any())
        if not bool((z_depth > 0).any()):
            yield f"{path}: {name}: cameras.{camera}: expected points in front of it, got all of them behind"
    if not seen:
        yield f"{path}: {name}: cameras: expected points in at least one image, got none in any"


def _indoor_problems(path: Path, folder: IndoorFolder, frame: IndoorFrame, name: str) -> Iterator[str]:
    """Problems of one view's picture and depth image."""
    size = (frame.height, frame.width)
    yield from _picture_problems(PictureFile(path / frame.color, size, f"{name}: color"))
    if frame.semseg is not None:
        try:
            read_classes(PictureFile(path / frame.semseg, size, f"{name}: semseg"))
        except SceneFolderError as error:
            yield str(error)
    if frame.depth is None:
        if folder.format == "posed_rgbd":
            yield f"{path}: {name}: depth: expected a file because the format is posed_rgbd, got nothing"
        return
    try:
        depth = read_depth(PictureFile(path / frame.depth, size, f"{name}: depth"), folder.depth_scale)
    except SceneFolderError as error:
        yield str(error)
        return
    if not np.any(depth > 0):
        yield f"{path / frame.depth}: {name}: depth: expected measured pixels, got zeros only"


def _picture_problems(file: PictureFile) -> Iterator[str]:
    """Whether a picture decodes; an eighth of its size is enough to see that."""
    try:
        read_image(file, (max(1, file.size[0] // 8), max(1, file.size[1] // 8)))
    except SceneFolderError as error:
        yield str(error)
