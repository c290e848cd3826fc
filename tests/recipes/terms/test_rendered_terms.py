"""What more is rendered: each term against a slow statement, in recipes, and where nothing is known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from variants import batch_of, build, scenes_for, small

from renderpretrain import ops
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.terms import (
    IntensityTerm,
    MissesTerm,
    NormalsTerm,
    Step,
    SurfaceTerm,
    further_terms,
)
from renderpretrain.recipes.terms.misses import DIRECTIONS
from renderpretrain.recipes.terms.places import along_rays
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.samplers import OpenSky, local_planes

TERMS = {"intensity": 1.0, "normals": 1.0, "surface": 1.0, "misses": 1.0}


class Keeps(nn.Module):
    """A term that is nothing but remembers the step."""

    step: Step

    def forward(self, step):
        self.step = step
        return {}


@pytest.fixture(scope="module")
def made():
    """A recipe with all terms, and a step of it."""
    torch.manual_seed(0)
    recipe, batch = build("unipad-lidar", terms=TERMS), batch_of(scenes_for("unipad-lidar"))
    recipe.eval().terms.append(Keeps())
    return recipe, batch, recipe(batch)


def step_of(made):
    return made[0].terms[-1].step


def test_settings_turn_terms_on(made):
    alone = build("unipad-lidar").eval()(made[1])
    assert made[2].keys() - alone.keys() == TERMS.keys()
    assert all(torch.equal(made[2][name], value) for name, value in alone.items())
    assert all(made[2][name] > 0 for name in TERMS)
    with pytest.raises(ValueError, match=r"^field: expected signed distances for terms\.surface, got"):
        build(
            "unipad-lidar",
            field={"kind": "density"},
            sampler={"kind": "even"},
            losses={"sdf": 0, "free_space": 0},
            terms={"surface": 1.0},
        )


@pytest.mark.parametrize("name", TERMS)
def test_terms_train_the_encoder(made, name):
    recipe = made[0]
    recipe.zero_grad()
    made[2][name].backward(retain_graph=True)
    assert recipe.lidar.encoder.conv_out[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in recipe.parameters())


@pytest.mark.parametrize("variant", ["unipad-camera", "unipad-fusion", "unipad-lidar density"])
def test_other_recipes_and_fields_take_them(variant):
    name, *density = variant.split()
    more = {"terms": TERMS}
    if density:
        more = {
            "terms": TERMS | {"surface": 0.0, "normals": 0.0},
            "field": {"kind": "density"},
            "sampler": {"kind": "even"},
            "losses": {"sdf": 0.0, "free_space": 0.0},
        }
    terms = build(name, **more)(batch_of(scenes_for(name)))
    on = {term for term, weight in more["terms"].items() if weight}
    assert terms.keys() >= on and all(torch.isfinite(value) for value in terms.values())


def test_features_of_rays_against_a_loop(made):
    seen = rendering_of(step_of(made), None)
    features, along = along_rays(seen.volume, seen.grid, seen), seen.rendered.along
    for b, r in ((0, 3), (1, 40)):
        total = 0.0
        for weight, t in zip(along.weights[b, r], along.samples.t_mids[b, r], strict=True):
            place = seen.targets.rays.origins[b, r] + t * seen.targets.rays.directions[b, r]
            total = total + weight * seen.grid.read(seen.volume[b : b + 1], place[None, None])[0, 0]
        assert_close(features[b, r], total, rtol=1e-4, atol=1e-5)  # sums in another order


def test_brightness_does_not_bend_geometry(made):
    recipe, _, _ = made
    (term,) = (term for term in recipe.terms if isinstance(term, IntensityTerm))
    recipe.zero_grad(set_to_none=True)
    term(step_of(made))["intensity"].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in recipe.renderer.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in recipe.to_field.parameters())
    recipe.zero_grad()


def test_surface_against_a_loop(made):
    recipe, batch, terms = made
    targets, volume = step_of(made).targets, step_of(made).volume
    means = []
    for b in range(2):
        ends = batch.points.xyz[b, targets.returns[b][targets.hit[b]]]
        means.append(recipe.surface_field().sdf(volume[b : b + 1], ends[None]).abs().mean())
    # 1e-3: a return's place is found again along its ray, in float32 at 30 m.
    assert_close(terms["surface"], sum(means) / 2, rtol=1e-3, atol=0)


def test_normals_against_a_loop(made):
    seen, means = step_of(made), []
    planes = local_planes(seen.batch.points, seen.targets.returns)
    valid = (planes.valid & seen.targets.hit).tolist()
    rendered, measured = seen.rendered.normals.tolist(), planes.normals.tolist()
    for b in range(2):
        errors = []
        for r in [r for r, known in enumerate(valid[b]) if known]:
            length = math.hypot(*rendered[b][r])
            pairs = [(n / length, m) for n, m in zip(rendered[b][r], measured[b][r], strict=True)]
            errors.append(1 + sum(abs(n - m) - n * m for n, m in pairs))
        assert len(errors) > 30
        means.append(sum(errors) / len(errors))
    # 1e-3: some rays are hardly opaque, and the loss makes their normals a little shorter.
    assert made[2]["normals"].item() == pytest.approx(sum(means) / 2, rel=1e-3)
    alone = local_planes(seen.batch.points, seen.targets.returns[:, 9:10])
    assert_close(alone.normals, planes.normals[:, 9:10])


def test_rays_follow_the_settings():
    recipe, batch = build("unipad-lidar", terms={"curved_after": 0}), batch_of(scenes_for("unipad-lidar"))
    recipe.terms.append(Keeps())
    recipe(batch)
    bent, alike = step_of([recipe]).targets, recipe.targets(batch)
    assert step_of([recipe]).preference is recipe.preference and not torch.equal(bent.returns, alike.returns)
    variation = [local_planes(batch.points, rays.returns).variation.mean() for rays in (bent, alike)]
    assert variation[0] > 1.2 * variation[1]
    assert "preference.steps" in recipe.state_dict()


def test_misses_are_refused_of_points_that_are_no_sweep():
    entry, config = RECIPES["unipad-lidar"], small("unipad-lidar", terms={"misses": 0.1})
    street, (room, *_) = scenes_for("unipad-lidar"), scenes_for("ponder-indoor")
    cloud = replace(room, z_depths=None, z_depth_valid=None)
    for scene, got in ((room, "points of depth images"), (cloud, "returns from all directions")):
        line = rf"^terms\.misses: expected sweeps of a spinning LiDAR, got {got} in .*set terms\.misses=0$"
        with pytest.raises(ValueError, match=line):
            entry.prepare(config, [scene], 0)
        assert len(entry.prepare(small("unipad-lidar"), [scene], 0)) == 1
    assert len(entry.prepare(config, list(street), 0)) == len(street)


def test_misses_are_the_light_that_is_stopped(made):
    recipe, batch, terms = made
    rays, valid = OpenSky()(batch.points, ops.fold_in(batch.seeds, DIRECTIONS))
    assert valid.all()
    seeds = ops.fold_in(batch.seeds, "missed samples")
    opacity = recipe.renderer(step_of(made).volume, rays, seeds).opacity
    assert_close(terms["misses"], -(1 - opacity).log().mean(), rtol=1e-3, atol=1e-5)  # the loss's floor


@pytest.mark.parametrize("lacks", ["returns", "intensity", "points"])
def test_where_nothing_is_known_terms_are_0_with_gradient_0(made, lacks):
    recipe, batch, _ = made
    points = batch.points
    if lacks == "points":
        points = points.only(torch.zeros_like(points.valid))
    if lacks == "intensity":
        points = replace(points, intensity=torch.full_like(points.intensity, 0.25))
    seen = step_of(made)
    targets = seen.targets
    if lacks != "intensity":
        targets = replace(targets, returns=None, hit=torch.zeros_like(targets.hit))
    volume = seen.volume.detach().requires_grad_()
    rendered = recipe.renderer(volume, targets.rays)
    step = replace(
        seen, batch=replace(batch, points=points), volume=volume, targets=targets, rendered=rendered
    )
    terms = further_terms(recipe.terms[:4], step, {})
    none = {"returns": set(TERMS) - {"misses"}, "intensity": {"intensity"}, "points": set(TERMS)}[lacks]
    (gradient,) = torch.autograd.grad(sum(terms[name] for name in none), volume, allow_unused=True)
    assert all(terms[name] == 0 for name in none) and not gradient.any()


def test_a_step_that_renders_nothing_is_refused(made):
    step = replace(step_of(made), rendered=None)
    for term in (IntensityTerm(16), NormalsTerm(), SurfaceTerm(), MissesTerm()):
        with pytest.raises(ValueError, match=f"^terms: {type(term).__name__} compares what rays show; exp"):
            term(step)


def test_intensity_is_learned(made):
    """With the features that rays see, and a small network that reads them."""
    recipe, _, _ = made
    seen, term = step_of(made), IntensityTerm(32)
    volume = nn.Parameter(seen.volume.detach().clone())
    optimizer, errors = torch.optim.Adam([volume, *term.parameters()], lr=2e-2), []
    for _ in range(8):
        rendered = recipe.renderer(volume, seen.targets.rays)
        errors.append(term(replace(seen, volume=volume, rendered=rendered))["intensity"])
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.8 * errors[0]
