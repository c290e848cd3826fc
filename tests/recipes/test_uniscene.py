"""UniScene as a whole, on synthetic streets made small."""

from dataclasses import replace

import pytest
import torch
import variants
from torch.testing import assert_close
from variants import with_points, with_views

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.recipes import RECIPES, uniscene
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.runs.settings import resolve
from renderpretrain.training import pictures

ENTRY = RECIPES["uniscene"]
LIFTERS = ("bevformer", "lss")


def small(lifter="bevformer", **more):
    return variants.small("uniscene", lifter=lifter, **more)


def street(**more):
    return variants.street((48, 80), **more)


@pytest.fixture(scope="module")
def scenes():
    """The third frames of two streets, as the attention sees them; lift-splat takes their memory away."""
    labelled = uniscene.with_labels(small(), street())
    return [labelled[2], labelled[6]]


def batch_of(scenes, lifter="bevformer"):
    kept = [scene if lifter == "bevformer" else replace(scene, previous=()) for scene in scenes]
    return collate(kept, torch.tensor([11, 12])[: len(kept)])


def build(lifter="bevformer", **more):
    torch.manual_seed(0)
    return ENTRY.build(small(lifter, **more))


def test_the_same_seeds_repeat_a_step_and_others_do_not(scenes):
    recipe = build(image_mask={"probability": 1.0}).eval()
    batch = batch_of(scenes)
    first, again = recipe(batch)["occupancy"], recipe(batch)["occupancy"]
    assert torch.equal(first, again)
    assert not torch.equal(first, recipe(replace(batch, seeds=torch.tensor([1, 2])))["occupancy"])


def test_hidden_pixels_do_not_reach_the_volume(scenes):
    recipe = build(image_mask={"probability": 1.0}).eval()
    batch = batch_of(scenes)
    hidden = recipe.hide(batch)
    assert 0.1 < hidden.patches.float().mean() < 0.5
    assert torch.equal(hidden.patches[:, 0], hidden.patches[:, 5])
    changed = with_views(batch, images=torch.where(hidden.patches[:, :, None], 0.7, batch.views.images))
    with torch.no_grad():
        assert torch.equal(recipe.encode(batch, hidden), recipe.encode(changed, hidden))
        assert not torch.equal(recipe.encode(batch), recipe.encode(batch, hidden))


def test_only_frames_that_are_kept_are_remembered(scenes):
    recipe = build().eval()
    batch = batch_of(scenes)
    black = [with_views(moment, images=torch.zeros_like(moment.views.images)) for moment in batch.previous]
    frames = torch.tensor([[True, False], [False, True]])
    hidden = Hidden(frames=frames)
    with torch.no_grad():
        plain = recipe.encode(batch, hidden)
        older, newer = (
            recipe.encode(replace(batch, previous=tuple(moments)), hidden)
            for moments in ((black[0], batch.previous[1]), (batch.previous[0], black[1]))
        )
    same = [[torch.equal(a, b) for a, b in zip(plain, other, strict=True)] for other in (older, newer)]
    assert same == [[True, False], [False, True]]


def test_a_memory_of_nothing_is_no_memory(scenes):
    recipe, alone = build().eval(), build(attention={"history": 0}).eval()
    batch = batch_of(scenes)
    none_kept = Hidden(frames=torch.ones(2, 2, dtype=torch.bool))
    with torch.no_grad():
        # Attention reads the same map twice instead of a map that counts for nothing.
        assert_close(recipe.encode(batch, none_kept), alone.encode(batch), rtol=1e-4, atol=1e-5)


def test_memory_follows_the_ego_motion_and_carries_no_gradient(scenes):
    recipe = build().eval()
    batch = batch_of(scenes)
    images = batch.previous[0].views.images.clone().requires_grad_()
    moment = with_views(batch.previous[0], images=images)
    recipe.encode(replace(batch, previous=(moment, batch.previous[1]))).sum().backward()
    assert images.grad is None
    moved = batch.world_to_global.clone()
    moved[:, 0, 3] += 5.0
    with torch.no_grad():
        here, there = recipe.encode(batch), recipe.encode(replace(batch, world_to_global=moved))
        everywhere = tuple(
            replace(m, world_to_global=moved @ batch.world_to_global.inverse() @ m.world_to_global)
            for m in batch.previous
        )
        together = recipe.encode(replace(batch, world_to_global=moved, previous=everywhere))
    assert not torch.allclose(here, there, atol=1e-3)
    # Only the motion between frames counts; poses go through one more product in float32.
    assert_close(here, together, rtol=1e-3, atol=1e-4)


