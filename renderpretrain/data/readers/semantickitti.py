"""KITTI's odometry benchmark and SemanticKITTI's labels of its sweeps (https://semantic-kitti.org)."""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.readers.kitti_calibration import COLUMNS, matrix_of, rectified_camera
from renderpretrain.data.readers.tables import named_numbers, picture_size, rows_of

CAMERAS = ("image_2", "image_3")
"""The colour cameras; their projections are P2 and P3."""

LEARNING_CLASSES = (
    "car",
    "bicycle",
    "motorcycle",
    "truck",
    "other-vehicle",
    "person",
    "bicyclist",
    "motorcyclist",
    "road",
    "parking",
    "sidewalk",
    "other-ground",
    "building",
    "fence",
    "vegetation",
    "trunk",
    "terrain",
    "pole",
    "traffic-sign",
)
"""The classes of the benchmark, numbered from 1 on."""

CLASSES: dict[int, tuple[str, str | None]] = {
    0: ("unlabeled", None),
    1: ("outlier", None),
    10: ("car", "car"),
    11: ("bicycle", "bicycle"),
    13: ("bus", "other-vehicle"),
    15: ("motorcycle", "motorcycle"),
    16: ("on-rails", "other-vehicle"),
    18: ("truck", "truck"),
    20: ("other-vehicle", "other-vehicle"),
    30: ("person", "person"),
    31: ("bicyclist", "bicyclist"),
    32: ("motorcyclist", "motorcyclist"),
    40: ("road", "road"),
    44: ("parking", "parking"),
    48: ("sidewalk", "sidewalk"),
    49: ("other-ground", "other-ground"),
    50: ("building", "building"),
    51: ("fence", "fence"),
    52: ("other-structure", None),
    60: ("lane-marking", "road"),
    70: ("vegetation", "vegetation"),
    71: ("trunk", "trunk"),
    72: ("terrain", "terrain"),
    80: ("pole", "pole"),
    81: ("traffic-sign", "traffic-sign"),
    99: ("other-object", None),
    252: ("moving-car", "car"),
    253: ("moving-bicyclist", "bicyclist"),
    254: ("moving-person", "person"),
    255: ("moving-motorcyclist", "motorcyclist"),
    256: ("moving-on-rails", "other-vehicle"),
    257: ("moving-bus", "other-vehicle"),
    258: ("moving-truck", "truck"),
    259: ("moving-other-vehicle", "other-vehicle"),
}
"""Name of each stored number, and the class of the benchmark that it counts as, ``None`` for none."""


def read_sequences(
    access: FolderAccess, sequences: tuple[str, ...] | None = None, classes: str = "learning"
) -> dict[str, Any]:
    """The frames of all sequences, as ``frames.json`` would describe them.

    Poses are those of ``sequences/NN/poses.txt``, or else of ``poses/NN.txt``: of camera 0, and moved to the
    LiDAR with the calibration's ``Tr``. A frame's line in tables is told by the number in its name.

    Args:
        access: Of the folder that holds ``sequences``.
        sequences: Their names; ``None`` for all that have sweeps.
        classes: ``learning`` for the benchmark's 19 classes, ``raw`` for all that are stored.

    Raises:
        SceneFolderError: If there are no sweeps, or a table cannot be read.
    """
    place = access.path / "sequences"
    there = [name for name in access.names("sequences") if (place / name / "velodyne").is_dir()]
    for name in sequences or ():
        if name not in there:
            known = brief(", ".join(there) or "none")
            raise SceneFolderError(f"{place}: sequences: expected some of {known}, got {brief(name)}")
    frames = [frame for name in sequences or there for frame in _frames(access, name)]
    if not frames:
        raise SceneFolderError(f"{place}: expected NN/velodyne/NNNNNN.bin, got none")
    labelled = any("semseg_file" in frame["lidar"] for frame in frames)
    return {
        "format": "multicam_lidar",
        "dataset": "SemanticKITTI" if labelled else "KITTI odometry",
        "frames": frames,
        **(class_tables(classes) if labelled else {}),
    }


def class_tables(classes: str) -> dict[str, dict[int, Any]]:
    """Names of the classes by their numbers, and the class number of each stored number, -1 for none.

    Args:
        classes: ``learning`` for the benchmark's, where a moving car is a car; ``raw`` for all stored ones.
    """
    if classes == "raw":
        kept = [stored for stored in CLASSES if stored > 0]
        return {
            "semseg_classes": {number: CLASSES[stored][0] for number, stored in enumerate(kept, 1)},
            "semseg_map": {0: -1, **{stored: number for number, stored in enumerate(kept, 1)}},
        }
    numbers = {name: number for number, name in enumerate(LEARNING_CLASSES, 1)}
    return {
        "semseg_classes": {number: name for name, number in numbers.items()},
        "semseg_map": {stored: numbers.get(name or "", -1) for stored, (_, name) in CLASSES.items()},
    }


