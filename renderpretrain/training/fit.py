"""``fit``: train a recipe on scenes and leave a run folder."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.recipes.recipe import RendersRays, missing_from
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs import RunDescription, RunFolder, describe_objects, newest_checkpoint
from renderpretrain.runs.metrics import Change, changes, read_rows
from renderpretrain.training.console import progress_report
from renderpretrain.training.distributed import Process, agree_on_sparse_backend, process_session
from renderpretrain.training.doubts import geometry_doubts, held_out_doubt
from renderpretrain.training.guards import CheckpointClock, stop_signals
from renderpretrain.training.loop import Stepper, StepRecord
from renderpretrain.training.order import MicroBatches, Progress
from renderpretrain.training.overlap import check_overlap, measure_overlap
from renderpretrain.training.preflight import without_bad_frames
from renderpretrain.training.recorded import check_recordable
from renderpretrain.training.run import Run, RunOptions
from renderpretrain.training.schedule import build_optimizer
from renderpretrain.training.sharded import check_sharding, whole


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
    (to the bit on a CPU), and ``n`` processes do what one does with ``n`` times the batch. A run that is
    resumed with another global batch says so, and goes on at the next sample of the same order. Works under
    ``torchrun``. SIGTERM, SIGINT and SIGHUP end the run after its step, with a checkpoint. What is refused is
    refused before anything is written.

    Args:
        recipe: ``recipe(batch) -> {term: scalar}``; the loss is the sum. With held-out scenes it also
            :class:`~renderpretrain.recipes.RendersRays`.
        dataset: The same index always gives the same scene.
        optimization: Batch size counts scenes per process.
        out: The run's folder: new or empty, unless the run is resumed. Processes on several machines see it
            at the same path.
        options: How to carry it out.

    Raises:
        ValueError: If the folder holds files or is in use, what is there does not fit, the split leaves no
            scene to train on, the recipe is none, its ranges and the data have nothing in common, or frames
            of a scene folder are bad or lack what it needs (``RunOptions.check_data``, ``skip_bad``).
        OSError: If the folder or a checkpoint cannot be written.
        FloatingPointError: If a loss term, the gradient or a weight is not finite; names the step, and the
            term and the samples, or the weight.
    """
    options = options or RunOptions()
    folder = RunFolder(Path(out))
    check_split(dataset, options.holdout)
    check_seed(options.seed)
    check_recipe(recipe, options.holdout)
    with process_session(options.device) as process, stop_signals() as request, ExitStack() as held:
        _check_ways(recipe, optimization, process)
        options, *remarks = _checked(options, folder, process)
        described = _described(recipe, dataset, optimization, options)
        dataset, described = without_bad_frames(recipe, dataset, described, folder, options, process.is_main)
        check_split(dataset, options.holdout)
        options = _with_doubts(options, dataset, described, process)
        recipe.to(process.device)
        remarks += _said_of_data(recipe, dataset, options)
        with process.together():
            if process.is_main:
                held.enter_context(folder.claimed(resume=options.resume))
        model = process.replicate(recipe, optimization)
        optimizer = build_optimizer(recipe, optimization)
        report = held.enter_context(progress_report(optimization.steps, quiet=not process.is_main))
        run = Run(recipe, dataset, optimization, optimizer, process, folder, options, described, report)
        order = run.order(run.resume() if options.resume else Progress())
        held.enter_context(run.opened_folder(order.begun.step))
        remarks += [*_ways(run), _other_batch(order), agree_on_sparse_backend(recipe, process) or ""]
        for line in filter(None, remarks):
            report(order.begun.step, line)
        step = _train(run, Stepper(model, optimizer, optimization, process, options.seed, request), order)
        del model  # it holds the group of processes, which ends with this block
        run.draw_health(step)
        table = changes(read_rows(folder.metrics))
    stopped_by = (request.signal or "another process") if step < optimization.steps else None
    return FitResult(folder, step, stopped_by, table, process.is_main)


def _train(run: Run, stepper: Stepper, order: MicroBatches) -> int:
    """Take the steps that are left; returns how many updates the recipe has seen.

    A step is read after the next one has been taken, which keeps a GPU's queue full, unless something is due.
    """
    run.recipe.train()
    start = order.begun.step
    if not run.is_evaluated(start):
        with whole(stepper.model):
            run.evaluate_and_draw(start)
    steps, clock = run.optimization.steps, CheckpointClock(run.optimization.checkpoint_minutes)
    unread: StepRecord | None = None
    with closing(run.prepared(order)) as batches:
        stepper.restart_clock()
        for step in range(start + 1, steps + 1):
            overdue = run.process.is_main and clock.is_overdue()
            record = stepper.take(step, batches, checkpoint_due=overdue)
            results = [run.log(stepper.read(unread))] if unread else []
            unread = record
            if run.is_due(step) or any(result.stop or result.checkpoint for result in results):
                # A checkpoint is written only once its own step is known to be finite.
                results.append(run.log(stepper.read(record)))
                unread = None
                stop = any(result.stop for result in results)
                if run.save(order.progress(step), asked=stop or any(result.checkpoint for result in results)):
                    clock.restart()
                if stop and step < steps:
                    return step
                with whole(stepper.model):
                    run.evaluate_and_draw(step)
                stepper.restart_clock()
    with whole(stepper.model):
        run.save_final(order.progress(steps))
    return steps


