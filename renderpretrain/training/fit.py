"""``fit``: train a recipe on scenes and leave a run folder."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.recipes.recipe import RendersRays, missing_from
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.folder import RunFolder
from renderpretrain.training.console import narrator
from renderpretrain.training.distributed import Process, agree_on_sparse_backend, process_session
from renderpretrain.training.guards import StopRequest, stop_signals
from renderpretrain.training.metrics import Change, changes, read_rows
from renderpretrain.training.overlap import check_overlap, look_at
from renderpretrain.training.preflight import looked_at
from renderpretrain.training.run import Run, RunOptions
from renderpretrain.training.schedule import build_optimizer
from renderpretrain.training.step import Stepper, runs_in_bfloat16


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        folder: Where its files are.
        step: Updates done.
        stopped_by: The signal that ended it early, if one did.
        table: Held-out scores before and after.
        is_main: Whether this process is the one that speaks.
    """

    folder: RunFolder
    step: int
    stopped_by: str | None
    table: list[Change]
    is_main: bool


def fit(
    recipe: nn.Module,
    dataset: SceneDataset,
    optimization: OptimizationConfig,
    *,
    out: Path | str,
    options: RunOptions | None = None,
) -> FitResult:
    """Train a recipe and leave a run folder.

    What a step sees follows from the seed and the step alone, so a resumed run repeats the uninterrupted one
    (to the bit on a CPU), and ``n`` processes do what one does with ``n`` times the batch. Works under
    ``torchrun``. SIGTERM, SIGINT and SIGHUP end the run after its step, with a checkpoint. What is refused is
    refused before anything is written.

    Args:
        recipe: ``recipe(batch) -> {term: scalar}``; the loss is the sum. With held-out scenes it also
            :class:`~renderpretrain.recipes.RendersRays`.
        dataset: The same index always gives the same scene.
        optimization: Batch size counts scenes per process.
        out: The run's folder: new or empty, unless the run is resumed.
        options: How to carry it out.

    Raises:
        ValueError: If the folder holds files or is in use, nothing can be resumed, the split leaves no scene
            to train on, the recipe is none, its ranges and the data have nothing in common, or frames of a
            scene folder are bad or lack what it needs (``RunOptions.check_data``, ``skip_bad``).
        OSError: If the folder or a checkpoint cannot be written.
        FloatingPointError: If a loss term, the gradient or a weight is not finite; names the step, and the
            term and the samples, or the weight.
    """
    options = options or RunOptions()
    folder = RunFolder(Path(out))
    check_split(dataset, options.holdout)
    check_seed(options.seed)
    check_renders(recipe, options.holdout)
    with (
        process_session(options.device) as process,
        stop_signals() as request,
        ExitStack() as claim,
    ):
        with process.together():
            if process.is_main:
                folder.check(resume=options.resume)
        dataset, options = looked_at(recipe, dataset, folder, options, aloud=process.is_main)
        check_split(dataset, options.holdout)
        recipe.to(process.device)
        warning = check_overlap(look_at(recipe, dataset, len(dataset) - options.holdout), recipe)
        with process.together():
            if process.is_main:
                claim.enter_context(folder.claimed(resume=options.resume))
        step = _train(recipe, dataset, optimization, _Around(process, folder, options, request, warning))
        table = changes(read_rows(folder.metrics))
    return FitResult(
        folder,
        step,
        (request.signal or "another process") if step < optimization.steps else None,
        table,
        process.is_main,
    )


@dataclass(frozen=True)
class _Around:
    """Where and how a run takes place."""

    process: Process
    folder: RunFolder
    options: RunOptions
    request: StopRequest
    warning: str


def _train(
    recipe: nn.Module, dataset: SceneDataset, optimization: OptimizationConfig, around: _Around
) -> int:
    """Put the run together and take it to its end; returns the updates done."""
    process, options = around.process, around.options
    optimizer = build_optimizer(recipe, optimization)
    with narrator(optimization.steps, quiet=not process.is_main) as say:
        run = Run(recipe, dataset, optimization, optimizer, process, around.folder, options, say)
        start = run.load_newest() if options.resume else 0
        model = process.replicate(recipe, sync_batch_norm=optimization.sync_batch_norm)
        run.open_folder(start)
        if around.warning:
            say(start, around.warning)
        if optimization.precision == "bf16" and not runs_in_bfloat16(optimization, process.device.type):
            say(start, "precision: fp32 on a CPU, where bfloat16 3D convolutions of torch are not safe")
        backend = agree_on_sparse_backend(recipe, process)
        if backend:
            say(start, backend)
        recipe.train()
        if not run.was_looked_at(start):
            run.look(start)
        stepper = Stepper(model, optimizer, optimization, process, options.seed, around.request)
        return run.train(stepper, start)


def check_split(dataset: SceneDataset, holdout: int) -> None:
    """Raise a ``ValueError`` if no scene is left to train on."""
    if not 0 <= holdout < len(dataset):
        raise ValueError(
            f"holdout: expected a number from 0 to {len(dataset) - 1}, for there are {len(dataset)} scenes; "
            f"got {holdout}"
        )


def check_seed(seed: int) -> None:
    """Raise a ``ValueError`` unless torch can be seeded so."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed: expected a whole number from -2**63 to 2**63 - 1, got {seed}")


def check_renders(recipe: nn.Module, holdout: int) -> None:
    """Raise a ``ValueError`` if scenes are held out for a recipe that cannot be scored on them."""
    if holdout and not isinstance(recipe, RendersRays):
        missing = ", ".join(missing_from(recipe, RendersRays))
        raise ValueError(
            f"recipe: held-out scenes are scored with encode, render, targets, but "
            f"{type(recipe).__name__} has no {missing}; give it them, or hold out 0 scenes"
        )
