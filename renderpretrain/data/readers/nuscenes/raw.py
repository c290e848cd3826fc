"""The tables of nuScenes as ``frames.json`` would describe them: one frame for each key frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.readers.nuscenes.boxes import in_lidar_frame, labels_of, velocities
from renderpretrain.data.readers.nuscenes.labels import PointLabels
from renderpretrain.data.readers.nuscenes.names import CAMERAS, COLUMNS, LIDAR, OWN_VEHICLE
from renderpretrain.data.readers.nuscenes.tables import (
    Mounts,
    Recorded,
    Samples,
    read_annotations,
    read_mounts,
    read_poses,
    read_recorded,
)
from renderpretrain.data.readers.tables import picture_size


@dataclass
class _Recording:
    """What is known of all key frames.

    Attributes:
        access: Of the folder.
        version: The folder of the tables.
        samples: The key frames.
        mounts: The calibrated sensors.
        own: What each key frame has, by sensor.
        older: The sweeps between the key frame before and each.
        place: Of a token among the poses.
        poses: ``(N, 4, 4)`` ego to global.
    """

    access: FolderAccess
    version: str
    samples: Samples
    mounts: Mounts
    own: list[dict[str, Recorded]]
    older: list[list[Recorded]]
    place: dict[str, int]
    poses: np.ndarray

    def ego_to_global(self, entry: Recorded) -> np.ndarray:
        """Where the vehicle was when a sensor recorded; raises where the tables do not say."""
        place = self.place.get(entry.pose)
        if place is None or not np.isfinite(self.poses[place]).all():
            table, token = (
                self.access.path / self.version / "ego_pose.json",
                self.samples.tokens[entry.sample],
            )
            got = "none" if place is None else "another"
            raise SceneFolderError(
                f"{table}: sample {token}: {entry.channel}: expected a finite pose of token {entry.pose}, "
                f"got {got}"
            )
        return self.poses[place]

    def to_global(self, entry: Recorded) -> np.ndarray:
        """Where a sensor was when it recorded."""
        return self.ego_to_global(entry) @ self.mounts.to_ego[entry.mount]


def frames_of(
    access: FolderAccess, version: str, samples: Samples, labels: PointLabels, raw_classes: bool
) -> list[dict[str, Any] | UnreadFrame]:
    """The frames of some samples, in their order.

    Args:
        access: Of the folder that holds the tables' folder, ``samples`` and ``sweeps``.
        version: The folder of the tables.
        samples: Which.
        labels: Of their points.
        raw_classes: Whether boxes have the names of the table, instead of the ten classes.

    Raises:
        SceneFolderError: If a table is broken. A sample of which something is missing is no frame.
    """
    recording = _recording(access, version, samples)
    boxes = read_annotations(access, version, samples)
    if boxes is not None:
        speeds, names = velocities(boxes, samples.stamps), labels_of(boxes, raw_classes)
    frames: list[dict[str, Any] | UnreadFrame] = []
    for sample in range(len(samples.tokens)):
        try:
            frame = _frame(recording, sample)
            lidar = recording.own[sample][LIDAR]
            frame["lidar"] |= labels.of(lidar.token)
            if boxes is not None:
                pose = recording.to_global(lidar)
                frame["boxes_lidar_frame"] = in_lidar_frame(boxes, speeds, names, sample, pose)
            frames.append(frame)
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
    return frames


def _recording(access: FolderAccess, version: str, samples: Samples) -> _Recording:
    """Read what the sensors recorded, and where they were."""
    mounts = read_mounts(access, version)
    own: list[dict[str, Recorded]] = [{} for _ in samples.tokens]
    between = []
    for entry in read_recorded(access, version, samples, mounts):
        if entry.key:
            own[entry.sample][entry.channel] = entry
        elif entry.channel == LIDAR:
            between.append(entry)
    if between and not (access.path / "sweeps").is_dir():
        words = (
            f"expected the {len(between)} sweeps between key frames, got nothing: key frames are merged alone"
        )
        access.doubt("no sweeps", "sweeps", LIDAR, words)
        between = []
    used = [entry for entries in own for entry in entries.values()] + between
    place, poses = read_poses(access, version, {entry.pose for entry in used})
    return _Recording(access, version, samples, mounts, own, _sorted(own, between, samples), place, poses)


def _sorted(
    own: list[dict[str, Recorded]], between: list[Recorded], samples: Samples
) -> list[list[Recorded]]:
    """The sweeps before each sample's own that no sample of its scene before it has."""
    keys: dict[str, list[tuple[int, int]]] = {}
    for sample, entries in enumerate(own):
        if LIDAR in entries:
            keys.setdefault(samples.scenes[sample], []).append((entries[LIDAR].stamp, sample))
    moments = {scene: np.array(sorted(stamps), dtype=np.int64) for scene, stamps in keys.items()}
    older: list[list[Recorded]] = [[] for _ in own]
    for entry in between:
        stamps = moments.get(samples.scenes[entry.sample], np.zeros((0, 2), dtype=np.int64))
        place = int(np.searchsorted(stamps[:, 0], entry.stamp, side="right"))
        if place < len(stamps) and not (place and stamps[place - 1, 0] == entry.stamp):
            older[stamps[place, 1]].append(entry)
    return older


