"""PonderV2 indoors as a whole, on a synthetic room made small."""

from dataclasses import replace

import pytest
import torch
import variants
from torch.testing import assert_close
from variants import batch_of, mixed_up, steps_to_halve, with_views

from renderpretrain.data import SyntheticRoom, SyntheticStreet
from renderpretrain.recipes import RECIPES
from renderpretrain.runs import describe_run
from renderpretrain.training import pictures
from renderpretrain.training.schedule import build_optimizer

ENTRY = RECIPES["ponder-indoor"]


def small(**updates):
    return variants.small("ponder-indoor", **updates)


@pytest.fixture(scope="module")
def scenes():
    rooms = SyntheticRoom(2, image_size=(48, 64), num_views=3, num_points=4096, with_truth=False)
    return [rooms[0], rooms[1]]


def test_every_term_counts(scenes):
    terms = ENTRY.build(small())(batch_of(scenes))
    assert set(terms) == {"depth", "rgb", "free_space", "sdf", "eikonal"}


def test_without_colour_nothing_is_left_without_a_gradient(scenes):
    recipe = ENTRY.build(small(losses={"rgb": 0}))
    terms = recipe(batch_of(scenes))
    assert "rgb" not in terms
    sum(terms.values()).backward()
    assert [n for n, p in recipe.named_parameters() if p.grad is None] == []


def test_weights_are_factors(scenes):
    for name in ("depth", "rgb", "sdf", "free_space", "eikonal"):
        terms = []
        for weight in (1.0, 3.0):
            torch.manual_seed(0)
            terms.append(ENTRY.build(small(losses={name: weight})).eval()(batch_of(scenes))[name])
        assert_close(terms[1], 3 * terms[0])


def test_the_same_seeds_repeat_a_step_and_others_do_not(scenes):
    recipe = ENTRY.build(small()).eval()
    first, again = recipe(batch_of(scenes))["depth"], recipe(batch_of(scenes))["depth"]
    assert torch.equal(first, again)
    other = recipe(replace(batch_of(scenes), seeds=torch.tensor([1, 2])))["depth"]
    assert not torch.equal(first, other)


def test_a_fifth_of_the_points_is_kept_and_nothing_else_reaches_the_volume(scenes):
    recipe = ENTRY.build(small()).eval()
    batch = batch_of(scenes)
    hidden = recipe.hide(batch)
    kept = batch.points.valid & ~hidden.points
    # Rounded to a whole point.
    assert_close(kept.sum(1), (0.2 * batch.points.valid.sum(1)).round().long(), atol=1, rtol=0)
    moved = mixed_up(batch, hidden.points)
    with torch.no_grad():
        volume = recipe.encode(batch, hidden)
        assert torch.equal(volume, recipe.encode(moved, hidden))
        assert not torch.equal(volume, recipe.encode(batch))


def test_rays_go_through_measured_pixels_and_carry_their_depth(scenes):
    recipe = ENTRY.build(small())
    batch = batch_of(scenes)
    targets = recipe.targets(batch)
    # Corners of turned rooms leave the cube; such pixels keep their colour and lose their depth.
    lower, upper = torch.tensor([-3.2, -3.2, -0.2]), torch.tensor([3.2, 3.2, 3.0])
    inside = ((targets.ends >= lower) & (targets.ends < upper)).all(-1)
    assert torch.equal(targets.hit, inside) and targets.hit.float().mean() > 0.9 and not targets.hit.all()
    u, v = targets.pixels.long().unbind(-1)
    b = torch.arange(2)[:, None]
    assert batch.views.z_depth_valid[b, targets.camera, v, u].all()
    # World points of the depth image, by the camera's own projection.
    for n in range(3):
        mine = targets.camera[0] == n
        pixels, z, _ = batch.views.cameras[0, n].project(targets.ends[0][mine])
        assert_close(pixels, targets.pixels[0][mine], atol=1e-2, rtol=0)  # pixels, in float32
        assert_close(z, batch.views.z_depths[0, n][v[0][mine], u[0][mine]], atol=1e-4, rtol=0)  # metres
    assert recipe.targets(batch, 5).depth.shape == (2, 15)


def test_views_without_depth_give_a_step(scenes):
    recipe = ENTRY.build(small())
    batch = batch_of(scenes)
    batch = with_views(batch, z_depth_valid=torch.zeros_like(batch.views.z_depth_valid))
    terms = recipe(batch)
    assert all(v == 0 for n, v in terms.items() if n != "eikonal")  # which asks no sensor
    sum(v for n, v in terms.items() if n != "eikonal").backward()
    assert all(p.grad is None or not p.grad.any() for p in recipe.parameters())


