"""From the word a user types to a data set."""

import re
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from renderpretrain.data.mixed import MixedScenes, held_out_of_each
from renderpretrain.data.scene import SceneDataset
from renderpretrain.data.scene_folder import SceneFolder
from renderpretrain.data.synthetic_room import SyntheticRoom
from renderpretrain.data.synthetic_street import SyntheticStreet

ROOMS = ("synthetic-room", "synthetic-room-night")
KINDS = ("synthetic", *ROOMS, "folder:PATH")

PLUS = re.compile(r"\+(?=synthetic|folder:)")
"""What joins data sets; a plus sign within a path does not."""

SHARE = re.compile(r"(.*?)(?:@(\d+))?")
"""A data set and its share."""

FOLDER_COUNTS = ("max_points", "views_per_scene", "held_out_every")
"""Options of a folder that are whole numbers, by the names of its arguments."""

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
) -> SceneDataset:
    """The data set a word names.

    Args:
        spec: ``synthetic`` (streets), ``synthetic-room``, ``synthetic-room-night``, or ``folder:PATH``.
            Options of a folder may follow its path:
            ``folder:PATH?sensor_origin=0,0.6,1.8&max_points=60000&views_per_scene=4``. Several data sets,
            joined with ``+``, are mixed; after an ``@`` stands how often one occurs relative to the others:
            ``folder:A@4+folder:B@2+folder:C``. See :class:`MixedScenes`.
        image_size: ``(height, width)``; ``None`` is the simulator's default or the folder's own size.
        seed: Which synthetic scenes.
        sweeps: LiDAR sweeps per scene.
        num_scenes: How many synthetic scenes, 64 when absent, the held-out ones included; a folder has as
            many as it has. Of a mixture, every synthetic set has so many to train on.
        holdout: How many of the last scenes are held out: a mixture takes them from all its sets.
        frames_per_street: Consecutive scenes that show one synthetic street; other data is as it is.
        with_truth: Whether synthetic scenes carry exact answers, which training does not need.

    Raises:
        ValueError: For an unknown word, with the kinds there are and the nearest one.
    """
    count = NUM_SCENES if num_scenes is None else num_scenes
    parts = data_sets(spec)
    if len(parts) > 1:
        options = {"image_size": image_size, "seed": seed, "sweeps": sweeps, "with_truth": with_truth}
        return _mixed(parts, holdout, count - holdout, options | {"frames_per_street": frames_per_street})
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        return _folder(rest, image_size, sweeps)
    if spec == "synthetic":
        size = image_size or (96, 160)
        return SyntheticStreet(
            count,
            seed=seed,
            image_size=size,
            sweeps=sweeps,
            frames_per_street=frames_per_street,
            with_truth=with_truth,
        )
    if spec in ROOMS:
        size, night = image_size or (96, 128), spec.endswith("night")
        return SyntheticRoom(count, seed=seed, image_size=size, night=night, with_truth=with_truth)
    near = get_close_matches(kind, [k.partition(":")[0] for k in KINDS], n=1, cutoff=0.5)
    hint = f"; did you mean {next(k for k in KINDS if k.partition(':')[0] == near[0])}?" if near else ""
    raise ValueError(f"data: expected one of {', '.join(KINDS)}, got {spec!r}{hint}")


def data_sets(spec: str) -> list[str]:
    """The data sets that a word joins, in the order of their numbers, with their shares."""
    return PLUS.split(spec)


def named(part: str) -> str:
    """A data set without its share."""
    return SHARE.fullmatch(part).group(1)  # type: ignore[union-attr]  # it matches everything


def _mixed(parts: list[str], holdout: int, training: int, options: dict[str, Any]) -> MixedScenes:
    """Several data sets as one; synthetic ones have ``training`` scenes to train on each."""
    opened, shares = [], []
    for part, held_out in zip(parts, held_out_of_each(holdout, len(parts)), strict=True):
        name, share = SHARE.fullmatch(part).groups()  # type: ignore[union-attr]  # it matches everything
        opened.append(open_data(name, num_scenes=training + held_out, **options))
        shares.append(share)
    if not any(shares):
        return MixedScenes(opened, holdout=holdout)
    return MixedScenes(opened, holdout=holdout, shares=[int(share or 1) for share in shares])


def _folder(rest: str, image_size: tuple[int, int] | None, sweeps: int) -> SceneFolder:
    """A scene folder with the options after its path."""
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        origin = options.pop("sensor_origin", None)
        x, y, z = (float(part) for part in origin.split(",")) if origin else (0.0, 0.0, 0.0)
        numbers = {name: int(options.pop(name)) for name in FOLDER_COUNTS if name in options}
    except ValueError:
        raise ValueError(f"data: {query}: expected sensor_origin=x,y,z and whole numbers") from None
    if options:
        raise ValueError(
            f"data: expected the options sensor_origin, {', '.join(FOLDER_COUNTS)}, got {', '.join(options)}"
        )
    return SceneFolder(
        path,
        image_size=image_size,
        sweeps=sweeps,
        sensor_origin=(x, y, z) if origin else None,
        **numbers,
    )
