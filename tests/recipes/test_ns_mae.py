"""NS-MAE as a whole, on a synthetic street made small, and its heads against slow restatements."""

from dataclasses import replace

import pytest
import torch
import variants
from torch.testing import assert_close
from variants import batch_of, steps_to_halve, with_points, with_views, without_cameras

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.geometry import Rays, RaySamples
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.runs.settings import resolve
from renderpretrain.training import pictures

MODALITIES = ("fusion", "camera", "lidar")
TERMS = {
    "fusion": {"rgb", "depth", "bev_depth", "ray_depth"},
    "camera": {"rgb", "depth", "bev_depth", "ray_depth"},
    "lidar": {"bev_depth", "ray_depth"},
}


def small(modality):
    return variants.small("ns-mae", modality=modality)


def build(modality="fusion", **changes):
    torch.manual_seed(0)
    return RECIPES["ns-mae"].build(resolve(small(modality), [changes]))


@pytest.fixture(scope="module")
def scenes():
    street = SyntheticStreet(2, image_size=(64, 96), with_truth=False)
    return [street[0], street[1]]


def thinned(scene, kept):
    return replace(scene, points=scene.points[kept], point_labels=None)


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_sensor_brings_its_terms(modality, scenes):
    assert set(build(modality)(batch_of(scenes))) == TERMS[modality]


def test_every_term_is_in_the_sum_and_reaches_its_own_parameters(scenes):
    """Each weight scales its term alone; depth alone moves Swin, and the view from above both encoders."""
    plain = build().eval()(batch_of(scenes))
    for term in TERMS["fusion"]:
        weight = getattr(small("fusion").losses, term)
        scaled = build(losses={term: 3 * weight}).eval()(batch_of(scenes))
        for name, value in scaled.items():
            assert_close(value, (3 if name == term else 1) * plain[name])
    for term, parts in {
        "rgb": {"image_backbone"},
        "depth": {"image_backbone"},
        "bev_depth": {"image_backbone", "point_encoder"},
    }.items():
        recipe = build()
        recipe(batch_of(scenes))[term].backward()
        for name in ("image_backbone", "point_encoder"):
            moved = any(p.grad is not None and p.grad.any() for p in recipe.encoders()[name].parameters())
            assert moved == (name in parts), (term, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "modality",
    ["fusion", *(pytest.param(alone, marks=pytest.mark.long) for alone in MODALITIES if alone != "fusion")],
)
def test_thirty_steps_on_one_scene_halve_the_depth_errors(modality, scenes):
    recipe = build(modality)
    assert steps_to_halve(recipe, batch_of(scenes[:1]), "bev_depth") <= 30


def test_the_same_seeds_repeat_a_step_and_others_do_not(scenes):
    recipe = build().eval()
    first, again = recipe(batch_of(scenes)), recipe(batch_of(scenes))
    other = recipe(replace(batch_of(scenes), seeds=torch.tensor([1, 2])))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, other[name])


