"""What a probe asks and of which scenes: some to train on, others to choose settings on, others to score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import typer
from torch import nn

from renderpretrain.data import Recording, Scene, SceneDataset
from renderpretrain.data.words import data_words
from renderpretrain.probes import ProbeScenes, Task, depth, occupancy, semseg
from renderpretrain.probes.detection import bev_grid, detection
from renderpretrain.probes.features import Levels
from renderpretrain.probes.plan import with_labels
from renderpretrain.recipes.recipe import HasGrid, encoders_of, lacking
from renderpretrain.runs import RunDescription
from renderpretrain.runs.settings import choose

Split = Literal["validation", "test"]
SPLITS: dict[str, Split] = {"validation": "validation", "test": "test"}
"""What the user types, and what it means."""

TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 1, 2, 3
"""Of synthetic scenes; runs learn from those of seed 0. Scenes of different seeds have nothing in common."""

SCENES, SCORED_SCENES = 100, 24
"""Synthetic scenes unless told otherwise: one percent of the labels is one scene."""

GAP_SHARE = 0.05
"""Of a recording's frames: so many, and at least one, are left out between its parts."""

TASKS: dict[str, Callable[[ProbeScenes, nn.Module, Levels], Task]] = {
    "semseg": lambda scenes, recipe, levels: semseg(scenes.train[0].class_names, levels),
    "occupancy": lambda scenes, recipe, levels: occupancy(levels),
    "depth": lambda scenes, recipe, levels: depth(levels),
    "detection": lambda scenes, recipe, levels: _detection(scenes, recipe),
}
"""What is asked, of the scenes, of a recipe with fresh weights, and of which of its levels."""

LEVELS: dict[str, Levels] = {"all": "all", "last": "last"}
"""What the user types, and what it means."""

WITHOUT_IMAGES = ("semseg", "detection")
"""Tasks whose answers are not in pictures, which need not be read where the recipe has no image encoder."""


@dataclass(frozen=True)
class SceneRequest:
    """Which scenes the user asked for.

    Attributes:
        task: Name of the question.
        data: What ``open_data`` opens.
        train: To probe on; by default 100 synthetic ones, or the frames before the held-out ones.
        scored: To score: as many of validation as of test; by default 24, or half of the held-out frames.
        split: Which of the two sets is scored; test scenes are not opened for ``validation``.
        levels: What is read of the encoders.
    """

    task: str
    data: str
    train: int | None
    scored: int | None
    split: Split
    levels: Levels = "all"


def open_probe(job: RunDescription, request: SceneRequest) -> tuple[Task, ProbeScenes]:
    """The task, and the scenes with its answers; how many have none is said.

    Raises:
        ValueError: If there is no such task, the data are several data sets, frames are too few, or none has
            labels.
    """
    make = choose("task", request.task, TASKS)
    if len(data_words(request.data)) > 1:
        raise ValueError(
            f"data: expected one data set to probe on, got {request.data!r}; name one with --data"
        )
    recipe = job.build()
    seen = any(name.startswith("image") for name in encoders_of(recipe))
    images = seen or request.task not in WITHOUT_IMAGES
    synthetic = data_words(request.data)[0].is_synthetic
    scenes = _drawn(job, request, images) if synthetic else _recorded(job, request, images)
    task = make(scenes, recipe, request.levels)
    scenes, left_out = with_labels(task, scenes)
    if left_out:
        typer.echo(left_out)
    return task, scenes


def unscored_classes(task: str, scenes: ProbeScenes) -> list[str]:
    """A line on the classes of points that training scenes have and no scored scene has, if there are any."""
    if task != "semseg":
        return []

    def classes(part: Sequence[Scene]) -> set[int]:
        found = [s.point_labels[s.of_key_sweep].unique() for s in part if s.point_labels is not None]
        return {k for labels in found for k in labels.tolist() if k > 0}

    names = scenes.train[0].class_names
    missing = sorted(classes(scenes.train) - classes(scenes.scored))
    said = ", ".join(names[k] if k < len(names) else str(k) for k in missing)
    return [f"no scored scene has {said}: what training scenes say of them counts in no mean"] if said else []


def chosen_on_scored(split: Split) -> list[str]:
    """A line on scores of the scenes that settings were chosen on, if they are."""
    if split == "test":
        return []
    return ["settings were chosen on the scenes that are scored: --split test scores others, once"]


