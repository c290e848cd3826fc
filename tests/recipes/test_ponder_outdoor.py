"""PonderV2 outdoors as a whole, on a synthetic street made small."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import variants
from torch.testing import assert_close
from variants import batch_of, steps_to_halve, with_points, without_cameras

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.data.synthetic.things import CLASS_NAMES
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve
from renderpretrain.training import Process, evaluate, pictures

ENTRY = RECIPES["ponder-outdoor"]


def small(**updates):
    return variants.small("ponder-outdoor", **updates)


@pytest.fixture(scope="module")
def scenes():
    street = SyntheticStreet(2, image_size=(64, 96), with_truth=False)
    return [street[0], street[1]]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    path = tmp_path_factory.mktemp("embeddings") / "classes.npz"
    vectors = np.random.default_rng(0).normal(size=(len(CLASS_NAMES), 8)).astype(np.float32)
    np.savez(path, names=np.array(CLASS_NAMES), vectors=vectors)
    return str(path)


def semantic(embeddings):
    return small(embeddings=embeddings, losses={"semantic": 0.1, "eikonal": 0.01})


def test_every_parameter_gets_a_gradient_and_every_term_counts(scenes, embeddings):
    recipe = ENTRY.build(semantic(embeddings))
    terms = recipe(batch_of(scenes))
    assert set(terms) == {"depth", "rgb", "semantic", "free_space", "sdf", "eikonal"}
    assert all(value > 0 for value in terms.values())
    sum(terms.values()).backward()
    assert [n for n, p in recipe.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in recipe.parameters())
    assert recipe.token.grad.any()


def test_weights_are_factors_and_zero_leaves_a_term_out(scenes):
    plain = {"free_space": 0, "sdf": 0, "rgb": 0}
    torch.manual_seed(0)
    one = ENTRY.build(small(losses=plain | {"depth": 1})).eval()
    torch.manual_seed(0)
    three = ENTRY.build(small(losses=plain | {"depth": 3})).eval()
    assert one.renderer.field.heads.colour is None
    terms = one(batch_of(scenes)), three(batch_of(scenes))
    assert set(terms[0]) == {"depth"}
    assert_close(terms[1]["depth"], 3 * terms[0]["depth"])


def test_a_sample_is_treated_alike_in_any_batch(scenes, embeddings):
    """The mean of two single-sample losses is the loss of both.

    Batch-norm statistics are frozen: they differ by design. Importance samples are off: where little weight
    lies they magnify the rounding in which convolutions of one and of two samples differ.
    """
    config = semantic(embeddings)
    sampler = config.sampler.model_copy(update={"num_importance": 0})
    recipe = ENTRY.build(config.model_copy(update={"sampler": sampler})).eval()
    both = recipe(batch_of(scenes))
    singles = [recipe(collate([s], torch.tensor([11 + i]))) for i, s in enumerate(scenes)]
    for term, value in both.items():
        # Sums of a few thousand float32 rays.
        assert_close(value, (singles[0][term] + singles[1][term]) / 2, rtol=1e-5, atol=1e-6)


def test_the_same_seeds_repeat_a_step_and_others_do_not(scenes):
    recipe = ENTRY.build(small()).eval()
    first, again = recipe(batch_of(scenes))["depth"], recipe(batch_of(scenes))["depth"]
    assert torch.equal(first, again)
    other = recipe(replace(batch_of(scenes), seeds=torch.tensor([1, 2])))["depth"]
    assert not torch.equal(first, other)


def test_what_hidden_points_measured_does_not_reach_the_volume_but_where_they_are_does(scenes):
    recipe = ENTRY.build(small(mask={"ratio": 0.8})).eval()
    batch = batch_of(scenes)
    hidden = recipe.hide(batch)
    blocks = recipe.fine.cells(batch.points.xyz) // 2
    inside = batch.points.valid & recipe.fine.contains(batch.points.xyz)
    share = []
    for b in range(batch.size):
        occupied = blocks[b][inside[b]].unique(dim=0)
        covered = blocks[b][hidden.points[b]].unique(dim=0)
        share.append(len(covered) / len(occupied))
        left = blocks[b][inside[b] & ~hidden.points[b]].unique(dim=0)
        assert len(left) + len(covered) == len(occupied)  # no block is half hidden
    # One block of a few thousand.
    assert_close(torch.tensor(share), torch.full((2,), 0.8), atol=1e-3, rtol=0)
    assert not hidden.points[~batch.points.valid].any()
    brighter = with_points(batch, intensity=batch.points.intensity.masked_fill(hidden.points, 0.9))
    gone = replace(batch, points=batch.points.only(~hidden.points))
    with torch.no_grad():
        volume = recipe.encode(batch, hidden)
        assert torch.equal(volume, recipe.encode(brighter, recipe.hide(brighter)))
        assert not torch.equal(recipe.encode(batch), recipe.encode(brighter))
        assert not torch.equal(volume, recipe.encode(batch))
        assert not torch.equal(volume, recipe.encode(gone))


def test_the_encoder_reads_scaled_columns(scenes):
    """Dividing the columns and multiplying the stem's weights by the same is nothing."""
    scale = (20.0, 10.0, 4.0, 0.5)
    plain = ENTRY.build(small(input_scale=[1, 1, 1, 1])).eval()
    scaled = ENTRY.build(small(input_scale=scale)).eval()
    state = plain.state_dict()
    stem = "encoder.conv_input.0.weight"
    scaled.load_state_dict(state | {stem: state[stem] * torch.tensor(scale)})
    with torch.no_grad():
        volumes = [recipe.encode(batch_of(scenes)) for recipe in (plain, scaled)]
    # Sums of 125 products in float32, of coordinates up to 25.
    assert_close(volumes[1], volumes[0], rtol=1e-3, atol=1e-4)


