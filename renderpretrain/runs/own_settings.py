"""The settings of a class or function of the user's own, as its signature says them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import new_class
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from torch import nn

from renderpretrain.recipes.settings import ImageSize, OptimizationConfig, Settings
from renderpretrain.runs.importing import Factory

PLAIN = (bool, int, float, str, type(None), list, tuple, dict, BaseModel)
"""What a default value is made of that can be written into a file."""


class RunConfig(Settings):
    """What the settings of every run say, whatever else its recipe is told.

    Attributes:
        image_size: Height and width images are resized to; ``None`` leaves them as the data has them.
        sweeps: LiDAR sweeps merged into the input.
        optimization: How it is trained.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    image_size: ImageSize | None = None
    sweeps: Annotated[int, Field(ge=1, le=64)] = 1
    optimization: OptimizationConfig = OptimizationConfig()


class AnyRunConfig(RunConfig):
    """The same, with whatever else was said of a recipe that is handed in from Python."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Signature:
    """How a class or function of the user's own is told its settings.

    There are two ways. Where its first parameter is annotated with a pydantic model, it is called with that
    model, validated. Else it is called with keyword arguments: every parameter is a setting.

    Attributes:
        factory: The class or function.
        config: Type of its settings.
        arguments: Names of its keyword arguments; ``None`` where it takes the model itself.
        parameters: Names of all that it takes.
    """

    factory: Factory
    config: type[BaseModel]
    arguments: tuple[str, ...] | None
    parameters: tuple[str, ...] = ()

    def build(self, config: BaseModel, **parts: nn.Module) -> object:
        """What the factory makes of settings of its type.

        Args:
            config: The settings.
            parts: Modules of the user's own that it takes, too.
        """
        if self.arguments is None:
            return self.factory(config, **parts)
        told = {name: getattr(config, name) for name in self.arguments}
        return self.factory(**(told | (config.model_extra or {}) | parts))


def signature_of(factory: Factory, base: type[BaseModel]) -> Signature:
    """How a factory is told its settings.

    Args:
        factory: A class or function of the user's own.
        base: Its fields are settings, too, whether the factory takes them or not.
    """
    parameters, hints = _parameters(factory), _hints(factory)
    first = next(iter(parameters), None)
    model = hints.get(first) if first is not None else None
    if isinstance(model, type) and issubclass(model, BaseModel):
        missing = {k: (f.annotation, f) for k, f in base.model_fields.items() if k not in model.model_fields}
        return Signature(
            factory, _model(model.__name__, model, missing) if missing else model, None, tuple(parameters)
        )
    own = {
        name: (_type_of(name, hints, base), ... if p.default is p.empty else p.default)
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and (p.default is p.empty or isinstance(p.default, PLAIN))
    }
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        base = new_class("Settings", (base,), {}, _any_setting)
    return Signature(factory, _model("Settings", base, own), tuple(own), tuple(parameters))


def _any_setting(namespace: dict[str, Any]) -> None:
    """Fills a model that takes what it does not name."""
    namespace["model_config"] = ConfigDict(extra="allow")


def _model(name: str, base: type[BaseModel], fields: Mapping[str, Any]) -> type[BaseModel]:
    """A model with further fields."""
    made: Callable[..., type[BaseModel]] = create_model
    return made(name, __base__=base, **fields)


def _type_of(name: str, hints: Mapping[str, Any], base: type[BaseModel]) -> Any:
    """What a setting may be: what the run says, else what the signature says."""
    known = base.model_fields.get(name)
    return hints.get(name, Any) if known is None else known.annotation


def _parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    """What a factory takes, by name."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some that are compiled do not say
        return {}


def _hints(factory: Factory) -> dict[str, Any]:
    """Annotations of its parameters, also where they are written as text."""
    try:
        return get_type_hints(
            inspect.getattr_static(factory, "__init__") if isinstance(factory, type) else factory
        )
    except Exception:  # names that exist for type checkers alone
        return {}
