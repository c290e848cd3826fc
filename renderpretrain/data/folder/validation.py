"""Everything that is wrong with a scene folder, found by reading all of it once, as training reads it."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import local
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.clouds import read_cloud
from renderpretrain.data.folder.consistency import Finding, geometry_findings
from renderpretrain.data.folder.depths import read_classes, read_depth
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.files import read_sweep
from renderpretrain.data.folder.index import FRAMES_JSON, parse_index
from renderpretrain.data.folder.merging import older_sweeps
from renderpretrain.data.folder.order import order_notes, stamp_problems
from renderpretrain.data.folder.pictures import frame_pictures, read_image, view_pictures
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder, OutdoorFrame, frame_name
from renderpretrain.data.folder.views import group_views
from renderpretrain.data.scene import Scene

THREADS = 16
"""Most scenes that are read at the same time."""


@dataclass(frozen=True)
class Checked:
    """What a look at all of a recording found.

    Attributes:
        problems: One line each: file, frame, field, what was expected and what came.
        notes: What harms nothing and is good to know, one line each: what could not be tested and why, frames
            that are listed in another order than that of their time stamps, gaps in time.
    """

    problems: list[str]
    notes: list[str]


def validate_scene_folder(
    path: str | Path, *, outside: bool = False, reader: Reader = FRAMES_JSON, workers: int | None = None
) -> list[str]:
    """Problems of a recording, one line each: file, frame, field, what was expected and what came.

    An empty list means that every frame loads and makes sense: :class:`SceneFolder` itself reads all of them,
    so whatever it refuses is here, and so is what it only logs: values in another unit, points that are not
    finite, a depth image without a measurement. What it does not look for is here, too: a frame whose points
    no camera sees, a camera that has everything behind it, and poses, axes, intrinsics or units that a known
    mistake explains better than what is given.

    Args:
        path: The folder.
        outside: Whether ``frames.json`` may name files outside of the folder.
        reader: Of the recording's format.
        workers: How many scenes are read at the same time; by default as many as there are processors, and
            not more than :data:`THREADS`.
    """
    return check_scene_folder(path, outside=outside, reader=reader, workers=workers).problems


def check_scene_folder(
    path: str | Path, *, outside: bool = False, reader: Reader = FRAMES_JSON, workers: int | None = None
) -> Checked:
    """Problems of a recording, and what else is good to know of it; as :func:`validate_scene_folder`."""
    path = Path(path)
    index, problems = parse_index(path, outside=outside, reader=reader)
    if index is None:
        return Checked(problems, [])
    try:
        folder = SceneFolder(path, image_size=_small(index), fit="stretch", outside=outside, reader=reader)
    except SceneFolderError as error:
        return Checked([str(error)], [])
    found = list(_all_findings(folder, index, workers))
    problems = [finding.line for finding in found if finding.is_problem]
    notes = [finding.line for finding in found if not finding.is_problem]
    return Checked(list(dict.fromkeys(problems)), notes)


def _all_findings(
    folder: SceneFolder, index: OutdoorFolder | IndoorFolder, workers: int | None
) -> Iterator[Finding]:
    """What reading all scenes of a folder says, and what trying out mistakes does; some problems twice."""
    yield from map(Finding, _all_problems(folder, index, workers))
    if isinstance(index, OutdoorFolder):
        yield from (Finding(line, is_problem=False) for line in order_notes(index.frames))
    yield from geometry_findings(folder.access, index)


def _all_problems(
    folder: SceneFolder, index: OutdoorFolder | IndoorFolder, workers: int | None
) -> Iterator[str]:
    """What reading all scenes of a folder says, in their order; some of it twice."""
    remarked = local()
    folder.access = replace(folder.access, remark=lambda _, kind, line: remarked.lines.append(line))
    table = folder.access.described_in
    if isinstance(index, IndoorFolder):
        yield from _lost_views(table, index)
        groups = group_views(index, None, None)
    else:
        groups = [[position] for position in range(len(index.frames))]
        for frame, words in stamp_problems(index.frames):
            yield f"{table}: {frame_name(frame)}: timestamp: {words}"

    def look(number: int) -> list[str]:
        remarked.lines = []
        found = list(_scene_problems(folder, index, number, groups[number]))
        return remarked.lines + found

    # What is said of a whole folder is said of its first scene, whichever thread is the fastest.
    yield from look(0)
    with ThreadPoolExecutor(workers or min(THREADS, os.cpu_count() or 1)) as pool:
        for lines in pool.map(look, range(1, len(groups))):
            yield from lines


def _scene_problems(
    folder: SceneFolder, index: OutdoorFolder | IndoorFolder, number: int, group: list[int]
) -> Iterator[str]:
    """What reading a scene says, whose frames are a group."""
    try:
        scene = folder[number]
    except SceneFolderError as error:
        yield str(error)
        for position in group:
            yield from file_problems(file_readings(folder.access, index, position))
    else:
        if isinstance(index, OutdoorFolder):
            yield from _sight_problems(folder.path, frame_name(index.frames[number]), scene)
    yield from file_problems(older_readings(folder.access, index, number))


def _small(index: OutdoorFolder | IndoorFolder) -> tuple[int, int]:
    """An eighth of the first picture's size: enough to see whether one decodes, and points fall on it."""
    sizes = [(1, 1)]
    if isinstance(index, IndoorFolder):
        sizes += [(view.height, view.width) for view in index.frames]
    else:
        sizes += [(c.height, c.width) for frame in index.frames for c in frame.cameras.values()]
    return _eighth(sizes[min(1, len(sizes) - 1)])