def test_everything_hidden_still_gives_a_step(scenes):
    terms = ENTRY.build(small(mask={"ratio": 1.0}))(batch_of(scenes))
    sum(terms.values()).backward()
    assert all(torch.isfinite(v) for v in terms.values())


def test_a_batch_without_returns_has_no_loss_and_no_gradient(scenes, embeddings):
    recipe = ENTRY.build(semantic(embeddings))
    batch = batch_of(scenes)
    batch = with_points(batch, valid=torch.zeros_like(batch.points.valid))
    terms = recipe(batch)
    assert all(v == 0 for n, v in terms.items() if n != "eikonal")  # which asks no sensor
    sum(v for n, v in terms.items() if n != "eikonal").backward()
    assert all(p.grad is None or not p.grad.any() for p in recipe.parameters())


def test_rays_go_to_nearest_returns_of_the_key_sweep_in_the_box(scenes):
    recipe = ENTRY.build(small())
    batch = batch_of(scenes)
    targets = recipe.targets(batch)
    ends = targets.ends[targets.hit]
    assert recipe.grid.contains(ends).all() and (ends[:, :2].norm(dim=-1) > 3).all()
    assert torch.equal(targets.rgb_valid, targets.hit)
    places = torch.cat([targets.camera[..., None], targets.pixels.floor()], -1)
    for b in range(2):
        assert len(places[b][targets.hit[b]].unique(dim=0)) == targets.hit[b].sum()  # one ray a pixel
    older = torch.zeros_like(batch.points.valid)
    assert not recipe.targets(with_points(batch, key_sweep=older)).hit.any()


def test_labels_are_those_of_the_returns(scenes, embeddings):
    recipe = ENTRY.build(small(embeddings=embeddings, losses={"semantic": 0.1, "rgb": 0}))
    batch = batch_of(scenes)
    for case in (batch, batch_of([without_cameras(s) for s in scenes])):
        targets = recipe.targets(case)
        assert (targets.labels[~targets.hit] == -1).all()
        for b in range(2):
            ends = targets.ends[b][targets.hit[b]][:50]
            nearest = (case.points.xyz[b][None] - ends[:, None]).norm(dim=-1).argmin(1)
            assert torch.equal(targets.labels[b][targets.hit[b]][:50], case.points.labels[b][nearest])


def test_without_cameras_depth_is_rendered_and_colour_refused(scenes):
    batch = batch_of([without_cameras(s) for s in scenes])
    recipe = ENTRY.build(small(losses={"rgb": 0}))
    assert (recipe.targets(batch).camera == -1).all()
    assert recipe(batch)["depth"] > 0
    with pytest.raises(ValueError, match=r"'street-0-0' has no images: .* set losses.rgb=0"):
        ENTRY.build(small())(batch)


