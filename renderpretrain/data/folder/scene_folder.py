"""Scenes from a folder of raw files and one ``frames.json``; the format is in ``docs/scene_folder.md``."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from renderpretrain.data.folder.cache import Cache, MemoryCache
from renderpretrain.data.folder.deskewing import deskewed
from renderpretrain.data.folder.files import Sweep, known_columns, read_sweep
from renderpretrain.data.folder.fitting import STANDARD_FIT, Fit, Fitting
from renderpretrain.data.folder.geometry import all_class_names, annotated_boxes, lidar_to_global
from renderpretrain.data.folder.index import FRAMES_JSON, read_index
from renderpretrain.data.folder.merging import SweepAt, joined, own_sweep, sweeps_back, without_own_vehicle
from renderpretrain.data.folder.order import (
    MAX_GAP,
    PackedFrames,
    Timeline,
    check_moments,
    check_options,
    chosen_cameras,
    packed,
)
from renderpretrain.data.folder.origin import fitted_origin, look_at_origin
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.rigs import rig_images, with_rig
from renderpretrain.data.folder.schema import IndoorFolder, IndoorFrame, OutdoorFolder, Picture, frame_name
from renderpretrain.data.folder.views import group_views, indoor_scene, seen_cloud
from renderpretrain.data.scene import Scene
from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS

CACHE_BYTES = 2**28
"""Decoded files a folder keeps in memory."""


class SceneFolder:
    """Scenes of one folder, read when asked for.

    Outdoors a scene is one frame, and the world is its LiDAR frame. Indoors a scene is a few neighbouring
    views, and the world is the room's frame.

    Attributes:
        path: The folder.
        index: What its ``frames.json`` or its format's tables say.
        reader: Of the format.
        class_names: Names of ``point_labels`` and ``boxes.labels``; 0 is ``"free"``.
        camera_names: Names of the outdoor cameras, in their places; one that a frame lacks is invalid there.
        asked_cameras: Those that were asked for; ``None`` for all there are.
        skipped: Positions in ``frames.json`` of the frames that are left out.
    """

    def __init__(  # noqa: PLR0913  one keyword per property of the data
        self,
        path: str | Path,
        *,
        image_size: tuple[int, int] | None = None,
        fit: Fit = STANDARD_FIT,
        sweeps: int = 1,
        max_points: int | None = None,
        views_per_scene: int | None = None,
        held_out_every: int | None = None,
        sensor_origin: tuple[int | float, int | float, int | float] | None = None,
        deskew: bool = False,
        outside: bool = False,
        max_gap: int | float = MAX_GAP,
        cameras: tuple[str, ...] | None = None,
        places: Mapping[str, int] | None = None,
        skip: Collection[int] = (),
        reader: Reader = FRAMES_JSON,
    ) -> None:
        """Read the recording's tables; raw files are read scene by scene.

        Args:
            path: The folder.
            image_size: ``(height, width)`` all images come to, cameras included; ``None`` is the size that
                most of them have.
            fit: How an image of other proportions comes to that size. ``pad`` scales it to fit and leaves the
                rest black (``Scene.image_valid``), ``crop`` scales it to cover and cuts what is over, in a
                street's height the top, ``stretch`` squeezes it.
            sweeps: Sweeps merged into ``points``: the frame's own and up to ``sweeps - 1`` before it in time,
                those between frames included where frames name them. Frames without poses, and those alone in
                their ``scene``, are one sweep each.
            max_points: At most so many points per scene, chosen by chance that depends on the scene only;
                ``None`` keeps all of a LiDAR and 32768 of depth images.
            views_per_scene: Neighbouring indoor views per scene; ``None`` takes the folder's word, or 4.
            held_out_every: Every so many-th indoor view goes to scenes of its own kind, which come last.
            sensor_origin: Where the rays start in the LiDAR frame, metres; overrides what the folder says.
            deskew: Whether to move every point of a sweep to where it would have been measured at the frame's
                time stamp, by the vehicle's motion; it needs a column of times, and sweeps as recorded.
            outside: Whether ``frames.json`` may name files outside of the folder.
            max_gap: Frames further apart in time, seconds, do not follow each other: no sweep is merged and
                no label made across such a gap.
            cameras: Which cameras, and in which order; by default all that a frame names, in the order in
                which they are first named. A frame that lacks one has it invalid in its place.
            places: Of cameras by their names, as another recording has them; others take what these leave.
            skip: Frames to leave out, by their position in the index.
            reader: Of the recording's format; the standard is the project's own, ``frames.json``.


        Raises:
            SceneFolderError: With one line that names file, frame and field.
        """
        counts = {"sweeps": sweeps, "max_points": max_points, "views_per_scene": views_per_scene}
        check_options(counts | {"held_out_every": held_out_every}, sensor_origin, max_gap, fit)
        self.arguments: dict[str, Any] = {**counts, "image_size": image_size, "max_gap": max_gap, "fit": fit}
        self.arguments |= {"held_out_every": held_out_every, "sensor_origin": sensor_origin, "deskew": deskew}
        self.arguments |= {"outside": outside, "cameras": cameras, "places": places, "reader": reader}
        self.asked_cameras, self.skipped = cameras, frozenset(skip)
        self.path, self.reader, self._sensor_origin = Path(path), reader, sensor_origin
        self.access = reader.access(self.path, outside)
        self.index = read_index(self.path, outside=outside, skip=skip, reader=reader)
        self.sweeps, self.max_points, self.class_names = sweeps, max_points, all_class_names(self.index)
        self._cache: Cache = MemoryCache(CACHE_BYTES)
        self._groups, self.camera_names = list[list[int]](), tuple[str, ...]()
        if isinstance(self.index, IndoorFolder):
            self._groups = group_views(self.index, views_per_scene, held_out_every)
            self._say_what_is_lost(self.index)
        else:
            self._timeline = Timeline(self.index.frames, max_gap)
            self.camera_names = chosen_cameras(self.index.frames, cameras, places)
            check_moments(self.access, self.index, sweeps, deskew)
        self._fitting = self._fitting_to(image_size or self._common_size(), fit)
        self.index = packed(self.index)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """``(height, width)`` of the images; ``None`` without cameras."""
        return None if self._fitting is None else self._fitting.size

    def __len__(self) -> int:
        return len(self._groups) if isinstance(self.index, IndoorFolder) else len(self.index.frames)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; raises ``IndexError`` outside ``range(len(self))``."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: expected an index in [0, {len(self)}), got {index}")
        if isinstance(self.index, IndoorFolder):
            views = self._groups[index]
            scene = indoor_scene(self.access, self.index, views, self._fitting, self.max_points, self._cache)
            return replace(scene, class_names=self.class_names)
        return self._outdoor_scene(self.index, index)

    def frames_of(self, index: int) -> Sequence[int]:
        """Positions in the index of the frame, or the views of a room, that a scene is made of."""
        return self._groups[index] if isinstance(self.index, IndoorFolder) else [index]

    def remember_in(self, cache: Cache) -> None:
        """Keep decoded files and descriptions of frames in this memory from now on."""
        self._cache = cache
        if isinstance(self.index.frames, PackedFrames):
            self.index.frames.remember_in(cache)

    def sensor_origin(self, index: int) -> np.ndarray:
        """Where the rays of an outdoor frame start in its LiDAR frame, ``(3,)`` float64, metres."""
        if isinstance(self.index, IndoorFolder):
            raise ValueError("sensor_origin: expected an outdoor recording, got a room's views")
        return self._origin(self.index, index)

    def seen_cloud(self, view: int) -> Sweep:
        """The points of a room's cloud that a view sees, in the room's frame with its origin moved."""
        if not isinstance(self.index, IndoorFolder):
            raise ValueError("seen_cloud: expected a room's views, got an outdoor recording")
        return seen_cloud(self.access, self.index, view, self._cache)

    def without(self, positions: Collection[int]) -> "SceneFolder":
        """The same folder, read anew without the frames at these positions of ``frames.json``, either."""
        return SceneFolder(self.path, skip=self.skipped | set(positions), **self.arguments)

    def sequence(self, index: int) -> Sequence[int]:
        """Frames of the same ``scene`` in order of time up to the next long gaps; a room's scene alone."""
        return [index] if isinstance(self.index, IndoorFolder) else self._timeline.sequence(index)

    def without_images(self, index: int) -> Scene:
        """Scene ``index``; outdoors without its pictures."""
        if isinstance(self.index, IndoorFolder):
            return self[index]
        return self._outdoor_scene(self.index, index, pictured=False)

    def columns(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """How messages call each frame, and what is known of its points, without reading them."""
        for frame in self.index.frames:
            everything = (*POINT_COLUMNS, *COLOR_COLUMNS, *NORMAL_COLUMNS)
            known = everything if isinstance(frame, IndoorFrame) else known_columns(frame.lidar)
            yield f"{self.access.described_in}: {frame_name(frame)}", known

    def _outdoor_scene(self, folder: OutdoorFolder, index: int, *, pictured: bool = True) -> Scene:
        """A frame with what belongs to it."""
        frame = folder.frames[index]
        merged = self._merged(folder, index)
        pose, shift = self._world(folder, index)
        scene = Scene(
            name=f"{self.path.name}/{frame.frame_id}",
            points=merged["points"],
            lidar_origin=torch.from_numpy(self._origin(folder, index) - shift).float(),
            world_to_global=None if pose is None else torch.from_numpy(pose).float(),
            timestamp=frame.seconds or 0.0,
            boxes=annotated_boxes(frame, self.class_names, shift),
            point_labels=merged.get("labels"),
            point_key=merged.get("key"),
            class_names=self.class_names,
            colors=merged.get("colors"),
            normals=merged.get("normals"),
        )
        names, fitting = self.camera_names, self._fitting
        if not names or fitting is None or not pictured:
            return scene
        images = self._cache.get(
            ("images", index),
            lambda: rig_images(self.access, frame, names, fitting),
            lambda t: t.numel() * t.element_size(),
        )
        return with_rig(scene, frame, images, names, fitting, shift)

    def _sweep(self, folder: OutdoorFolder, index: int) -> Sweep:
        """A frame's own sweep, decoded once and then kept in memory."""
        return self._read(folder, own_sweep(index, folder.frames[index]))

    def _read(self, folder: OutdoorFolder, at: SweepAt) -> Sweep:
        """A sweep, decoded once and then kept in memory."""
        return self._cache.get(
            ("sweep", *at.key),
            lambda: self._measured(folder, at),
            lambda sweep: sweep.nbytes,
        )

    def _measured(self, folder: OutdoorFolder, at: SweepAt) -> Sweep:
        """A sweep as it is stored, or as of one moment where that is asked for."""
        sweep = read_sweep(self.access, at.entry, at.name, folder.classes)
        if not self.arguments["deskew"]:
            return replace(sweep, times=None)
        return deskewed(sweep, at, folder, self._timeline.sequence(at.key[0]))

    def _merged(self, folder: OutdoorFolder, index: int) -> dict[str, torch.Tensor]:
        """The points of the frame and of the sweeps before it, five columns, in the frame's LiDAR frame.

        Beside them, as rows of the same order, which are the frame's own (``key``), and what is known of
        them: labels, colours, normals.
        """
        shift = self._shift(folder, index)
        first = own_sweep(index, folder.frames[index])
        key = lidar_to_global(folder, first.scene, first.entry, shift)
        frames = self._timeline.up_to(index, 1 if key is None else self.sweeps)
        own = self._read(folder, first)
        sweeps = [_stamped(own.moved(np.eye(4), shift) if own.offset.any() else own, 0.0)]
        for at in sweeps_back(folder.frames, frames, self.sweeps)[1:]:
            sweep = without_own_vehicle(self._read(folder, at), at.entry)
            pose = lidar_to_global(folder, at.scene, at.entry, sweep.offset)
            motion = np.eye(4) if key is None or pose is None else np.linalg.solve(key, pose)
            sweeps.append(_stamped(sweep.moved(motion, shift), first.seconds - at.seconds))
        rows = joined(sweeps)
        count = len(rows["points"])
        if self.max_points is not None and count > self.max_points:
            chosen = np.random.default_rng(index).choice(count, self.max_points, replace=False)
            rows = {name: a[chosen] for name, a in rows.items()}
        return {name: torch.from_numpy(a) for name, a in rows.items()}

    def _shift(self, folder: OutdoorFolder, index: int) -> np.ndarray:
        """Where in a frame's LiDAR frame the world's origin lies: 0, or near a sweep in map coordinates."""
        offset = self._sweep(folder, index).offset
        return self._origin(folder, index) if offset.any() else offset

    def _world(self, folder: OutdoorFolder, index: int) -> tuple[np.ndarray | None, np.ndarray]:
        """A frame's world in the global frame of its scene, and where in the LiDAR frame its origin lies."""
        shift = self._shift(folder, index)
        frame = folder.frames[index]
        pose = lidar_to_global(folder, frame.scene, frame.lidar, shift)
        if pose is None or not shift.any():
            return pose, shift
        first = folder.first_of_scene[frame.scene]
        at_first = lidar_to_global(
            folder, frame.scene, folder.frames[first].lidar, self._shift(folder, first)
        )
        pose[:3, 3] += pose[:3, :3] @ shift
        if at_first is not None:
            pose[:3, 3] -= at_first[:3, 3] + at_first[:3, :3] @ self._shift(folder, first)
        return pose, shift

    def _origin(self, folder: OutdoorFolder, index: int) -> np.ndarray:
        """Where the rays start: as told, else fitted to the first sweep's beams, else the origin.

        A sweep in map coordinates is its own first sweep, and around its middle where no beams tell.
        """
        told = self._sensor_origin or folder.frames[index].lidar.sensor_origin
        if told is not None:
            return self._looked_at(folder, index, np.asarray(told, dtype=np.float64))
        first = index if self._sweep(folder, index).offset.any() else 0
        found = self._cache.get(
            ("origin", first), lambda: fitted_origin(self._sweep(folder, first)), lambda _: 24
        )
        return self._looked_at(folder, first, found)

    def _looked_at(self, folder: OutdoorFolder, index: int, origin: np.ndarray) -> np.ndarray:
        """The origin, which is compared with the points of a sweep once."""
        self._cache.get(
            ("origin looked at", *origin.tolist()),
            lambda: look_at_origin(self.access, folder.frames[index], self._sweep(folder, index), origin),
            lambda _: 1,
        )
        return origin

    def _fitting_to(self, size: tuple[int, int] | None, fit: str) -> Fitting | None:
        """How pictures come to a size; ``None`` without cameras."""
        return None if size is None else Fitting(size, fit, isinstance(self.index, OutdoorFolder))

    def _common_size(self) -> tuple[int, int] | None:
        """The image size that most pictures have, of equally many the largest; ``None`` without cameras."""
        pictures: list[Picture] = []
        for frame in self.index.frames:
            if isinstance(frame, IndoorFrame):
                pictures.append(frame)
            else:
                pictures += [frame.cameras[name] for name in self.camera_names if name in frame.cameras]
        counts = Counter((picture.height, picture.width) for picture in pictures)
        return max(counts, key=lambda size: (counts[size], size[0] * size[1], size), default=None)

    def _say_what_is_lost(self, folder: IndoorFolder) -> None:
        """Remark on views without a pose."""
        if len(folder.tracked) == len(folder.frames):
            return
        lost, of = len(folder.frames) - len(folder.tracked), len(folder.frames)
        words = f"expected a pose, got none for {lost} of {of} views, which are left out"
        self.access.doubt("lost", self.access.table, "camera_to_world", words)


def _stamped(sweep: Sweep, lag: float) -> Sweep:
    """A sweep with a fifth column: how much older it is than the frame, seconds."""
    column = np.full((len(sweep.points), 1), lag, dtype=np.float32)
    return replace(sweep, points=np.concatenate([sweep.points, column], -1))
