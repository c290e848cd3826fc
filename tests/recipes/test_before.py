"""What recipes were set to before settings were renamed: it still loads, and every source is still told.

``before/RECIPE-PRESET.yaml`` is what ``recipes show`` printed then, which is what runs saved.
"""

from pathlib import Path

import pytest
import yaml

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.augment import AUGMENTED, AugmentConfig, GroundedAugmentConfig
from renderpretrain.recipes.settings import check_names, dotted_settings, renamed, sources_of
from renderpretrain.recipes.terms.choice import TERMS

FILES = sorted((Path(__file__).parent / "before").glob("*.yaml"))
NEW = {
    *("field.kind", "field.opacity", "fusion", "image.backbone", "losses.balance", "mask.block"),
    *("sampler.kind", "sampler.num_importance", "sampler.sharpness"),
    *("sampler.width", "sampler.share", "sampler.step", "optimization.parallel"),
    *("optimization.cuda_graph", "optimization.monitor_every"),
    *(f"augment.{name}" for name in AUGMENTED),
    *TERMS.split(),
}
"""Settings that there were not."""


def shown(text):
    """Names, and what was said of each, of YAML as ``recipes show`` prints it."""
    told, sections, above = {}, [], ""
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("#"):
            above = words.removeprefix("# ")
            continue
        sections = sections[: (len(line) - len(line.lstrip())) // 2]
        key, _, value = words.partition(":")
        if not value:
            sections.append(key)
            continue
        told[".".join([*sections, key])] = value.partition("  # ")[2] or value.partition(" # ")[2] or above
        above = ""
    return told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_and_sources_of_before_are_those_of_today(path):
    name = next(name for name in RECIPES if path.stem.startswith(f"{name}-"))
    entry, preset, text = RECIPES[name], path.stem.removeprefix(f"{name}-"), path.read_text()
    config = entry.presets[preset]
    saved = entry.renamed(yaml.safe_load(text))
    # Scenes did not change: what paper presets say of it today is not what such a run was.
    still = AugmentConfig() if name != "uniscene" else GroundedAugmentConfig()
    assert entry.config.model_validate(saved) == config.model_copy(update={"augment": still})
    today, told = sources_of(entry.sources, entry.presets, preset), shown(text)
    for old, source in told.items():
        words = source
        for was, now in sorted(entry.former.items(), key=lambda pair: -len(pair[0])):
            words = words.replace(was, now)
        assert today[entry.former.get(old, old)] == words
    assert today.keys() - {entry.former.get(old, old) for old in told} <= NEW
    assert set(entry.former.values()) <= today.keys() == dict(dotted_settings(config)).keys()


FORMER = {"a.b": "c.d", "a.e": "a.f.g", "h": "i"}


def test_former_names_are_read_and_those_of_today_count_more():
    saved = {"a": {"b": 1, "e": 2, "kept": 3}, "h": {"x": 4}, "c": {"z": 5}}
    assert renamed(saved, FORMER) == {
        "a": {"kept": 3, "f": {"g": 2}},
        "c": {"z": 5, "d": 1},
        "i": {"x": 4},
    }
    assert saved["a"]["b"] == 1  # as it was
    assert renamed({"a": {"b": 1}, "c": {"d": 2}}, FORMER) == {"c": {"d": 2}}
    assert renamed({"a": 3}, FORMER) == {"a": 3}


def test_a_former_name_is_refused_with_the_one_of_today():
    check_names({"c": {"d": 1}, "a": {"kept": 2}}, FORMER)
    with pytest.raises(ValueError, match=r"^a\.b: is called c\.d$"):
        check_names({"a": {"b": 1}}, FORMER)
