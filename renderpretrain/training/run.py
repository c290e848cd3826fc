"""What happens around the steps of a run: rows, evaluations, checkpoints, pictures, and hooks for them."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from renderpretrain.data import Batch, KeptScenes, Scene, SceneDataset
from renderpretrain.data.folders_within import decodes_pictures
from renderpretrain.encoders.norms import statistics_of
from renderpretrain.recipes.augment import augmentation_of
from renderpretrain.recipes.recipe import settings_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs import RunDescription, RunFolder
from renderpretrain.runs.checkpoint import newest_checkpoint, save_checkpoint, save_final
from renderpretrain.runs.collapse import is_measured, summary, without_details
from renderpretrain.runs.metrics import (
    Row,
    append_row,
    drop_rows_after,
    flush_rows,
    missing_steps,
    of_predictor,
    read_rows,
)
from renderpretrain.runs.split_checkpoint import any_split
from renderpretrain.training.console import Report, describe
from renderpretrain.training.distributed import Process, share_columns
from renderpretrain.training.evaluate import evaluate
from renderpretrain.training.guards import non_finite
from renderpretrain.training.health_curves import save_health_curves
from renderpretrain.training.loggers import Logger
from renderpretrain.training.loop import StepResult
from renderpretrain.training.monitor import Monitor, health_due
from renderpretrain.training.order import MicroBatches, Progress
from renderpretrain.training.overlap import measure_overlap
from renderpretrain.training.predictors import evaluate_predictors
from renderpretrain.training.prefetch import default_workers, prefetch
from renderpretrain.training.sharded import gathered
from renderpretrain.training.training_state import resume_training, training_state
from renderpretrain.training.unmasked import encode_unmasked


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, as opposed to what is learnt.

    Attributes:
        holdout: The last so many scenes are never trained on, only evaluated.
        seed: Of the order of scenes and of every sample's random numbers.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume: Go on from the newest checkpoint in the run's folder; begin, and say so, where there is none.
            So the same call starts a run and takes it up again after an interruption.
        workers: Processes that prepare batches; 0 prepares them between the steps, ``None`` means a few for
            a GPU, and on a CPU one for recordings with pictures
            (:func:`~renderpretrain.training.prefetch.default_workers`). What is learned stays the same.
        check_data: Look at all frames of the scene folders in the data set before anything is written; what
            was found is remembered, so the next time it takes no time.
        skip_bad: Leave out the frames that are bad rather than refuse them. They are recorded under
            ``skipped`` in ``config.yaml``, and a resumed run leaves out the same.
        doubts: What is in doubt about the data, one line each: said before the first step, and kept in
            ``environment.json``. With ``check_data``, what
            :func:`~renderpretrain.training.doubts.geometry_doubts` finds.
        augment: Changes every scene that is trained on by its sample's seed; by default as the recipe's
            settings say under ``augment``, if they do.
        evaluation_rays: Rays per camera of a held-out scene, or per sweep where there are no cameras.
        description: What the run is, saved with it and with each checkpoint; by default what the recipe and
            the data set say of themselves (:func:`~renderpretrain.runs.describe_objects`).
        on_step: Called as ``on_step(step, row)`` when the row of a step has been written; the next step may
            have been taken by then.
        on_evaluation: Called as ``on_evaluation(step, row)`` when held-out scenes have been scored and the
            row has been written: at the start (step 0), every ``eval_every`` steps, and at the end.
        on_checkpoint: Called as ``on_checkpoint(step, path)`` when a checkpoint has been written.
        on_picture: Called as ``on_picture(step, recipe)`` at the start, the middle and the end, whatever mode
            (training or not) it leaves the recipe in.
        loggers: Where the rows go beside ``metrics.jsonl`` (:mod:`renderpretrain.training.loggers`); they
            open with the run and close with it, also after a signal or an error.

    The four hooks and the loggers are called in the main process alone, between two steps. What one raises
    ends the run like any other error: the checkpoints that are there stay, and the run can be resumed.
    """

    holdout: int = 0
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    workers: int | None = None
    check_data: bool = True
    skip_bad: bool = False
    doubts: Sequence[str] = ()
    augment: Callable[[Scene, int], Scene] | None = None
    evaluation_rays: int = 512
    description: RunDescription | None = None
    on_step: Callable[[int, Row], None] | None = None
    on_evaluation: Callable[[int, Row], None] | None = None
    on_checkpoint: Callable[[int, Path], None] | None = None
    on_picture: Callable[[int, nn.Module], None] | None = None
    loggers: Sequence[Logger] = ()


