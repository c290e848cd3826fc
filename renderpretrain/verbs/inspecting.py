"""``data inspect``: what a word names in numbers, and one moment of it in a picture."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from renderpretrain.data import (
    Scene,
    SceneDataset,
    SceneFolder,
    SceneFolderError,
    ShardScenes,
    open_data,
)
from renderpretrain.data.camera_turns import CameraTurn, camera_turns
from renderpretrain.data.checking import recordings_of
from renderpretrain.data.drive import driven_track, sweeps_around, up_direction
from renderpretrain.data.folder.schema import IndoorFrame, Picture
from renderpretrain.data.recording_facts import facts_of_scenes, facts_of_shards, facts_of_tables
from renderpretrain.data.words import DataWord
from renderpretrain.geometry import transform
from renderpretrain.viz import class_colors, depth_colors, points_on_image
from renderpretrain.viz.recording import FromAbove, save_recording_picture

LOOKED_AT = 8
"""Scenes whose values are told, evenly over all; of synthetic ones half as many, which have to be made."""

MEASURED = 4
"""Of these, so many tell how cameras are turned."""

WIDTH = 800
"""Pixels of a picture's width at most."""

SIMULATED = (192, 320)
"""Height and width of pictures that are made."""

OWN_CAR = 2.5
"""Metres within which a LiDAR sees the car that carries it."""

SPARSE = 6000
"""Points in a picture below which they are drawn twice as large."""


