"""Before the first step: whether all frames can be read, and have what the recipe learns from."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from renderpretrain.data import (
    FrameFacts,
    Needs,
    Scene,
    SceneDataset,
    SceneFolder,
    faults,
    inspect_folder,
    missing,
)
from renderpretrain.data.folder.fields import brief
from renderpretrain.data.folder.grouping import grouped
from renderpretrain.data.folder.index import FRAMES_JSON
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folders_within import camera_places, with_folders
from renderpretrain.data.words import DataWord, data_words
from renderpretrain.recipes import RECIPES, RecipeEntry
from renderpretrain.recipes.recipe import settings_of
from renderpretrain.runs import RunDescription, RunFolder
from renderpretrain.runs.entries import needs_of
from renderpretrain.runs.settings import resolve
from renderpretrain.storage.yaml_text import read_yaml_mapping
from renderpretrain.terminal import printable
from renderpretrain.training.run import RunOptions

MOST_LINES = 20
"""Faults that are listed; of the others the number is said."""

NAMES = {"images": "images", "points": "points", "depths": "depth images", "labels": "classes (semseg)"}
"""How messages call what a recording may lack."""


SAMPLED_SCENES = 3
"""Scenes of data that is no recording, evenly spread."""


def _print(line: str) -> None:
    """Print a line to the standard output."""
    sys.stdout.write(printable(line) + "\n")


def _print_warning(line: str) -> None:
    """Print a line to the standard error."""
    sys.stderr.write(printable(line) + "\n")


def _print_nothing(line: str) -> None:
    """Print nothing, because another process prints the line."""


@dataclass(frozen=True)
class FolderFrames:
    """The frames of a folder that are to be learned from.

    Attributes:
        path: The folder.
        outside: Whether ``frames.json`` may name files outside of the folder.
        cameras: Names of the cameras that are asked for; ``None`` for all.
        sweeps: How many are merged.
        skipped: Positions of the frames that are left out already.
        reader: Of the recording's format.
    """

    path: str | Path
    outside: bool = False
    cameras: Sequence[str] | None = None
    sweeps: int = 1
    skipped: Collection[int] = ()
    reader: Reader = FRAMES_JSON

    @classmethod
    def of(cls, folder: SceneFolder) -> "FolderFrames":
        """What an open folder reads."""
        return cls(
            folder.path,
            folder.access.outside,
            folder.asked_cameras,
            folder.sweeps,
            folder.skipped,
            folder.reader,
        )

    def frames(self, say: Callable[[str], None]) -> list[FrameFacts]:
        """Facts about the frames that are not left out, with the cameras that are asked for."""
        found = inspect_folder(
            self.path, outside=self.outside, reader=self.reader, sweeps=self.sweeps, say=say
        )
        frames = [frame for frame in found if frame.position not in self.skipped]
        if self.cameras is None:
            return frames
        seen = [[name for name in frame.cameras if name in self.cameras] for frame in frames]
        return [
            replace(frame, cameras=cameras, images=bool(cameras))
            for frame, cameras in zip(frames, seen, strict=True)
        ]


@dataclass(frozen=True)
class Preflight:
    """The look at all frames of a recording that comes before learning from it.

    Attributes:
        recipe: How messages call it.
        config: Its configuration, which says what it needs; of one that is not ours, frames are only read.
        skip_bad: Leave bad frames out rather than refuse them.
        skipping: How the user asks for that.
        say: Told what takes time and what is left out.
        warn: Told what is wrong.
    """

    recipe: str
    config: BaseModel | None
    skip_bad: bool = False
    skipping: str = "RunOptions(skip_bad=True)"
    say: Callable[[str], None] = _print
    warn: Callable[[str], None] = _print_warning

    def bad_frames(self, recording: FolderFrames) -> list[int]:
        """Positions of the frames to leave out, rising; each with its reason is told.

        Raises:
            ValueError: If the recording has nothing of what the recipe needs, or frames are bad and stay in.
        """
        frames, needs = recording.frames(self.say), needs_of(self.config)
        needs = replace(needs, sweeps=recording.sweeps > 1)
        self._check_all(recording.path, frames, needs)
        bad = faults(Path(recording.path) / recording.reader.table, frames, needs)
        if bad:
            self._report_faults(recording.path, bad, len(frames))
        _check_places(recording.path, [frame for frame in frames if frame.position not in bad], needs)
        return sorted(bad)

    def check_scenes(self, scenes: Sequence[Scene]) -> None:
        """Raise a ``ValueError`` if none of some scenes has what the recipe needs."""
        seen = [
            FrameFacts(
                position,
                scene.name,
                images=scene.images is not None,
                points=len(scene.points) > 0,
                depths=scene.z_depths is not None,
                labels=scene.point_labels is not None or scene.pixel_labels is not None,
            )
            for position, scene in enumerate(scenes)
        ]
        self._check_all(f"the data set of {scenes[0].name}", seen, needs_of(self.config))

    def _check_all(self, path: str | Path, frames: Sequence[FrameFacts], needs: Needs) -> None:
        """Refuse a recording that has nothing of what is needed, and say what can be done with it."""
        readable = [frame for frame in frames if not frame.faults]
        lacking = missing(readable, needs) if readable else []
        if not lacking:
            return
        advice = "no recipe learns from what it has"
        others = [
            name
            for name, entry in RECIPES.items()
            if name != self.recipe and any(not missing(readable, needs) for needs in _possible_needs(entry))
        ]
        if others:
            advice = f"what learns from it: {', '.join(others)}"
        for way in [needs.ways[name] for name in lacking if name in needs.ways]:
            if self.config and not missing(readable, needs_of(_changed(self.config, way))):
                advice = f"set {way}"
        what = " and no ".join(NAMES[name] for name in lacking)
        raise ValueError(f"data: {path} has no {what}: {self.recipe} needs them; {advice}")

    def _report_faults(self, path: str | Path, bad: dict[int, list[str]], count: int) -> None:
        """List what is wrong with frames; unless they are left out, or where none stays, it is an error."""
        lines = grouped(line for of_frame in bad.values() for line in of_frame)
        alone = len(lines) == 1 and not self.skip_bad
        for line in lines[:MOST_LINES] if not alone else ():
            self.warn(line)
        if len(lines) > MOST_LINES:
            self.warn(f"... and {len(lines) - MOST_LINES} more")
        if self.skip_bad and len(bad) < count:
            self.say(f"left out: {len(bad)} of {count} frames of {path}")
            return
        what = f"data: {len(bad)} of {count} frames of {path} are bad, as listed above"
        way = f"; mend them, or leave them out with {self.skipping}" if len(bad) < count else ""
        raise ValueError(f"{lines[0] if alone else what}{way}")


def without_bad_frames(
    recipe: nn.Module,
    dataset: SceneDataset,
    description: RunDescription,
    folder: RunFolder,
    options: RunOptions,
    aloud: bool = True,
) -> tuple[SceneDataset, RunDescription]:
    """The data set without its bad frames, and the run's description with what it must remember of them.

    That is ``skipped``, the frames that are left out, and ``cameras``, the places of cameras by their names.

    Args:
        recipe: What is to learn; its ``config``, where it is one of ours, says what it needs.
        dataset: All frames of the scene folders in it are looked at, of other data a few scenes.
        description: Of the run.
        folder: The run's, which remembers what a resumed run has left out.
        options: Whether to look, and whether bad frames are left out.
        aloud: Whether this process speaks.

    Raises:
        ValueError: As :meth:`Preflight.bad_frames` does.
    """
    preflight = Preflight(
        type(recipe).__name__ if options.description is None else description.recipe,
        settings_of(recipe),
        skip_bad=options.skip_bad and not options.resume,
        say=_print if aloud else _print_nothing,
        warn=_print_warning if aloud else _print_nothing,
    )
    skipped, places = _before(folder) if options.resume else ({}, {})
    folders = []

    def look(one: SceneFolder) -> SceneFolder:
        name = _word_of(one, description.data, skipped)
        known = set(skipped.get(name, ()))
        one = one if known <= one.skipped else one.without(known)
        bad = preflight.bad_frames(FolderFrames.of(one)) if options.check_data else []
        if bad:
            skipped[name] = sorted({*known, *bad})
        folders.append(one)
        return one.without(bad) if bad else one

    dataset = with_folders(dataset, look)
    if options.check_data and not folders:
        preflight.check_scenes(
            [dataset[i] for i in range(0, len(dataset), -(-len(dataset) // SAMPLED_SCENES))]
        )
    cameras = camera_places(dataset)
    _check_cameras(cameras, places)
    remembered = replace(description, cameras=cameras or description.cameras)
    return dataset, replace(remembered, skipped=skipped or description.skipped)


def _check_cameras(cameras: Mapping[str, int], places: Mapping[str, int]) -> None:
    """Raise a ``ValueError`` where a camera does not stand where the resumed run had it."""
    for name, place in cameras.items():
        if places.get(name, place) != place:
            raise ValueError(
                f"cameras: expected {brief(name)} at place {places[name]}, as in the resumed run, got "
                f"{place}; open the data with places={dict(places)}"
            )


def _before(folder: RunFolder) -> tuple[dict[str, list[int]], dict[str, int]]:
    """What a resumed run has left out, by the word of the recording, and the places of its cameras."""
    saved = read_yaml_mapping(folder.config) if folder.config.is_file() else {}
    skipped, places = (saved.get(name) or {} for name in ("skipped", "cameras"))
    if not isinstance(skipped, dict) or not all(isinstance(each, list) for each in skipped.values()):
        raise ValueError(f"{folder.config}: skipped: expected positions of frames by their recording")
    if not isinstance(places, dict):
        raise ValueError(f"{folder.config}: cameras: expected places by the names of cameras")
    return skipped, places


def _word_of(folder: SceneFolder, data: str, known: Iterable[str]) -> str:
    """What a run calls a folder: as it did before, else as its ``data`` says, else by its path."""
    path = folder.path.resolve()
    words = [word.alone for text in (data, *known) for word in data_words(text)]
    named = [str(word) for word in words if word.path and Path(word.path).expanduser().resolve() == path]
    before = [name for name in named if name in known]
    own = DataWord(folder.reader.name, str(path)).fitted(folder.arguments["fit"])
    return next(iter(before or named), str(own))


def _possible_needs(entry: RecipeEntry) -> list[Needs]:
    """What a recipe needs as it is, and of posed photographs alone where it can learn from them."""
    tiny = entry.presets["tiny"]
    needs = [entry.needs(tiny)]
    if entry.photographs is not None:
        changes = entry.photographs((-1.0, -1.0, -1.0, 1.0, 1.0, 1.0), 4.0)
        needs.append(entry.needs(resolve(tiny, [dict(changes)])))
    return needs


def _changed(config: BaseModel, way: str) -> BaseModel:
    """A configuration with one setting, ``a.b=c``, changed."""
    name, _, value = way.partition("=")
    *sections, last = name.split(".")
    tree = section = config.model_dump(mode="json")
    for part in sections:
        section = section[part]
    section[last] = value
    return type(config).model_validate(tree)


def _check_places(path: str | Path, frames: Sequence[FrameFacts], needs: Needs) -> None:
    """Refuse a rig that has more cameras than the recipe has places."""
    rig = list(dict.fromkeys(name for frame in frames for name in frame.cameras))
    if needs.most_cameras and len(rig) > needs.most_cameras[0]:
        most, setting = needs.most_cameras
        raise ValueError(
            f"{setting}: expected at least {len(rig)}, for {path} has the cameras {', '.join(rig)}, got "
            f"{most}; set {setting}={len(rig)}, or choose: folder:PATH?cameras={','.join(rig[:most])}"
        )