def test_masks_have_the_asked_ratio_in_every_sample(scenes):
    batch = batch_of(scenes)
    recipe = build(mask={"ratio": 0.9}, image_mask={"depth_ratio": 0.9})
    hidden = recipe.hide(batch)
    assert (hidden.patches.flatten(2).sum(-1) == 8 * 12 // 2).all()
    depth = recipe.camera._depth(batch)
    for b in range(2):
        candidates = (depth[b] > 0).sum()
        assert abs(hidden.pixels[b].sum() - 0.9 * candidates) <= 1
        mine = recipe.lidar.voxels(batch).coords[:, 0] == b
        left = recipe.lidar.voxels(replace(batch, points=batch.points.only(~hidden.points)))
        kept = (left.coords[:, 0] == b).sum()
        assert abs(kept - 0.1 * mine.sum()) <= 1
    assert not torch.equal(hidden.patches[0], hidden.patches[1])


def test_what_is_hidden_does_not_reach_the_volume(scenes):
    recipe, batch = build().eval(), batch_of(scenes)
    hidden = recipe.hide(batch)
    with torch.no_grad():
        volume = recipe.encode(batch, hidden)
        inside = hidden.patches.repeat_interleave(8, -1).repeat_interleave(8, -2)[:, :, None]
        images = with_views(batch, images=torch.where(inside, 0.7, batch.views.images))
        assert inside.any() and torch.equal(volume, recipe.encode(images, hidden))
        assert not torch.equal(volume, recipe.encode(images, replace(hidden, patches=None)))
        assert not torch.equal(volume, recipe.encode(batch, replace(hidden, pixels=None)))
        assert not torch.equal(volume, recipe.encode(batch, replace(hidden, voxels=None)))
    recipe = build("lidar").eval()
    gone = replace(batch, points=batch.points.only(~hidden.points))
    with torch.no_grad():
        assert torch.equal(recipe.encode(batch, hidden), recipe.encode(gone))


def test_the_token_stands_in_every_hidden_patch(scenes):
    recipe, batch = build("camera"), batch_of(scenes)
    seen = []
    recipe.camera.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        recipe.camera.token.copy_(torch.randn(3, 8, 8))
        hidden = recipe.hide(batch)
        recipe.encode(batch, hidden)
    patches = seen[0].unflatten(0, (2, -1)).unfold(3, 8, 8).unfold(4, 8, 8).permute(0, 1, 3, 4, 2, 5, 6)
    assert torch.equal(patches[hidden.patches], recipe.camera.token.expand(hidden.patches.sum(), 3, 8, 8))


def test_depth_targets_are_those_before_masking(scenes):
    """The target of the perspective depth is whole although most pixels are hidden from the depth net."""
    recipe, batch = build(image_mask={"depth_ratio": 1.0}), batch_of(scenes)
    _, depth = recipe.perspective_targets(batch)
    assert (depth > 0).float().mean() > 0.1
    # Restated: the nearest return of every 8 by 8 pixels of the first camera.
    points = batch.points.xyz[0, batch.points.valid[0]]
    pixels, z_depth, inside = batch.views.cameras[0, 0].project(points)
    expected = torch.zeros(8, 12)
    for (u, v), z in zip(pixels[inside].tolist(), z_depth[inside].tolist(), strict=True):
        row, column = int(v // 8), int(u // 8)
        if expected[row, column] == 0 or z < expected[row, column]:
            expected[row, column] = z
    assert_close(depth[0, 0], expected)


def test_padding_of_pictures_is_no_target(scenes):
    """Whatever a padded picture holds and whatever returns fall there, only cells that were seen count."""
    recipe, batch = build().eval(), batch_of(scenes)
    seen = torch.ones(batch.views.images[:, :, 0].shape, dtype=torch.bool)
    seen[..., 41:, :] = False
    padded = replace(batch, views=replace(batch.views, image_valid=seen))
    with torch.no_grad():
        lifted = recipe._encode(batch, Hidden())[1]
        plain, counted = (recipe.camera_views(lifted, each) for each in (batch, padded))
    rows = seen.shape[2] // 8
    assert plain.measured[:, :, 5:].any() and plain.visible.all() and rows == 8
    assert torch.equal(counted.measured[:, :, :5], plain.measured[:, :, :5])
    assert counted.visible[:, :, :5].all()
    assert not counted.measured[:, :, 5:].any() and not counted.visible[:, :, 5:].any()


def test_perspective_maps_are_the_published_head_on_the_whole_frustum(scenes):
    """The 1x1 convolution on the product of depth and context, which is stored here and never there."""
    recipe, batch = build().eval(), batch_of(scenes[:1])
    with torch.no_grad():
        _, lifted = recipe._encode(batch, recipe.hide(batch))
        maps = recipe.perspective_maps(lifted)
        frustum = lifted.probabilities[0, :, :, None] * lifted.context[0][:, None]  # N D C h w
        raw = recipe.perspective_head(frustum.flatten(0, 1)).unflatten(0, frustum.shape[:2])
        context = recipe.perspective_head(lifted.context[0])
    bins = RaySamples.even(*recipe.config.image.depth_range, 16)
    camera, row, column = 1, 3, 5
    transmitted, depth, opacity, colour = 1.0, 0.0, 0.0, torch.zeros(3)
    for d in range(16):
        # softplus(p k) in the place of p softplus(k) has no empty bins.
        density = lifted.probabilities[0, camera, d, row, column] * torch.nn.functional.softplus(
            context[camera, 3, row, column]
        )
        weight = transmitted * (1 - torch.exp(-density))
        transmitted = transmitted - weight
        depth += weight * bins.t_mids[d]
        opacity += weight
        colour += weight * torch.sigmoid(raw[camera, d, :3, row, column])
    assert_close(maps.depth[camera, row, column], depth / opacity)
    assert_close(maps.opacity[camera, row, column], opacity)
    assert_close(maps.channels["rgb"][camera, :, row, column], colour)


def test_bev_targets_are_the_top_returns_of_columns_with_hidden_points(scenes):
    recipe, batch = build("lidar"), batch_of([thinned(s, slice(None, None, 16)) for s in scenes])
    hidden = recipe.hide(batch)
    target, known = recipe.bev_targets(batch, hidden)
    grid = recipe.grid
    tops, counted = torch.zeros(2, *grid.shape[1:]), torch.zeros(2, *grid.shape[1:], dtype=torch.bool)
    inside = batch.points.valid & grid.contains(batch.points.xyz)
    for b, p in inside.nonzero().tolist():
        z, y, x = grid.cells(batch.points.xyz[b, p]).tolist()
        tops[b, y, x] = max(tops[b, y, x], z + 1)
        counted[b, y, x] |= hidden.points[b, p]
    assert torch.equal(known, counted) and known.any() and not known.all()
    height = grid.voxel_size[2]
    assert_close(target[known], (grid.shape[0] - tops[known] + 0.5) * height)


def test_the_volume_seen_by_a_ray_from_above_is_the_view_from_above(scenes):
    """The common renderer and the loss look at the same densities."""
    recipe = build("lidar", sampler={"num_samples": 220, "near": 0.0})
    logits = torch.randn(1, 1, *recipe.grid.shape) * 3
    above = recipe.bev_map(logits)
    centers = recipe.grid.centers()[-1, 20:24, 20:24].reshape(-1, 3).clone()
    centers[:, 2] = recipe.grid.upper[2]
    down = torch.tensor([0.0, 0.0, -1.0]).expand_as(centers)
    rendered = recipe.render(logits, Rays(centers[None], down[None]))
    # Read between slices instead of in them: half a slice at most where densities change.
    assert_close(rendered.depth[0], above.depth[0, 20:24, 20:24].flatten(), atol=0.2, rtol=0)


def test_its_own_scores_are_errors_of_what_it_renders(scenes):
    """Against loops over cells; NaN in the colours of an absent camera would show."""
    recipe, batch = build().eval(), batch_of(scenes)
    with torch.no_grad():
        volume, lifted = recipe._encode(batch, Hidden())
        maps = recipe.perspective_maps(lifted)
        above = recipe.bev_map(volume).depth.flatten().tolist()
    colours, depth = recipe.perspective_targets(batch)
    near, far = recipe.config.image.depth_range
    relative = [
        abs(d - t) / t
        for d, t in zip(maps.depth.flatten().tolist(), depth.flatten().tolist(), strict=True)
        if near < t < far
    ]
    squared = (maps.channels["rgb"].reshape(colours.shape) - colours).square()
    target, known = (x.flatten().tolist() for x in recipe.bev_targets(batch, Hidden()))
    heights = [abs(d - t) for d, t, k in zip(above, target, known, strict=True) if k]
    expected = [
        [sum(relative), len(relative)],
        [squared.double().sum(), squared.numel()],
        [sum(heights), len(heights)],
    ]
    found = recipe.score_sums(batch, volume)
    # float32 quotients before the sums.
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)
    assert not recipe.score_sums(batch, None).any()
    lidar = build("lidar").eval()
    found = lidar.score_sums(batch, lidar.encode(batch))
    assert not found[:2].any() and found[2].all()


@torch.no_grad()
def test_its_own_scores_look_from_where_the_cameras_are_believed_to_be(scenes):
    plain, refined = build().eval(), build(calibration={"refine": True}).eval()
    refined.calibration.refinement.deviations += 1
    batch = batch_of(scenes)
    moved = refined.calibration(batch)
    expected = plain.score_sums(moved, plain.encode(moved))
    assert torch.equal(refined.score_sums(batch, refined.encode(batch)), expected)
    assert not torch.equal(plain.score_sums(batch, plain.encode(batch))[0], expected[0])


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_batch_without_anything_valid_has_no_loss_and_no_gradient(modality, scenes):
    recipe, batch = build(modality), batch_of(scenes)
    batch = with_points(batch, valid=torch.zeros_like(batch.points.valid))
    batch = with_views(batch, valid=torch.zeros_like(batch.views.valid))
    terms = recipe(batch)
    assert all(v == 0 for v in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in recipe.parameters())


@pytest.mark.parametrize("modality", MODALITIES)
def test_everything_hidden_still_gives_a_step(modality, scenes):
    recipe = build(modality, mask={"ratio": 1.0}, image_mask={"ratio": 1.0, "depth_ratio": 1.0})
    terms = recipe(batch_of(scenes))
    sum(terms.values()).backward()
    assert all(v.isfinite() for v in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in recipe.parameters())


def test_older_sweeps_are_input_but_never_targets(scenes):
    recipe, batch = build(), batch_of(scenes)
    older = torch.zeros_like(batch.points.valid)
    old = with_points(batch, key_sweep=older)
    assert not recipe.targets(old).hit.any()
    assert not recipe.bev_targets(old, recipe.hide(old))[1].any()
    assert not recipe.perspective_targets(old)[1].any()
    assert recipe.camera._depth(old).any()


def test_each_sensor_goes_without_the_other(scenes):
    bare = batch_of([without_cameras(s) for s in scenes])
    assert build("lidar")(bare)["bev_depth"] > 0
    assert (build("lidar").targets(bare).camera == -1).all()
    blind = batch_of([thinned(s, slice(0)) for s in scenes])
    terms = build("camera")(blind)
    assert terms["rgb"] > 0 and terms["depth"] == 0 and terms["bev_depth"] == 0


def test_missing_sensors_and_odd_sizes_are_named(scenes):
    bare = batch_of([without_cameras(s) for s in scenes])
    with pytest.raises(ValueError, match=r"has no images: .*needs them; use modality=lidar"):
        build("fusion")(bare)
    blind = batch_of([thinned(s, slice(0)) for s in scenes])
    for modality in ("fusion", "lidar"):
        with pytest.raises(ValueError, match=r"has no points: .*needs them; use modality=camera"):
            build(modality)(blind)
    with pytest.raises(ValueError, match=r"image_size: expected sides divisible by 8 .*got \(60, 96\)"):
        build("camera", image_size=[60, 96])
    with pytest.raises(ValueError, match=r"expected an encoder output of \(64, 64\) columns as voxel_size"):
        build("lidar", encoder={"voxel_size": [0.2, 0.2, 0.4]})


def test_a_room_is_supervised():
    entry = RECIPES["ns-mae"]
    config = resolve(entry.presets["tiny"], [dict(entry.indoor), {"image_size": [64, 96]}])
    room = SyntheticRoom(1, image_size=(64, 96), num_views=2, with_truth=False)[0]
    terms = entry.build(config)(collate([room], torch.tensor([1])))
    assert all(v > 0 for v in terms.values())


def test_the_paper_preset_carries_the_published_numbers():
    paper = RECIPES["ns-mae"].presets["paper"]
    assert (paper.image_mask.ratio, paper.mask.ratio, paper.image_mask.depth_ratio) == (0.5, 0.9, 0.9)
    assert (paper.image.depths, paper.image.width, paper.image.channels) == ((2, 2, 6, 2), 96, 80)
    # arange(1, 60, 0.5) are the middles of the bins.
    mids = RaySamples.even(*paper.image.depth_range, paper.image.depth_bins).t_mids
    assert_close(mids, torch.arange(1, 60, 0.5))
    with torch.device("meta"):
        recipe = RECIPES["ns-mae"].build(paper)
    assert recipe.grid.shape == (40, 180, 180)
    assert recipe.lidar.out_channels * recipe.lidar.out_grid.shape[0] == 256
    shapes = {k: tuple(v.shape) for k, v in recipe.camera.view_transform.state_dict().items()}
    assert shapes["depthnet.6.weight"] == (118 + 80, 256, 1, 1)
    assert shapes["dtransform.6.weight"] == (64, 32, 5, 5)
    assert recipe.lidar.encoder.state_dict()["conv_out.0.weight"].shape == (128, 3, 1, 1, 128)
    # Splatted at 0.3 m, strided to 0.6 m: every second fine cell is centred on a column.
    fine = recipe.camera.view_transform.grid
    assert fine.shape == (1, 360, 360)
    assert_close(
        fine.to_world(torch.tensor([2.0, 4.0, 0.0]))[:2],
        recipe.grid.to_world(torch.tensor([1.0, 2.0, 0.0]))[:2],
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_picture_has_all_panels(modality, scenes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, **legend: drawn.extend(rows) or path
    )
    pictures.save_picture(build(modality), scenes[0], tmp_path / "p.png", title="t")
    assert drawn
    for _, panels in drawn:
        captions = " ".join(caption for caption, _ in panels)
        assert "masked input" in captions and "rendered depth" in captions
        assert all(picture.min() >= 0 and picture.max() <= 1.001 for _, picture in panels)