def _frame(recording: _Recording, sample: int) -> dict[str, Any]:
    """One key frame: its sweep, those before it, and its pictures."""
    own, token = recording.own[sample], recording.samples.tokens[sample]
    if LIDAR not in own:
        table = recording.access.path / recording.version / "sample_data.json"
        raise SceneFolderError(f"{table}: sample {token}: expected a key frame of {LIDAR}, got none")
    sweep = own[LIDAR]
    return {
        "frame_id": token,
        "scene": recording.samples.scenes[sample],
        "timestamp_us": sweep.stamp,
        "lidar": {
            "file": sweep.file,
            "layout": "rows",
            "columns": COLUMNS,
            "lidar_to_ego": recording.mounts.to_ego[sweep.mount].tolist(),
            "ego_to_global": recording.ego_to_global(sweep).tolist(),
            "sensor_origin": [0.0, 0.0, 0.0],
            "own_vehicle": OWN_VEHICLE,
        },
        "sweeps": [_older(recording, entry, sweep) for entry in recording.older[sample]],
        "cameras": _cameras(recording, own),
    }


def _older(recording: _Recording, entry: Recorded, own: Recorded) -> dict[str, Any]:
    """A sweep between key frames."""
    pose = recording.ego_to_global(entry)
    told = {"file": entry.file, "timestamp_us": entry.stamp, "ego_to_global": pose.tolist()}
    if entry.mount != own.mount:
        told["lidar_to_ego"] = recording.mounts.to_ego[entry.mount].tolist()
    return told


def _cameras(recording: _Recording, own: dict[str, Recorded]) -> dict[str, Any]:
    """The pictures of a key frame; the vehicle moved between each and the sweep."""
    lidar = recording.to_global(own[LIDAR])
    others = sorted(own.keys() - {LIDAR, *CAMERAS})
    cameras = {}
    for channel in (*(name for name in CAMERAS if name in own), *others):
        entry = own[channel]
        camera = recording.to_global(entry)
        to_camera = np.eye(4)
        to_camera[:3, :3] = camera[:3, :3].T @ lidar[:3, :3]
        to_camera[:3, 3] = camera[:3, :3].T @ (lidar[:3, 3] - camera[:3, 3])
        height, width = entry.size if entry.size[0] else _size(recording, entry)
        cameras[channel] = {
            "file": entry.file,
            "width": width,
            "height": height,
            "intrinsics": recording.mounts.intrinsics[entry.mount],
            "lidar_to_camera": to_camera.tolist(),
        }
    return cameras


def _size(recording: _Recording, entry: Recorded) -> tuple[int, int]:
    """The size of a picture of which the table does not say it."""
    where = f"sample {recording.samples.tokens[entry.sample]}: {entry.channel}"
    return picture_size(recording.access, entry.file, where)
