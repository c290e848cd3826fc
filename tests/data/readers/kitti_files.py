"""Pieces of drives past a few posts, written as KITTI publishes them, and one step of a recipe on it."""

import numpy as np
import torch
from PIL import Image

from renderpretrain.data import collate, open_data
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve

POSTS = np.array([[12.0, 4, 0], [20.0, -3, 1], [9.0, -6, -1], [30.0, 2, 2], [15.0, 0, 0.5]])
"""Points of the world that stand still, metres."""

SMALL = {
    "point_cloud_range": [-25.6, -25.6, -4.0, 25.6, 25.6, 4.8],
    "image_size": [48, 96],
    "sampler": {"num_samples": 24, "num_importance": 8},
    "rays": {"per_view": 32},
}


def turn(roll=0.0, pitch=0.0, yaw=0.0, at=(0.0, 0.0, 0.0)):
    """A pose, 4x4: turned about x, then y, then z (rotations as exponentials), then moved."""
    pose = np.eye(4)
    for axis, angle in enumerate((roll, pitch, yaw)):
        generator = np.cross(np.eye(3)[axis], np.eye(3)).T * angle
        about = torch.linalg.matrix_exp(torch.from_numpy(generator)).numpy()
        pose[:3, :3] = about @ pose[:3, :3]
    pose[:3, 3] = at
    return pose


def seen_from(pose, points=POSTS):
    """Points of the world in the frame of a pose."""
    return (np.linalg.inv(pose) @ np.c_[points, np.ones(len(points))].T).T[:, :3]


def save_sweep(path, points):
    """A sweep of KITTI's: float32 rows of x, y, z and reflectance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.c_[points, np.linspace(0, 1, len(points))].astype("<f4").tofile(path)


def save_picture(path, size=(12, 16)):
    """A grey picture, ``(height, width)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def save_text(path, *lines):
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def numbers(values):
    """Numbers as a table has them: all their digits."""
    return " ".join(repr(float(value)) for value in np.ravel(values))


def one_step(spec, **options):
    """The terms of one step of the smallest LiDAR recipe with pictures on a recording's first scene."""
    recipe = RECIPES["unipad-lidar"]
    torch.manual_seed(0)
    model = recipe.build(resolve(recipe.presets["tiny"], [SMALL]))
    scene = open_data(spec, image_size=(48, 96), **options)[0]
    with torch.no_grad():
        terms = model(collate([scene], torch.zeros(1, dtype=torch.int64)))
    return {name: float(term) for name, term in terms.items()}
