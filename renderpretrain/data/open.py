"""From the word a user types to a data set."""

from difflib import get_close_matches
from urllib.parse import parse_qsl

from renderpretrain.data.scene import SceneDataset
from renderpretrain.data.scene_folder import SceneFolder
from renderpretrain.data.synthetic_room import SyntheticRoom
from renderpretrain.data.synthetic_street import SyntheticStreet

KINDS = ("synthetic", "synthetic-room", "folder:PATH")

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
    frames_per_street: int = 1,
    with_truth: bool = True,
) -> SceneDataset:
    """The data set a word names.

    Args:
        spec: ``synthetic`` (streets), ``synthetic-room``, or ``folder:PATH``. Options of a folder may
            follow its path: ``folder:PATH?sensor_origin=0,0.6,1.8&max_points=60000&views_per_scene=4``.
        image_size: ``(height, width)``; ``None`` is the simulator's default or the folder's own size.
        seed: Which synthetic scenes.
        sweeps: LiDAR sweeps per scene.
        num_scenes: How many synthetic scenes, 64 when absent; a folder has as many as it has.
        frames_per_street: Consecutive scenes that show one synthetic street; other data is as it is.
        with_truth: Whether synthetic scenes carry exact answers, which training does not need.

    Raises:
        ValueError: For an unknown word, with the kinds there are and the nearest one.
    """
    kind, _, rest = spec.partition(":")
    count = NUM_SCENES if num_scenes is None else num_scenes
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
    if spec == "synthetic-room":
        size = image_size or (96, 128)
        return SyntheticRoom(count, seed=seed, image_size=size, with_truth=with_truth)
    near = get_close_matches(kind, [k.partition(":")[0] for k in KINDS], n=1, cutoff=0.5)
    hint = f"; did you mean {next(k for k in KINDS if k.partition(':')[0] == near[0])}?" if near else ""
    raise ValueError(f"data: expected one of {', '.join(KINDS)}, got {spec!r}{hint}")


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
