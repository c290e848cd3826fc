"""``docs/vocabulary.md`` names what there is."""

import dataclasses
import functools
import re
from pathlib import Path

import pytest

import renderpretrain as rp
from renderpretrain.recipes.settings import dotted_settings

PAGE = Path(__file__).parents[1] / "docs" / "vocabulary.md"
ROWS = re.findall(r"^\| (.+) \| (.+) \| (`.+`) \|$", PAGE.read_text(), re.MULTILINE)


def attribute(value, name):
    """An attribute, or the field of that name of a dataclass."""
    if dataclasses.is_dataclass(value) and name in {field.name for field in dataclasses.fields(value)}:
        return name
    return getattr(value, name)


@pytest.mark.parametrize("name", [name for row in ROWS for name in re.findall("`(.+?)`", row[2])])
def test_its_names_are_there(name):
    functools.reduce(attribute, name.split("."), rp)


def test_a_word_has_one_line():
    words = [word for row in ROWS for word in row[0].split(", ")]
    assert len(words) == len(set(words)) > 50


SETTINGS = re.findall(
    r"^\| (`.+`) \| .+ \| ([a-z, -]+) \|$", PAGE.read_text().partition("## Settings")[2], re.MULTILINE
)


def test_a_setting_is_in_the_recipes_that_are_said_to_have_it():
    recipes = rp.recipes.RECIPES
    have = {name: dict(dotted_settings(entry.presets[entry.reference])) for name, entry in recipes.items()}
    others = {name for name in recipes if name.endswith(("-camera", "-fusion"))}
    assert len(SETTINGS) > 12
    for names, said in SETTINGS:
        for name in re.findall("`(.+?)`", names):
            found = {recipe.removesuffix("-lidar") for recipe, settings in have.items() if name in settings}
            found -= others
            expected = set(said.split(", ")) if said != "all" else {r.removesuffix("-lidar") for r in have}
            assert found == expected - others, name
