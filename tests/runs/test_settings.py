import math
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import OptimizationConfig, dotted_settings
from renderpretrain.runs.settings import (
    choose,
    merged,
    parse_assignment,
    resolve,
    write_commented_yaml,
    write_yaml,
)
from renderpretrain.training import with_fake_tensors


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: tuple[int, int] = (4, 5)
    optimization: OptimizationConfig = OptimizationConfig()


def test_later_updates_count_more_and_leave_the_rest():
    config = resolve(
        Section(),
        [{"optimization": {"lr": 0.5, "steps": 7}}, parse_assignment("optimization.lr=1e-3")],
    )
    assert (config.optimization.lr, config.optimization.steps) == (1e-3, 7)
    assert config.optimization.weight_decay == OptimizationConfig().weight_decay
    assert Section().optimization.steps == OptimizationConfig().steps


def test_values_are_yaml():
    assert parse_assignment("a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    assert parse_assignment("a={x.y: 0.1}") == {"a": {"x.y": 0.1}}
    assert parse_assignment("a.b=null") == {"a": {"b": None}}
    assert parse_assignment("a=b=c") == {"a": "b=c"}


def test_sections_merge_and_values_replace():
    assert merged({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"b": 3}, "d": [4]}) == {
        "a": {"b": 3, "c": 2},
        "d": [4],
    }


