"""KITTI's raw drives, synchronized and rectified (https://www.cvlibs.net/datasets/kitti/raw_data.php).

The ego frame is that of the inertial unit (OXTS). Its position comes from latitude and longitude by the
Mercator projection of the development kit, scaled for the latitude of a drive's first packet.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.readers.kitti_calibration import (
    COLUMNS,
    matrix_of,
    rectified_camera,
    rotation_and_translation,
)
from renderpretrain.data.readers.kitti_tracklets import tracked_boxes
from renderpretrain.data.readers.tables import named_numbers, numbers_in, text_of

DATE = re.compile(r"\d{4}_\d{2}_\d{2}", re.ASCII)
DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_sync", re.ASCII)
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)
"""A line of ``timestamps.txt``; nanoseconds."""

CAMERAS = ("image_02", "image_03")
"""The colour cameras; their projections are P_rect_02 and P_rect_03."""

EARTH_RADIUS = 6378137.0
"""Metres, as in the development kit."""

PACKET = 30
"""Numbers of an OXTS packet; latitude, longitude (degrees), altitude, roll, pitch, yaw are the first."""


@dataclass(frozen=True)
class Drive:
    """One drive, and what is said once for all of its frames.

    Attributes:
        name: Of its folder.
        folder: Where it lies, relative to the opened folder.
        to_rectified: 4x4, from the LiDAR to the rectified frame of camera 0.
        projections: 4x4 of each camera that the drive has.
        sizes: ``(height, width)`` of each camera's pictures.
        lidar_to_ego: From the LiDAR to the inertial unit; ``None`` for a drive without packets.
        stamps: Lines of ``timestamps.txt``; ``None`` where it is absent.
        boxes: Objects in the LiDAR frame by the number of their frame.
    """

    name: str
    folder: str
    to_rectified: np.ndarray
    projections: dict[str, np.ndarray]
    sizes: dict[str, tuple[int, int]]
    lidar_to_ego: np.ndarray | None
    stamps: list[str] | None
    boxes: dict[int, list[dict[str, Any]]]


def has_drives(names: list[str]) -> bool:
    """Whether a folder with these names in it is a drive, a day of drives, or has days in it."""
    return "velodyne_points" in names or any(DATE.fullmatch(n) or DRIVE.fullmatch(n) for n in names)


def read_raw(access: FolderAccess) -> dict[str, Any]:
    """The frames of all drives, as ``frames.json`` would describe them.

    A drive without ``oxts`` has no poses, and one without ``timestamps.txt`` no time stamps.

    Args:
        access: Of the folder that holds the days, of one day, or of one drive.

    Raises:
        SceneFolderError: If there are no drives, or a drive's calibration cannot be read.
    """
    frames: list[dict[str, Any] | UnreadFrame] = []
    for day, where, folder, name in _drives(access):
        frames += _frames(access, _drive(access, day, where, folder, name))
    if not frames:
        raise SceneFolderError(
            f"{access.path}: expected drives DATE/DATE_drive_NNNN_sync with sweeps, got none"
        )
    return {"format": "multicam_lidar", "dataset": "KITTI raw", "frames": frames}


def _drives(access: FolderAccess) -> Iterator[tuple[FolderAccess, str, str, str]]:
    """Who reads the day's calibration, the day's folder there, the drive's folder, and its name."""
    names = access.names("")
    if "velodyne_points" in names:
        place = Path(os.path.abspath(access.path))
        yield replace(access, path=place.parent), "", "", place.name
        return
    days = [""] if any(map(DRIVE.fullmatch, names)) else [n + "/" for n in names if DATE.fullmatch(n)]
    for day in days:
        for name in access.names(day):
            if DRIVE.fullmatch(name):
                yield access, day, f"{day}{name}/", name


def _drive(access: FolderAccess, day: FolderAccess, where: str, folder: str, name: str) -> Drive:
    """What is said once for a drive."""
    place = access.path / folder
    cameras = [camera for camera in CAMERAS if (place / camera).is_dir()]
    rig, lidar = f"{where}calib_cam_to_cam.txt", f"{where}calib_velo_to_cam.txt"
    told, rig = named_numbers(day, rig), str(day.path / rig)
    to_camera = rotation_and_translation(named_numbers(day, lidar), str(day.path / lidar))
    sizes = {
        c: numbers_in(told.get(f"S_rect_{c[-2:]}", "").split(), 2, f"{rig}: S_rect_{c[-2:]}") for c in cameras
    }
    lidar_to_ego = None
    if (place / "oxts").is_dir():
        file = f"{where}calib_imu_to_velo.txt"
        to_lidar = rotation_and_translation(named_numbers(day, file), str(day.path / file))
        lidar_to_ego = np.linalg.inv(to_lidar)
    stamps = f"{folder}velodyne_points/timestamps.txt"
    return Drive(
        name=name,
        folder=folder,
        to_rectified=matrix_of(told, "R_rect_00", rig, 3) @ to_camera,
        projections={c: matrix_of(told, f"P_rect_{c[-2:]}", rig) for c in cameras},
        sizes={c: (round(height), round(width)) for c, (width, height) in sizes.items()},
        lidar_to_ego=lidar_to_ego,
        stamps=text_of(access, stamps).splitlines() if (access.path / stamps).exists() else None,
        boxes=tracked_boxes(access, f"{folder}tracklet_labels.xml"),
    )


