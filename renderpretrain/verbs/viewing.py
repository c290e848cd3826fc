"""``view``: a run or a recording in a browser."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.data.checking import recordings_of
from renderpretrain.data.drive import driven_track
from renderpretrain.data.open import KINDS
from renderpretrain.data.scene import Recording
from renderpretrain.recipes.features import FeaturePalette, Features, encoder_features
from renderpretrain.runs import TrainedRun, read_run
from renderpretrain.runs.checkpoint import load_checkpoint, step_checkpoints
from renderpretrain.training import choose_device
from renderpretrain.training.trained import fresh_recipe, load_recipe
from renderpretrain.verbs.inspecting import open_to_look
from renderpretrain.verbs.scenes import scenes_of
from renderpretrain.viewer import (
    Contents,
    Source,
    Viewer,
    check_viser,
    recording_contents,
    trained_contents,
)

Say = Callable[[str], None]

WIDTH = 480
"""Pixels of a recording's pictures at most: a browser holds all of a scene at once."""

SPLITS = ("all", "training", "held-out")
"""Which scenes of a run can be chosen."""


def view(  # noqa: PLR0913  what the flags of the command line say
    target: str,
    *,
    scene: int | None = None,
    split: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    device: str = "auto",
    say: Say = print,
) -> None:
    """Serve a page that shows a run or a recording, until the process is ended.

    Args:
        target: A run folder, or what :func:`~renderpretrain.data.open_data` opens.
        scene: The first scene that is shown, counted from 0; of a run the first held-out one by default.
        split: Which scenes of a run can be chosen: ``all`` (default), ``training`` or ``held-out``.
        host: Where to listen.
        port: Likewise; 0 is any that is free.
        device: Where a run's recipe computes.
        say: Told the address, and what goes wrong.

    Raises:
        ValueError: Naming the flag or the file that is wrong, before anything listens.
    """
    viewer = open_viewer(target, scene=scene, split=split, host=host, port=port, device=device, say=say)
    say(f"{viewer.address} shows {viewer.source.title}; Ctrl-C ends it")
    viewer.run()


def open_viewer(  # noqa: PLR0913  as above
    target: str,
    *,
    scene: int | None,
    split: str | None,
    host: str,
    port: int,
    device: str,
    say: Say,
) -> Viewer:
    """A page that has begun to listen; see :func:`view`."""
    check_viser()
    if (Path(target) / "config.yaml").is_file():
        source: Source = RunSource(Path(target), split or "all", device, say)
    elif split is not None:
        raise ValueError(f"split: expected a run folder, whose scenes are split, got {target}")
    else:
        source = RecordingSource(target)
    first = source.scenes[0] if scene is None else scene
    if scene is None and isinstance(source, RunSource):
        first = source.first
    if first not in source.scenes:
        low, high = source.scenes[0], source.scenes[-1]
        raise ValueError(f"scene: expected a number from {low} to {high}, got {first}")
    return Viewer(source, scene=first, host=host, port=port, say=say)


class RecordingSource:
    """The scenes of a data set.

    Args:
        spec: As for :func:`~renderpretrain.data.open_data`, or a folder with ``frames.json``.

    Raises:
        ValueError: If it cannot be opened, is empty, or names several data sets.
    """

    def __init__(self, spec: str) -> None:
        _check_named(spec)
        words = recordings_of(spec)
        if len(words) > 1:
            raise ValueError(f"data: expected one data set to look at, got {len(words)}: {spec}")
        self.title = str(words[0].alone)
        self.dataset = open_to_look(words[0], width=WIDTH, with_truth=True)
        self.scenes: Sequence[int] = range(len(self.dataset))
        self.states: Sequence[str] = ()
        if not self.scenes:
            raise ValueError(f"{spec}: expected scenes, found none")

    def at_once(self, scene: int) -> None:
        """Nothing, for a recording is shown without computing."""

    def contents(self, scene: int, state: int) -> Contents:
        """What the recording holds of a scene."""
        return _as_recorded(self.dataset, scene, f"scene {scene} of {len(self.dataset)}")


