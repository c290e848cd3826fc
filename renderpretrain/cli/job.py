"""A job: what a run folder's ``config.yaml`` says, from flags to the recipe and its scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import typer
from pydantic import BaseModel
from torch import nn

from renderpretrain.cli.saved import check_begun, check_flags, check_same, saved_job
from renderpretrain.data import SceneDataset
from renderpretrain.data.mixed import held_out_of_each
from renderpretrain.data.open import ROOMS, open_data
from renderpretrain.data.words import DataWord, data_words, joined
from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.recipes import RECIPES, RecipeEntry
from renderpretrain.recipes.recipe import RunSettings
from renderpretrain.runs.checkpoint import has_ended, trained_checkpoint
from renderpretrain.runs.settings import Tree, as_tree, choose, resolve
from renderpretrain.storage.yaml_text import read_yaml_mapping
from renderpretrain.training import RunFolder, whole_scenes, without_memory
from renderpretrain.training.preflight import strange_cameras
from renderpretrain.transfer.encoder import check_weights

TRAINING_SCENES = 256
"""Synthetic scenes to train on unless told otherwise."""

HELD_OUT_SCENES = 4
"""Synthetic scenes to evaluate on; recordings hold out none unless told."""


@dataclass(frozen=True)
class Job:
    """Everything that decides a run's numbers.

    Attributes:
        recipe: Its name.
        preset: The configuration it started from.
        data: What ``open_data`` opens.
        scenes: Synthetic scenes to train on, of every synthetic data set; ``None`` for recordings, which have
            as many as they have.
        holdout: Scenes at the end that are only evaluated.
        seed: Of the weights, the order and the masks.
        init: The file or run folder whose encoders it began with; ``None`` where all weights were fresh.
        config: The resolved configuration.
        skipped: Bad frames that are left out, by the word of their recording and their positions in it.
        cameras: Places of the run's cameras by their names, once it has begun.
    """

    recipe: str
    preset: str
    data: str
    scenes: int | None
    holdout: int
    seed: int
    init: str | None
    config: BaseModel
    skipped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cameras: Mapping[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> RunSettings:
        """The configuration, as what every recipe's has in common."""
        assert isinstance(self.config, RunSettings)  # RECIPES has no other
        return self.config

    def as_tree(self) -> Tree:
        """Plain values for ``config.yaml``."""
        flags = {each.name: getattr(self, each.name) for each in fields(self)}
        return flags | {"config": as_tree(self.config)}

    def remark(self) -> str:
        """A line that says which settings of the preset the data changes; empty where it changes none."""
        changed = _of_data(RECIPES[self.recipe], data_words(self.data))
        return f"{self.data} changes {', '.join(changed)} of the preset" if changed else ""

    def build(self, seed: int | None = None) -> nn.Module:
        """The recipe with fresh weights that follow from a seed, the run's own by default."""
        torch.manual_seed(self.seed if seed is None else seed)
        return RECIPES[self.recipe].build(self.config)

    def load(self, state: Tree, device: torch.device) -> nn.Module:
        """The recipe as the run left it, for whole scenes, on a device.

        Where the run has not ended, batch norms are measured on its training scenes, as they are in
        ``final.pt``; where those are gone, they stay what masked scenes made them. A line says which.

        Args:
            state: A checkpoint of the run, as :func:`trained` gives it.
            device: Where to compute.
        """
        model = self.build()
        model.load_state_dict(state["model"])
        model.to(device)
        if not has_ended(state):
            typer.echo(
                f"batch norms: {self._measure(model, device)}, for the run stopped at step {state['step']}"
            )
        return model

    def _measure(self, model: nn.Module, device: torch.device) -> str:
        """Take batch norms' statistics from the run's training scenes; says what they are now."""
        try:
            scenes = self.open()
        except ValueError as error:
            return f"of masked scenes ({error})"
        training, size = len(scenes) - self.holdout, self.settings.optimization.batch_size
        passes = whole_scenes(model, scenes, training=training, batch_size=size, device=device)
        estimate_statistics(model, passes)
        return "measured on whole scenes"

    def open(self, *, image_size: tuple[int, int] | None = None) -> SceneDataset:
        """The scenes as the recipe learns from them, held-out ones last.

        Args:
            image_size: Height and width of the images, where they are not to be the recipe's.
        """
        count = None if self.scenes is None else self.scenes + self.holdout
        raw = self.open_raw(self.data, count=count, holdout=self.holdout, image_size=image_size)
        return self.prepare(raw, holdout=self.holdout)

    def open_raw(
        self,
        data: str,
        *,
        count: int | None,
        holdout: int = 0,
        seed: int = 0,
        image_size: tuple[int, int] | None = None,
        with_truth: bool = False,
    ) -> SceneDataset:
        """Scenes as the recipe's sensors see them; training sees those of seed 0.

        Args:
            data: What ``open_data`` opens.
            count: Synthetic scenes; ``None`` for recordings.
            holdout: Scenes that stay at the end where several data sets mix.
            seed: Which synthetic scenes.
            image_size: Height and width of the images, where they are not to be the recipe's.
            with_truth: Whether synthetic scenes carry exact answers.
        """
        settings = self.settings
        dataset = open_data(
            data,
            image_size=image_size or settings.image_size,
            seed=seed,
            sweeps=settings.sweeps,
            num_scenes=count,
            holdout=holdout,
            frames_per_street=RECIPES[self.recipe].frames_per_street,
            with_truth=with_truth,
            skip=self.skipped,
            places=self.cameras,
        )
        for line in strange_cameras(data, dataset, self.cameras, self.config):
            typer.echo(line)
        return dataset

    def held_out_of(self, data: str) -> int | None:
        """How many of the last scenes of data the run did not learn from; ``None`` if from no scene.

        0 where it learned from these recordings, but perhaps from other scenes of them: options differ, or
        several mix.

        Args:
            data: Folders by their absolute paths, or synthetic scenes, which are others than the run's.
        """
        own, asked = [word.alone for word in data_words(self.data)], data_words(data)
        seen = {word.path for word in own if word.path}
        if not any(word.path in seen for word in asked):
            return None
        if len(asked) > 1 or asked[0].alone not in own:
            return 0
        return held_out_of_each(self.holdout, len(own))[own.index(asked[0].alone)]

    def prepare(self, dataset: SceneDataset, *, holdout: int = 0) -> SceneDataset:
        """Scenes with what the recipe wants beside them, of which the last ones lend the others nothing."""
        return RECIPES[self.recipe].prepare(self.config, dataset, holdout)


