"""A run between its first and its last step: what happens around the optimiser's steps."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.encoders.norms import statistics_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final
from renderpretrain.runs.folder import RunFolder, versions
from renderpretrain.training.console import Say, describe
from renderpretrain.training.distributed import Process, share_columns
from renderpretrain.training.evaluate import evaluate, evaluate_baseline
from renderpretrain.training.guards import CheckpointClock, check_resumable, check_resumed, non_finite
from renderpretrain.training.metrics import (
    Row,
    append_row,
    drop_rows_after,
    flush_rows,
    missing_steps,
    read_rows,
)
from renderpretrain.training.optimizer_state import OtherOptimizer, optimizer_memory, remember
from renderpretrain.training.order import MicroBatches
from renderpretrain.training.overlap import look_at
from renderpretrain.training.prefetch import default_workers, prefetch
from renderpretrain.training.step import Asked, Record, Stepper
from renderpretrain.training.whole_scenes import whole_scenes


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, as opposed to what is learnt.

    Attributes:
        holdout: The last so many scenes are never trained on, only evaluated.
        seed: Of the order of scenes and of every sample's random numbers.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume: Go on from the newest checkpoint in the run's folder.
        workers: Processes that prepare batches; 0 prepares them between the steps, ``None`` means that on a
            CPU and a few processes for a GPU.
        check_data: Look at all frames of the scene folders in the data set before anything is written; what
            was found is remembered, so the next time it takes no time.
        skip_bad: Leave out the frames that are bad rather than refuse them. They are recorded under
            ``skipped`` in ``config.yaml``, and a resumed run leaves out the same.
        evaluation_rays: Rays per camera of a held-out scene, or per sweep where there are no cameras.
        config: Saved with the run and with each checkpoint; plain values only.
        on_picture: Called with the step and the recipe at the start, the middle and the end, in the main
            process.
    """

    holdout: int = 0
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    workers: int | None = None
    check_data: bool = True
    skip_bad: bool = False
    evaluation_rays: int = 512
    config: Mapping[str, Any] = field(default_factory=dict)
    on_picture: Callable[[int, nn.Module], None] | None = None