def inspect(
    spec: str, *, frame: int = 0, out: Path | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Tell what data sets hold, and draw a scene of each.

    Args:
        spec: As for :func:`~renderpretrain.data.open_data`, or the path of a folder with ``frames.json``.
        frame: The scene that is drawn, counted from 0.
        out: The PNG; of several data sets, each but the first has its number behind the name.
        say: Told one line after the other.

    Returns:
        What was written.

    Raises:
        ValueError: If the data cannot be opened or read, or has no such scene.
    """
    written = []
    for number, word in enumerate(recordings_of(spec)):
        say(f"{'data':<11}{word.alone}")
        dataset = open_to_look(word)
        if not 0 <= frame < len(dataset):
            raise ValueError(f"frame: expected a number from 0 to {len(dataset) - 1}, got {frame}")
        if isinstance(dataset, SceneFolder):
            _say(facts_of_tables(dataset), say)
        if isinstance(dataset, ShardScenes):
            _say(facts_of_shards(dataset), say)
        scenes = _looked_at(dataset, LOOKED_AT // 2 if word.is_synthetic else LOOKED_AT, say)
        _say(facts_of_scenes(scenes, len(dataset)), say)
        turns = camera_turns(_outdoors(scenes))
        for line in _told(turns, len(_outdoors(scenes))):
            say(f"{'turned':<11}{line}")
        if out is not None:
            path = out if number == 0 else out.with_stem(f"{out.stem}-{number + 1}")
            written.append(_draw(path, dataset, frame))
            say(f"{'picture':<11}{written[-1]}")
    return written


def _say(facts: Iterable[tuple[str, str]], say: Callable[[str], None]) -> None:
    """Tell facts one below the other."""
    for name, words in facts:
        say(f"{name:<11}{words}")


def _looked_at(dataset: SceneDataset, most: int, say: Callable[[str], None]) -> list[Scene]:
    """Some scenes, evenly over all; those that cannot be read are told and left out.

    Raises:
        ValueError: If none can be read.
    """
    scenes, count = [], min(len(dataset), most)
    for place in sorted({round(k * (len(dataset) - 1) / max(count - 1, 1)) for k in range(count)}):
        try:
            scenes.append(dataset[place])
        except SceneFolderError as error:
            say(f"{'unread':<11}{error}")
    if not scenes:
        raise ValueError(f"data: expected scenes that can be read, got none of the {count} looked at")
    return scenes


def open_to_look(word: DataWord, *, width: int = WIDTH, with_truth: bool = False) -> SceneDataset:
    """A data set whose pictures keep their proportions and are no wider than needed.

    Args:
        word: One of :func:`~renderpretrain.data.checking.recordings_of`.
        width: Pixels of a picture's width at most.
        with_truth: Whether synthetic scenes carry exact answers.

    Raises:
        ValueError: If the data cannot be opened.
    """
    spec = str(word.alone)
    if word.is_synthetic:
        return open_data(spec, image_size=SIMULATED, with_truth=with_truth)
    small = open_data(spec, image_size=(8, 8))
    if not isinstance(small, SceneFolder | ShardScenes) or not len(small):
        return small
    first = small.index.frames[:1] if isinstance(small, SceneFolder) else [small.frame(0)]
    seen: list[Picture] = []
    for view in first:
        seen += [view] if isinstance(view, IndoorFrame) else view.cameras.values()
    if not seen:
        return small
    factor = max(1.0, max(view.width for view in seen) / width)
    size = (round(seen[0].height / factor), round(seen[0].width / factor))
    return open_data(spec, image_size=size)


def _outdoors(scenes: Sequence[Scene]) -> list[Scene]:
    """Some scenes of a LiDAR that cameras look at, evenly over all."""
    found = [s for s in scenes if s.images is not None and s.z_depths is None and len(s.points)]
    return found[:: max(1, len(found) // MEASURED)][:MEASURED]


def _told(turns: dict[str, CameraTurn], count: int) -> Iterator[str]:
    """How each camera is turned, in words; the worst first."""
    for name, turn in sorted(turns.items(), key=lambda item: -item[1].angle):
        axes = "pitch {:+.2f}, yaw {:+.2f}, roll {:+.2f}".format(*turn.degrees)
        if not turn.reliable:
            yield f"{name}: not reliable on {count} scenes: too few edges agree ({turn.angle:.2f} degrees)"
            continue
        doubt = ": the calibration is in doubt" if turn.suspicious else ""
        yield f"{name}: {turn.angle:.2f} +- {turn.uncertainty:.2f} degrees ({axes}){doubt}"


def _draw(path: Path, dataset: SceneDataset, index: int) -> Path:
    """A scene's pictures with what was measured on them, and the view from above."""
    scene = dataset[index]
    near, far = _distances(scene)
    pictures = [
        (f"{scene.camera_names[n]}: {what}", tensor)
        for n in scene.cameras_there
        for what, tensor in _pictures(scene, n, near, far)
    ]
    measured = len(scene.points) > 0 and len(pictures) > 0
    return save_recording_picture(
        path,
        f"{scene.name}, scene {index} of {len(dataset)}",
        pictures,
        _above(scene, dataset, index),
        distances=(near, far) if measured else None,
        across=2 if scene.z_depths is not None else 3,
    )


def _class_name(scene: Scene, number: int) -> str:
    """What a class is called."""
    return scene.class_names[number] if 0 <= number < len(scene.class_names) else f"class {number}"


def _distances(scene: Scene) -> tuple[float, float]:
    """Metres of the brightest and the darkest colour: nearly all that was measured lies between."""
    measured = (scene.points[:, :3] - scene.lidar_origin).norm(dim=-1)
    measured = measured[measured > OWN_CAR]
    if scene.z_depths is not None and scene.z_depth_valid is not None:
        measured = scene.z_depths[scene.z_depth_valid]
    if not len(measured):
        return 1.0, 10.0
    near, far = (float(measured.sort().values[int(q * (len(measured) - 1))]) for q in (0.02, 0.98))
    return max(near, 0.05), max(far, 1.5 * near, 0.1)


def _pictures(scene: Scene, n: int, near: float, far: float) -> Iterator[tuple[str, torch.Tensor]]:
    """A camera's picture as it is and with what was measured on it."""
    if scene.images is None or scene.cameras is None:
        return
    image, camera = scene.images[n], scene.cameras[n]
    if scene.z_depths is not None and scene.z_depth_valid is not None:
        valid = scene.z_depth_valid[n]
        colors = depth_colors(scene.z_depths[n], valid, near=near, far=far)
        yield "picture", image
        yield "depth on it", torch.where(valid, 0.4 * image + 0.6 * colors, 0.4 * image)
    elif len(scene.points):
        seen = int(camera.project(scene.points[:, :3])[2].sum())
        stride = 4 if seen < SPARSE and camera.image_size[1] > WIDTH // 2 else 2
        height, width = (side - side % stride for side in camera.image_size)
        cropped, drawn_on = camera.crop(0, 0, (height, width)), image[:, :height, :width]
        points = scene.points[:, :3]
        drawn = points_on_image(drawn_on, cropped, points, stride=stride, near=near, far=far)
        yield "points on it", drawn
    else:
        yield "picture", image


def _above(scene: Scene, dataset: SceneDataset, index: int) -> FromAbove | None:
    """What a scene has to show from above."""
    places = {}
    upright = _upright(scene)
    if scene.cameras is not None:
        for n in scene.cameras_there:
            pose = upright @ scene.cameras.camera_to_world[n]
            places[scene.camera_names[n]] = (pose[:2, 3], pose[:2, 2])
    if not len(scene.points) and not places:
        return None
    origin = transform(upright, scene.lidar_origin[None])[0, :2]
    told: dict[str, Any] = {
        "points": transform(upright, scene.points[:, :3]),
        "places": places,
        "origin": origin,
    }
    if scene.boxes is not None:
        b = scene.boxes
        told["boxes"] = torch.cat([b.centers[:, :2], b.sizes[:, :2], b.yaws[:, None]], -1)
        told["box_colors"] = _light(b.labels)
        numbers = b.labels.unique()
        shades = _light(numbers)
        named = [_class_name(scene, number) for number in numbers.tolist()]
        told["classes"] = dict(zip(named, shades, strict=True))
    if scene.z_depths is None:
        told["track"] = driven_track(scene, dataset, index)[:, :2]
        told["sweeps"] = {
            name: transform(upright, points) for name, points in sweeps_around(scene, dataset, index)
        }
    return FromAbove(**told)


def _light(labels: torch.Tensor) -> torch.Tensor:
    """Colours ``(K, 3)`` of classes, light enough for a dark ground."""
    return 0.35 + 0.65 * class_colors(labels[None])[:, 0].mT


def _upright(scene: Scene) -> torch.Tensor:
    """The motion that lets z point up."""
    motion, z = torch.eye(4), up_direction(scene)
    if z[2] == 1:
        return motion
    least = torch.eye(3)[z.abs().argmin()]
    x = torch.nn.functional.normalize(least - (least @ z) * z, dim=0)
    motion[:3, :3] = torch.stack([x, torch.linalg.cross(z, x), z])
    return motion