def test_unknown_voxels_do_not_count(scenes):
    recipe = build().eval()
    batch = batch_of(scenes)
    other = replace(batch, occupied=batch.occupied ^ ~batch.observed)
    assert not batch.observed.all()
    assert torch.equal(recipe(batch)["occupancy"], recipe(other)["occupancy"])
    wrong = replace(batch, occupied=batch.occupied ^ batch.observed)
    assert not torch.equal(recipe(batch)["occupancy"], recipe(wrong)["occupancy"])


def test_nothing_observed_gives_no_loss_and_no_gradient(scenes):
    recipe = build()
    batch = batch_of(scenes)
    nothing = torch.zeros_like(batch.observed), torch.zeros_like(batch.points.valid)
    terms = recipe(with_points(replace(batch, observed=nothing[0]), valid=nothing[1]))
    sum(terms.values()).backward()
    assert terms["occupancy"] == 0 and terms["depth"] == 0
    assert all(p.grad is None or not p.grad.any() for p in recipe.parameters())


def test_the_depth_term_is_rendered_depth_and_off_in_the_paper(scenes):
    batch = batch_of(scenes)
    terms = build(losses={"depth": 2.0}).eval()(batch)
    assert_close(terms["depth"], 2 * build(losses={"depth": 1.0}).eval()(batch)["depth"])
    assert 0.1 < terms["depth"] / 2 < 26
    assert set(build(losses={"depth": 0.0})(batch)) == {"occupancy"}
    assert ENTRY.presets["paper"].losses.depth == 0


def test_the_iou_counts_occupied_among_observed(scenes):
    recipe = build().eval()
    batch = batch_of(scenes)
    said = recipe.encode(batch)[:, 0] >= 0
    both = either = 0
    for s, o, known in zip(
        *(x.flatten().tolist() for x in (said, batch.occupied, batch.observed)), strict=True
    ):
        both += s and o and known
        either += known and (s or o)
    assert recipe.score_sums(batch, recipe.encode(batch)).tolist() == [[both, either]]
    occupied, observed = (int(x.sum()) for x in (batch.occupied & batch.observed, batch.observed))
    assert recipe.score_sums(batch, None).tolist() == [[occupied, observed]]


def iou(recipe, batches):
    """Over all batches together."""
    with torch.no_grad():
        ((both, either),) = sum(recipe.score_sums(batch, recipe.encode(batch)) for batch in batches).tolist()
    return both / either


@pytest.mark.slow
@pytest.mark.parametrize("lifter", LIFTERS)
def test_training_on_a_few_scenes_raises_the_iou_threefold(lifter):
    config = small(lifter, attention={"history": 1})
    labelled = uniscene.with_labels(config, street())
    batches = [collate([labelled[k]], torch.tensor([k])) for k in range(1, 5)]
    torch.manual_seed(0)
    recipe = ENTRY.build(config)
    before = iou(recipe.eval(), batches)
    optimizer = torch.optim.AdamW(recipe.train().parameters(), lr=4e-3)
    for step in range(40):
        optimizer.zero_grad()
        sum(recipe(batches[step % 4]).values()).backward()
        optimizer.step()
    after = iou(recipe.eval(), batches)
    # Untrained, hardly a voxel counts as occupied; all of them would score their share, a quarter.
    assert after > 0.33 and after > 3 * before


def test_logits_of_the_truth_render_the_measured_depth():
    """Rays end about where the LiDAR did: cells of half a metre cost a seventh of it, for much is near."""
    config = resolve(ENTRY.presets["tiny"], [{"image_size": [48, 80], "attention": {"history": 0}}])
    labelled = uniscene.with_labels(config, street())
    recipe, batch = ENTRY.build(config), collate([labelled[2]], torch.tensor([11]))
    logits = torch.where(batch.occupied, 2.0, -6.0)[:, None]
    targets = recipe.targets(batch)
    error = (recipe.render(logits, targets.rays).depth - targets.depth).abs() / targets.depth
    assert targets.hit.sum() > 100 and error[targets.hit].median() < 0.2


