"""A run's description, from what the user says or from what a run folder saved."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from renderpretrain.data.folder.fitting import FITS, STANDARD_FIT
from renderpretrain.data.open import ROOMS
from renderpretrain.data.photographs import photographed_space
from renderpretrain.data.words import DataWord, data_words, joined
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import check_names
from renderpretrain.runs.description import RunDescription
from renderpretrain.runs.entries import Entry, entry_of, former_names, handed_recipe, saved_settings
from renderpretrain.runs.own_encoders import (
    Given,
    by_role,
    own_encoders,
    saved_encoders,
    take_arguments,
)
from renderpretrain.runs.saved import check_begun, check_flags, check_same
from renderpretrain.runs.settings import Tree, choose, merged, merged_all, resolve, validated
from renderpretrain.storage.yaml_text import read_yaml_mapping

TRAINING_SCENES = 256
"""Synthetic scenes to train on unless told otherwise."""

HELD_OUT_SCENES = 4
"""Synthetic scenes to evaluate on; recordings hold out none unless told."""


def describe_run(
    name: str, flags: Tree, files: list[Tree], *, saved: Tree, handed: bool = False
) -> RunDescription:
    """Resolve what is told of a run.

    Args:
        name: Of the recipe.
        flags: ``preset``, ``data``, ``scenes``, ``holdout``, ``seed``, ``init``, and ``encoder``, names or
            modules by what they read; absent or ``None`` where not given.
        files: Settings of the recipe that change the preset, later ones counting more.
        saved: What the run that is resumed has saved, or nothing; it stands in for flags not given.
        handed: Whether the recipe is handed in from Python; nothing is imported then.

    Raises:
        ValueError: Naming the flag or setting that is wrong.
    """
    encoders = flags.get("encoder") or {}
    files, arguments = _arguments(name, files, bool(encoders or saved.get("encoder")))
    entry = handed_recipe(name) if handed and ":" in name else entry_of(name)
    given = {key: value for key, value in flags.items() if value is not None and key != "encoder"}
    if "data" in given:
        before = [absolute(given["data"], fit) for fit in FITS]
        known = saved.get("data")
        given["data"] = known if known in before else absolute(given["data"])
    if "init" in given:
        given["init"] = _encoders_at(Path(given["init"]), saved)
    told = {**saved, **given, "recipe": name}
    check_flags(told, "")
    check_same(told, saved)
    data = told.get("data", entry.data)
    words = data_words(data)
    synthetic = any(word.is_synthetic for word in words)
    for tree in files:
        check_names(tree, former_names(entry))
    changes = [{} if saved else _of_data(entry, words), saved_settings(entry, saved.get("config", {}))]
    preset = _preset(entry, told)
    description = RunDescription(
        recipe=name,
        preset=preset,
        data=data,
        scenes=(told.get("scenes") or TRAINING_SCENES) if synthetic else None,
        holdout=told.get("holdout", HELD_OUT_SCENES if synthetic else 0),
        seed=told.get("seed", 0),
        init=told.get("init"),
        config=_settings(entry, preset, changes, files, resumed=bool(saved)),
        skipped=saved.get("skipped", {}),
        cameras=saved.get("cameras", {}),
        handed=handed,
    )
    _check_scenes(description, told.get("scenes"))
    return _with_encoders(description, encoders, arguments, saved)


def _arguments(name: str, files: list[Tree], taken: bool) -> tuple[list[Tree], dict[str, Tree]]:
    """Settings, and arguments of encoders of one's own among them, where there are any to take them."""
    left, found = take_arguments(files)
    if taken:
        return left, found
    if name in RECIPES and any(found.values()):
        raise ValueError(
            "encoder.args: expected an encoder of your own that takes them; name it with --encoder"
        )
    return files, {}


def _with_encoders(
    description: RunDescription, told: Mapping[str, Given], arguments: Mapping[str, Tree], saved: Tree
) -> RunDescription:
    """The description with encoders of the user's own; of a resumed run those that it has."""
    given, before = by_role(told, description.entry, description.config), saved_encoders(saved)
    if saved and not given and any(arguments.values()):
        raise ValueError("encoder.args: expected none, for the weights of the resumed run have begun")
    own = own_encoders(given, arguments) if given else before
    if saved and own != before:
        expected, got = ({role: each.as_tree() for role, each in side.items()} for side in (before, own))
        raise ValueError(f"encoder: expected {expected or 'none'}, as in the resumed run, got {got}")
    modules = {role: each for role, each in given.items() if isinstance(each, nn.Module)}
    return replace(description, encoder=own, modules=modules)


