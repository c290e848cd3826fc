"""Any scenes written as a scene folder, so that simulated or converted data can be read from disk."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from renderpretrain.data.folder.access import INDEX
from renderpretrain.data.folder.fields import FISHEYE, one_line
from renderpretrain.data.folder.geometry import axis_cosines
from renderpretrain.data.scene import Boxes, Scene
from renderpretrain.geometry import Cameras
from renderpretrain.geometry.sensors import POINT_COLUMNS

logger = logging.getLogger(__name__)

FINEST_DEPTH = 5000.0
"""Depth units per metre where the largest depth allows it: 0.2 mm steps up to 13 m."""


def write_scene_folder(
    path: str | Path,
    scenes: Iterable[Scene],
    *,
    class_names: tuple[str, ...] = (),
    one_recording: bool = False,
    recording_of: Callable[[int], str] | None = None,
) -> None:
    """Write scenes in the format of ``docs/scene_folder.md``.

    Pictures are written as they were seen, without the black rows and columns that padded them to one size.
    Scenes with depth images become ``posed_rgbd``, with pictures and no points ``posed_rgb``, with pictures
    and points ``multicam_lidar``, without pictures ``lidar_sequence``. Images lose what 8 bits lose. Of
    ``points`` the key sweep is written, with its colours and normals (indoors none: they come back from the
    depth images), and of merged scenes a line says so: ``renderpretrain data prepare`` keeps the sweeps
    between frames. ``truth`` is not written.

    Args:
        path: The folder; made if it is not there.
        scenes: At least one, all of one kind.
        class_names: Names of labels and ``boxes.labels``; the scene's own when empty.
        one_recording: The scenes are consecutive moments of one recording, whose sweeps may be merged.
        recording_of: The name of the recording that each scene of several belongs to, by its number.

    Raises:
        ValueError: If there is no scene, kinds are mixed, or the folder holds a recording already.
    """
    folder = Path(path)
    if (folder / "frames.json").exists():
        raise ValueError(
            f"path: expected a folder without frames.json, got {folder}: a recording is never overwritten"
        )
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"format": "", "scene": folder.name, "frames": []}
    merged = 0
    for number, scene in enumerate(scenes):
        kind = _kind(scene)
        if content["format"] not in ("", kind):
            raise ValueError(
                f"scenes: expected one kind, got {content['format']} and then {kind} ({scene.name})"
            )
        content["format"] = kind
        merged += not bool(scene.of_key_sweep.all())
        names = class_names or scene.class_names or (scene.truth.class_names if scene.truth else ())
        if kind in ("multicam_lidar", "lidar_sequence"):
            frame = _outdoor_frame(folder, number, scene, names)
            if not one_recording:
                frame = {"scene": recording_of(number) if recording_of else scene.name, **frame}
            content["frames"].append(frame)
            _name_classes(content, names, scene.point_labels)
        else:
            _add_views(folder, number, scene, names, content)
    if not content["frames"]:
        raise ValueError("scenes: expected at least one, got none")
    (folder / INDEX).write_text(json.dumps(content, indent=1), encoding="utf-8")
    if merged:
        words = f"expected scenes of one sweep, got several merged in {merged}: each one's own is written"
        logger.warning("%s", one_line(f"{folder / INDEX}: {words}"))


def _kind(scene: Scene) -> str:
    """The format that holds a scene."""
    if scene.cameras is None:
        return "lidar_sequence"
    if scene.z_depths is not None:
        return "posed_rgbd"
    return "multicam_lidar" if len(scene.points) else "posed_rgb"


def _outdoor_frame(folder: Path, number: int, scene: Scene, names: tuple[str, ...]) -> dict[str, Any]:
    """Write a frame's files and say what they are."""
    key = scene.of_key_sweep
    lidar: dict[str, Any] = {
        "file": f"{number:06d}_lidar.bin",
        "dtype": "float32",
        "columns": ["x", "y", "z", "intensity_0_1", *scene.columns[len(POINT_COLUMNS) :]],
        "sensor_origin": scene.lidar_origin.tolist(),
    }
    known = [rows for rows in (scene.points[:, :4], scene.colors, scene.normals) if rows is not None]
    torch.cat(known, -1)[key].numpy().astype(np.float32).tofile(folder / lidar["file"])
    if scene.world_to_global is not None:
        lidar["ego_to_global"] = scene.world_to_global.tolist()
    if scene.point_labels is not None:
        lidar["semseg_file"] = f"{number:06d}_semseg.u8"
        labels = scene.point_labels[key].numpy()
        if len(labels) and labels.max() > 254:
            raise ValueError(f"scenes: expected point_labels up to 254, got {labels.max()} ({scene.name})")
        labels.astype(np.uint8).tofile(folder / lidar["semseg_file"])  # -1 is 255, which has no name
    frame: dict[str, Any] = {
        "frame_id": scene.name,
        "timestamp_s": scene.timestamp,
        "lidar": lidar,
        "cameras": {},
    }
    if scene.images is not None and scene.cameras is not None:
        for n in scene.cameras_there:
            view = _view(scene, n)
            frame["cameras"][scene.camera_names[n]] = {
                "file": f"{number:06d}_{n}.png",
                **_write_image(folder / f"{number:06d}_{n}.png", view.image),
                "intrinsics": _integer_centers(view.camera),
                **_lens(view.camera),
                "lidar_to_camera": torch.linalg.inv(view.camera.camera_to_world.double()).tolist(),
            }
    if scene.boxes is not None:
        frame["boxes_lidar_frame"] = _boxes(scene.boxes, names)
    return frame