def _detection(scenes: ProbeScenes, recipe: nn.Module) -> Task:
    """Boxes, on a map of the recipe's ground; of the scenes that there are."""
    if not isinstance(recipe, HasGrid):
        raise lacking(recipe, HasGrid, "the task detection")
    parts = {"train": scenes.train, "validation": scenes.validation, "test": scenes.test}
    return detection({part: own for part, own in parts.items() if own}, bev_grid(recipe.grid))


def _drawn(job: RunDescription, request: SceneRequest, images: bool) -> ProbeScenes:
    """Synthetic scenes, those of each set of a seed of its own."""
    train, scored = request.train or SCENES, request.scored or SCORED_SCENES
    together = job.frames_per_street
    if train % together:
        raise ValueError(
            f"scenes: {job.recipe} sees {together} frames of every street; expected a multiple, got {train}"
        )

    def draw(seed: int, count: int) -> list[Scene]:
        truth = request.task == "occupancy"
        raw = job.open_raw(request.data, count=count, seed=seed, with_truth=truth, say=typer.echo)
        return _read(job.prepare(raw), range(count), images)

    test = draw(TEST_SEED, scored) if request.split == "test" else []
    return ProbeScenes(draw(TRAIN_SEED, train), draw(VALIDATION_SEED, scored), test)


@dataclass(frozen=True)
class Parts:
    """Frames of a recording, in order of time: train, a gap, validation, a gap, test.

    Attributes:
        train: Positions of frames with labels.
        validation: Of those that settings are chosen on.
        test: Of the far part of the drive.
    """

    train: range
    validation: range
    test: range


def parts_of(count: int, held_out: int, train: int | None = None, scored: int | None = None) -> Parts:
    """Divide a recording into parts; the frames between them are in none, so that no neighbours are apart.

    Where too few frames are held out for two parts with a gap, all of them are validation's, and there is no
    test.

    Args:
        count: Frames.
        held_out: The last ones, for validation and test.
        train: Frames to train on, the first ones; all by default.
        scored: Frames of validation, and as many of test; by default as many as there are.

    Raises:
        ValueError: If there are fewer frames than that takes.
    """
    gap = max(1, round(GAP_SHARE * count))
    begin, first = count - held_out, count - held_out - gap
    most = held_out if held_out < 2 + gap else (held_out - gap) // 2
    each = most if scored is None else scored
    if not 0 < each <= most:
        raise ValueError(
            f"test_scenes: expected at most {most} frames of the {held_out} last ones, which the run did not "
            f"learn from: so many to validate and to test on, with {gap} between; got {each}"
        )
    if not 0 < (first if train is None else train) <= first:
        raise ValueError(
            f"scenes: expected at least one frame and at most the {max(first, 0)} first of {count}, for "
            f"{gap} are left out before the {held_out} last ones, got {first if train is None else train}"
        )
    test = range(count if held_out < 2 + gap else count - each, count)
    return Parts(range(first if train is None else train), range(begin, begin + each), test)


def _recorded(job: RunDescription, request: SceneRequest, images: bool) -> ProbeScenes:
    """Parts of a recording in order of time, of which the run has not learned from the scored ones."""
    raw = job.open_raw(request.data, count=None, say=typer.echo)
    held_out = job.held_out_of(request.data)
    if held_out is None:
        held_out = _unseen(len(raw), request.scored or min(job.holdout, len(raw) // 4))
    parts = parts_of(len(raw), held_out, request.train, request.scored)
    if request.split == "test" and not parts.test:
        raise ValueError(
            f"split: expected validation, for {held_out} held-out frames are too few for a test set beside "
            "it, with frames between; pretrain with a larger --holdout"
        )
    # What comes later lends the windows of frames nothing: neither points nor labels.
    before, between = (
        job.prepare(raw, holdout=len(raw) - part.stop) for part in (parts.train, parts.validation)
    )
    return ProbeScenes(
        _read(before, parts.train, images),
        _read(between, parts.validation, images),
        _read(between, parts.test, images) if request.split == "test" else [],
    )


def _unseen(count: int, scored: int) -> int:
    """Frames to hold out of a recording that the run has not seen: for two parts, or one if it is short."""
    gap, scored = max(1, round(GAP_SHARE * count)), max(scored, 1)
    return 2 * scored + gap if 2 * (scored + gap) < count else scored


def _read(dataset: SceneDataset, rows: range, images: bool) -> list[Scene]:
    """The scenes, without pictures where nobody looks at them."""
    read = dataset.__getitem__
    if not images and isinstance(dataset, Recording):
        read = dataset.without_images
    return [read(row) for row in rows]
