"""What is in doubt about the data of a run: geometry that contradicts itself, held-out frames near others."""

import math
import shlex
from collections.abc import Iterator
from statistics import median

import numpy as np

from renderpretrain.data import SceneDataset, SceneFolder
from renderpretrain.data.folder.consistency import geometry_findings
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder
from renderpretrain.data.folders_within import folders_held_out
from renderpretrain.data.words import DataWord
from renderpretrain.runs.description import OBJECT

SECONDS = 5.0
"""How long the geometry of all recordings together may be looked at."""

HELD_OUT = 16
"""Held-out frames of a recording whose distance from training frames is measured."""

NEAR, SOON = 5.0, 1.0
"""Metres, and where places are not known seconds, within which a held-out frame shows what a training frame
does: a LiDAR sees ten times as far."""


def geometry_doubts(dataset: SceneDataset, data: str) -> tuple[str, ...]:
    """Mistakes in poses, axes, intrinsics and units that the recordings' own measurements speak for.

    A few frames of each are looked at, for a few seconds; synthetic scenes and shards are not.

    Args:
        dataset: What is learned from.
        data: How the user calls it; the last line says what to type to learn more.
    """
    folders = [folder for folder, _ in folders_held_out(dataset, 0)]
    lines = [
        finding.line
        for folder in folders
        for finding in geometry_findings(folder.access, folder.index, seconds=SECONDS / len(folders))
        if finding.is_problem
    ]
    if not lines:
        return ()
    if data.startswith(OBJECT):
        data = "+".join(str(DataWord(folder.reader.name, str(folder.path))) for folder in folders)
    return (*lines, f"geometry: `renderpretrain data check {shlex.quote(data)}` says more")


def held_out_doubt(dataset: SceneDataset, holdout: int) -> str:
    """What is worth a word about held-out frames that lie near training frames; empty if nothing is.

    Args:
        dataset: The scenes, held-out ones last.
        holdout: How many are held out.
    """
    near = [
        (metres, seconds)
        for folder, count in folders_held_out(dataset, holdout)
        for metres, seconds in [_apart(folder, count)]
        if (metres <= NEAR if math.isfinite(metres) else seconds <= SOON)
    ]
    if not near:
        return ""
    metres, seconds = min(near)
    told = [f"{metres:.2f} m"] if math.isfinite(metres) else []
    told += [f"{seconds:.3g} s"] if math.isfinite(seconds) else []
    apart = f"{told[0]} ({told[1]})" if len(told) == 2 else told[0]
    return f"held-out frames lie {apart} from training frames: scores say little about other places"


def _apart(folder: SceneFolder, holdout: int) -> tuple[float, float]:
    """Metres and seconds from held-out frames to the nearest training frame in time: the medians.

    Infinite where nothing tells, as in rooms, whose held-out views are meant to show the same room.
    """
    border, index = len(folder) - holdout, folder.index
    if isinstance(index, IndoorFolder) or not 0 < border < len(folder):
        return math.inf, math.inf
    places = sorted({round(k) for k in np.linspace(border, len(folder) - 1, min(holdout, HELD_OUT))})
    found = [pair for place in places for pair in _nearest(folder, index, place, border)]
    return (
        median([metres for metres, _ in found] or [math.inf]),
        median([seconds for _, seconds in found] or [math.inf]),
    )


def _nearest(
    folder: SceneFolder, index: OutdoorFolder, place: int, border: int
) -> Iterator[tuple[float, float]]:
    """Metres and seconds from a held-out frame to the training frame that is next to it in time."""
    sequence = folder.sequence(place)
    at = sequence.index(place)
    order = sorted(range(len(sequence)), key=lambda k: abs(k - at))
    nearest = next((sequence[k] for k in order if sequence[k] < border), None)
    if nearest is None:
        yield math.inf, math.inf
        return
    frames = index.frames[place], index.frames[nearest]
    poses = [np.array(f.lidar.ego_to_global) for f in frames if f.lidar.ego_to_global is not None]
    stamps = [f.seconds for f in frames if f.seconds is not None]
    yield (
        float(np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3])) if len(poses) == 2 else math.inf,
        abs(stamps[0] - stamps[1]) if len(stamps) == 2 else math.inf,
    )
