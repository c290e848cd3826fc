"""An analytic room for tests, with a pillar: what a pinhole sees of it, and points of it."""

import numpy as np

SIZE = np.array([5.0, 4.0, 3.0])
"""The room spans from the origin to here, z up."""

PILLAR = np.array([[2.2, 2.6, 0.0], [2.8, 3.1, 3.0]])
"""Two corners of a box that stands in it."""

FLOOR, CEILING, WALL, COLUMN = range(4)
"""What is seen."""

MATRIX = np.array([[60.0, 0, 39.5], [0, 62.0, 29.5], [0, 0, 1]])
"""Of pictures of 80 x 60; integer (0, 0) is the first pixel's centre."""


def looking(place, target):
    """Camera to world, OpenCV's axes, of a camera with the world's z upwards in its picture."""
    forward = np.subtract(target, place)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, place], -1)
    return pose


POSES = [looking((1 + 0.3 * k, 0.8 + 0.1 * k, 1.5), (2.6, 3.0 + 0.2 * k, 1.2 - 0.1 * k)) for k in range(4)]
"""Four cameras that see the pillar, walls and floor."""


def seen(pose, matrix=MATRIX, size=(60, 80)):
    """Depth along the optical axis in metres and what is seen, of each pixel."""
    v, u = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    return seen_along(pose, pixels @ np.linalg.inv(matrix).T, size)


def seen_along(pose, rays, size):
    """The same along rays of a camera, as long as they reach a metre ahead, by the planes' equations."""
    rays, place = rays @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        outer = np.where(rays > 0, (SIZE - place) / rays, np.where(rays < 0, -place / rays, np.inf))
        slabs = np.sort((PILLAR[:, None] - place) / rays, 0)
    depth, axis = outer.min(-1), outer.argmin(-1)
    kind = np.where(axis < 2, WALL, np.where(rays[:, 2] > 0, CEILING, FLOOR))
    near, far = slabs[0].max(-1), slabs[1].min(-1)
    hit = (near < far) & (near > 0) & (near < depth)
    return np.where(hit, near, depth).reshape(size), np.where(hit, COLUMN, kind).reshape(size)


def surface(step=0.02):
    """Points of floor, ceiling, walls and pillar on a lattice, and what each belongs to."""
    points, kinds = [], []

    def face(low, high, axis, kind):
        """The points of a rectangle."""
        low, high = np.array(low, float), np.array(high, float)
        spans = [low[k : k + 1] if k == axis else np.arange(low[k], high[k] + 1e-9, step) for k in range(3)]
        grid = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
        points.append(grid)
        kinds.append(np.full(len(grid), kind))

    x, y, z = SIZE
    face((0, 0, 0), (x, y, 0), 2, FLOOR)
    face((0, 0, z), (x, y, z), 2, CEILING)
    for axis, at in ((0, 0), (0, x), (1, 0), (1, y)):
        low, high = np.zeros(3), SIZE.copy()
        low[axis] = high[axis] = at
        face(low, high, axis, WALL)
    for axis in (0, 1):
        for side in (0, 1):
            low, high = PILLAR.copy()
            low[axis] = high[axis] = PILLAR[side, axis]
            face(low, high, axis, COLUMN)
    return np.concatenate(points), np.concatenate(kinds)
