"""Before the first step: whether all frames can be read, and have what the recipe learns from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import typer

from renderpretrain.cli.job import Job
from renderpretrain.cli.settings import parse_assignment, resolve
from renderpretrain.data import FrameFacts, Needs, faults, inspect_folder, missing
from renderpretrain.data.words import DataWord, data_words, folder_options
from renderpretrain.recipes import RECIPES

MOST_LINES = 20
"""Faults that are listed; of the others the number is said."""

NAMES = {"images": "images", "points": "points", "depths": "depth images", "labels": "classes (semseg)"}
"""How messages call what a recording may lack."""


def checked(job: Job, *, skip_bad: bool, resumed: bool) -> Job:
    """The job, its recordings looked at frame by frame; says which frames are left out and why.

    Args:
        job: What is to run.
        skip_bad: Whether bad frames are left out rather than refused.
        resumed: Whether the run has begun; then the frames that it leaves out are known.

    Raises:
        ValueError: If a recording has nothing of what the recipe needs, or frames are bad and stay in.
    """
    skipped = dict(job.skipped)
    for word in data_words(job.data):
        name = str(word.alone)
        if word.kind != "folder" or not word.path:
            continue
        frames = _frames(word, skipped.get(name, ()))
        needs: Needs = RECIPES[job.recipe].needs(job.config)
        settings: Any = job.config
        needs = replace(needs, poses=needs.poses or settings.sweeps > 1)
        _check_all(job, word, frames, needs)
        bad = faults(word.path, frames, needs)
        if bad:
            _tell(word, bad, len(frames), skip=skip_bad and not resumed)
            skipped[name] = sorted(bad)
        _check_places(word, [frame for frame in frames if frame.position not in bad], needs)
    return replace(job, skipped=skipped)


def _frames(word: DataWord, skipped: Sequence[int]) -> list[FrameFacts]:
    """Facts about the frames of a recording that are not left out, with the cameras that are asked for."""
    options = folder_options(word.options)
    found = inspect_folder(word.path, outside=options.get("outside") == "1", say=typer.echo)
    frames = [frame for frame in found if frame.position not in skipped]
    if "cameras" not in options:
        return frames
    asked = options["cameras"].split(",")
    seen = [[name for name in frame.cameras if name in asked] for frame in frames]
    return [
        replace(frame, cameras=cameras, images=bool(cameras))
        for frame, cameras in zip(frames, seen, strict=True)
    ]


def _check_all(job: Job, word: DataWord, frames: Sequence[FrameFacts], needs: Needs) -> None:
    """Refuse a recording that has nothing of what is needed, and say what can be done with it."""
    readable = [frame for frame in frames if not frame.faults]
    lacking = missing(readable, needs) if readable else []
    if not lacking:
        return
    advice = "no recipe learns from what it has"
    others = [
        name
        for name, entry in RECIPES.items()
        if not missing(readable, entry.needs(entry.presets["tiny"])) and name != job.recipe
    ]
    if others:
        advice = f"what learns from it: {', '.join(others)}"
    for way in [needs.ways[name] for name in lacking if name in needs.ways]:
        changed = resolve(job.config, [parse_assignment(way)])
        if not missing(readable, RECIPES[job.recipe].needs(changed)):
            advice = f"set {way}"
    what = " and no ".join(NAMES[name] for name in lacking)
    raise ValueError(f"data: {word.path} has no {what}: {job.recipe} needs them; {advice}")


def _check_places(word: DataWord, frames: Sequence[FrameFacts], needs: Needs) -> None:
    """Refuse a rig that has more cameras than the recipe has places."""
    rig = list(dict.fromkeys(name for frame in frames for name in frame.cameras))
    if needs.most_cameras and len(rig) > needs.most_cameras[0]:
        most, setting = needs.most_cameras
        raise ValueError(
            f"{setting}: expected at least {len(rig)}, for {word.path} has the cameras {', '.join(rig)}, got "
            f"{most}; set {setting}={len(rig)}, or choose: folder:PATH?cameras={','.join(rig[:most])}"
        )


def _tell(word: DataWord, bad: dict[int, list[str]], count: int, *, skip: bool) -> None:
    """List what is wrong with frames; unless they are left out, or where none stays, this is an error."""
    lines = [line for of_frame in bad.values() for line in of_frame]
    alone = len(lines) == 1 and not skip
    for line in lines[:MOST_LINES] if not alone else ():
        typer.echo(line, err=True)
    if len(lines) > MOST_LINES:
        typer.echo(f"... and {len(lines) - MOST_LINES} more", err=True)
    if skip and len(bad) < count:
        typer.echo(f"left out: {len(bad)} of {count} frames of {word.path}")
        return
    what = f"data: {len(bad)} of {count} frames of {word.path} are bad, as listed above"
    way = "; mend them, or leave them out with --skip-bad" if len(bad) < count else ""
    raise ValueError(f"{lines[0] if alone else what}{way}")
