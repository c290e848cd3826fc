"""What a recording holds, in numbers: frames, files, cameras, time, poses, ranges, classes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.folder.order import MAX_GAP
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.folder.schema import IndoorFrame, OutdoorFrame, files_of
from renderpretrain.data.scene import Scene
from renderpretrain.data.shards.reading import ShardScenes

Fact = tuple[str, str]
"""What is told about, in a word or two, and what is told."""

MOST_NAMES = 12
"""Names of cameras, files or classes in one line."""


def facts_of_scenes(scenes: Sequence[Scene], count: int) -> Iterator[Fact]:
    """What some scenes of a data set hold: ranges of points and depths, shares of classes.

    Args:
        scenes: At least one.
        count: How many the data set has.
    """
    yield "looked at", f"{len(scenes)} of {_counted(count, 'scene')}, evenly over all"
    yield from _of_points(scenes)
    depths = [scene.z_depths[scene.z_depth_valid] for scene in scenes if scene.z_depths is not None]
    if depths and sum(map(len, depths)):
        yield "depth [m]", _spread(torch.cat(depths))
        of = sum(scene.z_depths.numel() for scene in scenes if scene.z_depths is not None)
        yield "measured", f"{sum(map(len, depths)) / of:.0%} of the pixels"
    yield from _of_classes(scenes)


def facts_of_tables(folder: SceneFolder) -> Iterator[Fact]:
    """What the tables of a recording say: frames, files, cameras, time and poses. No file is read."""
    frames: list[OutdoorFrame | IndoorFrame] = [*folder.index.frames]
    recordings = len({frame.scene for frame in frames})
    yield (
        "format",
        f"{folder.reader.name} ({folder.index.format}), {_counted(len(frames), 'frame')} of "
        f"{_counted(recordings, 'recording')}, {_counted(len(folder), 'scene')} to learn from",
    )
    yield _files(folder, frames)
    yield from _cameras(frames)
    yield from _times(frames)
    yield from _poses(frames)


def facts_of_shards(scenes: ShardScenes) -> Iterator[Fact]:
    """What the index of a prepared recording says; its shards are all there, which opening has seen."""
    shards = scenes.index.shards
    frames, size = sum(shard.frames for shard in shards), sum(shard.bytes for shard in shards)
    told = f"{_counted(frames, 'frame')}, {_counted(len(scenes), 'scene')} to learn from"
    yield "format", f"shards ({scenes.index.format}), {told}"
    yield "files", f"{_counted(len(shards), 'shard')}, {size / 2**20:,.1f} MiB, none missing"
    names = [name for name in scenes.camera_names if name]
    if names:
        yield "cameras", _listed([brief(name) for name in names], MOST_NAMES)


def _counted(number: int, what: str) -> str:
    """So many of them, in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _files(folder: SceneFolder, frames: Sequence[OutdoorFrame | IndoorFrame]) -> Fact:
    """How many files frames name, how large they are, and which are missing."""
    names = dict.fromkeys(name for frame in frames for name in files_of(folder.index, frame))
    missing, size = [], 0
    for name in names:
        try:
            size += os.stat(folder.path / name).st_size
        except (OSError, ValueError):
            missing.append(name)
    told = f"{len(names)}, {size / 2**20:,.1f} MiB, "
    if not missing:
        return "files", told + "none missing"
    return "files", told + f"{len(missing)} missing: {_listed(missing, 3)}"


def _cameras(frames: Sequence[OutdoorFrame | IndoorFrame]) -> Iterator[Fact]:
    """Names, sizes and angles of view of the cameras, and in how many frames they are."""
    if isinstance(frames[0], IndoorFrame):
        sizes = Counter((f.width, f.height) for f in frames if isinstance(f, IndoorFrame))
        told = ", ".join(f"{count} of {w} x {h}" for (w, h), count in sizes.most_common(3))
        yield "pictures", told
        return
    seen: dict[str, list[tuple[int, int, float]]] = {}
    for frame in frames:
        for name, camera in getattr(frame, "cameras", {}).items():
            seen.setdefault(name, []).append((camera.width, camera.height, camera.intrinsics[0][0]))
    for name, views in list(seen.items())[:MOST_NAMES]:
        (width, height, focal), _ = Counter(views).most_common(1)[0]
        angle = 2 * np.rad2deg(np.arctan2(width / 2, focal))
        here = f"in {len(views)} of {len(frames)} frames"
        yield "camera", f"{brief(name)}: {width} x {height}, {angle:.0f} degrees wide, {here}"
    if len(seen) > MOST_NAMES:
        yield "camera", f"and {len(seen) - MOST_NAMES} more"


