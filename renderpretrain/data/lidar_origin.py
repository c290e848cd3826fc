"""Where a spinning LiDAR's rays start, from its points: each beam sweeps a cone with its apex there.

And whether a place that is taken for it can be right: a sensor stands above the ground and looks down at it.
"""

from itertools import product

import numpy as np

MAX_POINTS = 12000
"""Points the fit uses; more change the result by less than a centimetre."""

NEAREST = 2.0
"""Metres from the frame's origin; nearer points lie on the recording car."""

STARTS = tuple(product((-1.5, 0.0, 1.5), (-1.5, 0.0, 1.5), (0.0, 1.8)))
"""First guesses, metres: the angles are far from linear in an apex two metres off."""

ON_GROUND = 0.15
"""Metres above the ground from which no sensor measures its surroundings."""

LOW, SHALLOW = 0.8, -8.0
"""A sensor that stands lower than so many metres sees the ground right before it: its lowest returns lie
further below the horizon than so many degrees. From the ground below a sensor on a roof they lie 4 below."""

AROUND = (3.0, 15.0)
"""Metres around a sensor in which the ground is looked for."""

MOST_LOOKED_AT = 30000
"""Points that the ground is looked for with."""

ENOUGH_CELLS = 20
"""Cells of 2 m with points, below which there is no telling where the ground is."""

WORST_SPREAD = np.deg2rad(0.3)
"""Radians; if the beams are not this sharp, they are no cones and there is no answer."""


def fit_lidar_origin(points: np.ndarray, rings: np.ndarray) -> np.ndarray | None:
    """The common apex of the cones, in the frame of the points, metres.

    Minimises the robust (Cauchy) spread of the elevations within each ring over apex and axis, by
    Gauss-Newton with the rings' mean elevations eliminated. A sweep that was compensated for ego motion has
    an apex per azimuth; the result is their average, so at 10 m/s it may lie 0.25 m from the mounting
    position.

    Args:
        points: ``(P, 3)``.
        rings: ``(P,)`` beam numbers; any integers.

    Returns:
        ``(3,)`` float64, or ``None`` where the rings are not cones.
    """
    keep = np.linalg.norm(points, axis=-1) > NEAREST
    points, rings = points[keep].astype(np.float64), np.unique(rings[keep], return_inverse=True)[1]
    if len(points) < 100 or rings.max() < 1:
        return None
    if len(points) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(points), MAX_POINTS, replace=False)
        points, rings = points[chosen], rings[chosen]
    few = slice(None, None, 6)
    tried = [_descend(points[few], rings[few], np.array([*start, 0.0, 0.0]), 12) for start in STARTS]
    best = min(tried, key=lambda result: result[1])[0]
    best, spread = _descend(points, rings, best, 40)
    return best[:3] if spread < WORST_SPREAD else None


