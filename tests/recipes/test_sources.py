"""Every number of a ``paper`` preset says where it comes from, and ``recipes show`` prints it."""

import pytest
import yaml

from renderpretrain.cli import main
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.sources import settings_of, sources_of
from renderpretrain.recipes.sources.listing import listed

KINDS = ("paper", "code", "ours", "unused")


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_has_a_source_and_every_source_a_setting(name):
    entry = RECIPES[name]
    published = dict(settings_of(entry.presets["paper"]))
    assert set(entry.sources.paper) == set(published)
    assert all(source.split()[0].strip(":") in KINDS for source in entry.sources.paper.values())
    for preset, listing in entry.sources.presets.items():
        there = dict(settings_of(entry.presets[preset]))
        assert set(listing) <= set(there)
        changed = {key for key, value in there.items() if value != published[key]}
        assert changed <= set(listing), f"{preset} differs from paper in a number without a source"


@pytest.mark.parametrize("name", RECIPES)
def test_what_differs_from_the_paper_is_ours_and_says_what_the_paper_has(name):
    entry = RECIPES[name]
    published, tiny = (dict(settings_of(entry.presets[key])) for key in ("paper", "tiny"))
    told = sources_of(entry.sources, entry.presets, "tiny")
    assert set(told) == set(tiny)
    for key, source in told.items():
        if tiny[key] == published[key]:
            assert source == entry.sources.paper[key]
        else:
            assert source.startswith("ours")
    assert told["optimization.steps"] == f"ours (paper: {published['optimization.steps']})"


@pytest.mark.parametrize("preset", ["paper", "tiny"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_shown_preset_fits_a_page_and_is_the_preset(name, preset, capsys):
    with pytest.raises(SystemExit):
        main(["recipes", "show", name, "--preset", preset])
    said = capsys.readouterr().out
    config = RECIPES[name].presets[preset]
    assert yaml.safe_load(said) == config.model_dump(mode="json")
    assert max(map(len, said.splitlines())) <= 110
    comments = sum("# " in line for line in said.splitlines())
    assert comments == 3 + len(dict(settings_of(config)))  # name, summary and code come first


def test_a_name_has_one_source():
    with pytest.raises(ValueError, match="b: expected one source, got two"):
        listed({"ours": "a b", "code x.py": "b"})
