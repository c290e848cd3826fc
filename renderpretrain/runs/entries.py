"""The recipe that a name stands for: one of the package's, or one of the user's own by its import name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import nn

from renderpretrain.data import Needs, SceneDataset
from renderpretrain.recipes import RECIPES, RecipeEntry
from renderpretrain.recipes.augment import AugmentConfig
from renderpretrain.recipes.settings import renamed
from renderpretrain.runs.importing import imported
from renderpretrain.runs.own_settings import AnyRunConfig, RunConfig, signature_of
from renderpretrain.runs.settings import Tree, choose


@runtime_checkable
class Entry(Protocol):
    """What a run has to know of a recipe; see :class:`~renderpretrain.recipes.RecipeEntry`."""

    @property
    def name(self) -> str:
        """What the user types to choose the recipe."""

    @property
    def config(self) -> type[BaseModel]:
        """The type of its settings."""

    @property
    def presets(self) -> Mapping[str, BaseModel]:
        """The published and the tiny settings, by name."""

    @property
    def indoor(self) -> Mapping[str, Any]:
        """Settings that a room changes in them."""

    @property
    def build(self) -> Callable[..., nn.Module]:
        """Makes the module from its settings."""

    @property
    def needs(self) -> Callable[[Any], Needs]:
        """What it cannot do without, given its settings."""

    @property
    def data(self) -> str:
        """The built-in scenes it is tried on, unless told otherwise."""

    @property
    def prepare(self) -> Callable[[Any, SceneDataset, int], SceneDataset]:
        """Wraps a data set in what the recipe learns from beside the scenes themselves."""

    @property
    def frames_per_street(self) -> int:
        """Consecutive scenes of a synthetic street."""

    @property
    def photographs(self) -> Callable[[tuple[float, ...], float], Mapping[str, Any]] | None:
        """Settings that posed photographs alone change; ``None`` if none."""


def _as_it_is(config: Any, dataset: SceneDataset, holdout: int) -> SceneDataset:
    """The data set, which a recipe of the user's own reads as it is."""
    return dataset


def _anything(config: Any) -> Needs:
    """Nothing is known of what a recipe of the user's own needs."""
    return Needs()


@dataclass(frozen=True)
class OwnRecipe:
    """A recipe of the user's own; see :class:`Entry`."""

    name: str
    config: type[BaseModel]
    build: Callable[..., nn.Module]
    presets: Mapping[str, BaseModel]
    indoor: Mapping[str, Any]
    parts: tuple[str, ...] = ()
    needs: Callable[[Any], Needs] = _anything
    data: str = "synthetic"
    prepare: Callable[[Any, SceneDataset, int], SceneDataset] = _as_it_is
    frames_per_street: int = 1
    photographs: None = None


def entry_of(name: str) -> Entry:
    """The recipe of that name.

    Raises:
        ValueError: Listing the names and the nearest one, or saying why it cannot be imported.
    """
    return own_recipe(name) if ":" in name else choose("recipe", name, RECIPES)


def own_recipe(name: str) -> OwnRecipe:
    """The recipe that the class or function ``package.module:name`` makes.

    Its settings are what its signature says (:func:`~renderpretrain.runs.own_settings.signature_of`), and
    those of every run: ``image_size``, ``sweeps`` and ``optimization``.

    Raises:
        ValueError: If it cannot be imported.
    """
    signature = signature_of(imported("recipe", name), RunConfig)

    def build(config: BaseModel, **parts: nn.Module) -> nn.Module:
        module = signature.build(config, **parts)
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"recipe: expected {name} to make a torch.nn.Module, got {type(module).__name__}"
            )
        return module

    return OwnRecipe(name, signature.config, build, {}, {}, signature.parameters)


def handed_recipe(name: str) -> OwnRecipe:
    """The recipe of a run whose module is handed in: nothing is imported, any setting is taken."""

    def build(config: BaseModel, **parts: nn.Module) -> nn.Module:
        raise ValueError(f"recipe: {name} was handed in from Python; it cannot be built anew from its name")

    return OwnRecipe(name, AnyRunConfig, build, {}, {})


def saved_settings(entry: Entry, tree: Tree) -> Tree:
    """Settings as they were saved, under the names that they have today.

    Where none of ``augment`` were, scenes did not change.
    """
    settings = renamed(tree, former_names(entry))
    if tree and "augment" in entry.config.model_fields and "augment" not in tree:
        return {**settings, "augment": AugmentConfig().model_dump(mode="json")}
    return settings


def former_names(entry: Entry) -> Mapping[str, str]:
    """Names that the settings of a recipe of ours had: today's by the former."""
    return entry.former if isinstance(entry, RecipeEntry) else {}


def needs_of(config: BaseModel | None) -> Needs:
    """What a recipe of ours needs as it is configured; nothing of another one."""
    alike = [entry for entry in RECIPES.values() if isinstance(config, entry.config)]
    exactly = [entry for entry in alike if type(config) is entry.config]  # settings may extend others
    return next((entry.needs(config) for entry in (*exactly, *alike)), Needs())
