"""What a run folder says it was, and what a resumed run may not change of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from renderpretrain.data.words import data_words, joined
from renderpretrain.recipes.settings import AT_START
from renderpretrain.runs.settings import Tree
from renderpretrain.storage.yaml_text import read_yaml_mapping

MOST_CAMERAS = 1000
"""Of a run."""


def saved_tree(run: Path) -> Tree:
    """What the ``config.yaml`` of a run folder says.

    Raises:
        ValueError: If it is not a run folder, or its file is damaged.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{run}: expected a run folder with config.yaml, found none")
    saved = read_yaml_mapping(path)
    if not isinstance(saved.get("config", {}), dict):
        raise ValueError(f"{path}: config: expected settings, got {saved['config']}")
    check_flags(saved, f"{path}: ")
    return _with_fit(saved)


def _with_fit(saved: Tree) -> Tree:
    """What the file says, and that pictures were stretched where it says nothing of how they got their size.

    Runs begun before pictures kept their proportions said nothing, and did that. They go on with it.
    """

    def said(data: str) -> str:
        return joined(tuple(word.fitted("stretch") for word in data_words(data)))

    told: Tree = {"data": said(saved["data"])} if "data" in saved else {}
    if saved.get("skipped"):
        told["skipped"] = {said(name): at for name, at in saved["skipped"].items()}
    return {**saved, **told}


def check_flags(told: Tree, where: str) -> None:
    """Raise a ``ValueError`` that names the first flag whose value is none that it can have.

    Args:
        told: Values by name.
        where: Begins the message.
    """
    for name, (fits, expected) in SAVED.items():
        if name in told and not fits(told[name]):
            raise ValueError(f"{where}{name}: expected {expected}, got {str(told[name])[:80]!r}")


def check_same(told: Tree, saved: Tree) -> None:
    """Raise a ``ValueError`` if a resumed run, where there is one, is told to be another."""
    for key in ("recipe", "preset", "data", "scenes", "holdout", "seed"):
        if saved and told.get(key) != saved.get(key):
            raise ValueError(f"{key}: expected {saved.get(key)}, as in the resumed run, got {told.get(key)}")


def check_begun(before: BaseModel, config: BaseModel, section: str = "") -> None:
    """Raise a ``ValueError`` if a setting differs that only fresh weights look at: it would change nothing.

    Args:
        before: Settings of the resumed run.
        config: Settings it is to go on with.
        section: Where in the configuration they stand.
    """
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(config, name)
        if isinstance(old, BaseModel):
            check_begun(old, new, f"{section}{name}.")
        elif old != new and AT_START in field.metadata:
            raise ValueError(
                f"{section}{name}: expected {old}, as in the resumed run, whose weights have begun; got {new}"
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any, least: int = 0, most: int = 2**31 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_positions(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(each, list) and all(map(_is_count, each)) for each in lists)


def _is_encoders(value: Any) -> bool:
    encoders = value.values() if isinstance(value, dict) and set(value) <= {"point", "image"} else [None]
    return all(
        isinstance(each, dict) and _is_text(each.get("factory")) and isinstance(each.get("args"), dict | None)
        for each in encoders
    )


def _is_places(value: Any) -> bool:
    places = list(value.values()) if isinstance(value, dict) else [None]
    return all(map(_is_text, value or ())) and all(_is_count(place, 0, MOST_CAMERAS - 1) for place in places)


SAVED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "recipe": (_is_text, "a name"),
    "preset": (lambda value: value is None or _is_text(value), "a name, or null"),
    "data": (_is_text, "a data set"),
    "scenes": (lambda value: value is None or _is_count(value, 1), "a whole number from 1, or null"),
    "holdout": (_is_count, "a whole number from 0"),
    "seed": (lambda value: _is_count(value, -(2**63), 2**63 - 1), "a whole number from -2**63 to 2**63 - 1"),
    "init": (lambda value: value is None or _is_text(value), "a path, or null"),
    "encoder": (_is_encoders, "factories with their args by what they read, point or image"),
    "skipped": (_is_positions, "positions of frames by their recording"),
    "cameras": (_is_places, f"places below {MOST_CAMERAS} by the names of cameras, each once"),
}
"""What ``config.yaml`` may say beside the settings."""