def doubtful_origin(points: np.ndarray, origin: np.ndarray) -> str | None:
    """What speaks against rays that start at a place, in words; ``None`` where nothing does.

    A place on the ground or below it is doubted; so is one up to 0.8 m above it that sees nothing of the
    ground near by. Of a level street, beams from there would run through the road.

    Args:
        points: ``(P, 3)`` one sweep, z up, metres.
        origin: ``(3,)`` in the frame of the points.
    """
    offsets = points[:: 1 + len(points) // MOST_LOOKED_AT].astype(np.float64) - origin
    ground = _ground_below(offsets)
    if ground is None:
        return None
    distances = np.linalg.norm(offsets, axis=-1)
    near = offsets[(distances > NEAREST) & (distances < 30)]
    elevations = np.rad2deg(np.arcsin(near[:, 2] / np.linalg.norm(near, axis=-1)))
    lowest = float(np.percentile(elevations, 1))
    if -ground >= LOW or (-ground >= ON_GROUND and lowest <= SHALLOW):
        return None
    x, y, z = (
        round(float(value), 2) for value in (origin[0], origin[1], origin[2] + _sharpest(near, ground))
    )
    return (
        f"expected rays that start where the sensor is, got {tuple(np.round(origin, 2).tolist())}, "
        f"{-ground:.2f} m above the ground and with the lowest returns {-lowest:.1f} degrees below the "
        f'horizon: say where it is ("sensor_origin", or ?sensor_origin=x,y,z behind the folder); about '
        f"{x},{y},{z} by the sharpness of the beams"
    )


def _ground_below(offsets: np.ndarray) -> float | None:
    """Height of the ground around a place, relative to it; ``None`` where there are too few points."""
    across = np.linalg.norm(offsets[:, :2], axis=-1)
    around = offsets[(across > AROUND[0]) & (across < AROUND[1])]
    if not len(around):
        return None
    x, y = np.floor((around[:, :2] + AROUND[1]) / 2).astype(np.int64).T
    cells = 100 * x + y
    counts = np.bincount(cells)
    lowest = np.full(len(counts), np.inf)
    np.minimum.at(lowest, cells, around[:, 2])
    lowest = lowest[counts > 3]
    return float(np.median(lowest)) if len(lowest) >= ENOUGH_CELLS else None


def _sharpest(offsets: np.ndarray, ground: float) -> float:
    """How much higher than a place elevations gather most in beams: 0.3 to 3 m above the ground."""

    def sharpness(height: float) -> float:
        moved = offsets - (0, 0, height)
        elevations = np.rad2deg(np.arcsin(moved[:, 2] / np.maximum(np.linalg.norm(moved, axis=-1), 1e-6)))
        counts = np.bincount(((elevations + 90) / 0.05).astype(np.int64))
        return float((counts.astype(np.float64) ** 2).sum())

    return max((ground + above for above in np.arange(0.3, 3.05, 0.1)), key=sharpness)


def _descend(
    points: np.ndarray, rings: np.ndarray, guess: np.ndarray, steps: int
) -> tuple[np.ndarray, float]:
    """Gauss-Newton from a guess ``(apex, tilt)``; also the spread in radians at the end."""
    spread = np.inf
    for _ in range(steps):
        elevations, jacobian = _elevations(points, guess)
        residuals = elevations - _medians(elevations, rings)[rings]
        spread = 1.4826 * float(np.median(np.abs(residuals))) + 1e-6
        weights = 1 / (1 + (residuals / (2 * spread)) ** 2)
        total = np.bincount(rings, weights) + 1e-12
        residuals = elevations - (np.bincount(rings, weights * elevations) / total)[rings]
        means = [np.bincount(rings, weights * column) / total for column in jacobian.T]
        jacobian = jacobian - np.stack(means, -1)[rings]
        weighted = jacobian * weights[:, None]
        normal = weighted.T @ jacobian
        step = -np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(5), weighted.T @ residuals)
        # Half a metre per step keeps the linearisation honest.
        guess = guess + step * min(1.0, 0.5 / max(float(np.linalg.norm(step[:3])), 1e-12))
        if np.linalg.norm(step[:3]) < 1e-4:
            break
    return guess, spread


def _elevations(points: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elevation of each point above the sensor's horizon, radians, and its derivative by apex and tilt."""
    axis = np.array([guess[3], guess[4], 1.0])
    axis /= np.linalg.norm(axis)
    offsets = points - guess[:3]
    distances = np.linalg.norm(offsets, axis=-1) + 1e-9
    towards = offsets / distances[:, None]
    sines = np.clip(towards @ axis, -1, 1)
    cosines = np.sqrt(1 - sines**2) + 1e-9
    by_apex = (sines[:, None] * towards - axis) / (distances * cosines)[:, None]
    return np.arcsin(sines), np.concatenate([by_apex, towards[:, :2] / cosines[:, None]], -1)


def _medians(values: np.ndarray, rings: np.ndarray) -> np.ndarray:
    """The median of the values of each ring."""
    order = np.lexsort((values, rings))
    counts = np.bincount(rings)
    starts = np.cumsum(counts) - counts
    return values[order][np.minimum(starts + counts // 2, len(values) - 1)]