def test_a_semantic_term_says_what_it_lacks(scenes, embeddings):
    with pytest.raises(ValueError, match=r"embeddings: expected an .npz .* or set losses.semantic=0"):
        ENTRY.build(small(losses={"semantic": 0.1}))
    with pytest.raises(ValueError, match=r"embeddings: expected an .npz file, found none at nowhere.npz"):
        ENTRY.build(small(losses={"semantic": 0.1}, embeddings="nowhere.npz"))
    recipe = ENTRY.build(semantic(embeddings))
    with pytest.raises(ValueError, match=r"'street-0-0' has no classes of points: .* losses.semantic=0"):
        recipe(batch_of([replace(s, point_labels=None) for s in scenes]))


def test_labelled_scenes_are_evaluated_without_classes(scenes):
    """Rays know the classes of their returns whoever renders them."""
    recipe = ENTRY.build(small())
    assert recipe.targets(batch_of(scenes)).labels is not None
    found = evaluate(recipe, scenes, [0], process=Process(0, 1, torch.device("cpu")), num_rays=8)
    assert "depth_abs_rel" in found and "semantic_miou" not in found


def test_the_paper_preset_carries_the_published_numbers():
    paper = ENTRY.presets["paper"]
    assert (paper.sampler.num_samples, paper.sampler.num_importance, paper.rays.per_view) == (72, 24, 512)
    assert (paper.mask.ratio, paper.mask.block) == (0.8, (8, 8, 8))
    assert_close(paper.losses.depth * 108, 10.0)
    cycle = paper.optimization
    # A peak of 2e-4; torch's OneCycleLR with div_factor 10 and final_div_factor 100.
    assert_close(cycle.lr * cycle.cyclic_peak, 2e-4)
    assert_close(cycle.lr * cycle.cyclic_end, 2e-4 / 10 / 100)
    assert (ENTRY.presets["paper-colour"].losses.rgb, ENTRY.presets["paper-semantic"].losses.semantic) == (
        10,
        0.1,
    )
    recipe = ENTRY.build(paper)
    assert recipe.grid.shape == (5, 180, 180) and recipe.fine.shape == (80, 1080, 1080)
    assert recipe.encoder.out_channels == 96 and recipe.renderer.field.extent == 108


def test_targets_are_the_same_under_autocast(scenes):
    recipe = ENTRY.build(small()).eval()
    batch = batch_of(scenes)
    full = recipe.targets(batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = recipe.targets(batch)
        terms = recipe(batch)
    assert torch.equal(full.rays.directions, mixed.rays.directions)
    for name, value in recipe(batch).items():
        # The encoder's eight bits.
        assert_close(terms[name].float(), value, rtol=0.05, atol=0.02)


def test_a_room_is_supervised():
    config = resolve(ENTRY.presets["tiny"], [dict(ENTRY.indoor), {"image_size": [64, 96]}])
    room = SyntheticRoom(1, image_size=(64, 96), num_views=2, with_truth=False)[0]
    recipe, batch = ENTRY.build(config), collate([room], torch.tensor([1]))
    assert recipe.targets(batch).hit.float().mean() > 0.5
    assert recipe(batch)["depth"] > 0


def test_a_picture_has_all_panels(scenes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, **legend: drawn.extend(rows) or path
    )
    recipe = ENTRY.build(small(losses={"rgb": 0}))
    pictures.save_picture(recipe, scenes[0], tmp_path / "p.png", title="t")
    pictures.save_picture(recipe, without_cameras(scenes[0]), tmp_path / "p.png", title="t")
    assert len(drawn) == 4
    for _, panels in drawn:
        captions = [caption for caption, _ in panels]
        assert any(caption.startswith("masked input") for caption in captions)
        assert any(caption.startswith("rendered depth") for caption in captions)


@pytest.mark.slow
def test_thirty_steps_on_one_scene_halve_the_depth_error(scenes):
    torch.manual_seed(1)
    recipe = ENTRY.build(small())
    assert steps_to_halve(recipe, batch_of(scenes[:1]), "depth") <= 30
