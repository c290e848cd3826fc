"""Terms on features: what they compare with what, where, and that they teach what is taken home."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from variants import batch_of, build, scenes_for, small

from renderpretrain import losses
from renderpretrain.encoders import FeatureHeads, ImageLevel, ImageMaps
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.terms import (
    Collapse,
    PointFeatures,
    RenderedFeatures,
    SelfDistillation,
    Surroundings,
)
from renderpretrain.recipes.terms.places import (
    along_rays,
    chosen_levels,
    image_places,
    level_widths,
    read_at_rays,
    read_level,
    world_places,
)
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.teachers import ImageTeacher, write_maps

VARIANTS = ["unipad-lidar", "unipad-camera", "unipad-fusion"]


class Kept(nn.Module):
    """Remembers the step that it is asked about."""

    def forward(self, step):
        self.step = step
        return {}


def branches_of(recipe):
    return {name: b for name in ("lidar", "camera") if (b := getattr(recipe, name)) is not None}


def step_of(variant, scenes=None):
    """A recipe and a step of it."""
    recipe = build(variant)
    recipe.terms.append(Kept())
    recipe(batch_of(scenes_for(variant) if scenes is None else scenes))
    return recipe, recipe.terms[0].step


@pytest.fixture(scope="module")
def steps():
    made = {}
    return lambda variant: made.setdefault(variant, step_of(variant))


def test_places_are_drawn_from_the_seeds_and_know_what_is_hidden(steps):
    _, step = steps("unipad-fusion")
    world = world_places(step, 300, "a test")
    assert torch.equal(world.where, world_places(step, 300, "a test").where)
    assert not torch.equal(world.where, world_places(step, 300, "another").where)
    points, gone = step.batch.points, step.hidden.points
    for b in range(2):
        for where, hidden in zip(world.where[b, :50], world.hidden[b, :50], strict=True):
            row = (points.xyz[b] == where).all(-1) & points.key[b]
            assert row.any() and gone[b, row].any() == hidden
    images = image_places(step, 40, "a test")
    count, patches = step.batch.views.valid.shape[1], step.hidden.patches
    assert images.where.shape == (2, count * 40, 2) and 0.1 < images.hidden.float().mean() < 0.6
    for slot in range(0, count * 40, 7):
        u, v = images.where[0, slot].tolist()
        inside = patches[0, slot // 40, int(v * patches.shape[2]), int(u * patches.shape[3])]
        assert images.hidden[0, slot] == inside


def test_maps_are_read_at_places_and_at_the_pixels_of_rays(steps):
    """Maps whose values are their own coordinates say where they are read."""
    _, step = steps("unipad-fusion")
    size = step.batch.views.cameras.image_size
    count, (height, width) = step.batch.views.valid.shape[1], (size[0] // 8, size[1] // 8)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    camera = torch.arange(count).view(count, 1, 1).expand(count, height, width)
    maps = torch.stack([camera, (u / width).expand_as(camera), (v / height).expand_as(camera)], 1)
    level = ImageLevel("teacher/0", maps.float().expand(2, -1, -1, -1, -1))
    places = image_places(step, 40, "a test")
    read = read_level(level, places)
    assert_close(read[0, :, 0], torch.arange(count).repeat_interleave(40).float())
    inner = ((places.where > 1 / 16) & (places.where < 15 / 16)).all(-1)
    assert_close(read[..., 1:][inner], places.where[inner], rtol=0, atol=1e-5)
    targets = step.targets
    seen = read_at_rays(level, targets, size)
    share = targets.pixels / torch.tensor([size[1], size[0]])
    inner = targets.rgb_valid & ((share > 1 / 16) & (share < 15 / 16)).all(-1)
    assert inner.sum() > 50
    expected = torch.cat([targets.camera[..., None], share], -1)
    assert_close(seen[inner], expected[inner], rtol=0, atol=1e-5)
    assert torch.equal(read_at_rays(level, targets, size, 3), seen[:, ::3])


def test_features_along_rays_against_a_loop(steps):
    _, step = steps("unipad-lidar")
    seen, level = rendering_of(step, "a test"), step.levels[-1]
    read = along_rays(level.features, level.grid, seen, 40)
    samples, weights = seen.rendered.along.samples, seen.rendered.along.weights
    for slot, ray in enumerate(range(0, read.shape[1] * 40, 40)):
        total = torch.zeros(level.channels)
        for s in range(weights.shape[2]):
            if samples.valid[0, ray, s]:
                where = seen.targets.rays.at(samples.t_mids)[0, ray, s]
                total += weights[0, ray, s] * level.grid.read(level.features[:1], where[None, None])[0, 0]
        assert_close(read[0, slot], total, rtol=1e-4, atol=1e-5)
    assert read.requires_grad
    read.sum().backward(retain_graph=True)
    assert not any(p.grad is not None and p.grad.any() for p in seen.renderer.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_widths_are_those_of_the_levels(variant, steps):
    recipe, step = steps(variant)
    before = {name: value.clone() for name, value in recipe.state_dict().items()}
    widths = level_widths(list(branches_of(recipe).values()))
    assert list(widths.items()) == [(level.name, level.channels) for level in step.levels]
    assert all(torch.equal(before[name], value) for name, value in recipe.state_dict().items())


class OneSize(nn.Module):
    """Maps of images of one size alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 8, stride=8)

    def forward(self, images):
        if images.shape[-2:] != (64, 96):
            raise ValueError(f"images: expected (64, 96), got {tuple(images.shape[-2:])}")
        return self.conv(images)