def test_a_configuration_survives_yaml():
    config = resolve(Section(), [{"size": [8, 9], "optimization": {"betas": [0.8, 0.9]}}])
    assert resolve(Section(), [yaml.safe_load(write_yaml(config.model_dump(mode="json")))]) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "optimization.lrr=1",
            r"^optimization.lrr: unknown setting; did you mean lr\? \(allowed: steps, batch",
        ),
        (
            "lr=1",
            r"^lr: unknown setting; did you mean optimization.lr\? \(allowed: size",
        ),
        ("optimization.lr=.inf", "^optimization.lr: input should be a finite number, got inf$"),
        ("optimization.lr=true", "^optimization.lr: expected something else than true or false, got True$"),
        (
            "optimization.betas=[false, 0.9]",
            "^optimization.betas: expected something else than true or false",
        ),
        ("optimization.lr_multipliers={x: -1}", "^optimization.lr_multipliers.x: input should be greater"),
        ("optimization.betas=[0.9, 1]", "^optimization.betas.1: input should be less than 1, got 1$"),
        ("optimization.steps=99999999999", "^optimization.steps: expected numbers of at most 1e"),
        ("optimisation.lr=1", r"^optimisation: unknown setting; did you mean optimization\? \(allowed: size"),
        ("optimization.lr=-1", r"^optimization.lr: input should be greater than 0, got -1$"),
        (
            "optimization.schedule=cosin",
            "^optimization.schedule: input should be 'cosine', 'cyclic' or 'constant'",
        ),
        ("size=[1]", r"^size.1: expected a value, for it has no default"),
        ("optimization.steps=many", r"^optimization.steps: input should be a valid integer.*got many"),
        ("optimization.lr.scale=1", r"^optimization.lr: input should be a valid number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(assignment, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve(Section(), [parse_assignment(assignment)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["lr", "=3", "a..b=3", ".a=3", "a." * 9999 + "b=3"])
def test_an_assignment_without_a_key_or_a_value_is_an_error(text):
    with pytest.raises(ValueError, match=r"--set: expected key.of.the.setting=value, got"):
        parse_assignment(text)


SETTINGS = sorted({name for e in RECIPES.values() for name, _ in dotted_settings(e.presets["tiny"])})
NUMBERS = [
    "0",
    "-1",
    "1.5",
    "1e-30",
    "1e30",
    ".inf",
    "-.inf",
    ".nan",
    "4096",
    "9" * 5000,
    "0x7fffffffffffffff",
]
VALUES = [
    *NUMBERS,
    "true",
    "null",
    "''",
    "text",
    '"a\\0b"',
    "[]",
    "{}",
    "{a: 1}",
    "2001-99-99",
    "!!timestamp x",
    "!!bool x",
    "[[8]]",
    "[",
    "*a",
]
SIZES = st.lists(st.sampled_from(NUMBERS), max_size=6).map(lambda parts: f"[{', '.join(parts)}]")


def refused_or_taken(name, told):
    """The configuration, or ``None`` where it was refused in one line that a person can read."""
    preset = RECIPES[name].presets["tiny"]
    try:
        return resolve(preset, [parse_assignment(text) for text in told])
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None


@given(
    name=st.sampled_from(sorted(RECIPES)),
    told=st.lists(
        st.tuples(st.sampled_from(SETTINGS), st.sampled_from(VALUES) | SIZES | st.text(max_size=9)).map(
            "=".join
        ),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_settings_are_refused_in_one_line_or_taken(name, told):
    config = refused_or_taken(name, told)
    if config is not None:
        numbers = [v for _, v in dotted_settings(config) if isinstance(v, float)]
        assert all(math.isfinite(number) for number in numbers)


@pytest.mark.long
@given(
    name=st.sampled_from(sorted(RECIPES)),
    told=st.lists(
        st.tuples(st.sampled_from(SETTINGS), st.sampled_from(VALUES) | SIZES).map("=".join),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=3000, deadline=None)
def test_what_is_taken_can_be_built_or_says_why_not(name, told):
    config = refused_or_taken(name, told)
    if config is not None:
        with suppress(ValueError):
            with_fake_tensors(lambda: RECIPES[name].build(config))


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("unipad-lidar", "image_size=[0, 0]", "image_size.0: input should be greater than 0, got 0"),
        ("unipad-lidar", "image_size=[1000000, 1000000]", "image_size.0: .* less than or equal to 32768"),
        (
            "unipad-lidar",
            "image_size=[32768, 32768]",
            r"image_size: expected at most 33554432 pixels, got \[327",
        ),
        ("unipad-lidar", "channels=10000000", "channels: .* less than or equal to 8192, got 10000000"),
        ("uniscene", "point_cloud_range=[-1e9, -1e9, -1, 1e9, 1e9, 1]", "point_cloud_range.0: .* got -1e9"),
        (
            "ns-mae",
            "point_cloud_range=[-9e4, -9e4, -4, 9e4, 9e4, 4]",
            r"^voxel_size: expected at most .* voxels",
        ),
        ("ponder-indoor", "encoder.voxel_size=[1e-3, 1e-3, 1e-3]", r"^encoder.voxel_size: expected at most"),
        ("unipad-lidar", "point_cloud_range=[1, 0, 0, 0, 1, 1]", "point_cloud_range: expected every minimum"),
        ("unipad-camera", "image.depth_range=[9, 3]", "image.depth_range: expected every minimum below"),
        ("unipad-camera", 'image.weights="a\\0"', "image.weights: expected text that can be printed"),
        ("unipad-camera", "patch_size=1", r"did you mean image_mask.patch_size\?"),
    ],
)
def test_numbers_past_all_use_are_refused_with_their_setting(name, setting, message):
    with pytest.raises(ValueError, match=message):
        resolve(RECIPES[name].presets["tiny"], [parse_assignment(setting)])


def test_an_unknown_name_suggests_the_nearest():
    known = {"unipad-lidar": 1, "unipad-camera": 2}
    assert choose("recipe", "unipad-camera", known) == 2
    with pytest.raises(ValueError, match=r"recipe: .*got 'unipda-lidar'; did you mean unipad-lidar\?"):
        choose("recipe", "unipda-lidar", known)


def test_comments_stand_beside_settings_or_above_them_where_a_page_ends():
    tree = {"a": 1, "section": {"names": {}, "wide": ["x" * 60]}, "b": {"c": "null"}}
    comments = {"a": "one", "section.names": "a setting", "section.wide": "y" * 60}
    said = write_commented_yaml(tree, comments)
    assert yaml.safe_load(said) == tree
    assert said.splitlines() == [
        "a: 1         # one",
        "section:",
        "  names: {}  # a setting",
        f"  # {'y' * 60}",
        f"  wide: [{'x' * 60}]",
        "b:",
        "  c: 'null'",
    ]