def _frames(access: FolderAccess, drive: Drive) -> Iterator[dict[str, Any] | UnreadFrame]:
    """The frames of a drive; the first packet's latitude scales the map."""
    scale = None
    for name in access.names(f"{drive.folder}velodyne_points/data"):
        stem, _, end = name.rpartition(".")
        if end != "bin" or not (stem.isascii() and stem.isdigit()):
            continue
        try:
            frame = _frame(access, drive, stem)
            if drive.lidar_to_ego is not None:
                packet = _packet(access, f"{drive.folder}oxts/data/{stem}.txt")
                scale = math.cos(math.radians(packet[0])) if scale is None else scale
                frame["lidar"]["lidar_to_ego"] = drive.lidar_to_ego.tolist()
                frame["lidar"]["ego_to_global"] = ego_pose(packet, scale).tolist()
        except SceneFolderError as error:
            yield UnreadFrame(str(error))
        else:
            yield frame


def _frame(access: FolderAccess, drive: Drive, stem: str) -> dict[str, Any]:
    """One frame but for its pose."""
    number = int(stem)
    frame: dict[str, Any] = {"frame_id": f"{drive.name}/{stem}", "scene": drive.name}
    frame["lidar"] = {"file": f"{drive.folder}velodyne_points/data/{stem}.bin", "columns": COLUMNS}
    if drive.stamps is not None:
        line = drive.stamps[number].strip() if number < len(drive.stamps) else "nothing"
        if not STAMP.fullmatch(line):
            raise _no_stamp(access, drive, number, line)
        try:
            frame["timestamp_ns"] = int(np.datetime64(line.replace(" ", "T"), "ns").astype(np.int64))
        except ValueError:
            raise _no_stamp(access, drive, number, line) from None
    where = f"{access.path / drive.folder}: calib_cam_to_cam.txt: "
    frame["cameras"] = {
        camera: rectified_camera(
            f"{drive.folder}{camera}/data/{stem}.png",
            drive.sizes[camera],
            projection,
            drive.to_rectified,
            f"{where}P_rect_{camera[-2:]}",
        )
        for camera, projection in drive.projections.items()
    }
    frame["boxes_lidar_frame"] = drive.boxes.get(number, [])
    return frame


def _no_stamp(access: FolderAccess, drive: Drive, number: int, line: str) -> SceneFolderError:
    """The error for a line that is no time."""
    file = access.path / drive.folder / "velodyne_points" / "timestamps.txt"
    return SceneFolderError(
        f"{file}: line {number + 1}: expected a time as 2011-09-26 13:02:25.951199337, got {brief(line)}"
    )


def _packet(access: FolderAccess, file: str) -> list[float]:
    """Latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in radians."""
    values = numbers_in(text_of(access, file).split(), PACKET, str(access.path / file))[:6]
    if abs(values[0]) > 85 or abs(values[1]) > 180:
        what = "a latitude within 85 and a longitude within 180 degrees"
        raise SceneFolderError(f"{access.path / file}: expected {what}, got {values[0]:g} and {values[1]:g}")
    return values


def ego_pose(packet: list[float], scale: float) -> np.ndarray:
    """Where the inertial unit is on the map, 4x4: x east, y north, z up.

    Args:
        packet: Latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in radians.
        scale: Cosine of the latitude of the drive's first packet: near it metres of the map are metres.
    """
    latitude, longitude, altitude, roll, pitch, yaw = packet
    about_x, about_y, about_z = np.eye(4), np.eye(4), np.eye(4)
    about_x[1:3, 1:3] = [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
    about_y[0:3:2, 0:3:2] = [[math.cos(pitch), math.sin(pitch)], [-math.sin(pitch), math.cos(pitch)]]
    about_z[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    pose = about_z @ about_y @ about_x
    north = math.log(math.tan(math.pi * (90 + latitude) / 360))
    pose[:3, 3] = (scale * EARTH_RADIUS * math.radians(longitude), scale * EARTH_RADIUS * north, altitude)
    return pose
