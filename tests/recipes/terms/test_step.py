"""Further terms of a recipe: what they are given, and that their names do not meet."""

from collections import Counter

import pytest
import torch
from torch import nn
from variants import batch_of, build, scenes_for

from renderpretrain.recipes.terms import Collapse, MissesTerm, NormalsTerm, SurfaceTerm, Surroundings


class Opaque(nn.Module):
    """How much light the rays of a step let through, times a number that is learned."""

    def __init__(self, name):
        super().__init__()
        self.name, self.scale = name, nn.Parameter(torch.tensor(0.5))
        self.seen = None

    def forward(self, step):
        self.seen = step
        return {self.name: self.scale * (1 - step.rendered.opacity).mean()}


class Noted(nn.Module):
    """How large the levels of a step are."""

    def forward(self, step):
        self.seen = step
        return {"size": torch.stack([level.rows().square().mean() for level in step.levels]).mean()}


TAKE_TERMS = (
    *("unipad-lidar", "unipad-camera resnet", "unipad-fusion", "ponder-outdoor", "ponder-indoor"),
    *("ns-mae", "ns-mae camera", "ns-mae lidar", "uniscene", "uniscene lss"),
)


@pytest.mark.parametrize("variant", TAKE_TERMS)
def test_levels_are_those_that_the_volume_is_made_of(variant):
    """With a term the volume is made from levels, to the same bits, and they are what the recipe says."""
    recipe, batch = build(variant).eval(), batch_of(scenes_for(variant))
    alone = recipe(batch)
    recipe.terms.append(Noted())
    assert all(torch.equal(recipe(batch)[name], value) for name, value in alone.items())
    step = recipe.terms[0].seen
    expected = recipe.levels(batch, step.hidden)
    assert len(expected) > 1 and [level.name for level in step.levels] == [level.name for level in expected]
    for level, other in zip(step.levels, expected, strict=True):
        assert torch.equal(level.rows(), other.rows())
    assert step.volume.shape[2:] == recipe.grid.shape and step.renderer is recipe.renderer


@pytest.mark.parametrize("variant", TAKE_TERMS)
def test_encoders_are_asked_once_and_learn_from_a_term(variant):
    batch = batch_of(scenes_for(variant))
    plain, recipe = build(variant).train(), build(variant).train()
    recipe.terms.append(Noted())
    recipe.terms.append(Collapse(places=64))
    asked = []
    for each in (plain, recipe):
        asked.append(calls := Counter())
        for part in each.encoders().values():
            for name, layer in part.named_modules():
                layer.register_forward_hook(lambda *_, name=name, calls=calls: calls.update([name]))
        torch.manual_seed(3)
        terms = each(batch)
    assert asked[1].total() > 0 and asked[1] <= asked[0]  # levels are asked for past the call of the whole
    statistics = dict(recipe.named_buffers())
    assert any("running_mean" in name for name in statistics)
    for name, value in plain.named_buffers():  # twice would have moved the statistics twice
        assert torch.equal(value, statistics[name]), name
    assert {"size", "collapse_variance", "collapse_covariance"} <= terms.keys()
    terms["collapse_variance"].backward(retain_graph=True)
    for name, part in recipe.encoders().items():
        assert any(p.grad is not None and p.grad.any() for p in part.parameters()), name


@pytest.mark.parametrize("variant", ["unipad-camera", "ponder-indoor", "ns-mae camera"])
def test_a_term_sees_cameras_where_the_recipe_believes_them_to_be(variant):
    recipe, batch = build(variant, calibration={"refine": True}), batch_of(scenes_for(variant))
    with torch.no_grad():
        for parameter in recipe.calibration.parameters():
            parameter.add_(0.05)
    recipe.terms.append(Noted())
    recipe(batch)
    seen = recipe.terms[0].seen.batch.views.cameras.camera_to_world
    assert torch.equal(seen, recipe.refined(batch).views.cameras.camera_to_world)
    assert not torch.allclose(seen, batch.views.cameras.camera_to_world, atol=1e-3)


@pytest.mark.parametrize(
    ("variant", "refused"), [("ponder-outdoor", ()), ("ns-mae lidar", (NormalsTerm, SurfaceTerm))]
)
def test_published_recipes_take_what_their_fields_can_answer(variant, refused):
    recipe, batch = build(variant), batch_of(scenes_for(variant))
    widths = {level.name: level.channels for level in recipe.levels(batch)}
    makers = {
        "surroundings": lambda: Surroundings(widths, recipe.grid),
        **{"normals": NormalsTerm, "misses": MissesTerm, "surface": SurfaceTerm},
    }
    for name, make in makers.items():
        recipe.terms = nn.ModuleList([make()])
        if make in refused:
            with pytest.raises(ValueError, match=r"^terms: .*expected a.* got OccupancyField"):
                recipe(batch)
            continue
        recipe.zero_grad()
        value = recipe(batch)[name]
        value.backward()
        assert 0 < value.item() < 100
        for part in recipe.encoders().values():
            assert any(p.grad is not None and p.grad.any() for p in part.parameters()), name


def test_a_term_sees_the_step_and_is_trained_with_it():
    recipe, batch = build("unipad-lidar"), batch_of(scenes_for("unipad-lidar"))
    alone = recipe.eval()(batch)
    recipe.terms.append(Opaque("opaque"))
    terms = recipe(batch)
    assert terms.keys() - alone.keys() == {"opaque"} and terms["opaque"] > 0
    assert all(torch.equal(terms[name], value) for name, value in alone.items())
    step = recipe.terms[0].seen
    assert step.volume.shape[1] == 32 and step.targets.hit.any() and step.renderer is recipe.renderer
    assert step.hidden.voxels.hidden.any() and step.batch.names == batch.names
    terms["opaque"].backward()
    assert recipe.terms[0].scale.grad > 0 and recipe.lidar.encoder.conv_out[0].weight.grad.any()


@pytest.mark.parametrize("names", [["depth"], ["mine", "mine"]])
def test_two_terms_of_one_name_are_refused(names):
    recipe, batch = build("unipad-lidar"), batch_of(scenes_for("unipad-lidar"))
    recipe.terms.extend(Opaque(name) for name in names)
    with pytest.raises(ValueError, match=rf"^terms: .* what Opaque gives, got '{names[0]}', which"):
        recipe(batch)
