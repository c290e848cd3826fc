"""Points of a LiDAR's range image: a row for each beam, a column for each direction it is fired in."""

import numpy as np


def points_of_range_image(
    ranges: np.ndarray,
    inclinations: np.ndarray,
    sensor: np.ndarray,
    pixel_poses: np.ndarray | None = None,
    frame_pose: np.ndarray | None = None,
) -> np.ndarray:
    """Where a range image's pixels are in the frame of the vehicle, ``(H, W, 3)`` float64.

    Columns go once around against the counter-clockwise direction, and the middle one looks along the
    vehicle's x axis.

    Args:
        ranges: ``(H, W)`` metres; what is not positive is no return.
        inclinations: ``(H,)`` radians above the sensor's horizon, of each row.
        sensor: 4x4, from the sensor to the vehicle.
        pixel_poses: ``(H, W, 6)`` roll, pitch, yaw and place of the vehicle in the world when a pixel was
            measured; ``None`` where it stood still.
        frame_pose: 4x4, the vehicle in the world at the frame's time: the points come into this frame.

    Raises:
        ValueError: If the shapes do not agree.
    """
    if ranges.ndim != 2 or inclinations.shape != ranges.shape[:1]:
        raise ValueError(
            f"expected an inclination for each of {ranges.shape[:1]} rows, got {inclinations.shape}"
        )
    width = ranges.shape[1]
    around = np.pi * (1 - (2 * np.arange(width) + 1) / max(width, 1)) - np.arctan2(sensor[1, 0], sensor[0, 0])
    flat = np.cos(inclinations)[:, None]
    up = np.broadcast_to(np.sin(inclinations)[:, None], ranges.shape)
    rays = np.stack([flat * np.cos(around), flat * np.sin(around), up], -1)
    points = (ranges[..., None] * rays) @ sensor[:3, :3].T + sensor[:3, 3]
    if pixel_poses is None or frame_pose is None:
        return points
    if pixel_poses.shape != (*ranges.shape, 6):
        raise ValueError(f"expected six numbers for each pixel of {ranges.shape}, got {pixel_poses.shape}")
    world = _turned(points, pixel_poses[..., :3].astype(np.float64)) + pixel_poses[..., 3:]
    return (world - frame_pose[:3, 3]) @ frame_pose[:3, :3]


def _turned(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Points turned about x, then y, then z by the angles of each, radians."""
    x, y, z = np.moveaxis(points, -1, 0)
    for axis, angle in zip((0, 1, 2), np.moveaxis(angles, -1, 0), strict=True):
        c, s = np.cos(angle), np.sin(angle)
        if axis == 0:
            y, z = c * y - s * z, s * y + c * z
        elif axis == 1:
            z, x = c * z - s * x, s * z + c * x
        else:
            x, y = c * x - s * y, s * x + c * y
    return np.stack([x, y, z], -1)