def _as_recorded(dataset: SceneDataset, scene: int, which: str) -> Contents:
    """A scene without any recipe; without pictures, and saying why, where these cannot be read."""
    remarks: tuple[str, ...] = ()
    try:
        moment = dataset[scene]
    except (ValueError, OSError) as error:
        if not isinstance(dataset, Recording):
            raise
        moment, remarks = dataset.without_images(scene), (f"pictures of the scene: {error}",)
        if moment.cameras is not None:  # a room's views are their pictures
            raise
    track = driven_track(moment, dataset, scene)
    contents = recording_contents(moment, track, title=f"{moment.name}, {which}")
    return replace(contents, remarks=(*remarks, *contents.remarks))


def _check_named(spec: str) -> None:
    """Refuse a text that is neither a data set's word nor a folder that can be shown."""
    folder = Path(spec).expanduser()
    if spec in KINDS or (folder / "frames.json").is_file():
        return
    if folder.is_dir():
        raise ValueError(
            f"{spec}: expected a run folder with config.yaml or a recording with frames.json, found "
            f"neither; name a recording's format, such as nuscenes:{spec}"
        )
    if ":" not in spec and not spec.startswith("synthetic"):
        raise ValueError(
            f"{spec}: expected a run folder or a data set, found no folder of that name; data sets are "
            "synthetic, synthetic-room, or a format and a path, such as nuscenes:PATH"
        )


class RunSource:
    """The scenes of a run, as its recipe sees them before training and at each of its checkpoints.

    Attributes:
        first: The scene that is shown first: a held-out one, if that can be chosen.

    Args:
        run: Its folder.
        split: One of :data:`SPLITS`.
        device: Where to compute.
        say: Told what is worth a word.

    Raises:
        ValueError: If the run cannot be read, or its scenes cannot be opened.
    """

    def __init__(self, run: Path, split: str, device: str, say: Say) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        self.read, self.say, self.device = read_run(run).checked(), say, choose_device(device)
        self.dataset, held_out = scenes_of(self.read.description, None, say=say)
        border = len(self.dataset) - held_out
        chosen = {"all": range(len(self.dataset)), "training": range(border)}
        self.scenes: Sequence[int] = chosen.get(split, range(border, len(self.dataset)))
        if not self.scenes:
            raise ValueError(f"split: expected scenes, got {split}, of which {run} has none")
        self.first = border if border in self.scenes else self.scenes[0]
        self.title = f"{self.read.description.title}, {run}"
        steps = step_checkpoints(self.read.folder.checkpoints)
        self.files = {step: path for step, path in steps.items() if step < self.read.step}
        self.files[self.read.step] = self.read.checkpoint
        self.states: Sequence[str] = ("fresh", *(f"step {step}" for step in self.files))
        # Weights and scenes are kept for those who go back and forth; each is some megabytes.
        self.recipe = lru_cache(3)(self._recipe)
        self.palette = lru_cache(8)(self._palette)
        self.features = lru_cache(16)(self._features)
        self.contents = lru_cache(16)(self._contents)

    def at_once(self, scene: int) -> Contents:
        """A scene as it was recorded."""
        return _as_recorded(self.dataset, scene, f"scene {scene}")

    def _contents(self, scene: int, state: int) -> Contents:
        """A scene, and what the recipe makes of it at a state; kept for the last few."""
        moment = self.dataset[scene]
        colored = {
            "features before": (self.features(scene, 0), self.palette(0)),
            "features after": (self.features(scene, state), self.palette(state)),
        }
        title = f"{moment.name}, scene {scene}, {self.states[state]}"
        track = driven_track(moment, self.dataset, scene)
        return trained_contents(self.recipe(state), moment, colored, track, title=title)

    def _recipe(self, state: int) -> nn.Module:
        """The recipe with the weights of a state."""
        if state == 0:
            return fresh_recipe(self.read.description, self.device).eval()
        path = list(self.files.values())[state - 1]
        return load_recipe(self._at(path), self.device, say=self.say).eval()

    def _at(self, path: Path) -> TrainedRun:
        """The run as one of its checkpoints has it."""
        if path == self.read.checkpoint:
            return self.read
        return replace(self.read, checkpoint=path, state=load_checkpoint(path)).checked()

    def _features(self, scene: int, state: int) -> Features:
        """What the encoders say of a scene at a state."""
        return encoder_features(self.recipe(state), self.dataset[scene])

    def _palette(self, state: int) -> FeaturePalette:
        """Colours of features of a state: of the first scene, and the same in all."""
        return FeaturePalette.of(self.features(self.first, state))