def _eighth(size: tuple[int, int]) -> tuple[int, int]:
    """A picture's size, eight times smaller."""
    return max(1, size[0] // 8), max(1, size[1] // 8)


def _lost_views(table: Path, folder: IndoorFolder) -> Iterator[str]:
    """Views without a pose: they are in no scene."""
    for view in folder.frames:
        if view.camera_to_world is None:
            yield (
                f"{table}: {frame_name(view)}: camera_to_world: expected a pose, got none: "
                "tracking was lost, and the view is left out"
            )


def file_readings(
    access: FolderAccess, folder: OutdoorFolder | IndoorFolder, position: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What each file of a frame is (``sweep``, ``image``, ``classes``, ``depth``), and how it is read.

    Args:
        access: How the folder's files are read.
        folder: Its index.
        position: Of the frame among the index's.
    """
    if isinstance(folder, OutdoorFolder):
        moment = folder.frames[position]
        name = frame_name(moment)
        yield "sweep", partial(read_sweep, access, moment.lidar, name, folder.classes)
        for file in frame_pictures(access, moment, name).values():
            yield "image", partial(read_image, file, _eighth(file.size))
        return
    view = folder.frames[position]
    files = view_pictures(access, folder, view, frame_name(view))
    yield "image", partial(read_image, files["color"], _eighth(files["color"].size))
    if "semseg" in files:
        yield "classes", partial(read_classes, files["semseg"], folder.classes)
    if "depth" in files:
        yield (
            "depth",
            partial(read_depth, files["depth"], folder.depths),
        )
    cloud, named = folder.cloud_of(view), view.cloud if isinstance(view.cloud, str) else None
    # Views of one room share its cloud, which is looked at once.
    if cloud is not None and (named is None or folder.first_of_cloud[named] == position):
        yield "cloud", partial(read_cloud, access, folder, view)


def older_readings(
    access: FolderAccess, folder: OutdoorFolder | IndoorFolder, position: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """How each older sweep that a frame names is read; as :func:`file_readings`."""
    frame = folder.frames[position]
    for at in older_sweeps(position, frame) if isinstance(frame, OutdoorFrame) else ():
        yield "sweep", partial(read_sweep, access, at.entry, at.name, folder.classes)


def file_problems(readings: Iterator[tuple[str, Callable[[], Any]]]) -> Iterator[str]:
    """What reading each of some files says, one line each: a scene stops at the first that cannot be read."""
    for _, read in readings:
        try:
            read()
        except SceneFolderError as error:
            yield str(error)


def _sight_problems(path: Path, name: str, scene: Scene) -> Iterator[str]:
    """Cameras that face away from all points, and frames that no camera sees."""
    if scene.cameras is None:
        return
    seen = False
    for number in scene.cameras_there:
        camera = scene.camera_names[number]
        _, z_depth, inside = scene.cameras[number].project(scene.points[:, :3])
        seen = seen or bool(inside.any())
        if not bool((z_depth > 0).any()):
            yield f"{path}: {name}: cameras.{camera}: expected points in front of it, got all of them behind"
    if not seen:
        yield f"{path}: {name}: cameras: expected points in at least one image, got none in any"
