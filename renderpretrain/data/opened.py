"""The word that opens a data set again, where there is one."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from renderpretrain.data.folder.order import MAX_GAP
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.mixed import MixedScenes
from renderpretrain.data.scene import SceneDataset
from renderpretrain.data.shards.reading import ShardScenes
from renderpretrain.data.synthetic.room import SyntheticRoom
from renderpretrain.data.synthetic.street import SyntheticStreet
from renderpretrain.data.words import SHARDS, DataWord


def word_of(dataset: SceneDataset, *, frames_per_street: int = 1) -> str | None:
    """What ``open_data`` opens as this data set, given image size and sweeps; ``None`` without such a word.

    Frames of a folder that are left out, and places of cameras, are said elsewhere.

    Args:
        dataset: Any.
        frames_per_street: Consecutive scenes of a synthetic street, as the word would be opened.
    """
    if isinstance(dataset, SceneFolder):
        return str(DataWord(dataset.reader.name, str(dataset.path.expanduser().resolve()), _options(dataset)))
    if isinstance(dataset, ShardScenes):
        told = {**dataset.options, "cameras": dataset.asked_cameras}
        return str(DataWord(SHARDS, dataset.location, _written(told)))
    if isinstance(dataset, MixedScenes):
        return _mixture(dataset)
    if isinstance(dataset, SyntheticStreet):
        plain = SyntheticStreet(
            len(dataset),
            image_size=dataset.image_size,
            sweeps=dataset.sweeps,
            frames_per_street=frames_per_street,
            with_truth=dataset.with_truth,
        )
        return "synthetic" if dataset == plain else None
    if isinstance(dataset, SyntheticRoom):
        size, night = dataset.image_size, dataset.night
        bare = SyntheticRoom(len(dataset), image_size=size, night=night, with_truth=dataset.with_truth)
        return ("synthetic-room-night" if night else "synthetic-room") if dataset == bare else None
    return None


def _mixture(dataset: MixedScenes) -> str | None:
    """The word of several folders; synthetic scenes among them would be opened in other numbers."""
    words = [word_of(one) for one in dataset.datasets if isinstance(one, SceneFolder)]
    if len(words) < len(dataset.datasets):
        return None
    shares = [""] * len(words) if dataset.shares is None else [f"@{share}" for share in dataset.shares]
    return "+".join(f"{word}{share}" for word, share in zip(words, shares, strict=True))


def _options(folder: SceneFolder) -> str:
    """What follows a folder's path where it was not opened as it is."""
    own = [f"{name}={_said(value)}" for name, value in folder.reader.values.items()]
    return "&".join([*own, *filter(None, [_written(folder.arguments)])])


def _written(arguments: Mapping[str, Any]) -> str:
    """Options of all recordings where they are not the standard."""
    told = []
    for name, (standard, say) in WRITTEN.items():
        value = arguments.get(name, standard)
        if value != standard:
            told.append(f"{name}={say(value)}")
    return "&".join(told)


def _said(value: Any) -> str:
    """The value of a reader's option as a word says it."""
    if isinstance(value, tuple):
        return ",".join(quote(str(item), safe="") for item in value)
    return str(int(value)) if isinstance(value, bool) else quote(str(value), safe="")


WRITTEN: dict[str, tuple[Any, Callable[[Any], str]]] = {
    "sensor_origin": (None, lambda origin: ",".join(map(repr, origin))),
    "max_points": (None, str),
    "views_per_scene": (None, str),
    "held_out_every": (None, str),
    "max_gap": (MAX_GAP, repr),
    "cameras": (None, lambda names: ",".join(quote(name, safe="") for name in names)),
    "fit": (None, str),
    "deskew": (False, lambda deskew: str(int(deskew))),
    "outside": (False, lambda outside: str(int(outside))),
}
"""Options of a folder's word: the value that needs no word, and how others are written. ``fit`` is always
said: words of before there was one mean ``stretch`` (:func:`renderpretrain.runs.saved.saved_tree`)."""
