"""How a moment lies in its recording: where the sensor went, and which way is up."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data.folder.consistency.upright import stands_upright
from renderpretrain.data.scene import Recording, Scene, SceneDataset
from renderpretrain.geometry import invert_pose, transform

MOST_PLACES = 60
"""Places of the sensor that are told, evenly over a recording."""

REACH, SWEEPS = 10, 5
"""Frames before and after a moment among which neighbouring sweeps are chosen, and how many are."""

LEVEL = 0.1
"""A mean of unit vectors shorter than this says nothing: cameras that look up and down as often."""


def driven_track(scene: Scene, dataset: SceneDataset, index: int) -> Float[Tensor, "T 3"]:
    """Where the sensor was in the frames of the same recording, in order of time, in this scene's world.

    Args:
        scene: Scene ``index`` of the data set.
        dataset: One that is no recording, or whose frames have no poses, has no places.
        index: Which scene it is.

    Returns:
        Metres; frames that cannot be read are left out.
    """
    if not isinstance(dataset, Recording) or scene.world_to_global is None:
        return torch.zeros(0, 3)
    frames = list(dataset.sequence(index))
    places = []
    for k in frames[:: 1 + len(frames) // MOST_PLACES]:
        try:
            pose = dataset.without_images(k).world_to_global
        except (ValueError, OSError):  # one damaged sweep must not hide the scenes that are whole
            continue
        if pose is not None:
            places.append(pose[:3, 3])
    if not places:
        return torch.zeros(0, 3)
    return transform(invert_pose(scene.world_to_global), torch.stack(places))


def sweeps_around(
    scene: Scene, dataset: SceneDataset, index: int
) -> Iterator[tuple[str, Float[Tensor, "P 3"]]]:
    """Upright points of a scene and of some before and after it in time, in this scene's world.

    Args:
        scene: Scene ``index`` of the data set.
        dataset: One that is no recording, or whose frames have no poses, has none.
        index: Which scene it is.

    Yields:
        How long before or after the scene it is, and its own sweep's points, metres; in order of time.
    """
    if not isinstance(dataset, Recording) or scene.world_to_global is None:
        return
    frames = list(dataset.sequence(index))
    at = frames.index(index)
    low, high = max(0, at - REACH), min(len(frames) - 1, at + REACH)
    for place in sorted({at, *(round(low + k * (high - low) / (SWEEPS - 1)) for k in range(SWEEPS))}):
        try:
            other = scene if place == at else dataset.without_images(frames[place])
        except (ValueError, OSError):  # one damaged sweep must not hide those that are whole
            continue
        if other.world_to_global is not None:
            motion = invert_pose(scene.world_to_global.double()) @ other.world_to_global.double()
            points = other.points[other.of_key_sweep, :3]
            kept = torch.from_numpy(stands_upright(points.numpy()))
            yield _when(other, scene, place - at), transform(motion, points[kept].double()).float()


def _when(other: Scene, scene: Scene, steps: int) -> str:
    """How much later another scene is."""
    if not steps:
        return "this moment"
    seconds = other.timestamp - scene.timestamp
    return f"{seconds:+.1f} s" if seconds else f"{steps:+d} frames"


def up_direction(scene: Scene) -> Float[Tensor, "3"]:
    """Which way is up, a unit vector: +z, or where the pictures have their tops if cameras alone tell."""
    z = torch.tensor([0.0, 0.0, 1.0])
    if scene.cameras is None or (scene.z_depths is None and len(scene.points)):
        return z
    up = -scene.cameras.camera_to_world[scene.cameras_there, :3, 1].mean(0)
    return z if up.norm() < LEVEL else torch.nn.functional.normalize(up, dim=0)