@dataclass(frozen=True)
class Run:
    """Everything a run holds on to.

    Attributes:
        recipe: What is trained, never wrapped: its parameter names are those of the checkpoints.
        dataset: The scenes, held-out ones last.
        optimization: How it is trained.
        optimizer: The state that a checkpoint keeps beside the weights.
        process: This process among its like.
        folder: Where the files go.
        options: How the run is carried out.
        say: Tells the user.
    """

    recipe: nn.Module
    dataset: SceneDataset
    optimization: OptimizationConfig
    optimizer: torch.optim.Optimizer
    process: Process
    folder: RunFolder
    options: RunOptions
    say: Say

    @property
    def split(self) -> tuple[range, range]:
        """Scenes to train on, and held-out scenes."""
        everything = range(len(self.dataset))
        border = len(everything) - self.options.holdout
        return everything[:border], everything[border:]

    def train(self, stepper: Stepper, start: int) -> int:
        """Take the steps after ``start``; returns how many updates the recipe has seen."""
        steps, parts = self.optimization.steps, self.optimization.accumulate
        waiting: Record | None = None
        clock = CheckpointClock(self.optimization.checkpoint_minutes)
        stream = self.stream(range(start * parts, steps * parts))
        with closing(stream):
            stepper.restart_clock()
            for step in range(start + 1, steps + 1):
                record = stepper.take(step, stream, overdue=self.process.is_main and clock.is_overdue())
                asked = self.log(stepper, waiting) if waiting else Asked()
                waiting = record
                if any(asked) or self.is_due(step):
                    # A checkpoint is written only once its own step is known to be finite.
                    now = self.log(stepper, record)
                    waiting, stop = None, asked.stop or now.stop
                    if self.save(step, asked=stop or asked.checkpoint or now.checkpoint):
                        clock.restart()
                    if stop and step < steps:
                        return step
                    self.look(step)
                    stepper.restart_clock()
        with statistics_of(self.recipe, self.whole_scenes()):
            self.check_finite(steps)
            with self.process.together():
                if self.process.is_main:
                    save_final(self.folder.checkpoints, self.state(steps))
        return steps

    def stream(self, indices: range) -> Generator[Batch, None, None]:
        """This process's batches of these numbers, got ready as suits the device."""
        device, workers = self.process.device, self.options.workers
        if workers is None:
            workers = default_workers(device, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        return prefetch(self.batches(), indices, workers, pin=device.type == "cuda")

    def whole_scenes(self) -> Iterator[object]:
        """Encodes a few training scenes with nothing hidden, as encoders are used."""
        return whole_scenes(
            self.recipe,
            self.dataset,
            training=len(self.split[0]),
            batch_size=self.optimization.batch_size,
            device=self.process.device,
        )

    def batches(self) -> MicroBatches:
        """This process's batches."""
        return MicroBatches(
            self.dataset,
            len(self.split[0]),
            self.options.seed,
            self.optimization.batch_size,
            self.optimization.accumulate,
            self.process.rank,
            self.process.world_size,
        )

    def is_due(self, step: int) -> bool:
        """Whether something happens after this step."""
        steps, every = (
            self.optimization.steps,
            (self.optimization.eval_every, self.optimization.checkpoint_every),
        )
        return step in (steps, steps // 2) or any(step % n == 0 for n in every)

    def log(self, stepper: Stepper, record: Record) -> Asked:
        """Write a step's row and say it now and then; returns what some process wants."""
        row, asked = stepper.read(record)
        if self.process.is_main:
            append_row(self.folder.metrics, row)
            tell = record.step % self.optimization.log_every == 0 or record.step in (
                1,
                self.optimization.steps,
            )
            self.say(record.step, describe(row) if tell else "")
            for what in stepper.silence.news():
                seen = look_at(self.recipe, self.dataset, len(self.split[0]))
                self.say(record.step, f"{what}: {seen.reason or seen.figures}")
            if row["loss"] == 0 and row["grad_norm"] == 0:
                self.say(record.step, f"nothing to learn from in {', '.join(record.names)}")
        return asked

    def look(self, step: int) -> None:
        """Evaluate and draw where the step is due for it."""
        ends = (0, self.optimization.steps)
        if self.options.holdout and (step in ends or step % self.optimization.eval_every == 0):
            row = self.evaluation(step)
            if self.process.is_main:
                append_row(self.folder.metrics, row)
                self.say(step, "held out: " + describe(row))
        if self.options.on_picture and self.process.is_main and step in (*ends, self.optimization.steps // 2):
            self.options.on_picture(step, self.recipe)
            self.recipe.train()

    def evaluation(self, step: int) -> Row:
        """Held-out scores of the recipe and, once, of a predictor without geometry."""
        process, num_rays = self.process, self.options.evaluation_rays
        with statistics_of(self.recipe, self.whole_scenes()):
            found = evaluate(self.recipe, self.dataset, self.split[1], process=process, num_rays=num_rays)
        row: Row = {"step": step} | {f"eval/{name}": value for name, value in found.items()}
        if step == 0:
            found = evaluate_baseline(
                self.recipe, self.dataset, self.split, process=process, num_rays=num_rays
            )
            row |= {f"eval/baseline_{name}": value for name, value in found.items()}
        return row

    def state(self, step: int) -> dict[str, Any]:
        """What every checkpoint holds."""
        return {
            "step": step,
            "model": self.recipe.state_dict(),
            "config": dict(self.options.config),
            "seed": self.options.seed,
            "scenes": len(self.dataset),
            "versions": versions(),
        }

    def save(self, step: int, *, asked: bool) -> bool:
        """Write a checkpoint where the step is due for it, or it is asked for; returns whether it was.

        Raises:
            FloatingPointError: If a weight is not finite; nothing is written then.
            OSError: If it cannot be written.
        """
        due = asked or step == self.optimization.steps or step % self.optimization.checkpoint_every == 0
        if due:
            self.check_finite(step)
            share_columns(self.recipe, self.process)
            with self.process.together():
                if self.process.is_main:
                    flush_rows(self.folder.metrics)
                    memory = optimizer_memory(self.recipe, self.optimizer)
                    save_checkpoint(self.folder.checkpoints, step, self.state(step) | {"optimizer": memory})
        return due

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

    def load_newest(self) -> int:
        """Give recipe and optimiser what the newest checkpoint holds; writes nothing. Returns its step.

        Raises:
            ValueError: If there is none, it cannot be read, or it does not fit this run.
        """
        path = newest_checkpoint(self.folder.checkpoints)
        if path is None:
            raise ValueError(f"resume: expected a checkpoint in {self.folder.checkpoints}, found none")
        state = load_checkpoint(path)
        now = {"seed": self.options.seed, "scenes": len(self.dataset)}
        check_resumed(path, state, self.optimization.steps, now)
        read_rows(self.folder.metrics)
        try:
            check_resumable(path, state)
            self.recipe.load_state_dict(state["model"])
            remember(self.recipe, self.optimizer, state["optimizer"])
        except OtherOptimizer:
            raise
        except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"resume: {path} does not fit this recipe and configuration ({reason})"
            ) from error
        return state["step"]

    def open_folder(self, start: int) -> None:
        """Write what is known before the first step, and forget what was logged past ``start``.

        Raises:
            OSError: If it cannot be written.
        """
        with self.process.together():
            if self.process.is_main:
                self.folder.prepare(self.options.config, resume=self.options.resume)
                rows = drop_rows_after(self.folder.metrics, start)
                for first, last in missing_steps(rows, start):
                    self.say(start, f"{self.folder.metrics}: the rows of steps {first} to {last} are lost")

    def was_looked_at(self, step: int) -> bool:
        """Whether the held-out scores of a step are already in the log."""
        rows = read_rows(self.folder.metrics)
        found = any(row["step"] == step and any(key.startswith("eval/") for key in row) for row in rows)
        return self.process.collect((found,))[0]  # the main process has written the file
