"""What settings of our own recipe turn on, and that it learns from its own copy and from a teacher."""

import pytest
import torch
from torch import nn
from variants import batch_of, build, scenes_for

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.terms import (
    Collapse,
    PointFeatures,
    RenderedFeatures,
    SelfDistillation,
    Surroundings,
)
from renderpretrain.teachers import ImageTeacher, write_maps

NAME = "render-distill-lidar"
OFF = {"distill": dict.fromkeys(("hidden", "visible", "rendered"), 0.0)}
OFF |= {"collapse": dict.fromkeys(("variance", "covariance"), 0.0)}
OFF |= {"surroundings": {"weight": 0.0}}
COPY = {"distill": {"hidden": 1.0, "visible": 0.5, "rendered": 0.5}}
COPY |= {"collapse": {"variance": 1.0, "covariance": 0.04}}
OFF |= {"terms": dict.fromkeys(("intensity", "normals", "misses"), 0.0)}


def kinds(recipe):
    return {type(term) for term in recipe.terms}


def test_without_its_terms_it_is_unipad():
    """To the same bits: the same networks from the same seed."""
    batch = batch_of(scenes_for(NAME))
    plain, ours = build("unipad-lidar")(batch), build(NAME, **OFF)(batch)
    assert plain.keys() == ours.keys() and all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_for_lidar_only_terms_are_on_that_were_measured_to_help(preset):
    config = RECIPES[NAME].presets[preset]
    off = (config.distill.hidden, config.distill.visible, config.distill.rendered, config.distill.prototypes)
    off += (config.collapse.variance, config.collapse.covariance, config.collapse.sigreg)
    assert not any(off) and not any(config.terms.model_dump().values()) and config.surroundings.weight == 100


def test_weights_turn_terms_on():
    recipe = build(
        NAME,
        collapse={"covariance": 0.04, "sigreg": 0.1},
        distill={"hidden": 1.0, "visible": 0.5, "prototypes": 1.0},
    )
    terms = recipe(batch_of(scenes_for(NAME)))
    assert {"collapse_sigreg", "collapse_covariance", "self_hidden", "self_prototypes"} <= set(terms)
    assert not {"collapse_variance", "self_rendered", "rendered_features"} & set(terms)
    assert kinds(build(NAME)) >= {Surroundings}
    assert not kinds(build(NAME)) & {Collapse, SelfDistillation, PointFeatures, RenderedFeatures}
    assert kinds(build(NAME, **COPY)) >= {Collapse, SelfDistillation, Surroundings}
    assert kinds(build("render-distill-fusion")) >= {Collapse, SelfDistillation, Surroundings}
    assert not kinds(build(NAME, **OFF)) and not kinds(build("render-distill-camera")) & {Surroundings}
    with pytest.raises(ValueError, match=r"^levels: expected some of point_encoder/0, .*, got 'image_neck'$"):
        build(NAME, distill={"hidden": 1.0, "levels": ["image_neck"]})


def test_a_teacher_is_told_from_its_maps_on_the_disk(tmp_path):
    scenes = scenes_for(NAME)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 80, 8, stride=8), nn.Tanh())
    write_maps(tmp_path, ImageTeacher(network, [-1]), scenes)
    recipe = build(NAME, teacher={"maps": str(tmp_path), "points": 2.0})
    terms = recipe(batch_of(scenes))
    assert terms["rendered_features"] > 0 and terms["point_features"] > 0
    with pytest.raises(ValueError, match=r"expected a teacher's maps with teacher.safetensors, found none"):
        build(NAME, teacher={"maps": str(tmp_path / "maps")})


def test_several_batches_of_a_step_move_the_copy_as_far_as_one():
    """Weights stay within a step: two batches leave what one leaves."""
    moved = []
    for parts in (1, 2):
        recipe = build(
            NAME, optimization={"accumulate": parts, "steps": 10**6}, distill={"hidden": 1.0, "momentum": 0.5}
        )
        batch = batch_of(scenes_for(NAME)[:1])
        with torch.no_grad():
            recipe.lidar.encoder.conv_out[0].weight += 1.0
        for _ in range(parts):
            recipe(batch)
        teacher = next(term for term in recipe.terms if isinstance(term, SelfDistillation)).teacher
        moved.append(teacher.copy["lidar"].encoder.conv_out[0].weight)
    assert torch.allclose(moved[0], moved[1], rtol=1e-4)
    assert not torch.allclose(moved[0], recipe.lidar.encoder.conv_out[0].weight, atol=0.1)
