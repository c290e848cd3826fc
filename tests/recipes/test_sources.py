"""Every number of a ``paper`` preset says where it comes from, and ``recipes show`` prints it."""

import pytest
import torch
import yaml
from torch.testing import assert_close
from variants import VARIANTS, batch_of, scenes_for, small

from renderpretrain.cli import main
from renderpretrain.recipes import RECIPES, branches, sections
from renderpretrain.recipes.settings import (
    UNSCHEDULED,
    OptimizationConfig,
    dotted_settings,
    listed,
    sources_of,
    unused_in,
)
from renderpretrain.runs.settings import resolve
from renderpretrain.training.schedule import first_beta, lr_factor


def shared(section):
    """Settings that a section takes over from one that methods share, with its default."""
    places = [base for base in section.__mro__ if base.__module__ in (sections.__name__, branches.__name__)]
    return {name for base in places for name in vars(base).get("__annotations__", {})} - set(
        vars(section).get("__annotations__", {}) if section not in places else ()
    )


KINDS = ("paper", "code", "ours", "unused")


@pytest.mark.parametrize("name", RECIPES)
def test_every_used_setting_has_a_source_and_every_source_a_setting(name):
    entry = RECIPES[name]
    published = dict(dotted_settings(entry.presets[entry.reference]))
    unused = unused_in(published, entry.sources.unused)
    assert unused.keys() <= published.keys()
    assert set(entry.sources.paper) == published.keys() - unused.keys()
    assert all(source.split()[0] in KINDS for source in entry.sources.paper.values())
    for preset, listing in entry.sources.presets.items():
        there = dict(dotted_settings(entry.presets[preset]))
        used = there.keys() - unused_in(there, entry.sources.unused).keys()
        assert set(listing) <= used
        changed = {key for key in used if key in unused or there[key] != published[key]}
        assert changed <= set(listing), f"{preset} differs from paper in a number without a source"


@pytest.mark.parametrize("name", RECIPES)
def test_what_differs_from_the_paper_is_ours_and_says_what_the_paper_has(name):
    entry = RECIPES[name]
    published, tiny = (dict(dotted_settings(entry.presets[key])) for key in (entry.reference, "tiny"))
    told = sources_of(entry.sources, entry.presets, "tiny")
    assert set(told) == set(tiny)
    for key, source in told.items():
        if key in unused_in(tiny, entry.sources.unused):
            assert source.startswith("unused: ")
        elif tiny[key] == published[key]:
            assert source == entry.sources.paper.get(key, f"ours (unused in {entry.reference})")
        else:
            assert source.startswith("ours")
    paper = f"ours (paper: {published['optimization.steps']})"
    assert told["optimization.steps"] == (paper if entry.reference == "paper" else "ours")


@pytest.mark.parametrize("name", RECIPES)
def test_published_numbers_stand_in_the_preset_not_in_a_section_that_methods_share(name):
    entry = RECIPES[name]
    for key, source in entry.sources.paper.items():
        section, _, field = key.rpartition(".")
        preset = entry.presets[entry.reference]
        held = getattr(preset, section) if section else preset
        value = getattr(held, field)  # a weight of 0 says that there is no such term
        number = value and isinstance(value, float | int | tuple) and source.startswith(("paper", "code"))
        if number and field in shared(type(held)):
            assert field in held.model_fields_set, f"{name}: {key}"


def test_what_is_unused_follows_from_the_preset_that_is_shown():
    """Paper's UniPAD-L has no colour and a cycle; tiny has colour and a warm-up. UniPAD-C has cameras."""
    lidar, camera = (
        {
            preset: sources_of(RECIPES[name].sources, RECIPES[name].presets, preset)
            for preset in ("paper", "tiny")
        }
        for name in ("unipad-lidar", "unipad-camera")
    )
    assert lidar["paper"]["field.rgb_blocks"] == "unused: losses.rgb 0"
    assert lidar["tiny"]["field.rgb_blocks"] == "ours (unused in paper)"
    assert lidar["paper"]["losses.truncation"] == "unused: losses.sdf 0, losses.free_space 0"
    assert lidar["tiny"]["losses.truncation"] == "ours (unused in paper)"
    assert lidar["paper"]["optimization.cyclic_peak"].startswith("code ")
    assert lidar["tiny"]["optimization.cyclic_peak"] == "unused: optimization.schedule cosine"
    assert lidar["tiny"]["image.depths"] == "unused: modality lidar"
    assert camera["tiny"]["image.depths"] == "ours (paper: [3, 3, 27, 3])"
    assert camera["tiny"]["calibration.weight"] == "unused: calibration.refine false"


