"""Which beams a LiDAR has, from the directions of its returns: no recording's points need to say it.

Each beam of a spinning sensor sweeps a cone around the sensor's axis. Seen from the sensor, elevations above
the plane across the axis gather around one angle for each beam; of a tilted sensor they smear unless they are
measured about its own axis.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

MOST = 4000
"""Returns that the axis is looked for with, evenly spread over all of them."""

SEARCH = ((8.0, 0.5, 0.4), (0.5, 0.125, 0.15), (0.12, 0.03, 0.05))
"""Degrees: how far the axis may be from the best one so far, in which steps, and the bins that are filled."""

CLEARER = 1.1
"""How much fuller a tilted axis's bins must be than an upright one's before it is believed."""

FINE = 0.02
"""Degrees of elevation in which returns are counted to tell beams apart."""

SPREAD = 2
"""Standard deviation of a beam's returns in such bins, by which counts are smoothed."""

VALLEY = 0.6
"""Between two beams there are at most so many returns, as a share of those at the lower one of the two."""

WIDEST = 2.5
"""Degrees; what is wider holds several beams that cannot be told apart, or none."""

STRIP = 0.5
"""Degrees of the strips that stand for beams that cannot be told apart."""


def sensor_axis(directions: Float[Tensor, "P 3"]) -> Float[Tensor, "3"]:
    """The unit vector about which the elevations of the returns gather the most; at most 8 degrees from z.

    Args:
        directions: Unit vectors from the sensor to its returns.
    """
    directions = directions[:: max(1, len(directions) // MOST)].float()
    best = torch.zeros(2, device=directions.device)
    for reach, step, width in SEARCH:
        steps = torch.arange(-round(reach / step), round(reach / step) + 1, device=best.device) * step
        tilts = best + torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        best = tilts[_gathered(directions, tilts, width).argmax()]
    both = torch.stack([best, torch.zeros_like(best)])
    tilted, upright = _gathered(directions, both, SEARCH[-1][2]).tolist() if len(directions) else (0, 0)
    return _axes(both)[0 if tilted > CLEARER * upright else 1]


def beam_edges(elevations: Float[Tensor, " P"]) -> Float[Tensor, " E"]:
    """Where one beam ends and the next begins, radians, ascending, the lowest and the highest end included.

    An edge lies in the middle of where the fewest returns are between two beams. What is too wide for a beam
    is cut in strips of half a degree.

    Args:
        elevations: Angles of the returns above the plane across the sensor's axis, radians.
    """
    if not len(elevations):
        return elevations.new_zeros(0)
    bin_width = math.radians(FINE)
    low = float(elevations.min()) - 4 * SPREAD * bin_width
    counts = torch.bincount(((elevations - low) / bin_width).long()).double()
    counts = torch.nn.functional.pad(counts, (0, 4 * SPREAD))
    reach = torch.arange(-3 * SPREAD, 3 * SPREAD + 1, device=counts.device)
    kernel = torch.exp(-(reach / SPREAD).square() / 2).to(counts)
    smooth = torch.nn.functional.conv1d(counts[None, None], kernel[None, None], padding=3 * SPREAD)[0, 0]
    valleys = _valleys(smooth.tolist())
    edges = [0.0, *(valley + 0.5 for valley in valleys), float(len(counts))]
    cut: list[float] = []
    for a, b in pairwise(edges):
        parts = math.ceil((b - a) * FINE / STRIP) if (b - a) * FINE > WIDEST else 1
        cut += [a + (b - a) * k / parts for k in range(parts)]
    return low + bin_width * torch.tensor([*cut, edges[-1]], dtype=elevations.dtype, device=elevations.device)


def _valleys(counts: list[float]) -> list[float]:
    """Places of the fewest returns between beams: a walk up to each peak and down again.

    A peak is one once counts have fallen below :data:`VALLEY` of it, a valley once they have risen as much.
    """
    found: list[float] = []
    peak, lowest, first, last, falling = 0.0, 0.0, 0, 0, False
    for place, count in enumerate(counts):
        if not falling:
            peak = max(peak, count)
            falling = peak > 0 and count < VALLEY * peak
            lowest, first, last = count, place, place
        elif count <= lowest:
            first = first if count == lowest else place
            lowest, last = count, place
        elif lowest < VALLEY * count:
            found.append((first + last) / 2)
            peak, falling = count, False
    return found


def _axes(tilts: Float[Tensor, "K 2"]) -> Float[Tensor, "K 3"]:
    """Unit vectors tilted by so many degrees towards x and y."""
    slopes = torch.tan(torch.deg2rad(tilts))
    return torch.nn.functional.normalize(torch.cat([slopes, torch.ones_like(slopes[:, :1])], 1), dim=1)


def _gathered(
    directions: Float[Tensor, "P 3"], tilts: Float[Tensor, "K 2"], width: float
) -> Float[Tensor, " K"]:
    """How much elevations about each tilted axis gather: the chance that two returns share a bin."""
    bins = int(180 / width) + 2
    found = []
    for axes in _axes(tilts).split(64):
        elevations = torch.asin((axes @ directions.mT).clamp(-1, 1))
        place = ((torch.rad2deg(elevations) + 90) / width).long()
        counts = directions.new_zeros(len(axes), bins).scatter_add_(1, place, torch.ones_like(elevations))
        found.append(counts.square().sum(1) / max(len(directions), 1) ** 2)
    return torch.cat(found)