def _add_views(
    folder: Path, number: int, scene: Scene, class_names: tuple[str, ...], content: dict[str, Any]
) -> None:
    """Write a scene's views and append them to the folder's frames."""
    if scene.cameras is None or scene.images is None:
        raise ValueError(f"scenes: expected images and cameras, got none ({scene.name})")
    content["views_per_scene"] = max(content.get("views_per_scene", 1), len(scene.cameras_there))
    content.setdefault("intrinsics", _integer_centers(scene.cameras[0]))
    if scene.z_depths is not None:
        content.setdefault("depth_scale", min(FINEST_DEPTH, 60000 / max(float(scene.z_depths.max()), 1e-3)))
    for n in scene.cameras_there:
        view, name = _view(scene, n), scene.camera_names[n]
        camera = view.camera
        frame: dict[str, Any] = {
            "frame_id": f"{scene.name}-{name}",
            "scene": scene.name,
            "timestamp_s": scene.timestamp,
            "color": f"{number:06d}_{n}.png",
            **_write_image(folder / f"{number:06d}_{n}.png", view.image),
            "intrinsics": _integer_centers(camera),
            **_lens(camera),
            "camera_to_world": camera.camera_to_world.tolist(),
        }
        if view.z_depth is not None:
            frame["depth"] = f"{number:06d}_{n}_depth.png"
            z_depths = view.z_depth.double()
            if camera.fisheye is not None:
                z_depths = z_depths * axis_cosines(camera)
            units = (z_depths * content["depth_scale"]).round().clamp(0, 65535)
            Image.fromarray(units.numpy().astype(np.uint16)).save(folder / frame["depth"])
        if view.labels is not None:
            frame["semseg"] = f"{number:06d}_{n}_semseg.png"
            classes = view.labels.numpy().astype(np.uint16)  # -1 is 65535, which has no name
            Image.fromarray(classes).save(folder / frame["semseg"])
            _name_classes(content, class_names, scene.pixel_labels)
        content["frames"].append(frame)


@dataclass(frozen=True)
class _View:
    """One camera of a scene and what it saw, cut to the pixels that it saw."""

    camera: Cameras
    image: Tensor
    z_depth: Tensor | None
    labels: Tensor | None


def _view(scene: Scene, n: int) -> _View:
    """A camera's pictures without their padding; a fisheye's corners stay."""
    assert scene.cameras is not None and scene.images is not None  # only scenes with cameras come here
    camera, whole = scene.cameras[n], scene.cameras.image_size
    rows, columns = slice(0, whole[0]), slice(0, whole[1])
    if scene.image_valid is not None and scene.image_valid[n].any():
        rows, columns = (_span(scene.image_valid[n].any(axis)) for axis in (1, 0))
        size = (rows.stop - rows.start, columns.stop - columns.start)
        camera = camera.crop(rows.start, columns.start, size)
    depths = None if scene.z_depths is None else scene.z_depths[n, rows, columns]
    labels = None if scene.pixel_labels is None else scene.pixel_labels[n, rows, columns]
    return _View(camera, scene.images[n, :, rows, columns], depths, labels)


def _span(seen: Tensor) -> slice:
    """From the first True to the last."""
    places = torch.nonzero(seen)[:, 0]
    return slice(int(places[0]), int(places[-1]) + 1)


def _name_classes(content: dict[str, Any], names: tuple[str, ...], labels: Tensor | None) -> None:
    """Say what classes are called; those that occur need a name."""
    classes = content.setdefault("semseg_classes", {})
    classes |= {str(i): name for i, name in enumerate(names)}
    most = -1 if labels is None or not labels.numel() else int(labels.max())
    for i in range(most + 1):
        classes.setdefault(str(i), f"class_{i}")


def _write_image(file: Path, image: Tensor) -> dict[str, int]:
    """Write an image as PNG and give its size."""
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    Image.fromarray(levels.contiguous().numpy()).save(file)
    return {"width": image.shape[2], "height": image.shape[1]}


def _integer_centers(camera: Cameras) -> list[list[float]]:
    """Intrinsics with the first pixel's centre at (0, 0), as on disk."""
    matrix = camera.intrinsics.double().clone()
    matrix[:2, 2] -= 0.5
    return matrix.tolist()


def _lens(camera: Cameras) -> dict[str, list[float] | None]:
    """The field that says which lens a camera has."""
    numbers = None if camera.distortion is None else camera.distortion.tolist()
    if numbers is not None and camera.fisheye is not None and bool(camera.fisheye):
        return {FISHEYE: numbers[:4]}
    return {"distortion": numbers}


def _boxes(boxes: Boxes, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Boxes by the name of their class."""
    columns = (boxes.centers, boxes.sizes, boxes.yaws, boxes.labels, boxes.velocities)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        {
            "label": names[label] if label < len(names) else f"class_{label}",
            "center": center,
            "size_lwh": size,
            "yaw": yaw,
            "velocity_xy": velocity[:2],
        }
        for center, size, yaw, label, velocity in rows
    ]
