"""The look at all frames before the first step, for the recordings that a run's description names."""

from collections.abc import Collection
from dataclasses import replace

from renderpretrain.data.open import folder_arguments
from renderpretrain.data.words import DataWord, data_words
from renderpretrain.runs import PrintLine, RunDescription
from renderpretrain.training.preflight import FolderFrames, Preflight


def check_recordings(
    description: RunDescription, *, skip_bad: bool, resumed: bool, say: PrintLine, warn: PrintLine
) -> RunDescription:
    """The description, its recordings looked at frame by frame, with the frames that are left out.

    Args:
        description: What is to run.
        skip_bad: Whether bad frames are left out rather than refused.
        resumed: Whether the run has begun; then the frames that it leaves out are known.
        say: Told what takes time, and which frames are left out and why.
        warn: Told what is wrong.

    Raises:
        ValueError: If a recording has nothing of what the recipe needs, or frames are bad and stay in.
    """
    preflight = Preflight(
        description.recipe,
        description.config,
        skip_bad=skip_bad and not resumed,
        skipping="--skip-bad",
        say=say,
        warn=warn,
    )
    skipped = dict(description.skipped)
    for word in data_words(description.data):
        if word.is_recording:
            name = str(word.alone)
            known = skipped.get(name, ())
            bad = preflight.bad_frames(_frames(description, word, known))
            skipped |= {name: sorted({*known, *bad})} if bad else {}
    return replace(description, skipped=skipped)


def _frames(description: RunDescription, word: DataWord, skipped: Collection[int]) -> FolderFrames:
    """What a word says of a folder."""
    told = folder_arguments(word)
    return FolderFrames(
        word.path,
        outside=told.get("outside", False),
        cameras=told.get("cameras"),
        sweeps=description.settings.sweeps,
        skipped=skipped,
        reader=told["reader"],
    )
