"""From the matrices of ``frames.json`` to cameras, poses and boxes in the LiDAR frame of the moment."""

import math

import numpy as np
import torch

from renderpretrain.data.folder.fields import NO_OBJECT
from renderpretrain.data.folder.lidar_entry import LidarEntry
from renderpretrain.data.folder.schema import (
    CameraEntry,
    IndoorFolder,
    Lens,
    OutdoorFolder,
    OutdoorFrame,
    frame_name,
)
from renderpretrain.data.scene import Boxes
from renderpretrain.geometry import Cameras

FAR = 2000.0
"""Metres from an origin up to which float32 keeps a tenth of a millimetre."""

GRAZING = 0.02
"""Cosine to the optical axis, 89 degrees, below which depth along it says nothing of the distance."""


def nearest_rigid(pose: np.ndarray | list[list[float]], around: np.ndarray | None = None) -> np.ndarray:
    """The pose with the nearest orthonormal rotation; published calibrations are rounded.

    Args:
        pose: ``(4, 4)``.
        around: ``(3,)``, the point that stays where the pose puts it, by default the origin. A millionth of a
            turn moves points in map coordinates by metres.
    """
    rigid = np.array(pose, dtype=np.float64)
    left, _, right = np.linalg.svd(rigid[:3, :3])
    if around is not None:
        rigid[:3, 3] += (rigid[:3, :3] - left @ right) @ around
    rigid[:3, :3] = left @ right
    rigid[3] = (0, 0, 0, 1)
    return rigid


def lidar_to_global(
    folder: OutdoorFolder, scene: str, lidar: LidarEntry, around: np.ndarray
) -> np.ndarray | None:
    """A sweep's LiDAR pose; the global origin is moved to the first ego position of its scene.

    Global coordinates can be millions of metres, too many for float32.

    Args:
        folder: All frames.
        scene: Of the frame that the sweep belongs to.
        lidar: What the index says of the sweep.
        around: ``(3,)``, about where its points are in its LiDAR frame.
    """
    if lidar.ego_to_global is None:
        return None
    first = folder.frames[folder.first_of_scene[scene]].lidar.ego_to_global
    to_ego = nearest_rigid(lidar.lidar_to_ego, around)
    ego = nearest_rigid(lidar.ego_to_global, to_ego[:3, :3] @ around + to_ego[:3, 3])
    ego[:3, 3] -= np.asarray(first)[:3, 3]
    return ego @ to_ego


def camera_to_lidar(camera: CameraEntry, lidar: LidarEntry, around: np.ndarray | None = None) -> np.ndarray:
    """Where the camera is, by the most exact chain at hand; the schema guarantees one.

    ``lidar_to_camera`` first, then through global poses (the ego motion between sweep and exposure counts),
    then the static chain through the ego frame. ``around`` is about where the points are, see
    :func:`nearest_rigid`.
    """
    if camera.lidar_to_camera is not None:
        return np.linalg.inv(nearest_rigid(camera.lidar_to_camera, around))
    lidar_to_ego = nearest_rigid(lidar.lidar_to_ego, around)
    camera_to_global = camera.camera_to_global
    if camera_to_global is None and camera.camera_to_ego is not None and camera.ego_to_global is not None:
        camera_to_global = (
            nearest_rigid(camera.ego_to_global) @ nearest_rigid(camera.camera_to_ego)
        ).tolist()
    if camera_to_global is not None and lidar.ego_to_global is not None:
        lidar_pose = nearest_rigid(lidar.ego_to_global) @ lidar_to_ego
        return nearest_rigid(np.linalg.solve(lidar_pose, nearest_rigid(camera_to_global)))
    return np.linalg.solve(lidar_to_ego, nearest_rigid(camera.camera_to_ego or np.eye(4)))


def placed_camera(camera: CameraEntry, lidar: LidarEntry, shift: np.ndarray) -> Cameras:
    """A camera at the size of its file, in the LiDAR frame, its origin moved by ``shift``."""
    pose = camera_to_lidar(camera, lidar, shift)
    pose[:3, 3] -= shift
    return one_camera(camera.intrinsics, camera, pose, (camera.height, camera.width))


def one_camera(intrinsics: list[list[float]], lens: Lens, pose: np.ndarray, size: tuple[int, int]) -> Cameras:
    """One camera; integer pixel centres on disk become centres at +0.5."""
    matrix = torch.tensor(intrinsics, dtype=torch.float64)
    matrix[:2, 2] += 0.5
    wide = lens.distortion_k1k2k3k4
    bends = lens.distortion if wide is None else [*wide, 0.0]
    return Cameras(
        intrinsics=matrix.float(),
        camera_to_world=torch.from_numpy(pose).float(),
        image_size=size,
        distortion=None if bends is None else torch.tensor(bends),
        fisheye=None if wide is None else torch.tensor(True),
    )