def _times(frames: Sequence[OutdoorFrame | IndoorFrame]) -> Iterator[Fact]:
    """How many frames come in a second, and gaps between those of one recording."""
    stamps: dict[str, list[tuple[float, str]]] = {}
    for frame in frames:
        seconds = frame.timestamp_s if isinstance(frame, IndoorFrame) else frame.seconds
        if seconds is not None:
            stamps.setdefault(frame.scene, []).append((seconds, brief(frame.frame_id)))
    steps = []
    for scene in stamps.values():
        scene.sort(key=lambda stamp: stamp[0])
        steps += [(b[0] - a[0], a[1]) for a, b in pairwise(scene)]
    positive = [step for step, _ in steps if step > 0]
    if not positive:
        count = sum(map(len, stamps.values()))
        yield "time", f"{count} of {len(frames)} frames have a stamp, none follow each other"
        return
    yield "time", f"{sum(positive):.1f} s, {1 / np.median(positive):.3g} frames a second in the median"
    gaps = sorted((step for step in steps if step[0] > MAX_GAP), reverse=True)
    if gaps:
        longest = ", ".join(f"{step:.3g} s after {name}" for step, name in gaps[:3])
        yield "gaps", f"{len(gaps)} longer than {MAX_GAP} s: {longest}"


def _poses(frames: Sequence[OutdoorFrame | IndoorFrame]) -> Iterator[Fact]:
    """How many frames know where they are, and how far the recording goes."""
    paths: dict[str, list[list[float]]] = {}
    for frame in frames:
        pose = frame.camera_to_world if isinstance(frame, IndoorFrame) else frame.lidar.ego_to_global
        if pose is not None:
            paths.setdefault(frame.scene, []).append([row[3] for row in pose[:3]])
    count = sum(map(len, paths.values()))
    moved = sum(
        float(np.linalg.norm(np.diff(np.array(path), axis=0), axis=-1).sum()) for path in paths.values()
    )
    yield "poses", f"{count} of {len(frames)} frames" + (f", a path of {moved:.1f} m" if count else "")


def _of_points(scenes: Sequence[Scene]) -> Iterator[Fact]:
    """Where the points of some scenes lie, and their values."""
    counts = [len(scene.points) for scene in scenes]
    yield "points", f"{min(counts):,} to {max(counts):,} a scene"
    if not max(counts):
        return
    points = torch.cat([scene.points for scene in scenes])
    for column, name in enumerate(("x [m]", "y [m]", "z [m]", "intensity")):
        yield name, _spread(points[:, column])
    distances = torch.cat([(scene.points[:, :3] - scene.lidar_origin).norm(dim=-1) for scene in scenes])
    low, high = float(distances.min()), float(distances.max())
    yield "distance", f"{low:.2f} to {high:.2f} m from where rays start"
    yield "columns", ", ".join(scenes[0].columns)


def _spread(values: torch.Tensor) -> str:
    """Where all but the outermost percents of values lie."""
    low, middle, high = np.percentile(values.numpy(), (1, 50, 99))
    return f"{low:.2f} to {high:.2f} but for 1 % on either side, median {middle:.2f}"


def _of_classes(scenes: Sequence[Scene]) -> Iterator[Fact]:
    """Shares of the classes of points and pixels, and how many boxes there are of each."""
    names = scenes[0].class_names
    for what, labels in (
        ("points", [scene.point_labels for scene in scenes]),
        ("pixels", [scene.pixel_labels for scene in scenes]),
        ("boxes", [None if scene.boxes is None else scene.boxes.labels for scene in scenes]),
    ):
        known = [each.flatten() for each in labels if each is not None and each.numel()]
        if known:
            together = torch.cat(known)
            yield f"{what} of", _shares(together, names, counted=what == "boxes")


def _shares(labels: torch.Tensor, names: Sequence[str], *, counted: bool) -> str:
    """How much there is of each class, the most first."""
    numbers, counts = torch.unique(labels, return_counts=True)
    told = []
    for place in counts.argsort(descending=True, stable=True).tolist():
        number, count = int(numbers[place]), int(counts[place])
        name = "no class" if number < 0 else names[number] if number < len(names) else f"class {number}"
        told.append(f"{brief(name)} {count if counted else f'{count / len(labels):.1%}'}")
    return _listed(told, MOST_NAMES)


def _listed(words: Sequence[str], most: int) -> str:
    """The first of some words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