def changed_by_data(description: RunDescription) -> str:
    """A line that says which settings of the preset the data changes; empty where it changes none."""
    changed = _of_data(description.entry, data_words(description.data))
    return f"{description.data} changes {', '.join(changed)} of the preset" if changed else ""


def absolute(data: str, fit: str = STANDARD_FIT) -> str:
    """The same data from wherever, and by whichever version, the run is looked at later.

    Paths of folders are made absolute, and how pictures come to their size is said.

    Args:
        data: What ``open_data`` opens.
        fit: For recordings whose word does not say it.
    """
    return joined(tuple(word.absolute().fitted(fit) for word in data_words(data)))


def recipe_settings(path: Path, recipe: str) -> Tree:
    """A recipe's settings in a file: the file itself, or the ``config`` of a run folder's file.

    Those of a recipe of ours that the file calls by former names have the names of today.
    """
    if not path.is_file():
        raise ValueError(f"config: expected a YAML file of settings, found none at {path}")
    tree = read_yaml_mapping(path)
    tree = tree["config"] if isinstance(tree.get("config"), dict) and "recipe" in tree else tree
    return saved_settings(RECIPES[recipe], tree) if recipe in RECIPES else tree


def _preset(entry: Entry, told: Tree) -> str | None:
    """The name of the preset that is meant: the first one unless told, none of a recipe without any."""
    first = next(iter(entry.presets), None)
    preset = told.get("preset", first)
    if preset is not None and not entry.presets:
        raise ValueError(
            f"preset: {entry.name} has no presets, its settings come from --config and --set; got {preset!r}"
        )
    return preset


def _settings(
    entry: Entry, preset: str | None, changes: list[Tree], files: list[Tree], *, resumed: bool
) -> BaseModel:
    """Settings with what is told; a resumed run is not told what it would not look at."""
    if not entry.presets and not resumed:  # there may be settings without a default
        return validated(entry.config, merged_all([*changes, *files]))
    if entry.presets:
        name = next(iter(entry.presets)) if preset is None else preset
        before = resolve(choose(f"preset of {entry.name}", name, entry.presets), changes)
    else:
        before = validated(entry.config, merged_all(changes))
    config = resolve(before, files)
    if resumed:
        check_begun(before, config)
    return config


def _of_data(entry: Entry, words: tuple[DataWord, ...]) -> Tree:
    """What the data changes of a recipe's presets: rooms are smaller, and several kinds are told apart."""
    changed = dict(entry.indoor) if {word.kind for word in words} & set(ROOMS) else {}
    if len(words) > 1 and "domains" in entry.config.model_fields:
        changed |= {"domains": len(words)}
    return merged(changed, _of_photographs(entry, words))


def _of_photographs(entry: Entry, words: tuple[DataWord, ...]) -> Tree:
    """What the data changes where all of it is posed photographs: the range around all that they show."""
    if entry.photographs is None:
        return {}
    spaces = [photographed_space(word) for word in words]
    known = [space for space in spaces if space is not None]
    if not known or len(known) < len(words):
        return {}
    corners = list(zip(*(box for box, _ in known), strict=True))
    box = (*map(min, corners[:3]), *map(max, corners[3:]))
    return dict(entry.photographs(box, max(farthest for _, farthest in known)))


def _check_scenes(run: RunDescription, scenes: int | None) -> None:
    """Raise a ``ValueError`` if so many scenes, where some are told, cannot be made of the data."""
    data, frames = run.data, run.frames_per_street
    if data == "synthetic" and (scenes or 0) % frames:
        raise ValueError(
            f"scenes: {run.recipe}, as it is set, sees {frames} frames of every street and holds out "
            f"others; expected a multiple of {frames}, got {scenes}"
        )
    if scenes is not None and not any(word.is_synthetic for word in data_words(data)):
        raise ValueError(
            f"scenes: only synthetic data is made in any number; {data} has its own, of which --holdout "
            f"keeps some out; got {scenes}"
        )


def _encoders_at(init: Path, saved: Tree) -> str:
    """The same file or run folder from wherever the run is looked at later; a resumed run has read it."""
    path = str(init.expanduser().resolve())
    if saved and path != saved.get("init"):
        raise ValueError(
            f"init: a resumed run goes on with the weights of its checkpoint; leave out --init {init}"
        )
    if not saved and not init.expanduser().exists():
        raise ValueError(f"init: expected a file of encoders or a run folder, found nothing at {init}")
    return path