def lens_depths(camera: Cameras, z_depth: torch.Tensor) -> torch.Tensor:
    """A depth image as :meth:`Cameras.project` gives depth; 0 where a fisheye looks beside the image plane.

    Args:
        camera: One camera, of the depth image's size.
        z_depth: ``(H, W)`` metres along the optical axis, as on disk.
    """
    if camera.fisheye is None:
        return z_depth
    cosines = axis_cosines(camera)
    ahead = cosines > GRAZING
    return torch.where(ahead, z_depth / torch.where(ahead, cosines, 1.0), 0.0)


def axis_cosines(camera: Cameras) -> torch.Tensor:
    """``(H, W)``: of the angles between one camera's rays through its pixels and its optical axis."""
    directions = camera.rays(pixel_centers(camera.image_size)).directions
    return (directions @ camera.camera_to_world[:3, 2]).view(camera.image_size)


def pixel_centers(size: tuple[int, int]) -> torch.Tensor:
    """``(H * W, 2)``: the centres ``(u, v)`` of an image's pixels, in reading order."""
    v, u = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([u, v], -1).view(-1, 2) + 0.5


def room_shift(folder: IndoorFolder, room: str) -> np.ndarray:
    """Where in a room's frame its origin is moved to, whole metres: 0, or the first camera where it is far.

    Map coordinates can be millions of metres, too many for float32.
    """
    first = np.asarray(folder.frames[folder.first_of_scene[room]].camera_to_world)[:3, 3].round()
    return first if np.abs(first).max() > FAR else np.zeros(3)


def view_camera(folder: IndoorFolder, view: int) -> Cameras:
    """The camera of an indoor view at the size of its file, in the room's frame with its origin moved."""
    frame = folder.frames[view]
    if frame.camera_to_world is None:
        raise ValueError(f"view: expected one with a pose, got {frame_name(frame)}")
    pose = nearest_rigid(frame.camera_to_world)
    pose[:3, 3] -= room_shift(folder, frame.scene)
    return one_camera(frame.intrinsics, frame, pose, (frame.height, frame.width))


def all_class_names(index: OutdoorFolder | IndoorFolder) -> tuple[str, ...]:
    """``free``, then the point classes by their number, then box labels that are not among them."""
    known = {0: "free", **index.semseg_classes}
    names = [known.get(i, f"class_{i}") for i in range(max(known) + 1)]
    if isinstance(index, IndoorFolder):
        return tuple(names)
    boxes = {box.label for frame in index.frames for box in frame.boxes_lidar_frame}
    boxes |= {box.label for frame in index.frames for box in frame.boxes_rectified_cam0}
    return (*names, *sorted(boxes - set(names) - {NO_OBJECT}))


def annotated_boxes(frame: OutdoorFrame, class_names: tuple[str, ...], shift: np.ndarray) -> Boxes | None:
    """The frame's boxes in the LiDAR frame with its origin moved; ``None`` where nothing was annotated."""
    rows = [
        (b.center, b.size_lwh, b.yaw, b.label, [*(b.velocity_xy or (0.0, 0.0)), 0.0])
        for b in frame.boxes_lidar_frame
        if b.label != NO_OBJECT
    ]
    rows += _kitti_rows(frame)
    if not rows:
        return None
    centers, sizes, yaws, labels, velocities = zip(*rows, strict=True)
    return Boxes(
        centers=torch.from_numpy(np.asarray(centers, dtype=np.float64) - shift).float(),
        sizes=torch.tensor(sizes),
        yaws=torch.tensor(yaws),
        labels=torch.tensor([class_names.index(label) for label in labels]),
        velocities=torch.tensor(velocities),
    )


def _kitti_rows(frame: OutdoorFrame) -> list[tuple[list[float], list[float], float, str, list[float]]]:
    """KITTI's labels: bottom centre and yaw about the camera's y axis, moved to the LiDAR frame."""
    chains = [
        c.lidar_to_rectified_cam0 for c in frame.cameras.values() if c.lidar_to_rectified_cam0 is not None
    ]
    if not chains:
        return []
    to_lidar = np.linalg.inv(nearest_rigid(chains[0]))
    rows = []
    for box in frame.boxes_rectified_cam0:
        if box.label == NO_OBJECT:
            continue
        height, width, length = box.height_width_length
        x, y, z = box.bottom_center
        center = to_lidar @ np.array([x, y - height / 2, z, 1.0])
        heading = to_lidar[:3, :3] @ np.array([math.cos(box.rotation_y), 0.0, -math.sin(box.rotation_y)])
        yaw = math.atan2(heading[1], heading[0])
        rows.append((center[:3].tolist(), [length, width, height], yaw, box.label, [0.0, 0.0, 0.0]))
    return rows
