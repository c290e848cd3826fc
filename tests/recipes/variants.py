"""Every recipe in every form it is built in, made small: a step takes a fraction of a second."""

import functools
from dataclasses import replace

import torch

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.geometry.sensors import POINT_COLUMNS
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve

NEAR = [-25.6, -25.6, -4.0, 25.6, 25.6, 4.8]
UNIPAD = {
    "point_cloud_range": NEAR,
    "image_size": [64, 96],
    "channels": 16,
    "image": {"widths": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "encoder": {"channels": [[8, 16], [16, 16]], "neck_channels": [16, 16, 16]},
    "sampler": {"num_samples": 24, "num_importance": 8},
    "rays": {"per_view": 32},
}
SMALL = {
    "unipad-lidar": UNIPAD,
    "unipad-camera": UNIPAD,
    "unipad-fusion": UNIPAD,
    **{
        f"render-distill-{modality}": UNIPAD | {"distill": {"places": 64, "rays": 32, "hidden_channels": 16}}
        for modality in ("lidar", "camera", "fusion")
    },
    "ponder-outdoor": {
        "point_cloud_range": NEAR,
        "image_size": [64, 96],
        "encoder": {"stem_channels": 8, "channels": [8, 16, 16, 16]},
        "sampler": {"num_samples": 24, "num_importance": 8},
        "rays": {"per_view": 32, "per_sweep": 128},
    },
    "ponder-indoor": {
        "voxel_size": [0.2, 0.2, 0.2],
        "image_size": [48, 64],
        "encoder": {"voxel_size": [0.1, 0.1, 0.1], "stem_channels": 8, "channels": [8, 16, 16, 16]},
        "sampler": {"num_samples": 24, "num_importance": 8},
        "rays": {"per_view": 32},
    },
    "ns-mae": {
        "point_cloud_range": NEAR,
        "image_size": [64, 96],
        "image": {"width": 16, "depths": [1, 1, 1, 1], "neck_channels": 16, "channels": 8, "depth_bins": 16},
        "encoder": {"channels": [[8, 16], [16, 16]], "out_channels": 8},
        "sampler": {"num_samples": 48},
        "rays": {"per_view": 32},
    },
    "uniscene": {
        "point_cloud_range": [-12.8, -12.8, -3.0, 12.8, 12.8, 5.0],
        "voxel_size": [0.8, 0.8, 1.0],
        "channels": 32,
        "image_size": [48, 80],
        "image": {"depths": [1, 1, 1], "width": 8},
        "attention": {"num_layers": 1, "num_heads": 2, "hidden_channels": 32, "history": 2},
        "splat": {"depth_bins": 16},
        "decoder": {"channels": 8, "hidden_channels": 16},
        "sampler": {"num_samples": 32},
        "rays": {"per_view": 16},
    },
}
"""Changes to the ``tiny`` presets."""

VARIANTS = {
    "unipad-lidar": {},
    "unipad-camera": {},
    "unipad-fusion": {},
    "unipad-camera resnet": {"image": {"backbone": "resnet"}},
    "ponder-outdoor": {},
    "ponder-indoor": {},
    "ns-mae": {},
    "ns-mae camera": {"modality": "camera"},
    "ns-mae lidar": {"modality": "lidar"},
    "uniscene": {},
    "uniscene lss": {"lifter": "lss"},
    "render-distill-lidar": {},
    "render-distill-camera": {},
    "render-distill-fusion": {},
}
"""What else is changed; the first word is the recipe."""

WAITS = {
    **dict.fromkeys(("ponder-outdoor", "ponder-indoor"), 2),
    **dict.fromkeys(("unipad-lidar", "unipad-fusion", "render-distill-lidar", "ns-mae", "ns-mae lidar"), 3),
    **dict.fromkeys(("unipad-camera", "unipad-camera resnet", "ns-mae camera", "uniscene lss"), 0),
    "uniscene": 3,
    "render-distill-fusion": 5,
    "render-distill-camera": 0,
}
"""How often the host waits for a GPU within a step: for numbers of rows, which decide what follows.

Those are of occupied voxels, of the visible ones among them where voxels are hidden and not points, and of
what strided convolutions make of them, all of an encoder's in one; of ``uniscene``, in each of its three
moments, of the pillars that a camera sees; of ``render-distill-fusion`` those of the copy, which sees all
voxels, once more.
"""


def small(variant, **more):
    """The configuration, with ``more`` changes."""
    name = variant.split()[0]
    return resolve(RECIPES[name].presets["tiny"], [SMALL[name], VARIANTS[variant], more])


def build(variant, **more):
    """The recipe with weights that are always the same."""
    torch.manual_seed(0)
    return RECIPES[variant.split()[0]].build(small(variant, **more))


class Street(SyntheticStreet):
    """Scenes that are made once: most variants learn from the same ones."""

    __getitem__ = functools.cache(SyntheticStreet.__getitem__)
    without_images = functools.cache(SyntheticStreet.without_images)


class Room(SyntheticRoom):
    """Rooms that are made once."""

    __getitem__ = functools.cache(SyntheticRoom.__getitem__)


def street(image_size, **more):
    """Two streets of a few frames, with fewer points than usual."""
    sizes = {"points_per_beam": 200, "frames_per_street": 4, "with_truth": False}
    return Street(8, image_size=image_size, **sizes | more)


def scenes_for(variant, **more):
    """Two scenes as the recipe learns from them: rooms indoors, else the third frames of two streets."""
    name, config = variant.split()[0], small(variant, **more)
    if name == "ponder-indoor":
        sizes = {"num_views": 3, "num_points": 4096, "with_truth": False}
        rooms = Room(2, image_size=config.image_size, **sizes)
        return [rooms[0], rooms[1]]
    prepared = RECIPES[name].prepare(config, street(config.image_size), 0)
    return [prepared[2], prepared[6]]


def batch_of(scenes):
    """The scenes with seeds of their own."""
    return collate(scenes, torch.arange(11, 11 + len(scenes)))


def steps_to_halve(recipe, batch, term, most=30):
    """After how many steps a term is below half of what it began with, three times running; else infinity."""
    optimizer, errors = torch.optim.AdamW(recipe.parameters(), lr=3e-3), []
    for step in range(most):
        terms = recipe(batch)
        errors.append(terms[term].item())
        if step >= 3 and max(errors[-3:]) < 0.5 * errors[0]:
            return step + 1
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    return float("inf")


def with_points(batch, **changes):
    """The batch with changes to its points."""
    return replace(batch, points=replace(batch.points, **changes))


def with_views(batch, **changes):
    """The batch with changes to its views."""
    return replace(batch, views=replace(batch.views, **changes))


def mixed_up(batch, rows):
    """The batch in which all columns of some points say something else."""
    table = batch.points.columns(POINT_COLUMNS)
    table[rows] = table[rows].flip(-1)
    return with_points(batch, xyz=table[..., :3], intensity=table[..., 3], lag=table[..., 4])


def without_cameras(scene):
    """As a LiDAR alone records it."""
    before = tuple(without_cameras(moment) for moment in scene.previous)
    return replace(scene, images=None, cameras=None, camera_names=(), truth=None, previous=before)


def without_points(scene):
    """As cameras alone record it."""
    return replace(scene, points=scene.points[:0], colors=None, normals=None, point_labels=None)
