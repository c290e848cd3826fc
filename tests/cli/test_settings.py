import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from renderpretrain.cli.settings import (
    choose,
    merged,
    parse_assignment,
    resolve,
    write_commented_yaml,
    write_yaml,
)
from renderpretrain.recipes.schedule import OptimizationConfig


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
        ("optimisation.lr=1", r"^optimisation: unknown setting; did you mean optimization\? \(allowed: size"),
        ("optimization.lr=-1", r"^optimization.lr: input should be greater than 0, got -1$"),
        (
            "optimization.schedule=cosin",
            "^optimization.schedule: input should be 'cosine', 'cyclic' or 'constant'",
        ),
        ("size=[1]", r"^size.1: field required"),
        ("optimization.steps=many", r"^optimization.steps: input should be a valid integer.*got many"),
        ("optimization.lr.scale=1", r"^optimization.lr: input should be a valid number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(assignment, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve(Section(), [parse_assignment(assignment)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["lr", "=3", "a..b=3", ".a=3"])
def test_an_assignment_without_a_key_or_a_value_is_an_error(text):
    with pytest.raises(ValueError, match=r"--set: expected key.of.the.setting=value, got"):
        parse_assignment(text)


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
