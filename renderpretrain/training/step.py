"""One optimiser step: forward, backward, clip, update; and reading what it measured."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from renderpretrain.data import Batch
from renderpretrain.losses import gradient_norms
from renderpretrain.recipes.recipe import HasEncoders, encoders_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training.distributed import Process
from renderpretrain.training.guards import StopRequest, non_finite_message
from renderpretrain.training.metrics import Row
from renderpretrain.training.order import seed_generators
from renderpretrain.training.schedule import set_step
from renderpretrain.training.silence import GRADIENTS_EVERY, Silence, gradient_sizes, trained_parts


@dataclass(frozen=True)
class Record:
    """What a step measured, on its way to the host.

    Attributes:
        step: Updates done with it.
        terms: Names of the loss terms.
        pulls: Names of the gradient norms by term and encoder, where this step measured them.
        parts: Names of the gradients by part, where this step looked at them.
        values: Means over all processes of the terms, the pulls and the parts, then the gradient's norm, then
            how many processes want to stop, and how many want a checkpoint.
        copied: When the values have arrived, on a GPU.
        names: The scenes this process used.
        lr: Learning rate of the update.
        returned: When Python was done with it, seconds; on a CPU the step was done then.
    """

    step: int
    terms: tuple[str, ...]
    pulls: tuple[str, ...]
    parts: tuple[str, ...]
    values: Tensor
    copied: torch.cuda.Event | None
    names: tuple[str, ...]
    lr: float
    returned: float


class Asked(NamedTuple):
    """What some process wants after a step; all processes learn it with the same step.

    Attributes:
        stop: It was asked to end.
        checkpoint: One is overdue.
    """

    stop: bool = False
    checkpoint: bool = False


def runs_in_bfloat16(optimization: OptimizationConfig, device_type: str) -> bool:
    """Whether steps run in bfloat16: where that is asked for, but not on a CPU.

    There the gradient by a 3D convolution's weights writes past its memory: seen with torch 2.13 on a
    processor with AMX, for 32 to 96 channels on rows of 180 voxels.
    """
    return optimization.precision == "bf16" and device_type != "cpu"


class Stepper:
    """Takes steps and reads their records.

    The caller reads one step late, which keeps an accelerator's queue full.

    Args:
        model: ``model(batch) -> {term: scalar}``, possibly wrapped for data parallelism.
        optimizer: From :func:`renderpretrain.training.schedule.build_optimizer`.
        optimization: Precision, accumulation, clipping, schedule.
        process: The device, and the processes to average over.
        seed: Of the run.
        request: Passed on to all processes with the values, so that they stop at the same step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        optimization: OptimizationConfig,
        process: Process,
        seed: int,
        request: StopRequest,
    ) -> None:
        self.model, self.optimizer, self.optimization = model, optimizer, optimization
        self.process, self.seed, self.request = process, seed, request
        self.finished = time.perf_counter()
        self.silence, self.parts = Silence(), trained_parts(unwrapped(model))

    def take(self, step: int, batches: Iterator[Batch], *, overdue: bool = False) -> Record:
        """Do update ``step`` (from 1) on the next ``accumulate`` batches.

        Args:
            step: Which one.
            batches: What to learn from.
            overdue: Whether this process wants a checkpoint, which all are told with the values.

        Raises:
            ValueError: If the recipe gives anything but scalars by name.
        """
        parts = self.optimization.accumulate
        lr = set_step(self.optimizer, self.optimization, step - 1)
        seed_generators(self.seed, step, self.process.rank)
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        names: tuple[str, ...] = ()
        for part in range(parts):
            batch = next(batches).to(self.process.device, non_blocking=True)
            last = part == parts - 1
            terms, pulls = self._accumulate(batch, last=last, measure=last and self._measures(step))
            values = torch.stack([value.detach().float() for value in terms.values()]) / parts
            total = values if total is None else total + values
            names += batch.names
        assert total is not None  # accumulate > 0
        grad_norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.optimization.clip_norm or float("inf")
        )
        sizes = gradient_sizes(self.parts) if step % GRADIENTS_EVERY == 1 else {}
        self.optimizer.step()
        measured = [*pulls.values(), *sizes.values(), grad_norm.float()]
        values = torch.cat([total, *(value[None] for value in measured)])
        asked = Asked(self.request.signal is not None, overdue)
        return self._record(step, (tuple(terms), tuple(pulls), tuple(sizes)), values, (names, asked), lr)

    def read(self, record: Record) -> tuple[Row, Asked]:
        """The row of ``metrics.jsonl``, and what some process wants.

        Raises:
            FloatingPointError: If a term or the gradient is not finite; names the step and the samples.
        """
        if record.copied is not None:
            record.copied.synchronize()
        *values, grad_norm, stop, checkpoint = record.values.tolist()
        values, pulls = values[: len(record.terms)], values[len(record.terms) :]
        pulls, sizes = pulls[: len(record.pulls)], pulls[len(record.pulls) :]
        terms = dict(zip(record.terms, values, strict=True))
        message = non_finite_message(record.step, terms, grad_norm)
        if message:
            raise FloatingPointError(f"{message}; samples: {', '.join(self.process.collect(record.names))}")
        finished = time.perf_counter() if record.copied is not None else record.returned
        seconds, self.finished = finished - self.finished, finished
        row = {"step": record.step, "loss": sum(values)}
        row |= {f"loss/{name}": value for name, value in terms.items()}
        row |= {f"gradient/{name}": value for name, value in zip(record.pulls, pulls, strict=True)}
        losses = {key: value for key, value in row.items() if key.startswith("loss/")}
        self.silence.listen(record.step, losses | dict(zip(record.parts, sizes, strict=True)))
        samples = len(record.names) * self.process.world_size
        row |= {"lr": record.lr, "grad_norm": grad_norm, "samples_per_second": samples / max(seconds, 1e-9)}
        if record.copied is not None:
            row["peak_memory_gib"] = torch.cuda.max_memory_allocated(self.process.device) / 2**30
        return row, Asked(stop > 0, checkpoint > 0)

    def restart_clock(self) -> None:
        """Leave what happened since the last step out of the next step's time."""
        self.finished = time.perf_counter()

    def _measures(self, step: int) -> bool:
        """Whether a step measures how strongly each term pulls at each encoder."""
        every = self.optimization.gradient_norms_every
        return every > 0 and step % every == 0 and isinstance(unwrapped(self.model), HasEncoders)

    def _accumulate(
        self, batch: Batch, *, last: bool, measure: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add a batch's gradient; processes exchange gradients only with the last batch of a step."""
        device_type = self.process.device.type
        several = self.model if isinstance(self.model, DistributedDataParallel) else None
        with nullcontext() if several is None or last else several.no_sync():
            with torch.autocast(
                device_type, torch.bfloat16, enabled=runs_in_bfloat16(self.optimization, device_type)
            ):
                terms = check_terms(self.model(batch))
                loss = torch.stack([value.float() for value in terms.values()]).sum()
            pulls = {}
            if measure:
                encoders = encoders_of(unwrapped(self.model))
                groups = {name: list(part.parameters()) for name, part in encoders.items()}
                pulls = gradient_norms(terms, groups)
            (loss / self.optimization.accumulate).backward()
        return terms, pulls

    def _record(
        self,
        step: int,
        measured: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
        values: Tensor,
        told: tuple[tuple[str, ...], Asked],
        lr: float,
    ) -> Record:
        """Average over the processes and send to the host without waiting."""
        names, asked = told
        flags = [torch.full_like(values[:1], flag) for flag in asked]
        values = self.process.total(torch.cat([values, *flags])) / self.process.world_size
        copied = None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        return Record(step, *measured, values, copied, names, lr, time.perf_counter())


def check_terms(terms: object) -> dict[str, Tensor]:
    """What a recipe gave, if it is what a recipe gives.

    Raises:
        ValueError: If it is anything but a dictionary of scalars by name.
    """
    if not isinstance(terms, dict) or not terms:
        raise ValueError(f"recipe: expected forward to give {{term: scalar}}, got {_described(terms)}")
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.shape or not isinstance(name, str):
            raise ValueError(f"recipe: loss term {name!r}: expected a scalar, got {_described(value)}")
    return terms


def _described(value: object) -> str:
    """What kind of thing somebody's forward gave."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}" + (" of nothing" if value == {} else "")


def unwrapped(model: nn.Module) -> nn.Module:
    """The recipe inside a wrapper for data parallelism."""
    return model.module if isinstance(model, DistributedDataParallel) else model