@dataclass(frozen=True)
class Run:
    """Everything a run holds on to, and what it does before, between and after its steps.

    Attributes:
        recipe: What is trained, never wrapped: its parameter names are those of the checkpoints.
        dataset: The scenes, held-out ones last.
        optimization: How it is trained.
        optimizer: The state that a checkpoint keeps beside the weights.
        process: This process among its like.
        folder: Where the files go.
        options: How the run is carried out.
        description: What the run is.
        report: Shows the progress to the user.
    """

    recipe: nn.Module
    dataset: SceneDataset
    optimization: OptimizationConfig
    optimizer: torch.optim.Optimizer
    process: Process
    folder: RunFolder
    options: RunOptions
    description: RunDescription
    report: Report

    @property
    def split(self) -> tuple[range, range]:
        """Scenes to train on, and held-out scenes."""
        everything = range(len(self.dataset))
        border = len(everything) - self.options.holdout
        return everything[:border], everything[border:]

    @cached_property
    def measured(self) -> KeptScenes:
        """The scenes as measurements read them, the same ones again and again."""
        return KeptScenes(self.dataset)

    @cached_property
    def monitor(self) -> Monitor:
        """What looks at the features of held-out scenes, or of training scenes where none is held out."""
        training, held_out = self.split
        return Monitor(self.recipe, self.measured, held_out or training)

    def resume(self) -> Progress:
        """Give recipe and optimiser what the newest checkpoint holds; writes nothing. Returns how far it got.

        Raises:
            ValueError: If there is none, it cannot be read, or it does not fit this run; or the log cannot be
                read.
        """
        begun = resume_training(
            self.folder.checkpoints,
            self.recipe,
            self.optimizer,
            steps=self.optimization.steps,
            seed=self.options.seed,
            scenes=len(self.dataset),
        )
        read_rows(self.folder.metrics)
        return begun

    @contextmanager
    def opened_folder(self, start: int) -> Iterator[None]:
        """Write what is known before the first step, and forget what was logged past ``start``.

        Loggers are open within it, and closed at its end in any case.

        Raises:
            OSError: If it cannot be written.
        """
        with ExitStack() as opened:
            self._open_folder(start, opened)
            yield

    def _open_folder(self, start: int, opened: ExitStack) -> None:
        """The same; ``opened`` closes the loggers."""
        with self.process.together():
            if self.process.is_main:
                self.folder.prepare(self.description, resume=self.options.resume, doubts=self.options.doubts)
                rows = drop_rows_after(self.folder.metrics, start)
                self.monitor.watch.replay(rows)
                for first, last in missing_steps(rows, start):
                    self.report(start, f"{self.folder.metrics}: the rows of steps {first} to {last} are lost")
                about = self.description.as_tree()
                for logger in self.options.loggers:
                    opened.callback(logger.close)
                    self.report(start, logger.open(self.folder.logs, about, rows))

    def order(self, begun: Progress) -> MicroBatches:
        """The batches that this process learns from, of a run that has come so far."""
        return MicroBatches(
            self.dataset,
            len(self.split[0]),
            self.options.seed,
            self.optimization.batch_size,
            self.optimization.accumulate,
            self.process.rank,
            self.process.world_size,
            self.options.augment or augmentation_of(settings_of(self.recipe)),
            begun,
        )

    def prepared(self, order: MicroBatches) -> Generator[Batch, None, None]:
        """Batches of the steps that are left, prepared as suits the device."""
        device, workers, parts = self.process.device, self.options.workers, order.accumulate
        if workers is None:
            beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            workers = default_workers(device, beside, decodes_pictures(self.dataset))
        indices = range(order.begun.step * parts, self.optimization.steps * parts)
        return prefetch(order, indices, workers, pin=device.type == "cuda")

    def is_due(self, step: int) -> bool:
        """Whether something happens after this step."""
        steps = self.optimization.steps
        every = (self.optimization.eval_every, self.optimization.checkpoint_every)
        return step in (steps, steps // 2) or any(step % n == 0 for n in every) or self._is_looked_at(step)

    def log(self, result: StepResult) -> StepResult:
        """Write the row of a step, show it now and then, and call ``on_step``; returns what was given."""
        if not self.process.is_main:
            return result
        row, step = result.row, int(result.row["step"])
        append_row(self.folder.metrics, row)
        shown = step % self.optimization.log_every == 0 or step in (1, self.optimization.steps)
        self.report(step, describe(without_details(row)) if shown else "", "step", loss=row["loss"])
        self._tell_health(row)
        for sentence in result.zeros:
            overlap = measure_overlap(self.recipe, self.dataset, len(self.split[0]))
            self.report(step, f"{sentence}: {overlap.reason or overlap.figures}", "warning")
        if row["loss"] == 0 and row["grad_norm"] == 0:
            self.report(step, f"nothing to learn from in {', '.join(result.scenes)}")
        if self.options.on_step:
            self.options.on_step(step, row)
        for logger in self.options.loggers:
            logger.on_step(step, row)
        return result

    def evaluate_and_draw(self, step: int) -> None:
        """Score held-out scenes, look at features and draw, each where the step is due for it."""
        steps, row = self.optimization.steps, self.evaluation(step)
        if not self.process.is_main:
            return
        if len(row) > 1:
            append_row(self.folder.metrics, row)
            own = {key: value for key, value in without_details(row).items() if not of_predictor(key)}
            if self._is_scored(step):
                self.report(step, "held out: " + describe(own), "scores")
            self._tell_health(row)
            if self._is_scored(step) and self.options.on_evaluation:
                self.options.on_evaluation(step, row)
            for logger in self.options.loggers:
                logger.on_evaluation(step, row)
        if self.options.on_picture and step in (0, steps // 2, steps):
            self.options.on_picture(step, self.recipe)
            self.recipe.train()

    def _is_scored(self, step: int) -> bool:
        """Whether held-out scenes are scored after a step."""
        due = step in (0, self.optimization.steps) or step % self.optimization.eval_every == 0
        return self.options.holdout > 0 and due

    def _is_looked_at(self, step: int) -> bool:
        """Whether features are looked at after a step."""
        due = health_due(step, self.optimization) or self._is_scored(step)
        return self.monitor.is_able and self.optimization.monitor_every > 0 and due

    def evaluation(self, step: int) -> Row:
        """Held-out scores, once of predictors that learn no geometry, too; health: what the step is due for.

        Health is in the row of the main process alone, which looks at the features.
        """
        process, num_rays, row = self.process, self.options.evaluation_rays, Row(step=step)
        scored, looked = self._is_scored(step), self._is_looked_at(step)
        if not scored and not looked:
            return row
        with statistics_of(self.recipe, self.encode_unmasked()):
            if scored:
                found = evaluate(
                    self.recipe, self.measured, self.split[1], process=process, num_rays=num_rays
                )
                row |= {f"eval/{name}": value for name, value in found.items()}
            if looked and process.is_main:
                row |= self.monitor.look(process.device)
        if scored and step == 0:
            beside = evaluate_predictors(
                self.recipe, self.measured, self.split, process=process, num_rays=num_rays
            )
            for predictor, scores in beside.items():
                row |= {f"eval/{predictor}_{name}": value for name, value in scores.items()}
        return row

    def _tell_health(self, row: Row) -> None:
        """Show what a row holds of features and gradients, and which encoders are in trouble."""
        step = int(row["step"])
        for line in summary(row):
            self.report(step, line)
        for line in self.monitor.watch.update(row):
            self.report(step, line, "warning")

    def draw_health(self, step: int) -> None:
        """Draw the curves of health after the last step, where there are some and something to draw with.

        matplotlib is imported here, which keeps the frames that call it: none may hold a model that holds a
        group of processes.
        """
        if not self.monitor.latest or step < self.optimization.steps:
            return
        path, rows = self.folder.pictures / "health.png", read_rows(self.folder.metrics)
        try:
            save_health_curves(
                path, rows, self.monitor.latest, title=f"{self.description.title}, step {step}"
            )
        except ValueError as error:
            self.report(step, f"no curves of health: {error}")

    def is_evaluated(self, step: int) -> bool:
        """Whether what is measured after a step is already in the log."""
        found = any(row["step"] == step and is_measured(row) for row in read_rows(self.folder.metrics))
        return self.process.collect((found,))[0]  # the main process has written the file

    def encode_unmasked(self) -> Iterator[object]:
        """Encodes a few training scenes with nothing hidden, as encoders are used."""
        return encode_unmasked(
            self.recipe,
            self.measured,
            training=len(self.split[0]),
            batch_size=self.optimization.batch_size,
            device=self.process.device,
        )

    def state(self, progress: Progress) -> dict[str, Any]:
        """What a checkpoint holds of a run that has come so far; all processes ask for it together."""
        run: dict[str, Any] = {"seed": self.options.seed, "scenes": len(self.dataset)}
        run |= {"config": self.description.as_tree()}
        return training_state(self.recipe, self.optimizer, progress=progress, **run)

    def save(self, progress: Progress, *, asked: bool) -> bool:
        """Write a checkpoint where the step is due for it, or it is asked for; returns whether it was.

        Raises:
            FloatingPointError: If a weight is not finite; nothing is written then.
            OSError: If it cannot be written.
        """
        step = progress.step
        due = asked or step == self.optimization.steps or step % self.optimization.checkpoint_every == 0
        if due:
            self.check_finite(step)
            share_columns(self.recipe, self.process)
            state = self.state(progress)
            with self.process.together():
                if self.process.is_main:
                    flush_rows(self.folder.metrics)
            split = any_split(state["model"])
            with self.process.together():
                if split or self.process.is_main:
                    path = save_checkpoint(self.folder.checkpoints, step, state)
            if self.process.is_main and self.options.on_checkpoint:
                self.options.on_checkpoint(step, path)
        return due

    def save_final(self, progress: Progress) -> None:
        """Write ``final.pt``: the weights after the last step, with batch norms measured on whole scenes.

        Raises:
            FloatingPointError: If a weight is not finite; nothing is written then.
            OSError: If it cannot be written.
        """
        with statistics_of(self.recipe, self.encode_unmasked()):
            self.check_finite(progress.step)
            state = self.state(progress)
            del state["optimizer"]
            state["model"] = {name: gathered(value) for name, value in state["model"].items()}
            with self.process.together():
                if self.process.is_main:
                    save_final(self.folder.checkpoints, state)

    def check_finite(self, step: int) -> None:
        """Raise a ``FloatingPointError``, in all processes, if a weight or a buffer of one is not finite."""
        bad = non_finite({**dict(self.recipe.named_parameters()), **dict(self.recipe.named_buffers())})
        everywhere = self.process.collect(tuple(bad[:1]))
        if everywhere:
            good = newest_checkpoint(self.folder.checkpoints)
            raise FloatingPointError(
                f"step {step}: the update left weights that are not finite, {everywhere[0]} among them; no "
                f"checkpoint of it is written: lower optimization.lr ({self.optimization.lr:g}) and "
                + (f"go on from {good.name} with --resume" if good else "begin again")
            )
