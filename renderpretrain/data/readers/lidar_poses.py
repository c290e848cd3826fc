"""Where and when sweeps were taken: files of poses of other tools, and names that are time stamps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.order import EPOCH
from renderpretrain.data.formats.quaternions import rotations
from renderpretrain.data.readers.tables import json_of, rows_of, text_of

KITTI, TUM = 12, 8
"""Numbers of a line: a 3x4 matrix; or a time, a place and a quaternion."""

STAMP = re.compile(r"(?:.*\D)?([0-9]{16,19})|([0-9]+(?:\.[0-9]+)?)", re.ASCII | re.DOTALL)
"""A name that is a number, or ends in one that is long enough for a time."""

UNITS = ((1e17, "timestamp_ns"), (1e14, "timestamp_us"))
"""From which number on a time since 1970 is one of these."""


@dataclass(frozen=True)
class Poses:
    """What a file says of the sweeps of one folder.

    Attributes:
        in_order: Poses of the LiDAR in the order of the sweeps, 4x4 each.
        by_name: Poses by the sweeps' names.
        stamps: Seconds in the order of the sweeps, where the file says them.
    """

    in_order: list[Any] = field(default_factory=list)
    by_name: dict[str, Any] = field(default_factory=dict)
    stamps: list[float] = field(default_factory=list)


def read_poses(access: FolderAccess, file: str) -> Poses:
    """A file of poses: KITTI's lines of 12 numbers, TUM's of 8, or JSON, a list of 4x4 or one by each name.

    All are of the LiDAR, in a frame common to the folder.

    Raises:
        SceneFolderError: If it is none of these.
    """
    where = str(access.path / file)
    if file.lower().endswith(".json"):
        content = json_of(access, file)
        if not isinstance(content, dict | list):
            raise SceneFolderError(
                f"{where}: expected a list of poses or one by each name, got {brief(content)}"
            )
        return Poses(by_name=content) if isinstance(content, dict) else Poses(in_order=content)
    lines = (line.replace(",", " ").split() for line in text_of(access, file).splitlines())
    width = next((len(words) for words in lines if words and not words[0].startswith("#")), 0)
    if width not in (KITTI, TUM):
        what = f"{KITTI} numbers a line (KITTI) or {TUM} (TUM: t x y z qx qy qz qw)"
        raise SceneFolderError(f"{where}: expected {what}, got {width}")
    rows = rows_of(access, file, width)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    if width == KITTI:
        poses[:, :3] = rows.reshape(-1, 3, 4)
        return Poses(in_order=poses.tolist())
    lengths = np.linalg.norm(rows[:, 4:], axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        line, got = int(np.abs(lengths - 1).argmax()), float(lengths[np.abs(lengths - 1).argmax()])
        raise SceneFolderError(f"{where}: pose {line}: expected a unit quaternion, got a length of {got:g}")
    poses[:, :3, :3] = rotations(rows[:, [7, 4, 5, 6]])
    poses[:, :3, 3] = rows[:, 1:4]
    return Poses(in_order=poses.tolist(), stamps=rows[:, 0].tolist())


def named_stamps(stems: Sequence[str]) -> list[dict[str, float | int]] | None:
    """The times that the names of all sweeps of a folder say, as fields of ``frames.json``; ``None`` if none.

    Whole numbers are times since 1970 in nano-, micro- or milliseconds or seconds, as their size tells;
    smaller ones number the sweeps. Numbers with a decimal point are seconds.
    """
    found = [STAMP.fullmatch(stem) for stem in stems]
    texts = [match[1] or match[2] for match in found if match]
    if len(texts) < len(stems) or not texts:
        return None
    largest = max(float(text) for text in texts)
    points = any("." in text for text in texts)
    if not points:
        for least, name in UNITS:
            if largest >= least:
                return [{name: int(text)} for text in texts]
        if largest >= 1e11:
            return [{"timestamp_s": int(text) / 1e3} for text in texts]
    return [{"timestamp_s": float(text)} for text in texts] if points or largest >= EPOCH else None


def paced_stamps(stems: Sequence[str], rate: float) -> list[dict[str, float | int]]:
    """Times at a rate, 1/s: by the sweeps' numbers where all names are whole ones, else by their places."""
    numbered = all(stem.isascii() and stem.isdigit() for stem in stems)
    return [{"timestamp_s": (int(stem) if numbered else k) / rate} for k, stem in enumerate(stems)]
