"""The look at all frames before the first step, for the recordings that a job names."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import typer

from renderpretrain.data.words import DataWord, data_words, folder_options, listed
from renderpretrain.runs import RunDescription
from renderpretrain.training.preflight import FolderFrames, Preflight


def checked(job: RunDescription, *, skip_bad: bool, resumed: bool) -> RunDescription:
    """The job, its recordings looked at frame by frame; says which frames are left out and why.

    Args:
        job: What is to run.
        skip_bad: Whether bad frames are left out rather than refused.
        resumed: Whether the run has begun; then the frames that it leaves out are known.

    Raises:
        ValueError: If a recording has nothing of what the recipe needs, or frames are bad and stay in.
    """
    preflight = Preflight(
        job.recipe,
        job.config,
        skip_bad=skip_bad and not resumed,
        skipping="--skip-bad",
        say=typer.echo,
        warn=partial(typer.echo, err=True),
    )
    skipped = dict(job.skipped)
    for word in data_words(job.data):
        if word.kind == "folder" and word.path:
            name = str(word.alone)
            known = skipped.get(name, ())
            bad = preflight.bad_frames(_frames(job, word, known))
            skipped |= {name: sorted({*known, *bad})} if bad else {}
    return replace(job, skipped=skipped)


def _frames(job: RunDescription, word: DataWord, skipped: Collection[int]) -> FolderFrames:
    """What a word says of a folder."""
    options = folder_options(word.options)
    asked = listed(options["cameras"]) if "cameras" in options else None
    sweeps = job.settings.sweeps
    return FolderFrames(word.path, options.get("outside") == "1", asked, sweeps, skipped)
