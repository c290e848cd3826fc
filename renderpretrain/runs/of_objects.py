"""The description of a run that was put together in Python, from the objects themselves."""

from pydantic import BaseModel
from torch import nn

from renderpretrain.data import FollowedScenes, SceneDataset, SceneFolder, SceneWindows
from renderpretrain.data.opened import word_of
from renderpretrain.recipes import RECIPES, RecipeEntry
from renderpretrain.recipes.recipe import RunSettings, settings_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.recipes.terms import frames_of
from renderpretrain.runs.description import OBJECT, RunDescription
from renderpretrain.runs.importing import import_name
from renderpretrain.runs.own_settings import AnyRunConfig


def describe_objects(
    recipe: nn.Module,
    dataset: SceneDataset,
    optimization: OptimizationConfig,
    *,
    holdout: int = 0,
    seed: int = 0,
) -> RunDescription:
    """What is known of a run from what it is made of.

    A recipe of the package that was built from its settings has its name; any other one is called
    ``module:Class``. Data that a word opens again has that word.

    Args:
        recipe: What is trained; its ``config``, where that is a pydantic model, are its settings.
        dataset: What it is trained on.
        optimization: How it is trained.
        holdout: Scenes at the end that are only evaluated.
        seed: Of the order and the masks.
    """
    entry = _named(recipe)
    together = 1 if entry is None else max(entry.frames_per_street, frames_of(settings_of(recipe)))
    scenes = dataset
    if entry is not None and isinstance(dataset, SceneWindows | FollowedScenes):
        scenes = dataset.recording
    word = word_of(scenes, frames_per_street=together)
    synthetic = word is not None and word.startswith("synthetic")
    return RunDescription(
        recipe=import_name(type(recipe)) if entry is None else entry.name,
        preset=None,
        data=OBJECT + type(dataset).__name__ if word is None else word,
        scenes=len(dataset) - holdout if synthetic and len(dataset) > holdout else None,
        holdout=holdout,
        seed=seed,
        init=None,
        config=_settings(recipe, scenes, optimization),
        skipped=_skipped(scenes),
        handed=True,
    )


def _skipped(dataset: SceneDataset) -> dict[str, list[int]]:
    """Frames that a folder leaves out, by its word."""
    if not isinstance(dataset, SceneFolder) or not dataset.skipped:
        return {}
    return {str(word_of(dataset)): sorted(dataset.skipped)}


def _named(recipe: nn.Module) -> RecipeEntry | None:
    """The entry of the package that builds such a recipe from its settings."""
    settings = settings_of(recipe)
    if settings is None or not type(recipe).__module__.startswith("renderpretrain."):
        return None
    entries = [entry for entry in RECIPES.values() if type(settings) is entry.config]
    alike = [e for e in entries if _modality(e.presets["tiny"]) == _modality(settings)]
    return next(iter(entries if len(entries) == 1 else alike), None)


def _modality(settings: BaseModel) -> object:
    """Which sensors a recipe has, where there are several of its kind."""
    return getattr(settings, "modality", None)


def _settings(recipe: nn.Module, dataset: SceneDataset, optimization: OptimizationConfig) -> BaseModel:
    """The recipe's settings, with how it is trained."""
    settings = settings_of(recipe)
    if settings is not None and isinstance(settings, RunSettings):
        return settings.model_copy(update={"optimization": optimization})
    told = {} if settings is None else settings.model_dump(mode="json")
    seen = {"image_size": getattr(dataset, "image_size", None), "sweeps": getattr(dataset, "sweeps", 1)}
    return AnyRunConfig.model_validate({**seen, **told, "optimization": optimization.model_dump(mode="json")})
