"""Recipes with cameras on a rig of pinholes and fisheyes whose pictures are padded."""

from dataclasses import replace

import pytest
import torch
from variants import batch_of, build, scenes_for


def seen_by_fisheyes(scene):
    """The scene whose every second camera is a wide fisheye, and whose pictures begin with padding."""
    cameras = scene.cameras
    wide = torch.arange(cameras.shape[0]) % 2 == 0
    intrinsics = cameras.intrinsics.clone()
    intrinsics[wide, :2, :2] *= 0.45
    lens = torch.where(wide[:, None], torch.tensor([-0.02, 0.004, -0.001, 0.0001, 0.0]), 0.0)
    cameras = replace(cameras, intrinsics=intrinsics, distortion=lens, fisheye=wide)
    seen = torch.ones(scene.images[:, 0].shape, dtype=torch.bool)
    seen[:, :5] = False
    return replace(scene, cameras=cameras, image_valid=seen)


@pytest.mark.parametrize("variant", ["unipad-camera", "ns-mae camera", "uniscene lss"])
def test_a_step_has_finite_terms_and_gradients(variant):
    scenes = [seen_by_fisheyes(scene) for scene in scenes_for(variant)]
    if scenes[0].previous:
        scenes = [replace(s, previous=tuple(map(seen_by_fisheyes, s.previous))) for s in scenes]
    recipe = build(variant)
    batch = batch_of(scenes)
    directions = batch.views.cameras.rays(torch.tensor([[0.5, 6.5]]).expand(*batch.views.valid.shape, 1, 2))
    axes = batch.views.cameras.camera_to_world[..., None, :3, 2]
    assert ((directions.directions * axes).sum(-1) < 0).any()  # it looks behind itself
    sum(terms := list(recipe(batch).values())).backward()
    assert all(term.isfinite() and term > 0 for term in terms)
    grads = [p.grad for p in recipe.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)
