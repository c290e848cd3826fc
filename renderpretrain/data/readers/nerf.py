"""Posed photographs as nerfstudio and instant-ngp describe them: one ``transforms.json``.

Poses there have OpenGL's axes (x right, y up, z backward); here they have OpenCV's. The principal point
counts pixels from the picture's edge, so that the first pixel's centre is (0.5, 0.5): nerfstudio sends rays
through ``get_image_coords(pixel_offset=0.5)`` and takes 0.5 off ``cx`` and ``cy`` before it calls OpenCV
(``full_images_datamanager``), and both take COLMAP's numbers as they are. Half a pixel less is what a
``frames.json`` says.

The world is that of the poses. nerfstudio turned and perhaps scaled it as ``applied_transform`` and
``applied_scale`` say: nothing of that is undone. Its unit is a metre only where somebody made it one.
``aabb_scale``, ``sharpness`` and other fields of a renderer are not read.
"""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.tables import json_of, number_of, picture_size
from renderpretrain.data.readers.views import Listing, say_absent

TABLE = "transforms.json"

TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns a camera's axes about x."""

PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
"""Models whose lens is k1, k2, p1, p2, k3, of which some are 0."""

FISHEYE = "OPENCV_FISHEYE"

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
"""What a path without a suffix may stand for."""


def read_nerf(access: FolderAccess, depth_unit_scale_factor: float | None = None) -> dict[str, Any]:
    """The photographs, as ``frames.json`` would describe them.

    Pictures that are listed and absent are left out; one line says how many.

    Args:
        access: Of the folder that holds ``transforms.json``.
        depth_unit_scale_factor: Metres per stored unit of depth images; ``None`` takes what the file says,
            or a thousandth as nerfstudio does.

    Raises:
        SceneFolderError: If it cannot be read, or no listed picture is there.
    """
    table = json_of(access, TABLE)
    listed = table.get("frames") if isinstance(table, dict) else None
    if not isinstance(listed, list) or not listed:
        raise SceneFolderError(
            f"{access.path / TABLE}: frames: expected a list of frames, got {brief(listed)}"
        )
    listing, frames, absent = Listing(access), list[dict[str, Any] | UnreadFrame](), 0
    for position, entry in enumerate(listed):
        try:
            frame = _frame(access, listing, table, entry, f"frame {position}")
        except SceneFolderError as error:
            frames.append(UnreadFrame(str(error)))
            continue
        absent += frame is None
        frames += [] if frame is None else [frame]
    say_absent(access, TABLE, absent, len(listed))
    unit = depth_unit_scale_factor
    if unit is None:
        unit = number_of(
            table.get("depth_unit_scale_factor", 1e-3), f"{access.path / TABLE}: depth_unit_scale_factor"
        )
    content: dict[str, Any] = {"format": "posed_rgb", "dataset": "nerf", "frames": frames}
    if any(isinstance(frame, dict) and frame.get("depth") for frame in frames):
        content |= {"format": "posed_rgbd", "depth_scale": 1 / unit if unit > 0 else unit}
        content["depth_invalid"] = []
    return content


def _frame(
    access: FolderAccess, listing: Listing, table: dict[str, Any], entry: Any, where: str
) -> dict[str, Any] | None:
    """One photograph; ``None`` where its file is absent."""
    said = {**table, **entry} if isinstance(entry, dict) else {}
    name, file = said.get("file_path"), access.path / TABLE
    if not isinstance(name, str):
        raise SceneFolderError(f"{file}: {where}: file_path: expected a path, got {brief(name)}")
    where = f"{file}: {where} ({brief(name)})"
    color = listing.found(name, SUFFIXES)
    if color is None:
        return None
    size = [said.get("h"), said.get("w")]
    if None in size:
        size = list(picture_size(access, color, where))
    height, width = (int(number_of(value, f"{where}: w, h")) for value in size)
    frame = {"frame_id": name, "color": color, "width": width, "height": height}
    frame |= _lens(said, where) | {"intrinsics": _intrinsics(said, width, height, where)}
    frame["camera_to_world"] = _pose(said.get("transform_matrix"), f"{where}: transform_matrix")
    depth = said.get("depth_file_path")
    if isinstance(depth, str):
        frame["depth"] = listing.found(depth, SUFFIXES)
    return frame


def _intrinsics(said: dict[str, Any], width: int, height: int, where: str) -> list[list[float]]:
    """The 3x3 matrix; the angles of view stand in for focal lengths, the middle for the principal point."""

    def focal(name: str, angle: str, side: int) -> float | None:
        if said.get(name) is not None:
            return number_of(said[name], f"{where}: {name}")
        if said.get(angle) is None:
            return None
        half = number_of(said[angle], f"{where}: {angle}") / 2
        if not 0 < half < np.pi / 2:
            raise SceneFolderError(f"{where}: {angle}: expected radians between 0 and pi, got {2 * half:g}")
        return float(side / 2 / np.tan(half))

    fx = focal("fl_x", "camera_angle_x", width)
    fy = focal("fl_y", "camera_angle_y", height)
    fx, fy = fy if fx is None else fx, fx if fy is None else fy
    if fx is None or fy is None:
        raise SceneFolderError(f"{where}: fl_x: expected fl_x or camera_angle_x, got neither")
    cx = number_of(said.get("cx", width / 2), f"{where}: cx")
    cy = number_of(said.get("cy", height / 2), f"{where}: cy")
    return [[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]]


def _lens(said: dict[str, Any], where: str) -> dict[str, list[float] | None]:
    """The field that says how the lens bends the picture."""
    model = FISHEYE if said.get("is_fisheye") else said.get("camera_model", "OPENCV")
    if model not in (*PINHOLES, FISHEYE):
        known = ", ".join((*PINHOLES, FISHEYE))
        raise SceneFolderError(f"{where}: camera_model: expected one of {known}, got {brief(model)}")
    numbers = {key: number_of(said.get(key) or 0.0, f"{where}: {key}") for key in LENS}
    if model == FISHEYE:
        return {"distortion_k1k2k3k4": [numbers[key] for key in ("k1", "k2", "k3", "k4")]}
    if numbers["k4"]:
        raise SceneFolderError(
            f"{where}: k4: expected 0 for {brief(model)}, got {numbers['k4']:g}: undistort first"
        )
    values = [numbers[key] for key in ("k1", "k2", "p1", "p2", "k3")]
    return {"distortion": values if any(values) else None}


LENS = ("k1", "k2", "k3", "k4", "p1", "p2")


def _pose(value: Any, where: str) -> list[list[float]]:
    """Where the camera is, with OpenCV's axes."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except ODD_VALUES:
        matrix = np.zeros(0)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise SceneFolderError(f"{where}: expected a 4x4 matrix of finite numbers, got {brief(value)}")
    return (np.vstack([matrix[:3], [0, 0, 0, 1]]) @ TO_OPENCV).tolist()


def _unit(text: str) -> float:
    """Metres per stored unit of a depth image."""
    value = float(text)
    if not 1e-6 <= value <= 1:
        raise ValueError
    return value


NERF = Reader(
    "nerf",
    read_nerf,
    TABLE,
    {"depth_unit_scale_factor": (_unit, "metres per stored unit, from 1e-6 to 1")},
)
