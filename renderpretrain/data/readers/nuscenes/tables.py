"""The tables of nuScenes as columns: of millions of rows only those that frames need are kept."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.formats.quaternions import rotations
from renderpretrain.data.readers.json_rows import (
    numbers_of,
    streamed_rows,
    table_rows,
    value_of,
    values_of,
)
from renderpretrain.data.readers.nuscenes.names import LIDAR

TOKEN = re.compile(rb'"token"\s*:\s*"([^"\\]*)"')
SENSOR = re.compile(rb'"calibrated_sensor_token"\s*:\s*"([^"\\]*)"')
SAMPLE = re.compile(rb'"sample_token"\s*:\s*"([^"\\]*)"')
MOST_COUNTED = 2**31
"""Points in a box."""

KEY = re.compile(rb'"is_key_frame"\s*:\s*true')


@dataclass(slots=True)
class Recorded:
    """What one sensor recorded: a picture or a sweep.

    Attributes:
        token: Of its row in ``sample_data.json``.
        channel: The sensor, ``LIDAR_TOP`` or a camera.
        sample: Index of the key frame that the table assigns it to.
        key: Whether it is that key frame's own.
        stamp: Microseconds.
        pose: Token of the ego pose at that time.
        mount: Index of the calibrated sensor.
        file: Its path.
        size: Height and width of a picture, 0 where the table does not say.
    """

    token: str
    channel: str
    sample: int
    key: bool
    stamp: int
    pose: str
    mount: int
    file: str
    size: tuple[int, int]


@dataclass
class Annotations:
    """Annotated boxes in the global frame, one row each, for all samples in their order.

    Attributes:
        samples: Index of the sample.
        instances: Number of the object.
        categories: Its category, by index into ``names``.
        names: Of the categories.
        centers: ``(N, 3)`` metres.
        sizes: ``(N, 3)`` length, width, height.
        headings: ``(N, 3)`` unit vectors along the length.
        counts: ``(N,)`` LiDAR points that were counted in the box.
    """

    samples: np.ndarray
    instances: np.ndarray
    categories: np.ndarray
    names: list[str]
    centers: np.ndarray
    sizes: np.ndarray
    headings: np.ndarray
    counts: np.ndarray


@dataclass
class Samples:
    """The key frames that are read, scene by scene and in order of time.

    Attributes:
        tokens: Of the samples.
        scenes: The name of the scene of each.
        stamps: Microseconds.
        index: Place of each token.
    """

    tokens: list[str]
    scenes: list[str]
    stamps: np.ndarray
    index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.index = {token: place for place, token in enumerate(self.tokens)}


def read_samples(access: FolderAccess, version: str, scenes: Collection[str] | None) -> Samples:
    """The key frames of some scenes, by name, or of all.

    Raises:
        SceneFolderError: If there are none, or the tables are broken.
    """
    name = f"{version}/scene.json"
    rows, where = table_rows(access, name), str(access.path / name)
    names = values_of(rows, "name", str, where)
    tokens = values_of(rows, "token", str, where)
    order = {token: k for k, token in enumerate(tokens) if scenes is None or names[k] in scenes}
    if not order:
        what = "at least one scene" if scenes is None else "a scene of the split"
        raise SceneFolderError(f"{where}: expected {what}, got {len(rows)} others")
    name = f"{version}/sample.json"
    where = str(access.path / name)
    kept = [r for r in table_rows(access, name) if value_of(r, "scene_token", str, where) in order]
    stamps = values_of(kept, "timestamp", int, where)
    places = sorted(range(len(kept)), key=lambda k: (order[kept[k]["scene_token"]], stamps[k]))
    if not places:
        raise SceneFolderError(f"{where}: expected samples of {len(order)} scenes, got none")
    found = values_of([kept[k] for k in places], "token", str, where)
    of_scene = [names[order[kept[k]["scene_token"]]] for k in places]
    return Samples(found, of_scene, np.array([stamps[k] for k in places], dtype=np.int64))


@dataclass
class Mounts:
    """Calibrated sensors.

    Attributes:
        channels: Of each.
        index: Place of each token.
        to_ego: ``(N, 4, 4)`` sensor to ego.
        intrinsics: 3x3 lists of cameras; whatever the table has for others.
    """

    channels: list[str]
    index: dict[str, int]
    to_ego: np.ndarray
    intrinsics: list[Any]


def read_mounts(access: FolderAccess, version: str) -> Mounts:
    """The calibrated sensors, radars included."""
    name = f"{version}/sensor.json"
    rows, where = table_rows(access, name), str(access.path / name)
    tokens, channels = (values_of(rows, key, str, where) for key in ("token", "channel"))
    channel_of = dict(zip(tokens, channels, strict=True))
    if LIDAR not in channels:
        raise SceneFolderError(f"{where}: expected the channel {LIDAR}, got none")
    name = f"{version}/calibrated_sensor.json"
    rows, where = table_rows(access, name), str(access.path / name)
    tokens, sensors = (values_of(rows, key, str, where) for key in ("token", "sensor_token"))
    return Mounts(
        [channel_of.get(sensor, "") for sensor in sensors],
        {token: place for place, token in enumerate(tokens)},
        poses_of(rows, where),
        [row.get("camera_intrinsic") for row in rows],
    )


def read_recorded(access: FolderAccess, version: str, samples: Samples, mounts: Mounts) -> list[Recorded]:
    """What the LiDAR recorded, and the cameras for key frames."""
    name = f"{version}/sample_data.json"
    where = str(access.path / name)
    lidar = {token.encode() for token, place in mounts.index.items() if mounts.channels[place] == LIDAR}

    def wanted(row: bytes) -> bool:
        """Whether a row is a key frame's or a LiDAR's, as far as a look at its bytes tells."""
        sensor = SENSOR.search(row)
        return sensor is None or sensor[1] in lidar or KEY.search(row) is not None

    found = []
    for rows in streamed_rows(access, name, wanted):
        for row in rows:
            told = f"{where}: {row.get('token', '')}"
            sample = samples.index.get(value_of(row, "sample_token", str, told))
            mount = mounts.index.get(value_of(row, "calibrated_sensor_token", str, told), -1)
            channel = mounts.channels[mount] if mount >= 0 else ""
            if sample is not None and (channel == LIDAR or channel.startswith("CAM")):
                found.append(_recorded(row, channel, sample, mount, told))
    return found


def _recorded(row: dict[str, Any], channel: str, sample: int, mount: int, where: str) -> Recorded:
    """A row of the sample data."""
    height, width = row.get("height"), row.get("width")
    whole = type(height) is int and type(width) is int and 0 < height < 2**16 and 0 < width < 2**16
    return Recorded(
        token=value_of(row, "token", str, where),
        channel=channel,
        sample=sample,
        key=value_of(row, "is_key_frame", bool, where),
        stamp=value_of(row, "timestamp", int, where),
        pose=value_of(row, "ego_pose_token", str, where),
        mount=mount,
        file=value_of(row, "filename", str, where),
        size=(height, width) if whole else (0, 0),  # type: ignore[arg-type]  # both are whole numbers
    )


def read_poses(
    access: FolderAccess, version: str, wanted: Collection[str]
) -> tuple[dict[str, int], np.ndarray]:
    """The ego poses of some tokens: the place of each among ``(N, 4, 4)`` ego to global."""
    name = f"{version}/ego_pose.json"
    where, index, found = str(access.path / name), dict[str, int](), [np.zeros((0, 4, 4))]

    def is_wanted(row: bytes) -> bool:
        token = TOKEN.search(row)
        return token is None or token[1].decode(errors="replace") in wanted

    for rows in streamed_rows(access, name, is_wanted):
        for token in values_of(rows, "token", str, where):
            index[token] = len(index)
        found.append(poses_of(rows, where))
    poses = np.concatenate(found)
    if len(poses) != len(index):
        raise SceneFolderError(f"{where}: expected tokens that differ, got one twice")
    return index, poses


def read_annotations(access: FolderAccess, version: str, samples: Samples) -> Annotations | None:
    """The boxes of the samples; ``None`` where nothing is annotated, as in the test split."""
    if not (access.path / version / "sample_annotation.json").is_file():
        return None
    name = f"{version}/category.json"
    where = str(access.path / name)
    rows = table_rows(access, name)
    names, tokens = values_of(rows, "name", str, where), values_of(rows, "token", str, where)
    category_of = {token: place for place, token in enumerate(tokens)}
    name = f"{version}/instance.json"
    where = str(access.path / name)
    objects = {
        value_of(row, "token", str, where): (
            number,
            category_of.get(value_of(row, "category_token", str, where), -1),
        )
        for number, row in enumerate(table_rows(access, name))
    }
    return _annotations(access, version, samples, objects, names)


def _annotations(
    access: FolderAccess,
    version: str,
    samples: Samples,
    objects: Mapping[str, tuple[int, int]],
    names: list[str],
) -> Annotations:
    """The rows of the annotations, given number and category of each object."""
    name = f"{version}/sample_annotation.json"
    where = str(access.path / name)

    def wanted(row: bytes) -> bool:
        """Whether a row is of one of the samples, as far as a look at its bytes tells."""
        sample = SAMPLE.search(row)
        return sample is None or sample[1].decode(errors="replace") in samples.index

    whole, parts = [np.zeros((0, 4), dtype=np.int64)], [np.zeros((0, 9))]
    for rows in streamed_rows(access, name, wanted):
        rows = [row for row in rows if value_of(row, "sample_token", str, where) in samples.index]
        numbers = []
        for row in rows:
            of = objects.get(value_of(row, "instance_token", str, where), (-1, -1))
            count = row.get("num_lidar_pts")
            counted = type(count) is int and 0 <= count < MOST_COUNTED
            numbers.append((samples.index[row["sample_token"]], *of, count if counted else 0))
        whole.append(np.array(numbers, dtype=np.int64).reshape(-1, 4))
        turns = rotations(numbers_of(rows, "rotation", 4, where))
        sizes = numbers_of(rows, "size", 3, where)[:, [1, 0, 2]]  # the table has width, length, height
        parts.append(np.concatenate([numbers_of(rows, "translation", 3, where), sizes, turns[:, :, 0]], 1))
    table, values = np.concatenate(whole), np.concatenate(parts)
    order = np.argsort(table[:, 0], kind="stable")
    table, values = table[order], values[order]
    centers, sizes, headings = np.split(values, 3, axis=1)
    return Annotations(table[:, 0], table[:, 1], table[:, 2], names, centers, sizes, headings, table[:, 3])


def poses_of(rows: list[dict[str, Any]], where: str) -> np.ndarray:
    """``(N, 4, 4)`` from the rotations (quaternions w, x, y, z) and translations of rows."""
    poses = np.zeros((len(rows), 4, 4))
    poses[:, :3, :3] = rotations(numbers_of(rows, "rotation", 4, where))
    poses[:, :3, 3] = numbers_of(rows, "translation", 3, where)
    poses[:, 3, 3] = 1
    return poses