def make_job(name: str, flags: Tree, files: list[Tree], *, saved: Tree) -> Job:
    """Resolve a job.

    Args:
        name: Of the recipe.
        flags: ``preset``, ``data``, ``scenes``, ``holdout``, ``seed``, ``init``; absent or ``None`` where not
            given.
        files: Configurations of the recipe that change the preset, later ones counting more.
        saved: The job that is resumed, or an empty one; it stands in for flags not given.

    Raises:
        ValueError: Naming the flag or setting that is wrong.
    """
    entry = choose("recipe", name, RECIPES)
    given = {key: value for key, value in flags.items() if value is not None}
    if "data" in given:
        given["data"] = absolute(given["data"])
    if "init" in given:
        given["init"] = _encoders_at(given["init"], resumed=bool(saved))
    told = {**saved, **given, "recipe": name}
    check_flags(told, "")
    check_same(told, saved)
    preset = told.get("preset", "tiny")
    base = choose(f"preset of {name}", preset, entry.presets)
    data = told.get("data", entry.data)
    words = data_words(data)
    synthetic = any(word.is_synthetic for word in words)
    of_data = _of_data(entry, words)
    if data == "synthetic" and (told.get("scenes") or 0) % entry.frames_per_street:
        raise ValueError(
            f"scenes: {name} sees {entry.frames_per_street} frames of every street and holds out others; "
            f"expected a multiple of {entry.frames_per_street}, got {told['scenes']}"
        )
    if not synthetic and told.get("scenes") is not None:
        raise ValueError(
            f"scenes: only synthetic data is made in any number; {data} has its own, of which --holdout "
            f"keeps some out; got {told['scenes']}"
        )
    return Job(
        recipe=name,
        preset=preset,
        data=data,
        scenes=(told.get("scenes") or TRAINING_SCENES) if synthetic else None,
        holdout=told.get("holdout", HELD_OUT_SCENES if synthetic else 0),
        seed=told.get("seed", 0),
        init=told.get("init"),
        config=_resolved(resolve(base, [of_data, saved.get("config", {})]), files, resumed=bool(saved)),
        skipped=saved.get("skipped", {}),
        cameras=saved.get("cameras", {}),
    )


def _of_data(entry: RecipeEntry, words: tuple[DataWord, ...]) -> Tree:
    """What the data changes of a recipe's presets: rooms are smaller, and several kinds are told apart."""
    changed = dict(entry.indoor) if {word.kind for word in words} & set(ROOMS) else {}
    if len(words) > 1 and "domains" in entry.config.model_fields:
        changed |= {"domains": len(words)}
    return changed


def _resolved(before: BaseModel, files: list[Tree], *, resumed: bool) -> BaseModel:
    """Settings with what is told; a resumed run is not told what it would not look at."""
    config = resolve(before, files)
    if resumed:
        check_begun(before, config)
    return config


def _encoders_at(init: Path, *, resumed: bool) -> str:
    """The same file or run folder from wherever the run is looked at later."""
    if resumed:
        raise ValueError(
            f"init: a resumed run goes on with the weights of its checkpoint; leave out --init {init}"
        )
    if not init.expanduser().exists():
        raise ValueError(f"init: expected a file of encoders or a run folder, found nothing at {init}")
    return str(init.expanduser().resolve())


def absolute(data: str) -> str:
    """The same data from wherever the run is looked at later: paths of folders are made absolute."""
    return joined(tuple(word.absolute() for word in data_words(data)))


def trained(run: Path) -> tuple[Job, dict[str, Any]]:
    """The job of a run folder, and what it has learned.

    Raises:
        ValueError: If it is no run folder, its configuration is damaged, or it has no checkpoint that can be
            read and that fits; names the file.
    """
    saved = saved_job(run)
    try:
        job = make_job(str(saved.get("recipe")), {}, [], saved=saved)
    except ValueError as error:
        raise ValueError(f"{RunFolder(run).config}: {error}") from error
    path, state = trained_checkpoint(RunFolder(run).checkpoints)
    check_weights(without_memory(job.build), state["model"], f"{path}: not a checkpoint of {job.recipe}")
    return job, state


def recipe_settings(path: Path) -> Tree:
    """The recipe's configuration in a file: the file itself, or the ``config`` of a run folder's file."""
    if not path.is_file():
        raise ValueError(f"config: expected a YAML file of settings, found none at {path}")
    tree = read_yaml_mapping(path)
    return tree["config"] if isinstance(tree.get("config"), dict) and "recipe" in tree else tree
