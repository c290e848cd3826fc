"""Docstrings for the site: formulas are drawn, names of other objects are links. An extension of griffe."""

import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import griffe

import renderpretrain

sys.path.append(str(Path(__file__).parent))
from formulas import drawn

ROOT = Path(renderpretrain.__file__).parent
PACKAGES = [name for name in renderpretrain.__all__ if (ROOT / name / "__init__.py").is_file()]
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([^`]+)`")
BLOCK = re.compile(r"^( *)\.\. math::(.*\n(?:\1 +.*\n|\s*\n)*)", re.M)


def members(package: str) -> dict[str, str]:
    """Names that a package offers, and the paths where these are defined."""
    module = import_module(f"renderpretrain.{package}")
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: _path(value, f"renderpretrain.{package}.{name}") for name, value in found.items()}


def _path(value: Any, named: str) -> str:
    """Where a class or function is defined; of a constant, where it was found."""
    module = getattr(value, "__module__", "")
    if hasattr(value, "__qualname__") and module.startswith("renderpretrain."):
        return f"{module}.{value.__qualname__}"
    return named


SHOWN = {path for package in PACKAGES for path in members(package).values()}
"""Everything that has a place on the pages of the API."""


def link(role: re.Match[str], module: str) -> str:
    """A role of Sphinx as a link to what it names, or as code where that has no place of its own."""
    short, name = role[1], role[2]
    shown = name.rpartition(".")[2] if short else name
    value: Any = None
    for start in (name, f"{module}.{name}"):
        for parts in range(start.count(".") + 1, 0, -1):
            path = start.split(".")
            try:
                value = import_module(".".join(path[:parts]))
                for part in path[parts:]:
                    value = getattr(value, part)
            except (ImportError, AttributeError):
                continue
            path_of = _path(value, start)
            return f"[`{shown}`][{path_of}]" if path_of in SHOWN else f"`{shown}`"
    return f"`{shown}`"


def readable(text: str, module: str) -> str:
    """A docstring's text as Markdown of the site."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}{drawn(textwrap.dedent(found[2]), block=True)}\n\n"

    text = BLOCK.sub(block, text + "\n")
    text = re.sub(r":math:`([^`]+)`", lambda found: drawn(found[1]), text)
    return ROLE.sub(lambda role: link(role, module), text).rstrip()


class Docstrings(griffe.Extension):
    """Turns every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """What griffe calls for every module, class, function and attribute that it has read."""
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value, obj.module.path)