def _frames(access: FolderAccess, sequence: str) -> list[dict[str, Any]]:
    """The frames of a sequence."""
    folder = f"sequences/{sequence}"
    labels = set(_numbered(access, f"{folder}/labels", ".label"))
    poses, rig, stamps = _poses(access, sequence), _rig(access, folder), _stamps(access, folder)
    frames = []
    for stem in _numbered(access, f"{folder}/velodyne", ".bin"):
        number = int(stem)
        lidar: dict[str, Any] = {"file": f"{folder}/velodyne/{stem}.bin", "columns": COLUMNS}
        if stem in labels:
            lidar |= {"semseg_file": f"{folder}/labels/{stem}.label", "semseg_dtype": "uint32"}
            lidar["semseg_bits"] = 16
        if number < len(poses):
            lidar["ego_to_global"] = poses[number].tolist()
        frame: dict[str, Any] = {"frame_id": f"{sequence}/{stem}", "scene": sequence, "lidar": lidar}
        if number < len(stamps):
            frame["timestamp_s"] = stamps[number]
        frame["cameras"] = {
            camera: {**entry, "file": f"{folder}/{camera}/{stem}.png"} for camera, entry in rig.items()
        }
        frames.append(frame)
    return frames


def _numbered(access: FolderAccess, folder: str, end: str) -> list[str]:
    """Names without their end of the files that are numbers; none where there is no such folder."""
    if not (access.path / folder).is_dir():
        return []
    stems = [name.removesuffix(end) for name in access.names(folder) if name.endswith(end)]
    return [stem for stem in stems if stem.isascii() and stem.isdigit()]


def _stamps(access: FolderAccess, folder: str) -> list[float]:
    """Seconds of each frame from the sequence's first; none where nobody says them."""
    file = f"{folder}/times.txt"
    return rows_of(access, file, 1)[:, 0].tolist() if (access.path / file).exists() else []


def _to_camera(access: FolderAccess, calibration: dict[str, str], folder: str) -> np.ndarray:
    """From the LiDAR to the rectified frame of camera 0, 4x4."""
    where = f"{access.path / folder}/calib.txt"
    matrix = matrix_of(calibration, "Tr", where)
    if abs(np.linalg.det(matrix)) < 0.5:
        raise SceneFolderError(f"{where}: Tr: expected a rigid motion, got {brief(matrix.tolist())}")
    return matrix


def _poses(access: FolderAccess, sequence: str) -> np.ndarray:
    """Poses of the LiDAR, ``(frames, 4, 4)``: those of camera 0 seen from the LiDAR at both ends."""
    folder = f"sequences/{sequence}"
    files = [f"{folder}/poses.txt", f"poses/{sequence}.txt"]
    file = next((file for file in files if (access.path / file).exists()), None)
    if file is None:
        return np.zeros((0, 4, 4))
    rows = rows_of(access, file, 12)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    to_camera = _to_camera(access, named_numbers(access, f"{folder}/calib.txt"), folder)
    return np.linalg.inv(to_camera) @ poses @ to_camera


def _rig(access: FolderAccess, folder: str) -> dict[str, dict[str, Any]]:
    """What is said of each colour camera of a sequence, but for its pictures."""
    rig: dict[str, dict[str, Any]] = {}
    for camera in CAMERAS:
        pictures = _numbered(access, f"{folder}/{camera}", ".png")
        if pictures:
            calibration, key = named_numbers(access, f"{folder}/calib.txt"), f"P{camera[-1]}"
            where = f"{access.path / folder}/calib.txt"
            projection = matrix_of(calibration, key, where)
            size = _size(access, [f"{folder}/{camera}/{stem}.png" for stem in pictures])
            to_camera = _to_camera(access, calibration, folder)
            rig[camera] = rectified_camera("", size, projection, to_camera, f"{where}: {key}")
    return rig


def _size(access: FolderAccess, pictures: list[str]) -> tuple[int, int]:
    """``(height, width)`` of a sequence's pictures: of the first that can be read."""
    for file in pictures[:-1]:
        try:
            return picture_size(access, file, "picture")
        except SceneFolderError:
            continue
    return picture_size(access, pictures[-1], "picture")
