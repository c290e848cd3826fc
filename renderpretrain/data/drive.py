"""How a moment lies in its recording: where the sensor went, and which way is up."""

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data.scene import Recording, Scene, SceneDataset
from renderpretrain.geometry import invert_pose, transform

MOST_PLACES = 60
"""Places of the sensor that are told, evenly over a recording."""

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


def up_direction(scene: Scene) -> Float[Tensor, "3"]:
    """Which way is up, a unit vector: +z, or where the pictures have their tops if cameras alone tell."""
    z = torch.tensor([0.0, 0.0, 1.0])
    if scene.cameras is None or (scene.z_depths is None and len(scene.points)):
        return z
    up = -scene.cameras.camera_to_world[scene.cameras_there, :3, 1].mean(0)
    return z if up.norm() < LEVEL else torch.nn.functional.normalize(up, dim=0)