def test_labels_lie_on_the_recipes_grid(scenes):
    recipe, batch = build(), batch_of(scenes)
    points = batch.points.xyz[0][batch.points.valid[0]]
    z, y, x = recipe.grid.cells(points[recipe.grid.contains(points)]).unbind(-1)
    assert batch.occupied[0, z, y, x].all()


@pytest.mark.parametrize("lifter", LIFTERS)
def test_a_picture_has_all_panels(lifter, scenes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, **legend: drawn.extend(rows) or path
    )
    scene = scenes[0] if lifter == "bevformer" else replace(scenes[0], previous=())
    pictures.save_picture(build(lifter), scene, tmp_path / "p.png", title="t")
    wanted = ("input", "masked input", "rendered depth", "target depth", "depth error")
    captions = [caption for _, panels in drawn for caption, _ in panels]
    assert all(any(caption.startswith(panel) for caption in captions) for panel in wanted)


def test_a_scene_without_labels_or_history_is_one_line(scenes):
    with pytest.raises(ValueError, match="has no occupancy labels: wrap the data set with with_labels"):
        build()(batch_of([replace(scenes[0], occupancy=None)]))
    with pytest.raises(ValueError, match=r"has 0 earlier frames, expected 2: .* or set attention.history=0"):
        build()(batch_of([replace(scenes[0], previous=())]))
    with pytest.raises(ValueError, match=r"no pose .*needed to remember frames; set attention.history=0"):
        build()(batch_of([replace(scenes[0], world_to_global=None)]))


def test_another_number_of_cameras_is_one_line(scenes):
    with pytest.raises(ValueError, match=r"has 6 cameras; set attention.num_cameras=6"):
        build(attention={"num_cameras": 5})(batch_of(scenes))


class Unposed(SyntheticStreet):
    """Streets whose recorder does not know where it is."""

    def __getitem__(self, index):
        return replace(super().__getitem__(index), world_to_global=None)

    def without_images(self, index):
        return replace(super().without_images(index), world_to_global=None)


def test_data_that_cannot_be_labelled_is_one_line():
    with pytest.raises(ValueError, match="expected frames that follow each other, got SyntheticRoom"):
        uniscene.with_labels(small(), SyntheticRoom(1))
    with pytest.raises(ValueError, match=r"every scene stands alone; set attention.history=0"):
        uniscene.with_labels(small(), street(frames_per_street=1))
    unposed = Unposed(4, image_size=(48, 80), frames_per_street=4, with_truth=False)
    with pytest.raises(ValueError, match=r"no pose .*set labels.reach=0 and attention.history=0"):
        uniscene.with_labels(small(), unposed)


def test_single_frames_without_poses_are_labelled_when_asked():
    config = small(attention={"history": 0}, labels={"reach": 0})
    unposed = Unposed(1, image_size=(48, 80), with_truth=False)
    scene = uniscene.with_labels(config, unposed)[0]
    assert ENTRY.build(config)(collate([scene], torch.tensor([1])))["occupancy"] > 0


def test_freezing_needs_weights(tmp_path):
    with pytest.raises(ValueError, match=r"needs image.weights, .*set image.frozen_stages=0"):
        build(image={"frozen_norms": True})
    torch.save(build().images.backbone.state_dict(), tmp_path / "weights.pth")
    frozen = {"frozen_norms": True, "weights": str(tmp_path / "weights.pth")}
    recipe = build(image=frozen).train()
    norms = [m for m in recipe.images.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training or m.weight.requires_grad for m in norms)


def test_the_paper_preset_carries_the_published_numbers():
    paper = ENTRY.presets["paper"]
    grid = uniscene.VoxelGrid(paper.point_cloud_range, paper.voxel_size)
    assert grid.shape == (16, 200, 200) and paper.channels == 256
    assert (paper.attention.num_layers, paper.attention.num_heads, paper.attention.hidden_channels) == (
        6,
        8,
        512,
    )
    # Three of the four frames before the present one.
    assert paper.history * (1 - paper.attention.history_drop) == 3
    assert (paper.losses.gamma, paper.losses.alpha, paper.labels.reach) == (2, 0.25, 2)
    assert (paper.optimization.lr, paper.optimization.steps) == (2e-4, 24 * 28130 // 8)


def test_a_shared_configuration_refuses_unknown_keys():
    with pytest.raises(ValueError, match=r"attention.layers: unknown setting"):
        small(attention={"layers": 2})
