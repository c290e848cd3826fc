"""``docs/vocabulary.md`` names what there is."""

import dataclasses
import functools
import re
from pathlib import Path

import pytest

import renderpretrain as rp

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
