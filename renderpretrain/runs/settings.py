"""From preset, file and flags to one validated configuration; what is wrong is said in one line."""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from renderpretrain.storage.yaml_text import parse_yaml

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")

DEEPEST, MOST_MEANT = 16, 3
"""Sections within sections, and settings that are suggested at once."""

WIDEST, PAGE = 46, 110
"""Characters of a setting's line that others are aligned with, and of one with what is said beside it."""


def choose(what: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of that name.

    Raises:
        ValueError: Listing the names and the nearest one.
    """
    if name in known:
        return known[name]
    raise ValueError(f"{what}: expected one of {', '.join(known)}; got {name!r}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` where something is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def write_yaml(tree: Tree) -> str:
    """YAML in the order given, short lists on one line."""
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100)


def write_commented_yaml(tree: Tree, comments: Mapping[str, str]) -> str:
    """YAML with a line per setting, and in a column beside it what is said of the setting.

    Args:
        tree: Sections of settings.
        comments: By dotted name of the setting; a mapping that has one is a setting and no section.
    """
    lines = _commented(tree, comments, "")
    column = max((len(line) for line, _ in lines if len(line) <= WIDEST), default=0)
    told = []
    for line, comment in lines:
        beside = f"{line:<{column}}  # {comment}" if comment else line
        above = f"{line[: len(line) - len(line.lstrip())]}# {comment}\n{line}"
        told.append(beside if len(beside) <= PAGE else above)
    return "\n".join(told) + "\n"


def _commented(tree: Tree, comments: Mapping[str, str], section: str) -> list[tuple[str, str]]:
    """Lines and what is said of them."""
    lines: list[tuple[str, str]] = []
    for key, value in tree.items():
        name, indent = section + key, "  " * section.count(".")
        if isinstance(value, dict) and name not in comments:
            lines += [(f"{indent}{key}:", ""), *_commented(value, comments, f"{name}.")]
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").rstrip()
            lines.append((f"{indent}{key}: {text}", comments.get(name, "")))
    return lines


def parse_assignment(text: str) -> Tree:
    """``a.b=c`` as ``{"a": {"b": c}}``; the value is YAML.

    Raises:
        ValueError: If there is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set: expected key.of.the.setting=value, got {text[:80]!r}")
    _check_key(key, text)
    try:
        tree = parse_yaml(value, f"--set {key}")
    except ValueError as error:
        raise ValueError(f"--set {key}: {value[:80]!r} is not a YAML value ({error})") from error
    return assigned(key, tree)


def assigned(key: str, value: Any) -> Tree:
    """``a.b`` and a value as ``{"a": {"b": value}}``.

    Raises:
        ValueError: If the name is none of a setting.
    """
    _check_key(key, f"{key}={value}")
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _check_key(key: str, text: str) -> None:
    """Refuse what cannot be a setting's dotted name."""
    if not all(key.split(".")) or key.count(".") > DEEPEST:
        raise ValueError(f"--set: expected key.of.the.setting=value, got {text[:80]!r}")


def dotted(tree: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every saved setting, in order; a section is none itself."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def merged(base: Tree, update: Tree) -> Tree:
    """``base`` with the values of ``update``, section by section."""
    result = dict(base)
    for key, value in update.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def merged_all(trees: Iterable[Tree]) -> Tree:
    """Trees in one, later ones counting more."""
    return reduce(merged, trees, {})


def resolve(preset: Model, updates: Iterable[Tree]) -> Model:
    """The preset with the updates, later ones counting more.

    Raises:
        ValueError: Naming the first setting that is wrong, what was expected, and the nearest name.
    """
    return validated(type(preset), merged_all([as_tree(preset), *updates]))


def validated(config: type[Model], tree: Tree) -> Model:
    """Settings of that type.

    Raises:
        ValueError: As :func:`resolve` does.
    """
    try:
        return config.model_validate(tree)
    except ValidationError as error:
        raise ValueError(_explain(config, error)) from error


def as_tree(config: BaseModel) -> Tree:
    """Plain values only, as they go into YAML."""
    return config.model_dump(mode="json")


def _explain(config: type[BaseModel], error: ValidationError) -> str:
    """The first problem in one line; an unknown key before others, for it is often their cause."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    path, said = problems[0]["loc"], problems[0]["msg"]
    key = ".".join(str(part) for part in path)[:200]
    if problems[0]["type"] == "extra_forbidden":
        known = _fields(config, path[:-1])
        return f"{key}: unknown setting{_meant(config, path)} (allowed: {', '.join(known)})"
    if not path:  # said of several settings together
        return said
    if problems[0]["type"] == "missing":
        return f"{key}: expected a value, for it has no default, got none"
    return f"{key}: {said[:1].lower()}{said[1:]}, got {_shown(problems[0]['input'])}"


def _shown(value: Any) -> str:
    """A value somebody gave, as far as it fits in the line."""
    return reprlib.repr(value) if isinstance(value, dict | list | tuple | set) else str(value)[:80]


def _meant(config: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """``; did you mean ...?``: the setting of that name in another section, else the nearest in this one."""
    name = str(path[-1])
    elsewhere = [known for known in _names(config) if known.endswith(f".{name}")]
    if 0 < len(elsewhere) <= MOST_MEANT:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return nearest(name, _fields(config, path[:-1]))


def _names(config: type[BaseModel], section: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in config.model_fields.items():
        yield section + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{section}{name}.")


def _fields(config: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the settings in a section."""
    for part in path:
        field = config.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        config = annotation
    return list(config.model_fields)
