"""Encoders as plain values: what each is, and its weights."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import Role
from renderpretrain.recipes.columns import point_input
from renderpretrain.transfer.architecture import Spec, describe, role_of
from renderpretrain.transfer.layouts import Tensors

ROLES_OF_BEFORE = {"lidar_encoder": "point_encoder", "lidar_neck": "point_neck", "view_transform": "lifter"}
"""What parts were called in files that were written before, and what these are called now."""


@dataclass(frozen=True)
class Encoder:
    """An encoder as plain values.

    Attributes:
        spec: What it is; see :mod:`architecture`.
        tensors: Its weights under our keys.
        fresh: Keys that a file it was imported from did not have; they start anew.
        columns: What it reads of a point, where that is known.
        largest: How far each of these went in training, where that is known; 0 is a column of zeros.
        part: What its recipe calls it, where it comes from one.
    """

    spec: Spec
    tensors: Tensors = field(repr=False)
    fresh: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    largest: tuple[float, ...] = ()
    part: str = ""

    @property
    def kind(self) -> str:
        """The name of the class of the encoder."""
        return str(self.spec["kind"])

    @property
    def role(self) -> Role:
        """What such encoders are called and read."""
        return role_of(self.kind, self.part)


@dataclass(frozen=True)
class Pretrained:
    """Encoders, and where they come from.

    Attributes:
        encoders: By the names that the recipe's ``encoders()`` gives them.
        about: ``recipe``, ``preset``, ``data``, ``commit``, ``step`` and ``config``, as far as known; and
            ``statistics``, those of batch norms: of ``whole`` scenes, or of ``masked`` ones where the run has
            not ended.
    """

    encoders: Mapping[str, Encoder]
    about: Mapping[str, Any] = field(default_factory=dict)


def from_modules(modules: Mapping[str, nn.Module], about: Mapping[str, Any] | None = None) -> Pretrained:
    """The encoders of a model in memory, for instance ``recipe.encoders()``; weights are copied.

    Modules of classes that are not ours travel as their weights, and come back with
    ``load_encoder(path, into=module)``.

    Raises:
        ValueError: If a module has no weights or such as no file can hold, or a name has a dot in it.
    """
    encoders = {}
    for name, module in modules.items():
        if not name or "." in name or not name.isprintable():
            raise ValueError(f"modules: expected names without dots, got {name!r}")
        state = {key: _copied(f"{name}.{key}", value) for key, value in module.state_dict().items()}
        if not state:
            raise ValueError(f"{name}: expected a module with weights, got a {type(module).__name__} without")
        encoders[name] = Encoder(describe(module), state, part=name)
    return Pretrained(encoders, dict(about or {}))


def from_recipe(recipe: nn.Module, about: Mapping[str, Any] | None = None) -> Pretrained:
    """The encoders of a recipe in memory, and what its point encoder reads; weights are copied."""
    parts: Any = recipe
    pretrained, read = from_modules(parts.encoders(), about), point_input(recipe)
    if read is None:
        return pretrained
    said: dict[str, Any] = {"columns": read.columns, "largest": tuple(read.largest.tolist())}
    points = {n: replace(e, **said) for n, e in pretrained.encoders.items() if e.role.reads == "points"}
    return replace(pretrained, encoders={**pretrained.encoders, **points})


def _copied(name: str, value: Any) -> Tensor:
    """Numbers of a module as they go into a file."""
    if not isinstance(value, Tensor) or value.is_meta or value.layout != torch.strided or value.is_quantized:
        got = f"a {type(value).__name__}" if not isinstance(value, Tensor) else "one without plain numbers"
        raise ValueError(f"{name}: expected a dense tensor in memory, got {got}")
    return value.detach().cpu().clone().contiguous()


def choose_part(names: Collection[str], part: str | None, where: str = "") -> str:
    """The part asked for; without a name the only one.

    Raises:
        ValueError: If there is none of that name, saying what it is called now where it had another before,
            or several and none was named. ``where`` says whose the names are.
    """
    if part is None and len(names) == 1:
        return next(iter(names))
    if part in names:
        return str(part)
    now = ROLES_OF_BEFORE.get(str(part))
    renamed = f"; it is called {now} now" if now in names else ""
    got = None if part is None else f"{part!r}"
    raise ValueError(f"part: expected one of {', '.join(names)}{where}, got {got}{renamed}")
