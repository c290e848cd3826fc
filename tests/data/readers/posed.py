"""What tests of readers of posed pictures share: small files, and how far views' depths are apart."""

import json

import numpy as np
import torch
from PIL import Image

from renderpretrain.data import collate, open_data
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.unipad import LossConfig


def picture(path, size=(12, 16), seed=0):
    """A picture of noise, ``(height, width)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def depth_image(path, values):
    """A 16-bit depth image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint16)).save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def same_loss(one, other, size, box=(-3.2, -3.2, -3.2, 3.2, 3.2, 3.2)):
    """The terms of one step of the smallest camera recipe on the first scene of two words, as two dicts."""
    entry = RECIPES["unipad-camera"]
    tiny = entry.presets["tiny"]
    config = tiny.model_copy(
        update={
            "image_size": size,
            "point_cloud_range": box,
            "voxel_size": (0.4, 0.4, 0.4),
            "rays": tiny.rays.model_copy(update={"near_radius": 0.0}),
            "sampler": tiny.sampler.model_copy(update={"near": 0.1}),
            "losses": LossConfig(depth=0.1, free_space=0.0, sdf=0.0),
        }
    )
    torch.manual_seed(0)
    recipe = entry.build(config)
    found = []
    for spec in (one, other):
        scene = open_data(spec, image_size=size)[0]
        batch = collate([scene], torch.zeros(1, dtype=torch.int64))
        if not len(scene.points):
            recipe.weights = LossConfig(depth=0.0, free_space=0.0, sdf=0.0)
        with torch.no_grad():
            found.append({name: float(term) for name, term in recipe(batch).items()})
    return found


def warp_error(scene, first, second):
    """Median difference in metres of the depth of one view, moved into another, from that one's own."""
    one, other = scene.cameras[first], scene.cameras[second]
    v, u = torch.nonzero(scene.z_depths[first] > 0).unbind(-1)
    rays = one.rays(torch.stack([u, v], -1) + 0.5)
    t = scene.z_depths[first][v, u] / (rays.directions @ one.camera_to_world[:3, 2])
    pixels, z_depth, inside = other.project(rays.origins + t[:, None] * rays.directions)
    u, v = pixels[inside].long().unbind(-1)
    there = scene.z_depths[second][v, u]
    error = (there - z_depth[inside])[there > 0].abs()
    assert len(error) > 1000
    return float(error.median())
