"""Further terms of a recipe: what they are given, and that their names do not meet."""

import pytest
import torch
from torch import nn
from variants import batch_of, build, scenes_for


class Opaque(nn.Module):
    """How much light the rays of a step let through, times a number that is learned."""

    def __init__(self, name):
        super().__init__()
        self.name, self.scale = name, nn.Parameter(torch.tensor(0.5))
        self.seen = None

    def forward(self, step):
        self.seen = step
        return {self.name: self.scale * (1 - step.rendered.opacity).mean()}


@pytest.mark.parametrize("variant", ["unipad-lidar", "unipad-camera resnet", "unipad-fusion"])
def test_levels_are_those_that_the_volume_is_made_of(variant):
    """With a term the volume is made from levels, to the same bits, and they are what the recipe says."""
    recipe, batch = build(variant).eval(), batch_of(scenes_for(variant))
    alone = recipe(batch)
    recipe.terms.append(Opaque("opaque"))
    assert all(torch.equal(recipe(batch)[name], value) for name, value in alone.items())
    step = recipe.terms[0].seen
    expected = recipe.levels(batch, step.hidden)
    assert [level.name for level in step.levels] == [level.name for level in expected]
    for level, other in zip(step.levels, expected, strict=True):
        assert torch.equal(level.rows(), other.rows())


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
