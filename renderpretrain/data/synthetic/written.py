"""Synthetic scenes on disk, as a scene folder that any reader of the format opens."""

from pathlib import Path
from typing import Any

from renderpretrain.data.folder.writing import write_scene_folder
from renderpretrain.data.synthetic.room import SyntheticRoom
from renderpretrain.data.synthetic.street import SyntheticStreet

SCENE_KINDS = ("street", "room", "room-night")
"""What there is to simulate."""


def write_synthetic(
    path: str | Path,
    *,
    kind: str = "street",
    scenes: int = 8,
    frames_per_street: int = 1,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> None:
    """Write simulated scenes with :func:`~renderpretrain.data.write_scene_folder`.

    Args:
        path: The folder; it may not hold a recording.
        kind: One of :data:`SCENE_KINDS`.
        scenes: How many.
        frames_per_street: Consecutive scenes that show one street: a recording of their own, whose sweeps may
            be merged.
        image_size: ``(height, width)``; ``None`` is the simulator's default.
        seed: Another seed, other scenes.

    Raises:
        ValueError: For another kind, or a folder that holds a recording already.
    """
    made: dict[str, Any] = {"seed": seed, "with_truth": False}
    made |= {} if image_size is None else {"image_size": image_size}
    if kind == "street":
        streets = SyntheticStreet(scenes, frames_per_street=frames_per_street, **made)
        write_scene_folder(
            path, streets, recording_of=lambda number: f"street-{seed}-{number // frames_per_street}"
        )
    elif kind in SCENE_KINDS:
        rooms = SyntheticRoom(scenes, night=kind == "room-night", **made)
        write_scene_folder(path, (rooms[index] for index in range(scenes)))
    else:
        raise ValueError(f"kind: expected one of {', '.join(SCENE_KINDS)}, got {kind}")
