"""From the word a user types to a data set."""

import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from renderpretrain.data.arranged import ArrangedScenes
from renderpretrain.data.camera_places import common_places
from renderpretrain.data.folder.access import INDEX
from renderpretrain.data.folder.fitting import FITS
from renderpretrain.data.folder.reader import Option
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.mixed import MixedScenes, held_out_of_each
from renderpretrain.data.readers import READERS
from renderpretrain.data.scene import SceneDataset
from renderpretrain.data.shards.reading import ShardScenes
from renderpretrain.data.synthetic.room import SyntheticRoom
from renderpretrain.data.synthetic.street import SyntheticStreet
from renderpretrain.data.words import SHARDS, DataWord, data_words, folder_options, listed

ROOMS = ("synthetic-room", "synthetic-room-night")
KINDS = ("synthetic", *ROOMS, *(f"{name}:PATH" for name in (*READERS, SHARDS)))

NUM_SCENES = 64
"""Synthetic scenes where the user does not say."""


def open_data(  # noqa: PLR0913  one keyword per property of the data
    spec: str,
    *,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    sweeps: int = 1,
    num_scenes: int | None = None,
    holdout: int = 0,
    frames_per_street: int = 1,
    with_truth: bool = True,
    skip: Mapping[str, Collection[int]] | None = None,
    places: Mapping[str, int] | None = None,
) -> SceneDataset:
    """The data set a word names.

    Args:
        spec: ``synthetic`` (streets), ``synthetic-room``, ``synthetic-room-night``, or ``NAME:PATH`` with the
            name of a format (:data:`renderpretrain.data.readers.READERS`): ``folder:PATH`` is the project's
            own, ``frames.json``; ``shards:PATH`` is what was prepared as tar files,
            at a path or URL. Options of a recording may follow its path:
            ``folder:PATH?sensor_origin=0,0.6,1.8&max_points=60000&views_per_scene=4``. Several data sets,
            joined with ``+``, are mixed; after an ``@`` stands how often one occurs relative to the others:
            ``folder:A@4+folder:B@2+folder:C``. See :class:`MixedScenes`. A folder whose own name contains
            these characters is taken by its name where it exists, and may be written with ``%2B``, ``%40``
            and ``%3F`` in their place.
        image_size: ``(height, width)``; ``None`` is the simulator's default or the folder's own size.
        seed: Which synthetic scenes.
        sweeps: LiDAR sweeps per scene.
        num_scenes: How many synthetic scenes, 64 when absent, the held-out ones included; a folder has as
            many as it has. Of a mixture, every synthetic set has so many to train on.
        holdout: How many of the last scenes are held out: a mixture takes them from all its sets.
        frames_per_street: Consecutive scenes that show one synthetic street; other data is as it is.
        with_truth: Whether synthetic scenes carry exact answers, which training does not need.
        skip: Frames of folders to leave out, by the word that names the folder and their positions.
        places: Of cameras by their names, as another data set has them.

    Raises:
        ValueError: For an unknown word, with the kinds there are and the nearest one.
    """
    count = NUM_SCENES if num_scenes is None else num_scenes
    words = data_words(spec)
    if len(words) > 1:
        options: dict[str, Any] = {"image_size": image_size, "seed": seed, "sweeps": sweeps}
        options |= {"frames_per_street": frames_per_street, "with_truth": with_truth}
        options |= {"skip": skip, "places": places}
        return _mixed(words, holdout, count - holdout, options)
    (word,) = words
    told: dict[str, Any] = {"image_size": image_size, "sweeps": sweeps, "places": places}
    if word.is_recording:
        left_out = (skip or {}).get(str(word.alone), ())
        return SceneFolder(word.path, skip=left_out, **{**told, **folder_arguments(word)})
    if word.kind == SHARDS and word.path:
        return ShardScenes(word.path, **told, **_told(word, {}))
    if word.kind == "synthetic":
        made: dict[str, Any] = {"seed": seed, "sweeps": sweeps, "with_truth": with_truth}
        made |= {"image_size": image_size or (96, 160), "frames_per_street": frames_per_street}
        return _in_places(SyntheticStreet(count, **made), places)
    if word.kind in ROOMS:
        size, night = image_size or (96, 128), word.kind.endswith("night")
        return SyntheticRoom(count, seed=seed, image_size=size, night=night, with_truth=with_truth)
    raise ValueError(f"data: expected one of {', '.join(KINDS)}, got {spec!r}{_hint(spec)}")