OTHERWISE = {
    "convnext": "resnet",
    "bevformer": "lss",
    "sum": "concat",
    "neus": "volsdf",
    None: "nowhere.npz",
    "hashed:32": "nowhere.npz",
}


def other(value):
    """Another value of the kind, within the bounds that settings have."""
    if isinstance(value, tuple):
        if not value:
            return ("point_neck",)
        return value[:-1] if isinstance(value[-1], str) else tuple(other(item) for item in value)
    if isinstance(value, int):
        return value + 1
    return value / 2 + 0.01 if isinstance(value, float) else OTHERWISE[value]


def with_other(config, names):
    """The configuration with other values of some settings."""
    settings, changes = dict(dotted_settings(config)), {}
    for name in names:
        *sections, key = name.split(".")
        place = changes
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = (2, 2, 2) if key == "block" else other(settings[name])
    return resolve(config, [changes])


PLAIN = {"depth": 1, "sdf": 0, "free_space": 0, "truncation": 0.5}
SWITCHED = [
    ("unipad-lidar", {"losses": PLAIN, "field": {"kind": "density"}, "sampler": {"kind": "near_surface"}}),
    ("unipad-lidar", {"losses": PLAIN, "sampler": {"kind": "occupied"}}),
    ("unipad-lidar", {"losses": {"rgb": 0, "sdf": 0, "free_space": 0}, "sampler": {"num_importance": 0}}),
    ("ponder-outdoor", {"losses": {"rgb": 0, "sdf": 0, "free_space": 0}, "sampler": {"num_importance": 0}}),
    ("ns-mae", {"losses": {"ray_depth": 0}}),
    (
        "uniscene",
        {
            "attention": {"history": 0},
            "losses": {"depth": 0},
            "image_mask": {"probability": 0},
        },
    ),
]
"""Switches beside those of the variants."""


@pytest.mark.parametrize(("variant", "changes"), [(v, {}) for v in VARIANTS] + SWITCHED)
def test_an_unused_setting_changes_nothing(variant, changes):
    entry, config = RECIPES[variant.split()[0]], small(variant, **changes)
    unused = unused_in(dict(dotted_settings(config)), entry.sources.unused)
    names = {name for name in unused if not name.startswith("optimization.")}
    batch = batch_of(scenes_for(variant, **changes))
    terms = []
    for tried in (config, with_other(config, names)):
        torch.manual_seed(0)
        terms.append(entry.build(tried)(batch))
    assert config != with_other(config, names) or not names
    assert_close(terms[0], terms[1], rtol=0, atol=0)


@pytest.mark.parametrize("schedule", ["cosine", "cyclic", "constant"])
def test_an_unused_setting_of_a_schedule_changes_nothing(schedule):
    config = OptimizationConfig(schedule=schedule, steps=10)
    unused = unused_in({f"optimization.{k}": v for k, v in dotted_settings(config)}, UNSCHEDULED)
    changed = with_other(config, [name.removeprefix("optimization.") for name in unused])
    assert changed != config
    for step in range(10):
        assert lr_factor(config, step) == lr_factor(changed, step)
        assert first_beta(config, step) == first_beta(changed, step)


@pytest.mark.parametrize(
    ("name", "preset"), [(name, key) for name in RECIPES for key in RECIPES[name].presets]
)
def test_the_shown_preset_fits_a_page_and_is_the_preset(name, preset, capsys):
    with pytest.raises(SystemExit):
        main(["recipes", "show", name, "--preset", preset])
    said = capsys.readouterr().out
    config = RECIPES[name].presets[preset]
    assert yaml.safe_load(said) == config.model_dump(mode="json")
    assert max(map(len, said.splitlines())) <= 110
    comments = sum("# " in line for line in said.splitlines())
    assert comments == 3 + len(dict(dotted_settings(config)))  # name, summary and code come first


def test_a_name_has_one_source():
    with pytest.raises(ValueError, match="b: expected one source, got two"):
        listed({"ours": "a b", "code x.py": "b"})