def test_networks_for_images_of_one_size_are_asked_about_those():
    entry, own = RECIPES["render-distill-camera"], ImageMaps(OneSize(), [5])
    recipe = entry.build(small("render-distill-camera"), image_backbone=own)
    assert level_widths([recipe.camera], (64, 96)) == {"image_backbone/0": 5, "image_neck/0": 16}
    with pytest.raises(ValueError, match=r"^images: expected \(64, 96\)"):
        level_widths([recipe.camera])


def test_levels_are_chosen_by_name():
    widths = {"point_encoder/0": 8, "point_encoder/1": 16, "point_neck/0": 4}
    assert list(chosen_levels(widths, ["point_encoder"])) == ["point_encoder/0", "point_encoder/1"]
    assert chosen_levels(widths, ["point_neck/0", "point_encoder/1"]) == {
        "point_encoder/1": 16,
        "point_neck/0": 4,
    }
    assert chosen_levels(widths, []) == widths
    with pytest.raises(ValueError, match=r"^levels: expected some of point_encoder/0, .*, got 'point'$"):
        chosen_levels(widths, ["point"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_collapse_is_that_of_what_is_seen(variant, steps):
    recipe, step = steps(variant)
    part = next(iter(recipe.encoders()))
    term = Collapse(2.0, ["variance", "sigreg"], [part], places=200, slices=8)
    terms = term(step)
    expected = []
    for level in step.levels:
        if level.name.startswith(f"{part}/"):
            draw = world_places if part.startswith("point") else image_places
            places = draw(step, 200, "visible features")
            expected.append(losses.variance_hinge(read_level(level, places), places.valid & ~places.hidden))
    assert_close(terms["collapse_variance"], 2 * torch.stack(expected).mean())
    assert terms["collapse_sigreg"] > 0
    recipe.zero_grad()
    sum(terms.values()).backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recipe.encoders()[part].parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_copy_sees_the_whole_scene_and_teaches_what_is_taken_home(variant, steps):
    recipe, step = steps(variant)
    branches = branches_of(recipe)
    term = SelfDistillation(branches, 32, places=64, rays=64, prototypes=1.0, updates=10)
    told = term.copied(step)
    recipe.eval()
    whole = recipe.levels(step.batch, Hidden())
    recipe.train()
    assert list(told) == [level.name for level in whole]
    for level in whole:
        assert_close(told[level.name].rows(), level.rows())
    recipe.zero_grad()
    terms = term(step)
    assert set(terms) == {"self_hidden", "self_visible", "self_rendered", "self_prototypes"}
    sum(terms.values()).backward(retain_graph=True)
    assert [
        n for n, p in term.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ] == []
    for encoder in recipe.encoders().values():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert not any(p.requires_grad for p in term.teacher.parameters()) and term.teacher.moved == 1
    with torch.no_grad():
        term(step)
    term.eval()(step)
    assert term.teacher.moved == 1


def test_places_that_are_hidden_and_seen_are_told_apart(steps):
    """Where nothing is hidden there is no term of hidden places, and the other way round."""
    recipe, step = steps("unipad-lidar")
    term = SelfDistillation(branches_of(recipe), 32, weights={"hidden": 1.0, "visible": 1.0}, places=64)
    seen = step.hidden.voxels
    for gone, left in ((False, "self_visible"), (True, "self_hidden")):
        masked = replace(seen, hidden=torch.full_like(seen.hidden, gone))
        terms = term(replace(step, hidden=replace(step.hidden, voxels=masked)))
        assert {name for name, value in terms.items() if value > 0} == {left}


class Palette(nn.Module):
    """Exact classes: a pixel is dark, red, green or blue, as one-hot maps."""

    def forward(self, images):
        brightest = images.argmax(1) + 1
        return (
            nn.functional.one_hot(torch.where(images.amax(1) < 0.4, 0, brightest), 4).movedim(-1, 1).float()
        )


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Scenes, a step, and a teacher's maps of their images: exact classes."""
    scenes = scenes_for("unipad-fusion")
    recipe, step = step_of("unipad-fusion", scenes)
    teacher = ImageTeacher(Palette(), [-1], mean=(0, 0, 0), std=(1, 1, 1))
    return recipe, step, write_maps(tmp_path_factory.mktemp("maps"), teacher, scenes)


def test_rays_and_places_are_compared_with_the_class_at_their_pixel(taught):
    """A head that says the pixel's own class is right, and one that says another is as wrong as can be."""
    recipe, step, maps = taught
    views, truth = step.batch.views, Palette()(step.batch.views.images.flatten(0, 1))
    rendered = RenderedFeatures(maps, 32, rays=10**6)
    points = PointFeatures(maps, level_widths(list(branches_of(recipe).values())), places=200)

    class Says(nn.Module):
        def __init__(self, said):
            super().__init__()
            self.said = said

        def forward(self, x):
            return {"0": self.said}

    targets = step.targets
    camera, (u, v) = targets.camera.clamp(min=0), targets.pixels.long().unbind(-1)
    sample = torch.arange(2)[:, None].expand_as(camera)
    classes = truth.unflatten(0, views.valid.shape)[sample, camera, :, v.clamp(0, 63), u.clamp(0, 95)]
    rendered.head = Says(classes)
    # Rays through returns are not at centres of pixels: at an edge two classes mix.
    right = rendered(step)["rendered_features"]
    rendered.head = Says(classes.roll(1, -1))
    assert right < 0.15 and rendered(step)["rendered_features"] > 0.8
    places = world_places(step, 200, "point features")
    pixels, _, inside = views.cameras.project(places.where[:, None])
    votes = torch.zeros(2, 200, 4)
    for b in range(2):
        for n in range(inside.shape[1]):
            for p in inside[b, n].nonzero()[:, 0].tolist():
                u, v = (int(x) for x in pixels[b, n, p])
                votes[b, p] += truth.unflatten(0, views.valid.shape)[b, n, :, v, u]
    points.head = Says(votes)
    right = points(step)["point_features"]
    points.head = Says(votes.roll(1, -1))
    assert right < 0.15 and points(step)["point_features"] > 0.8


def test_both_teach_what_is_taken_home(taught):
    recipe, step, maps = taught
    widths = level_widths(list(branches_of(recipe).values()))
    for term, part in (
        (PointFeatures(maps, widths, levels=["point_neck"]), "point_neck"),
        (RenderedFeatures(maps, 32), "image_backbone"),
    ):
        recipe.zero_grad()
        sum(term(step).values()).backward(retain_graph=True)
        assert all(p.grad is not None for p in term.parameters())
        assert any(p.grad is not None and p.grad.any() for p in recipe.encoders()[part].parameters())


@pytest.mark.untyped
def test_unfit_terms_are_refused_in_one_line(taught):
    recipe, step, maps = taught
    other = replace(step, batch=replace(step.batch, names=("elsewhere", "nowhere")))
    dark = replace(step, batch=replace(step.batch, views=None))
    cases = {
        r"^kinds: expected some of .*sigreg, got \('spread',\)": lambda: Collapse(kinds=["spread"]),
        r"^terms: Collapse looks at levels of encoders; expected some, got none$": lambda: Collapse()(
            replace(step, levels=[])
        ),
        r"^branches, weights: expected .*got none and hidden": lambda: SelfDistillation({}, 32),
        r"got lidar and deep$": lambda: SelfDistillation({"lidar": recipe.lidar}, 32, weights={"deep": 1.0}),
        r"expected maps of scene 'elsewhere', found none": lambda: RenderedFeatures(maps, 32)(other),
        r"has no images": lambda: RenderedFeatures(maps, 32)(dark),
        r"^targets: expected at least one": lambda: FeatureHeads(3, 4, {}),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_prototypes_of_nothing_that_is_predicted_are_refused(steps):
    with pytest.raises(ValueError, match=r"^prototypes: expected 0 where neither hidden nor visible places"):
        SelfDistillation(branches_of(steps("unipad-lidar")[0]), 32, weights={"rendered": 1.0}, prototypes=1.0)


def test_surroundings_are_those_of_the_whole_sweep_and_teach_the_encoder(steps):
    recipe, step = steps("unipad-lidar")
    term = Surroundings(level_widths([recipe.lidar]), recipe.grid, cell=1.0, weight=2.0)
    assert step.hidden.points.any()
    error = term(step)["surroundings"]
    parameters = list(recipe.lidar.encoder.parameters())
    gradients = torch.autograd.grad(error, parameters, retain_graph=True, allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in gradients)
    with torch.no_grad():  # what is told does not depend on the mask: a head of zeros is as wrong without one
        term.head.weight.zero_()
        term.head.bias.zero_()
    voxels = replace(step.hidden.voxels, hidden=torch.zeros_like(step.hidden.voxels.hidden))
    seen = replace(step, hidden=Hidden(voxels=voxels))
    assert_close(term(step)["surroundings"], term(seen)["surroundings"])
    double = Surroundings(level_widths([recipe.lidar]), recipe.grid, cell=1.0, weight=4.0)
    double.head = term.head
    assert_close(double(step)["surroundings"], 2 * term(step)["surroundings"])


def test_surroundings_need_an_encoder_of_points():
    with pytest.raises(ValueError, match="expected levels of an encoder of points, got image_backbone/0"):
        Surroundings({"image_backbone/0": 8}, build("unipad-lidar").grid)