def _in_places(street: SyntheticStreet, places: Mapping[str, int] | None) -> SceneDataset:
    """A street whose cameras stand where those of their names do."""
    (names,) = common_places([street.camera_names], places)
    return street if names == street.camera_names else ArrangedScenes(street, names)


def _hint(spec: str) -> str:
    """What the user may have meant."""
    if (Path(spec) / INDEX).is_file():
        return f"; did you mean folder:{spec}?"
    names = {name.partition(":")[0]: name for name in KINDS}
    near = get_close_matches(spec.partition(":")[0], names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _mixed(words: tuple[DataWord, ...], holdout: int, training: int, options: dict[str, Any]) -> MixedScenes:
    """Several data sets as one; synthetic ones have ``training`` scenes to train on each."""
    counts = held_out_of_each(holdout, len(words))
    opened = [
        open_data(str(word.alone), num_scenes=training + held_out, **options)
        for word, held_out in zip(words, counts, strict=True)
    ]
    if all(word.share is None for word in words):
        return MixedScenes(opened, holdout=holdout, places=options["places"])
    shares = [1 if word.share is None else word.share for word in words]
    return MixedScenes(opened, holdout=holdout, shares=shares, places=options["places"])


def _count(least: int) -> Callable[[str], int]:
    """Reads whole numbers from ``least`` on."""

    def read(text: str) -> int:
        value = int(text) if len(text) < 10 else -1
        if value < least:
            raise ValueError
        return value

    return read


def _triple(text: str) -> tuple[float, float, float]:
    """Read three numbers ``x,y,z`` of a word."""
    x, y, z = (float(part) for part in text.split(","))
    if not math.isfinite(x + y + z):
        raise ValueError
    return x, y, z


def _seconds(text: str) -> float:
    """Read a duration in seconds of a word."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _names(text: str) -> tuple[str, ...]:
    """Read names ``a,b,c`` of a word."""
    names = listed(text)
    if "" in names or len(set(names)) < len(names):
        raise ValueError
    return names


OPTIONS: dict[str, Option] = {
    "sensor_origin": (_triple, "x,y,z in metres"),
    "max_points": (_count(1), "a whole number of at least 1"),
    "views_per_scene": (_count(1), "a whole number of at least 1"),
    "held_out_every": (_count(2), "a whole number of at least 2"),
    "max_gap": (_seconds, "a positive number of seconds"),
    "cameras": (_names, "different names with commas"),
    "fit": ({fit: fit for fit in FITS}.__getitem__, " or ".join(FITS)),
    "deskew": ({"0": False, "1": True}.__getitem__, "0 or 1"),
    "outside": ({"0": False, "1": True}.__getitem__, "0 or 1"),
}
"""What may follow a recording's path, by the names of the arguments of :class:`SceneFolder`."""


BESIDE = {
    "sweeps": "--set sweeps=5, or open_data(..., sweeps=5) and SceneFolder(..., sweeps=5) in Python",
    "image_size": "--set image_size=[256,704], or open_data(..., image_size=(256, 704)) in Python",
}
"""What is said beside the data, and how."""


def folder_arguments(word: DataWord) -> dict[str, Any]:
    """What the options of a recording's word say, by the names of :class:`SceneFolder`'s arguments.

    Among them is ``reader``, of the format that the word names, told what the options say to it.

    Raises:
        ValueError: For an option that there is not, or a value that it cannot have.
    """
    reader = READERS[word.kind]
    told = _told(word, reader.options)
    own = {name: told.pop(name) for name in reader.options if name in told}
    return {**told, "reader": reader.told(**own)}


def _told(word: DataWord, own: Mapping[str, Option]) -> dict[str, Any]:
    """The values of a word's options: of a format's own and of those of all recordings."""
    options, values = {**OPTIONS, **own}, dict[str, Any]()
    for name, text in folder_options(word.options).items():
        if name in BESIDE:
            raise ValueError(
                f"data: {name}: expected {BESIDE[name]}, got it as an option of the path: all data sets of a "
                "run have the same"
            )
        if name not in options:
            raise ValueError(f"data: expected the options {', '.join([*own, *OPTIONS])}, got {name[:40]!r}")
        values[name] = _read_option(name, text, options[name])
    return values


def _read_option(name: str, text: str, option: Option) -> Any:
    """The value of an option."""
    read, expected = option
    try:
        return read(text)
    except (ValueError, KeyError):
        raise ValueError(f"data: {name}: expected {expected}, got {text[:40]!r}") from None
