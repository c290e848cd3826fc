"""Classes and functions of the user's own, by the names under which they are imported."""

import importlib
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from torch import nn

from renderpretrain.runs.settings import nearest

Factory = Callable[..., nn.Module]
"""A class or a function that makes a module."""


def imported(what: str, name: str) -> Factory:
    """The class or function ``module:name``, also from the folder where the user stands.

    Args:
        what: Whose name it is; begins the message.
        name: ``package.module:Class`` or ``package.module:function``.

    Raises:
        ValueError: If there is no such module, importing it fails, or it has nothing of that name. Python's
            own modules are refused: what a run folder names is called.
    """
    module_name, _, attribute = name.partition(":")
    if module_name == "__main__" or "<locals>" in attribute:
        raise ValueError(
            f"{what}: {name} cannot be imported again, for it was defined within the program that trained it"
        )
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        file = module_name.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
        is_file = module_name.endswith(".py") and attribute.isidentifier()
        hint = f"; did you mean {file}:{attribute}?" if is_file else ""
        raise ValueError(f"{what}: expected package.module:name, got {name!r}{hint}")
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"{what}: expected a class or function of yours, got {name} of Python itself")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{what}: {name}: cannot import {module_name} ({type(error).__name__}: {said})"
        ) from error
    try:
        found: Any = attrgetter(attribute)(module)
    except AttributeError as error:
        own = [
            name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name
        ]
        hint = nearest(attribute, [name for name in own if callable(vars(module)[name])])
        raise ValueError(f"{what}: {module_name} has no {attribute}{hint}") from error
    if not callable(found):
        raise ValueError(f"{what}: {name}: expected a class or a function, got {type(found).__name__}")
    return found


def made(what: str, name: str, make: Callable[[], object]) -> nn.Module:
    """The module that a class or function of the user's own makes.

    Args:
        what: As :func:`imported` takes it.
        name: Likewise.
        make: Calls it.

    Raises:
        ValueError: If it fails, or makes something else.
    """
    try:
        module = make()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{what}: {name} fails ({type(error).__name__}: {said})") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"{what}: expected {name} to make a torch.nn.Module, got {type(module).__name__}")
    return module


def import_name(maker: object) -> str:
    """The name under which a class or function is imported; see :func:`imported`."""
    return f"{getattr(maker, '__module__', '?')}:{getattr(maker, '__qualname__', '?')}"
