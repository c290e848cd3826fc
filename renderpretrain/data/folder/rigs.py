"""The cameras of a street's frames: their pictures at one size, where they are, which pixels are real."""

from dataclasses import replace

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fitting import Fitting, real_pixels
from renderpretrain.data.folder.geometry import placed_camera
from renderpretrain.data.folder.pictures import frame_pictures, read_image
from renderpretrain.data.folder.schema import OutdoorFrame, frame_name
from renderpretrain.data.scene import Scene
from renderpretrain.geometry import Cameras


def rig_images(
    access: FolderAccess, frame: OutdoorFrame, names: tuple[str, ...], fitting: Fitting
) -> torch.Tensor:
    """All pictures of a frame as uint8 ``(N, 3, H, W)``, black where it lacks the camera.

    Args:
        access: How the folder's files are read.
        frame: Whose.
        names: Of the cameras, in their places.
        fitting: How the pictures come to one size.

    Raises:
        SceneFolderError: If a picture is missing, broken or of another size than declared.
    """
    files = frame_pictures(access, frame, frame_name(frame))
    pictures = torch.zeros(len(names), 3, *fitting.size, dtype=torch.uint8)
    for place, name in enumerate(names):
        if name in files:
            placement = fitting.of(files[name].size)
            picture = torch.from_numpy(read_image(files[name], placement.scaled))
            pictures[place] = placement.put(picture).permute(2, 0, 1)
    return pictures


def with_rig(
    scene: Scene,
    frame: OutdoorFrame,
    images: torch.Tensor,
    names: tuple[str, ...],
    fitting: Fitting,
    shift: np.ndarray,
) -> Scene:
    """The scene with its cameras; one that the frame lacks is not valid.

    Args:
        scene: Without cameras.
        frame: What the folder says of it.
        images: As :func:`rig_images` gives them.
        names: Of the cameras, in their places.
        fitting: How the pictures came to one size.
        shift: ``(3,)``, where in the LiDAR frame the scene's origin lies.
    """
    entries = [frame.cameras.get(name) for name in names]
    places = [None if entry is None else fitting.of((entry.height, entry.width)) for entry in entries]
    absent = Cameras(torch.eye(3), torch.eye(4), fitting.size)
    cameras = Cameras.stack(
        [
            absent
            if entry is None or place is None
            else place.camera(placed_camera(entry, frame.lidar, shift))
            for entry, place in zip(entries, places, strict=True)
        ]
    )
    scene = scene.with_images(images.float().div_(255), cameras, names)
    there = torch.tensor([entry is not None for entry in entries])
    return replace(
        scene,
        camera_valid=None if there.all() else there,
        image_valid=real_pixels(cameras, places),
    )