def test_everything_dropped_still_gives_a_step(scenes):
    terms = ENTRY.build(small(mask={"ratio": 1.0}))(batch_of(scenes))
    sum(terms.values()).backward()
    assert all(torch.isfinite(v) for v in terms.values())


def test_data_without_depth_images_is_refused():
    street = SyntheticStreet(1, image_size=(48, 64), with_truth=False)[0]
    recipe = ENTRY.build(small())
    for scene in (street, replace(street, images=None, cameras=None, camera_names=())):
        with pytest.raises(ValueError, match=r"'street-0-0' has no depth images: .* use ponder-outdoor"):
            recipe(batch_of([scene]))


def test_it_is_tried_on_rooms_unless_told_otherwise():
    assert describe_run("ponder-indoor", {}, [], saved={}).data == "synthetic-room"
    assert describe_run("ponder-indoor", {"data": "synthetic"}, [], saved={}).data == "synthetic"
    assert describe_run("ponder-outdoor", {}, [], saved={}).data == "synthetic"


def test_the_paper_preset_carries_the_published_numbers():
    paper = ENTRY.presets["paper"]
    recipe = ENTRY.build(paper)
    side = 6.4
    assert recipe.grid.shape == (32, 128, 128) and recipe.renderer.field.extent == pytest.approx(side)
    assert recipe.fine.voxel_size == (0.02, 0.02, 0.02) and recipe.encoder.out_channels == 96
    assert (paper.mask.ratio, paper.rays.per_view) == (0.8, 256)
    assert (paper.sampler.num_samples, paper.sampler.num_importance) == (96, 36)
    weights = paper.losses
    per_cube = (weights.depth * side, weights.sdf * side, weights.free_space * side)
    assert per_cube == pytest.approx((1, 10, 1)) and weights.truncation == pytest.approx(0.05 * side)
    assert (weights.rgb, weights.eikonal) == (10, 0.01)
    field = recipe.renderer.field
    assert (field.split, field.distance.embed) == (True, None)
    assert (weights.semantic, weights.alignment, weights.temperature) == (0.1, 1.0, 0.01)
    assert field.heads.semantic.layers[-1].out_features == recipe.to_classes.out_features == 512
    assert recipe.contexts is None
    optimizer = build_optimizer(recipe, paper.optimization)
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["nesterov"]
    # A peak of 2e-3; torch's OneCycleLR with div_factor 10 and final_div_factor 1e4.
    cycle = paper.optimization
    assert cycle.lr * cycle.cyclic_peak == pytest.approx(2e-3)
    assert cycle.lr * cycle.cyclic_end == pytest.approx(2e-3 / 10 / 1e4)


def test_the_preset_for_several_data_sets_carries_the_published_numbers():
    paper = ENTRY.presets["paper-ppt"]
    assert (paper.domains, paper.context_channels) == (3, 256)
    assert paper.losses == ENTRY.presets["paper"].losses
    cycle = paper.optimization
    assert cycle.lr * cycle.cyclic_peak == pytest.approx(8e-4) and cycle.precision == "fp32"
    # Four of seven samples are the first set's.
    assert cycle.steps * 64 * 4 / 7 == pytest.approx(400 * 18348, rel=1e-4)
    recipe = ENTRY.build(paper)
    assert recipe.contexts.weight.shape == (3, 256) and len(recipe.encoder.conv_input.bn.bns) == 3


def test_a_picture_has_all_panels(scenes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, **legend: drawn.extend(rows) or path
    )
    pictures.save_picture(ENTRY.build(small()), scenes[0], tmp_path / "p.png", title="t")
    assert len(drawn) == 3
    for _, panels in drawn:
        captions = [caption for caption, _ in panels]
        assert {"rendered colour", "normals"} <= set(captions)
        assert any(caption.startswith("rendered depth") for caption in captions)
        assert any(caption.startswith("masked input") for caption in captions)


@pytest.mark.slow
def test_thirty_steps_on_one_scene_halve_the_depth_error(scenes):
    torch.manual_seed(1)
    recipe = ENTRY.build(small())
    assert steps_to_halve(recipe, batch_of(scenes[:1]), "depth") <= 30