def _checked(options: RunOptions, folder: RunFolder, process: Process) -> tuple[RunOptions, str]:
    """The options, which do not resume where there is nothing; and what is said of that."""
    begins = options.resume and not has_begun(folder, process)
    options = replace(options, resume=options.resume and not begins)
    with process.together():
        if process.is_main:
            folder.check(resume=options.resume)
    return options, nothing_to_resume(folder) if begins else ""


def _with_doubts(
    options: RunOptions, dataset: SceneDataset, described: RunDescription, process: Process
) -> RunOptions:
    """The options with what is in doubt about the data, where a run begins and this process speaks."""
    if not options.check_data or options.resume or not process.is_main:
        return options
    return replace(options, doubts=geometry_doubts(dataset, described.data))


def _said_of_data(recipe: nn.Module, dataset: SceneDataset, options: RunOptions) -> list[str]:
    """What is worth a word about the data before the first step; empty lines say nothing."""
    overlap = measure_overlap(recipe, dataset, len(dataset) - options.holdout)
    doubts = [f"warning: {line}" for line in options.doubts]
    return [*doubts, check_overlap(overlap, recipe), held_out_doubt(dataset, options.holdout)]


def nothing_to_resume(folder: RunFolder) -> str:
    """What is said of a run that is to go on and has nothing to go on from."""
    return f"resume: no checkpoint in {folder.path}, so the run begins"


def has_begun(folder: RunFolder, process: Process) -> bool:
    """Whether there is a checkpoint to go on from, as all processes see it.

    Raises:
        ValueError: If they do not see the same.
    """
    newest = newest_checkpoint(folder.checkpoints)
    seen = process.collect(("none" if newest is None else newest.name,))
    if len(set(seen)) > 1:
        raise ValueError(
            f"out: expected all processes to see the same checkpoints in {folder.path}, which must be on a "
            f"file system that all machines share; the newest of each process is {', '.join(seen)}"
        )
    return newest is not None


def _check_ways(recipe: nn.Module, optimization: OptimizationConfig, process: Process) -> None:
    """Raise a ``ValueError`` if steps cannot be computed as is asked."""
    check_sharding(recipe, optimization)
    check_recordable(recipe, optimization, process.world_size)


def _ways(run: Run) -> tuple[str, ...]:
    """What is worth a word about how steps are computed."""
    return _precision(run), _graphs(run), _unwatched(run)


def _precision(run: Run) -> str:
    """What is worth a word about the precision of a run; empty if nothing is."""
    asked, on_cpu = run.optimization.precision, run.process.device.type == "cpu"
    if asked == "tf32":
        return "precision: fp32, as ever on a CPU" if on_cpu else "precision: tf32 in convolutions, else fp32"
    if asked != "bf16" or not on_cpu:
        return ""
    return "precision: fp32 on a CPU, where bfloat16 3D convolutions of torch are not safe"


def _graphs(run: Run) -> str:
    """What is worth a word about recorded steps; empty if nothing is."""
    if not run.optimization.cuda_graph:
        return ""
    if run.process.device.type == "cpu":
        return "cuda_graph: not on a CPU, whose steps run as ever"
    return "cuda_graph: steps are recorded for every shape of a batch, the first three of each run as ever"


def _unwatched(run: Run) -> str:
    """What is worth a word where nobody can look at the features; empty if nothing is."""
    if run.monitor.is_able or not run.optimization.monitor_every:
        return ""
    return f"health: nobody looks at the features of {type(run.recipe).__name__}, which has no levels(batch)"


def _other_batch(order: MicroBatches) -> str:
    """What is worth a word where a resumed run has another global batch; empty if it has the same."""
    before, now = order.begun.global_batch, order.global_batch
    if before is None or before == now:
        return ""
    parts, left = divmod(before, order.world_size * order.batch_size)
    product = f"batch_size {order.batch_size} x accumulate {order.accumulate} x {order.world_size} ranks"
    cure = "" if left else f"; optimization.accumulate={parts} keeps {before}"
    return (
        f"global batch: {now} samples a step ({product}), {before} until step {order.begun.step}; the order "
        f"goes on at its next sample, and rates stay as they are{cure}"
    )


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


def _described(
    recipe: nn.Module, dataset: SceneDataset, optimization: OptimizationConfig, options: RunOptions
) -> RunDescription:
    """What the run is, as it is told or as the objects say; raises a ``ValueError`` where these differ."""
    holdout, seed, told = options.holdout, options.seed, options.description
    if told is None:
        return describe_objects(recipe, dataset, optimization, holdout=holdout, seed=seed)
    for name, said, asked in (("holdout", told.holdout, holdout), ("seed", told.seed, seed)):
        if said != asked:
            raise ValueError(f"{name}: expected {said}, as the run's description says, got {asked}")
    return told


def check_recipe(recipe: nn.Module, holdout: int) -> None:
    """Raise a ``ValueError`` if a recipe has no loss, or scenes are held out that it cannot be scored on."""
    if type(recipe).forward is nn.Module.forward:
        raise ValueError(
            f"recipe: expected forward(batch) -> {{term: scalar}}, but {type(recipe).__name__} has no forward"
        )
    if holdout and not isinstance(recipe, RendersRays):
        missing = ", ".join(missing_from(recipe, RendersRays))
        raise ValueError(
            f"recipe: held-out scenes are scored with encode, render, targets, but "
            f"{type(recipe).__name__} has no {missing}; give it them, or hold out 0 scenes"
        )
