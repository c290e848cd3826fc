"""``pretrain``: from what the user asks for to a run folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from renderpretrain.data import KeptScenes, SceneDataset
from renderpretrain.recipes.columns import columns_read
from renderpretrain.recipes.recipe import Recipe, encoders_of, lacking
from renderpretrain.runs import (
    PrintLine,
    RunDescription,
    RunFolder,
    describe_run,
    recipe_settings,
    saved_tree,
    with_fake_tensors,
)
from renderpretrain.runs.describing import changed_by_data
from renderpretrain.runs.folder import is_first_process
from renderpretrain.runs.own_encoders import ROLES, Given, check_contract
from renderpretrain.runs.settings import Tree, assigned
from renderpretrain.training import FitResult, RunOptions, choose_device, fit
from renderpretrain.training.doubts import geometry_doubts
from renderpretrain.training.fit import nothing_to_resume
from renderpretrain.training.loggers import Logger, make_loggers
from renderpretrain.training.pictures import save_picture
from renderpretrain.transfer import initialize_encoders
from renderpretrain.verbs.preflight import check_recordings
from renderpretrain.verbs.reporting import RunningPage, say_what_is_wrong


@dataclass(frozen=True)
class Pretraining:
    """What the user asks for; see :func:`pretrain`. What is ``None`` is as the preset or the data has it."""

    recipe: str
    preset: str | None = None
    data: str | None = None
    out: Path | str | None = None
    steps: int | None = None
    seed: int | None = None
    precision: str | None = None
    settings: Sequence[Tree] = ()
    config: Path | str | None = None
    holdout: int | None = None
    scenes: int | None = None
    init: Path | str | None = None
    resume: bool = False
    skip_bad: bool = False
    encoder: Mapping[str, Given] = field(default_factory=dict)
    log: Sequence[str] = ()
    say: PrintLine = field(default=print)
    warn: PrintLine = field(default=say_what_is_wrong)

    @property
    def resumes(self) -> bool:
        """Whether a run goes on: that is asked for, and it has a checkpoint."""
        return self.resume and RunFolder(self.folder).has_begun

    @property
    def folder(self) -> Path:
        """The folder that the run will fill."""
        name = f"{self.recipe}-{self.preset or 'tiny'}"
        own = self.recipe.rpartition(":")[2]
        return Path("runs") / (own if ":" in self.recipe else name) if self.out is None else Path(self.out)

    def describe(self) -> RunDescription:
        """What is to run, its recordings looked at; nothing is written.

        Raises:
            ValueError: Naming the flag, the setting or the frames that are wrong.
        """
        make_loggers(self.log)  # what is missing is said before recordings are looked at
        told = {"steps": self.steps, "precision": self.precision}
        optimization = {key: value for key, value in told.items() if value is not None}
        updates = [recipe_settings(Path(self.config), self.recipe)] if self.config else []
        updates += [{"optimization": optimization}] if optimization else []
        updates += self.settings
        names = ("preset", "data", "seed", "init", "holdout", "scenes")
        flags = {name: getattr(self, name) for name in names} | {"encoder": self.encoder}
        saved = saved_tree(self.folder) if self.resumes else {}
        description = describe_run(self.recipe, flags, updates, saved=saved)
        return check_recordings(
            description, skip_bad=self.skip_bad, resumed=self.resumes, say=self.say, warn=self.warn
        )

    def check(self, description: RunDescription, device: str) -> None:
        """Refuse what a run would refuse, and touch nothing."""
        choose_device(device)
        folder, resumes = RunFolder(self.folder), self.resumes
        folder.check(resume=resumes)
        if self.resume and not resumes:
            self.say(nothing_to_resume(folder))
        if description.encoder:
            self.built(description)
        if description.init and not resumes:
            model = with_fake_tensors(description.build)
            initialize_encoders(encoders_of(model), description.init, columns=columns_read(model), load=False)

    def built(self, description: RunDescription) -> nn.Module:
        """The recipe; encoders of the user's own have been tried on a few voxels or an image.

        Raises:
            ValueError: If one does not answer as the recipe expects.
        """
        if not description.encoder:
            return description.build()
        torch.manual_seed(description.seed)
        parts = description.own_parts()
        modules = {role: parts[name] for role, name in ROLES.items() if name in parts}
        recipe = description.entry.build(description.config, **parts)
        check_contract(modules, recipe, description.config)
        return recipe

    def train(self, description: RunDescription, *, device: str, workers: int | None) -> FitResult:
        """Carry it out; see :func:`~renderpretrain.training.fit`."""
        dataset, model = description.open(say=self.say), self.built(description)
        if description.init and not self.resumes:
            for line in initialize_encoders(
                encoders_of(model), description.init, columns=columns_read(model)
            ):
                self.say(line)
        loggers = make_loggers(self.log)
        page = RunningPage(self.folder, self.warn)
        doubts = () if self.resumes or not is_first_process() else geometry_doubts(dataset, description.data)
        drawn = isinstance(model, Recipe)
        undrawn = "" if drawn else f"no pictures are drawn: {lacking(model, Recipe, 'a picture')}"
        for remark in (changed_by_data(description), undrawn):
            if remark and is_first_process():
                self.say(remark)
        options = RunOptions(
            holdout=description.holdout,
            seed=description.seed,
            device=device,
            resume=self.resume,
            workers=workers,
            check_data=False,  # `describe` has looked
            doubts=doubts,
            description=description,
            on_step=page.catch_up,
            on_evaluation=page.refresh,
            on_checkpoint=None if description.holdout else page.refresh,
            on_picture=self._drawing(description, dataset, loggers, page) if drawn else None,
            loggers=loggers,
        )
        try:
            return fit(model, dataset, description.settings.optimization, out=self.folder, options=options)
        finally:
            page.finish()

    def _drawing(
        self,
        description: RunDescription,
        dataset: SceneDataset,
        loggers: Sequence[Logger],
        page: RunningPage,
    ) -> Callable[[int, nn.Module], None]:
        """What draws the first held-out scene, or the last one, and shows it to loggers and on the page."""
        scenes = KeptScenes(dataset)
        shown = min(max(len(dataset) - description.holdout, 0), len(dataset) - 1)

        def draw(step: int, recipe: nn.Module) -> None:
            path = RunFolder(self.folder).pictures / f"step_{step:06d}.png"
            self.say(f"drawing {path}")
            save_picture(recipe, scenes[shown], path, title=f"{description.title}, step {step}")
            for logger in loggers:
                logger.on_image(step, path)
            page.refresh()

        return draw


def pretrain(  # noqa: PLR0913  what the flags of the command line say
    recipe: str,
    *,
    preset: str | None = None,
    data: str | None = None,
    out: Path | str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    set: Mapping[str, Any] | None = None,
    config: Path | str | None = None,
    holdout: int | None = None,
    scenes: int | None = None,
    workers: int | None = None,
    init: Path | str | None = None,
    resume: bool = False,
    skip_bad: bool = False,
    encoder: Given | Mapping[str, Given] | None = None,
    log: Sequence[str] | str = (),
) -> FitResult:
    """Pre-train a recipe, as ``renderpretrain pretrain`` does, and leave a run folder.

    Args:
        recipe: One of ``renderpretrain.recipes.RECIPES``, or ``package.module:Class`` of your own: its
            settings are the parameters of the class, or the pydantic model that its first parameter is
            annotated with.
        preset: ``tiny`` (default), ``paper``, or another one of the recipe's.
        data: ``synthetic``, ``synthetic-room``, ``folder:PATH``, or several joined with ``+``; by default
            what the recipe is tried on.
        out: The run's folder; ``runs/RECIPE-PRESET`` by default.
        steps: Optimiser steps.
        seed: Of weights, order and masks; 0 by default.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``tf32`` (convolutions of a GPU) or ``bf16``; rendering is always fp32.
        set: Settings by their dotted names, such as ``{"optimization.lr": 1e-3}``.
        config: YAML file of settings, applied before ``set``.
        holdout: The last so many scenes are only evaluated.
        scenes: Synthetic scenes to train on.
        workers: Processes that prepare batches; by default some for a GPU, and one on a CPU for recordings
            with pictures.
        init: Begin with these encoders: a file of import or export, or a run folder.
        resume: Go on from the newest checkpoint in ``out``; begin, and say so, where there is none.
        skip_bad: Leave out frames that are bad.
        encoder: An encoder of your own in the place of the recipe's: a module, which is trained in place, or
            ``package.module:factory``, told ``encoder.args.NAME`` of ``set``; of both sensors
            ``{"point": ..., "image": ...}``.
        log: Where the numbers go beside ``metrics.jsonl``: ``tensorboard``, ``wandb``, ``csv``.

    Returns:
        How the run ended: its folder, the steps done, and held-out scores before and after.

    Raises:
        ValueError: In the words of the command line, naming the flag or setting that is wrong.
        OSError: If the folder or a checkpoint cannot be written.
        FloatingPointError: If a loss term, the gradient or a weight is not finite.
    """
    asked = Pretraining(
        recipe,
        preset=preset,
        data=data,
        out=out,
        steps=steps,
        seed=seed,
        precision=precision,
        settings=[assigned(name, value) for name, value in (set or {}).items()],
        config=config,
        holdout=holdout,
        scenes=scenes,
        init=init,
        resume=resume,
        skip_bad=skip_bad,
        encoder=encoder if isinstance(encoder, Mapping) else {} if encoder is None else {"": encoder},
        log=[log] if isinstance(log, str) else log,
    )
    return _told(asked.train(asked.describe(), device=device, workers=workers))


def _told(result: FitResult) -> FitResult:
    """Say where the page is that shows what came of it."""
    if result.folder.report.is_file() and result.is_main:
        print(f"report {result.folder.report}")
    return result
