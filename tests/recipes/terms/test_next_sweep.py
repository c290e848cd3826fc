"""The next sweep: which scenes come after which, where its beams run in this moment's world, what moves."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from variants import batch_of, build, small, street

from renderpretrain.data import FollowedScenes, Scene, SyntheticStreet, collate
from renderpretrain.geometry import VoxelGrid, pose_from_yaw
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.terms import NextSweepTerm, frames_of

GRID = VoxelGrid((-51.2, -51.2, -6.4, 51.2, 51.2, 6.4), (0.8, 0.8, 0.8))
ON = {"terms": {"next_sweep": 1.0}}


@pytest.fixture(scope="module")
def scenes():
    return FollowedScenes(street((16, 32)), holdout=2)


@pytest.fixture(scope="module")
def recipe():
    return build("unipad-lidar", **ON).eval()


def test_a_scene_is_followed_by_the_next_of_its_recording(scenes):
    """Two streets of four frames, of which the last two frames are held out."""
    assert [scenes.next_of(index) for index in range(8)] == [1, 2, 3, None, 5, None, 7, None]
    assert list(scenes.sequence(5)) == [4, 5, 6, 7] and len(scenes) == 8
    first, last = scenes[0], scenes[3]
    assert torch.equal(first.following[0].points, scenes.recording[1].points)
    assert first.following[0].images is None and first.images is not None
    assert last.following[0].name == last.name
    assert replace(scenes, images=True)[0].following[0].images is not None
    batch = batch_of([first, last])
    assert batch.followed == (True, False) and batch_of([scenes.recording[0]]).followed == (False,)
    with pytest.raises(ValueError, match=r"^collate: number of later scenes: scene 'street-0-0' has 1"):
        collate([first, scenes.recording[1]])
    with pytest.raises(ValueError, match="holdout: expected at least 0, got -1"):
        FollowedScenes(scenes.recording, holdout=-1)


def drive(points, step):
    """Two moments of points that stand in the first one's world; the sensor drives and turns in between."""
    poses = pose_from_yaw(0.3, (5e3, -2e3, 40.0)), pose_from_yaw(0.3, (5e3, -2e3, 40.0)) @ step
    there = torch.linalg.inv(step.double()) @ torch.cat([points, torch.ones(len(points), 1)], 1).double().T
    moved = there.T[:, :3].float()

    def scene(name, places, pose, following=()):
        table = torch.cat([places, torch.full((len(places), 1), 0.5), torch.zeros(len(places), 1)], 1)
        return Scene(name, table, torch.zeros(3), world_to_global=pose, following=following)

    after = scene("after", moved, poses[1])
    return collate([scene("now", points, poses[0], (after,))], torch.tensor([3])), moved


def test_beams_of_the_next_sweep_end_where_its_returns_are():
    points = torch.rand(300, 3) * torch.tensor([40.0, 40.0, 4.0]) - torch.tensor([20.0, 20.0, 2.0])
    step = pose_from_yaw(0.2, (1.0, 4.0, 0.1))
    batch, moved = drive(points, step)
    targets = NextSweepTerm(num_rays=200).targets(batch, GRID)
    assert targets.hit.sum() > 150
    here = targets.hit[0]
    rows = targets.returns[0][here]
    # 2 mm: poses of kilometres in float32.
    assert_close(targets.ends[0][here], points[rows], rtol=0, atol=2e-3)
    assert_close(targets.rays.origins[0], step[:3, 3].expand(200, 3), rtol=0, atol=2e-3)
    assert_close(targets.depth[0][here], moved[rows].norm(dim=-1))


