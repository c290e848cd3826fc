"""One step of training: take it, accumulate its gradient, read what it measured.

:func:`renderpretrain.training.fit` runs these steps; a loop of your own can, too::

    batches = iter(MicroBatches(dataset, len(dataset), seed=0, batch_size=1)[k] for k in range(100))
    stepper = Stepper(recipe, optimizer, optimization, process, seed=0)
    for step in range(1, 101):
        print(stepper.read(stepper.take(step, batches)).row)

Without :class:`Stepper`, call :func:`count_step` after every ``optimizer.step()``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from renderpretrain.data import Batch
from renderpretrain.losses import gradient_norms
from renderpretrain.recipes.recipe import CountsSteps, HasEncoders, encoders_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.metrics import Row
from renderpretrain.training.distributed import Process
from renderpretrain.training.guards import StopRequest, non_finite_message
from renderpretrain.training.monitor import norms_due
from renderpretrain.training.order import seed_generators
from renderpretrain.training.recorded import RecordedPasses
from renderpretrain.training.schedule import set_step
from renderpretrain.training.sharded import Sharded, clip_gradients
from renderpretrain.training.zeros import GRADIENT, GRADIENTS_EVERY, ZeroWatch, gradient_sizes, trained_parts


@dataclass(frozen=True)
class Accumulated:
    """What the batches of one step gave, before the update.

    Attributes:
        terms: Every loss term by ``loss/NAME``, the mean over the batches; without a gradient.
        norms: Norms of single terms' gradients by ``gradient/TERM/ENCODER``, where the step measures them.
        scenes: Names of the scenes that were used.
    """

    terms: dict[str, Tensor]
    norms: dict[str, Tensor]
    scenes: tuple[str, ...]


@dataclass(frozen=True)
class StepRecord:
    """What a step measured, on its way to the host.

    Attributes:
        step: Updates done with it.
        names: What each of the values is.
        values: Means over all processes, one number per name.
        copied: When the values have arrived, on a GPU.
        scenes: Names of the scenes that this process used.
        lr: Learning rate of the update.
        returned: When Python was done with the step, in seconds; on a CPU the step was done then.
    """

    step: int
    names: tuple[str, ...]
    values: Tensor
    copied: torch.cuda.Event | None
    scenes: tuple[str, ...]
    lr: float
    returned: float


@dataclass(frozen=True)
class StepResult:
    """What a step measured, read.

    Attributes:
        row: The line of ``metrics.jsonl``.
        scenes: Names of the scenes that this process used.
        zeros: Sentences about loss terms and gradients that have been 0 for long, each said once.
        stop: Some process was asked to end; all of them learn it with the same step.
        checkpoint: In some process a checkpoint is overdue, likewise.
    """

    row: Row
    scenes: tuple[str, ...]
    zeros: list[str]
    stop: bool
    checkpoint: bool


class Stepper:
    """Takes steps and reads their records.

    :func:`renderpretrain.training.fit` reads one step late, which keeps a GPU's queue full.

    Args:
        model: ``model(batch) -> {term: scalar}``, possibly wrapped for data parallelism.
        optimizer: From :func:`renderpretrain.training.build_optimizer`.
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
        request: StopRequest | None = None,
    ) -> None:
        self.model, self.optimizer, self.optimization = model, optimizer, optimization
        self.process, self.seed, self.request = process, seed, request or StopRequest()
        self.zeros, self.parts = ZeroWatch(), trained_parts(unwrapped(model))
        self.counting = counting(model)
        graphs = optimization.cuda_graph and process.device.type == "cuda"
        self.recorded = RecordedPasses(model, self._passes) if graphs else None
        self.finished = time.perf_counter()

    def take(self, step: int, batches: Iterator[Batch], *, checkpoint_due: bool = False) -> StepRecord:
        """Do update ``step`` (from 1) on the next ``accumulate`` batches; does not wait for a GPU.

        Args:
            step: Which one.
            batches: What to learn from.
            checkpoint_due: Whether this process wants a checkpoint, which all are told with the values.

        Raises:
            ValueError: If the recipe gives anything but scalars by name.
        """
        lr = set_step(self.optimizer, self.optimization, step - 1)
        seed_generators(self.seed, step, self.process.rank)
        self.optimizer.zero_grad(set_to_none=True)
        gradient = self.accumulate(step, batches)
        grad_norm = clip_gradients(self.model, self.optimization.clip_norm or float("inf"))
        sizes = gradient_sizes(self.parts) if step % GRADIENTS_EVERY == 1 else {}
        self.optimizer.step()
        for module in self.counting:
            module.count_step()
        measured = {**gradient.terms, **gradient.norms, **sizes, "grad_norm": grad_norm.float()}
        values = torch.stack(list(measured.values()))
        wishes = {"stop": self.request.signal is not None, "checkpoint": checkpoint_due}
        flags = [torch.full_like(values[:1], wish) for wish in wishes.values()]
        values, copied = self._send(torch.cat([values, *flags]))
        names = (*measured, *wishes)
        return StepRecord(step, names, values, copied, gradient.scenes, lr, time.perf_counter())

    def accumulate(self, step: int, batches: Iterator[Batch]) -> Accumulated:
        """Add the gradients of the next ``accumulate`` batches, as the mean over them.

        Processes exchange gradients only with the last batch of a step.

        Raises:
            ValueError: If the recipe gives anything but scalars by name.
        """
        parts = self.optimization.accumulate
        several = self.model if isinstance(self.model, DistributedDataParallel) else None
        sums: dict[str, Tensor] = {}
        norms: dict[str, Tensor] = {}
        scenes: tuple[str, ...] = ()
        for part in range(parts):
            batch = next(batches).to(self.process.device, non_blocking=True)
            last = part == parts - 1
            if last and self._measures_norms(step):
                terms = self._passes(batch, norms)
            elif self.recorded is not None:
                terms = self.recorded(batch)
            else:
                with nullcontext() if several is None or last else several.no_sync():
                    terms = self._passes(batch)
            for name, value in terms.items():
                share, key = value.detach().float() / parts, f"loss/{name}"
                sums[key] = sums[key] + share if key in sums else share
            scenes += batch.names
        return Accumulated(sums, norms, scenes)

    def _passes(self, batch: Batch, norms: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Both passes on a batch; ``norms``, where given, takes those of every term's gradient."""
        device_type = self.process.device.type
        bfloat16 = runs_in_bfloat16(self.optimization, device_type)
        with exact_convolutions(self.optimization.precision == "fp32"):
            with torch.autocast(device_type, torch.bfloat16, enabled=bfloat16):
                terms = check_terms(self.model(batch))
                loss = torch.stack([value.float() for value in terms.values()]).sum()
            if norms is not None:
                norms.update(self._term_gradients(terms))
            (loss / self.optimization.accumulate).backward()
        return terms

    def read(self, record: StepRecord) -> StepResult:
        """Wait for what a step measured.

        Raises:
            FloatingPointError: If a term or the gradient is not finite; names the step and the samples.
        """
        if record.copied is not None:
            record.copied.synchronize()
        measured = dict(zip(record.names, record.values.tolist(), strict=True))
        terms, norms, sizes = (_starting(measured, start) for start in ("loss/", "gradient/", GRADIENT))
        message = non_finite_message(record.step, terms, measured["grad_norm"])
        if message:
            raise FloatingPointError(f"{message}; samples: {', '.join(self.process.collect(record.scenes))}")
        finished = time.perf_counter() if record.copied is not None else record.returned
        seconds, self.finished = finished - self.finished, finished
        samples = len(record.scenes) * self.process.world_size
        terms.pop("loss/gradnorm", None)  # says how well terms are balanced, not how well the model does
        row: Row = {"step": record.step, "loss": sum(terms.values()), **terms, **norms}
        row |= {"lr": record.lr, "grad_norm": measured["grad_norm"]}
        row |= {"samples_per_second": samples / max(seconds, 1e-9)}
        if record.copied is not None:
            row["peak_memory_gib"] = torch.cuda.max_memory_allocated(self.process.device) / 2**30
        zeros = self.zeros.update(record.step, terms | sizes)
        return StepResult(row, record.scenes, zeros, measured["stop"] > 0, measured["checkpoint"] > 0)

    def restart_clock(self) -> None:
        """Leave what happened since the last step out of the next step's time."""
        self.finished = time.perf_counter()

    def _measures_norms(self, step: int) -> bool:
        """Whether a step measures the gradient of each term on each encoder."""
        return norms_due(step, self.optimization) and isinstance(unwrapped(self.model), HasEncoders)

    def _term_gradients(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The norm of each term's gradient on each encoder."""
        encoders = encoders_of(unwrapped(self.model))
        groups = {name: list(part.parameters()) for name, part in encoders.items()}
        return {f"gradient/{name}": value for name, value in gradient_norms(terms, groups).items()}

    def _send(self, values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Average over the processes and send to the host without waiting."""
        values = self.process.total(values) / self.process.world_size
        if not values.is_cuda:
            return values, None
        values = values.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return values, copied


def counting(model: nn.Module) -> list[CountsSteps]:
    """The modules that count steps."""
    return [module for module in model.modules() if isinstance(module, CountsSteps)]


def count_step(model: nn.Module) -> None:
    """Tell the modules that count steps that the weights have been updated, in a loop of your own."""
    for module in counting(model):
        module.count_step()


def runs_in_bfloat16(optimization: OptimizationConfig, device_type: str) -> bool:
    """Whether steps run in bfloat16: where that is asked for, but not on a CPU.

    There the gradient by a 3D convolution's weights writes past its memory: seen with torch 2.13 on a
    processor with AMX, for 32 to 96 channels on rows of 180 voxels.
    """
    return optimization.precision == "bf16" and device_type != "cpu"


@contextmanager
def exact_convolutions(exact: bool) -> Iterator[None]:
    """Within it a GPU's float32 convolutions multiply in float32, or (not ``exact``) in TF32.

    TF32 has ten bits of mantissa and is torch's standard for convolutions, though not for matrix products.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


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


def unwrapped(model: nn.Module) -> nn.Module:
    """The recipe inside a wrapper for data parallelism."""
    return model.module if isinstance(model, DistributedDataParallel | Sharded) else model


def _starting(measured: dict[str, float], start: str) -> dict[str, float]:
    """The values whose names start with a word."""
    return {name: value for name, value in measured.items() if name.startswith(start)}


def _described(value: object) -> str:
    """What kind of thing somebody's forward gave."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}" + (" of nothing" if value == {} else "")
