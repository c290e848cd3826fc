"""The TUM RGB-D benchmark (https://cvg.cit.tum.de/data/datasets/rgbd-dataset): depth registered to pictures.

Pictures, depth images and poses of a motion capture have time stamps of their own. A picture goes with one
depth image as ``associate.py`` of the benchmark's tools pairs them: the nearest first, at most 0.02 s apart.
Its pose is interpolated between the two around its own time stamp, at most so far away, too. Intrinsics are
those of the page "File formats", by the number of the camera; the depth factor there is 5000, and depth
images are corrected already. OpenCV calibrated them, so that the first pixel's centre is (0, 0).
"""

import re
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.formats.quaternions import rotations
from renderpretrain.data.readers.tables import picture_size, rows_of, text_of
from renderpretrain.data.readers.views import Listing, say_absent

APART = 0.02
"""Seconds by which what belongs together may be apart."""

MOST_NEAR = 100
"""Depth images within that time of a picture: a camera takes one or two."""

CAMERAS = {
    1: ((517.3, 516.5, 318.6, 255.3), [0.2624, -0.9531, -0.0054, 0.0026, 1.1633]),
    2: ((520.9, 521.0, 325.1, 249.7), [0.2312, -0.7849, -0.0033, -0.0001, 0.9172]),
    3: ((535.4, 539.2, 320.1, 247.6), None),
}
"""fx, fy, cx, cy and k1, k2, p1, p2, k3 of the colour cameras, by the number in a recording's name."""

NUMBER = re.compile(r"freiburg([123])|fr([123])[_/]")


def read_tum(access: FolderAccess, stride: int, freiburg: int | None) -> dict[str, Any]:
    """The pictures that have a depth image and a pose, as ``frames.json`` would describe them.

    Those that lack one, or whose files are absent, are left out; one line each says how many.

    Args:
        access: Of the recording's folder.
        stride: Every so many-th of these pictures is read.
        freiburg: Number of the camera; ``None`` for what ``rgb.txt`` or the folder's name says.

    Raises:
        SceneFolderError: If a table is damaged, no picture is left, or nothing says which camera it was.
    """
    camera, lens = CAMERAS[freiburg or _number(access)]
    colors, depths = (_listed(access, table) for table in ("rgb.txt", "depth.txt"))
    poses = rows_of(access, "groundtruth.txt", 8)
    poses = poses[np.argsort(poses[:, 0], kind="stable")]
    listing, absent, frames = Listing(access), 0, list[dict[str, Any]]()
    try:
        pairs = associated([time for time, _ in colors], [time for time, _ in depths])
    except ValueError as error:
        raise SceneFolderError(f"{access.path / 'depth.txt'}: time stamps: {error}") from None
    placed = [(color, depth) for color, depth in pairs if _pose(poses, colors[color][0]) is not None]
    if not placed:
        words = f"expected a depth image and a pose within {APART} s of a picture, got none"
        raise SceneFolderError(f"{access.path / 'rgb.txt'}: {words}")
    if len(placed) < len(colors):
        words = f"expected a depth image and a pose within {APART} s of {len(colors)} pictures"
        access.doubt("alone", "rgb.txt", "time stamps", f"{words}, got none for {len(colors) - len(placed)}")
    there = [
        pair for pair in placed if listing.found(colors[pair[0]][1]) and listing.found(depths[pair[1]][1])
    ]
    absent = len(placed) - len(there)
    say_absent(access, "rgb.txt", absent, len(placed), "pictures with depth images")
    for color, depth in there[::stride]:
        time, file = colors[color]
        frames.append({"frame_id": file, "timestamp_s": time, "color": file, "depth": depths[depth][1]})
        frames[-1]["camera_to_world"] = _pose(poses, time)
    height, width = picture_size(access, frames[0]["color"], "color")
    fx, fy, cx, cy = camera
    return {
        "format": "posed_rgbd",
        "dataset": "TUM RGB-D",
        "intrinsics": [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]],
        "distortion": lens,
        "depth_scale": 5000,
        "depth_invalid": [],
        "frames": [{**frame, "width": width, "height": height} for frame in frames],
    }


def associated(first: list[float], second: list[float]) -> list[tuple[int, int]]:
    """Which of two lists of times go together, by their places, in the order of the first list's times.

    Each is used once, the nearest pairs before others, and none further apart than :data:`APART`.

    Raises:
        ValueError: If more than :data:`MOST_NEAR` are so near to one of the first.
    """
    order = np.argsort(second, kind="stable")
    times = np.asarray(second, dtype=np.float64)[order]
    near: list[tuple[float, int, int]] = []
    for place, time in enumerate(first):
        low, high = np.searchsorted(times, [time - APART, time + APART])
        if high - low > MOST_NEAR:
            raise ValueError(f"expected at most {MOST_NEAR} within {APART} s of {time}, got {high - low}")
        near += [(abs(time - times[k]), place, int(order[k])) for k in range(int(low), int(high))]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in sorted(near):
        if one not in pairs and other not in taken:
            pairs[one] = other
            taken.add(other)
    return sorted(pairs.items(), key=lambda pair: first[pair[0]])


def _number(access: FolderAccess) -> int:
    """Number of the camera, from the first lines of ``rgb.txt`` or the name of the folder."""
    for text in (text_of(access, "rgb.txt")[:1000], f"{access.path.resolve().name}/"):
        match = NUMBER.search(text)
        if match:
            return int(match[1] or match[2])
    raise SceneFolderError(
        f"{access.path / 'rgb.txt'}: expected the name of a recording as freiburg1_desk in it or in that of "
        "the folder, got none; the option freiburg=1, 2 or 3 says which camera it was"
    )


def _listed(access: FolderAccess, table: str) -> list[tuple[float, str]]:
    """Time stamps and files of a table."""
    found = []
    for number, line in enumerate(text_of(access, table).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        try:
            time, (file,) = float(words[0]), words[1:]
        except ValueError:
            time, file = np.nan, ""
        if not np.isfinite(time):
            raise SceneFolderError(
                f"{access.path / table}: line {number}: expected a time stamp and a file, got {brief(line)}"
            )
        found.append((time, file))
    if not found:
        raise SceneFolderError(f"{access.path / table}: expected time stamps and files, got none")
    return found


def _pose(poses: np.ndarray, time: float) -> list[list[float]] | None:
    """The pose at a time, between the two around it; ``None`` where one of them is too far away."""
    after = int(np.searchsorted(poses[:, 0], time))
    rows = poses[max(after - 1, 0) : after + 1]
    if len(rows) == 0 or np.abs(rows[:, 0] - time).max() > APART:
        return None
    share = (time - rows[0, 0]) / max(rows[-1, 0] - rows[0, 0], 1e-9)
    share = min(max(share, 0.0), 1.0)
    first, second = rows[0, 4:], rows[-1, 4:] * (1 if rows[0, 4:] @ rows[-1, 4:] >= 0 else -1)
    quaternion = (1 - share) * first + share * second  # a hundredth of a second apart: as good as on the arc
    if not 0.5 < np.linalg.norm(quaternion) < 2:
        return None
    pose = np.eye(4)
    pose[:3, 3] = (1 - share) * rows[0, 1:4] + share * rows[-1, 1:4]
    pose[:3, :3] = rotations(quaternion[None, [3, 0, 1, 2]])[0]
    return pose.tolist()