def test_returns_where_this_moment_saw_nothing_are_left_out():
    """A car comes to where this sweep saw the wall behind it; no box says so."""
    wall = torch.cartesian_prod(torch.tensor([20.0]), torch.linspace(-8, 8, 161), torch.linspace(-2, 2, 41))
    came = (wall[:, 1].abs() < 2) & (wall[:, 2] < 0)
    batch, _ = drive(wall, pose_from_yaw(0.0, (0.0, 1.0, 0.0)))
    after = batch.following[0]
    nearer = torch.where(came[:, None], after.points.xyz[0] * 0.6, after.points.xyz[0])
    changed = replace(after, points=replace(after.points, xyz=nearer[None]))
    targets = NextSweepTerm(num_rays=3000).targets(replace(batch, following=(changed,)), GRID)
    seen = torch.zeros(len(wall), dtype=torch.bool)
    seen[targets.returns[0][targets.hit[0]]] = True
    assert not seen[came].any()
    # Of 3000 rays to 5781 other places; of few returns some are not drawn.
    assert seen[~came].float().mean() > 0.4
    bent = NextSweepTerm(num_rays=500).targets(batch, GRID, lambda _, rows: 1e-6 + (rows < 800).float())
    drawn = bent.returns[0][bent.hit[0]]
    # Two candidates for each that is kept: twice as often; three deviations of 500 below that.
    assert (drawn < 800).float().mean() > 1.5 * 800 / len(wall)


def test_labels_are_not_looked_at(scenes, recipe):
    batch = batch_of([scenes[0]])
    after = batch.following[0]
    assert after.boxes is not None and after.boxes.velocities.any()
    blind = replace(batch, boxes=None, following=(replace(after, boxes=None),))
    assert torch.equal(recipe(batch)["next_sweep"], recipe(blind)["next_sweep"])


def test_it_trains_and_a_scene_without_a_next_one_counts_nothing(scenes, recipe):
    batch = batch_of([scenes[0], scenes[4]])
    terms = recipe(batch)
    assert terms["next_sweep"] > 0
    terms["next_sweep"].backward()
    assert recipe.lidar.encoder.conv_out[0].weight.grad.abs().sum() > 0
    recipe.zero_grad()
    alone = recipe(batch_of([scenes[3], scenes[7]]))["next_sweep"]
    alone.backward()
    assert alone == 0
    assert not any(p.grad.any() for p in recipe.parameters() if p.grad is not None)
    # Of a batch with one of each it is half of what the other is alone.
    both, one = recipe(batch_of([scenes[0], scenes[3]])), recipe(batch_of([scenes[0]]))
    assert_close(both["next_sweep"], one["next_sweep"] / 2, rtol=1e-3, atol=0)


def test_what_fits_badly_counts_little(scenes, recipe):
    """A tenth of the returns at a wrong distance: with weights by fit the term hardly changes."""
    batch = batch_of([scenes[0]])
    after = batch.following[0]
    wrong = after.points.xyz.clone()
    wrong[:, ::10] *= 0.2
    changed = replace(after, points=replace(after.points, xyz=wrong))
    term, seen = recipe.terms[0], {}
    for name, scale in (("robust", 3.0), ("alike", 1e6)):
        term.scale = scale
        before, now = recipe(batch)["next_sweep"], recipe(replace(batch, following=(changed,)))["next_sweep"]
        seen[name] = (now - before).abs().item()
    term.scale = 3.0
    assert seen["robust"] < 0.7 * seen["alike"]


def test_scenes_that_do_not_follow_each_other_are_refused(scenes, recipe):
    entry, config = RECIPES["unipad-lidar"], small("unipad-lidar", **ON)
    assert frames_of(config) == 4 and frames_of(small("unipad-lidar")) == frames_of(None) == 1
    alone = SyntheticStreet(2, image_size=(8, 16), points_per_beam=20, with_truth=False)
    with pytest.raises(ValueError, match=r"^terms\.next_sweep: expected scenes after each other, every one"):
        entry.prepare(config, alone, 0)
    with pytest.raises(ValueError, match=r"^terms\.next_sweep: expected scenes that follow each other, got"):
        entry.prepare(config, [scenes[0]], 0)
    prepared = entry.prepare(config, scenes.recording, 2)
    assert isinstance(prepared, FollowedScenes) and prepared.holdout == 2
    batch = batch_of([scenes[0]])
    with pytest.raises(ValueError, match=r"^scene 'street-0-0' has no next scene: terms\.next_sweep needs"):
        recipe(replace(batch, following=()))
    with pytest.raises(ValueError, match=r"^scene 'street-0-0' has no pose \(world_to_global\), needed to"):
        recipe(replace(batch, world_to_global=None))
