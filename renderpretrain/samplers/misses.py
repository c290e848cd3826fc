"""Directions into which a LiDAR fired without a return: what is known to be empty."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from renderpretrain import ops
from renderpretrain.checks import check_count, check_shape
from renderpretrain.geometry import Points, Rays

HIGHEST = 45.0
"""Degrees of elevation, up or down, beyond which nothing counts as a beam."""

MOST_BEYOND = 0.05
"""Share of the returns beyond that from which points are of no spinning sensor."""

ROWS = 360
"""Equal parts of that, of a quarter of a degree each, in which returns count as those of one beam."""

FAR_ENOUGH, HIGH_ENOUGH = 25.0, 2.0
"""Metres, and degrees of elevation: where nothing came back from so far or so high, something hides the
sensor itself, such as dirt or the car."""

FEWEST = 3
"""Returns around a column in one row for there to be a beam: fewer may be stray ones."""


@dataclass(frozen=True)
class OpenSky:
    """Beams of a spinning LiDAR that met nothing, above everything that it met in their direction.

    A sweep lists its returns alone. A direction counts as one without a return if

    * returns to either side, within ``reach``, have its elevation, so that there is a beam;
    * it lies ``margin`` above the highest return of its own and its two neighboring columns of azimuth;
    * each of the three columns has returns from afar or from high up: else something hides the sensor there,
      such as dirt, or the car itself.

    A single return that is lost (drop-out, dark paint, glass) so counts for nothing: it has returns above it.
    Where all that is high is lost at once, as of a tower of glass, it does. Pictures of depth cameras, in
    which a pixel without a depth is unknown, are no sweeps.

    Attributes:
        num_rays: Directions per sample; slots that hold none are not valid.
        columns: Parts of the turn.
        margin: Degrees above the highest return: more than there are between two beams, and more than the
            highest beam rises within ``reach`` where the sensor is mounted at a slant.
        reach: Degrees of azimuth.
    """

    num_rays: int = 128
    columns: int = 180
    margin: int | float = 2.0
    reach: int | float = 15.0

    def __post_init__(self) -> None:
        check_count("num_rays", self.num_rays)
        if self.columns < 3:
            raise ValueError(f"columns: expected at least 3, got {self.columns}")
        for name in ("margin", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number of degrees, got {getattr(self, name)}")

    def __call__(self, points: Points, seeds: Int[Tensor, " B"]) -> tuple[Rays, Bool[Tensor, "B R"]]:
        """Draw directions of the key sweep, each row of each column alike; nothing is differentiable.

        Args:
            points: Of a batch.
            seeds: One per sample.

        Returns:
            Rays from the sensor, and which of them are directions without a return.
        """
        check_shape("points.xyz", points.xyz, "B P 3")
        seeds = ops.own_seeds(seeds, len(points.xyz), type(self).__name__)
        with torch.no_grad():
            azimuth, elevation = directions_of(points)
            column = _parts(azimuth / (2 * math.pi) + 0.5, self.columns)
            row = _parts(elevation / math.radians(2 * HIGHEST) + 0.5, ROWS)
            distance = (points.xyz - points.origin[:, None]).square().sum(-1).sqrt()
            first = self._first_open(column, elevation, distance, points.key)
            rows = torch.arange(ROWS, device=row.device)
            fired = points.key & (elevation.abs() < math.radians(HIGHEST))
            open_cells = self._beams(column, row, fired) & (rows >= first[..., None])
            heights = _means(elevation, row, fired)
            return self._draw(points.origin, open_cells, heights, seeds)

    def _first_open(
        self, column: Tensor, elevation: Tensor, distance: Tensor, key: Tensor
    ) -> Int[Tensor, "B columns"]:
        """The lowest row that is open; :data:`ROWS` where the sensor saw nothing."""
        least = elevation.new_full((len(key), self.columns), -math.inf)
        high = least.scatter_reduce(1, column, torch.where(key, elevation, -math.inf), "amax")
        far = least.scatter_reduce(1, column, torch.where(key, distance, -math.inf), "amax")
        looked = (far > FAR_ENOUGH) | (high > math.radians(HIGH_ENOUGH))
        known = looked & looked.roll(1, 1) & looked.roll(-1, 1)
        lowest = torch.stack([high.roll(-1, 1), high, high.roll(1, 1)]).amax(0) + math.radians(self.margin)
        row = torch.ceil((lowest / math.radians(2 * HIGHEST) + 0.5) * ROWS).clamp(0, ROWS).long()
        return torch.where(known, row, ROWS)

    def _beams(self, column: Tensor, row: Tensor, key: Tensor) -> Bool[Tensor, "B columns rows"]:
        """Where returns of some column near by have a row's elevation."""
        count = torch.zeros(len(key), self.columns * ROWS, dtype=torch.int32, device=key.device)
        count = count.scatter_add(1, column * ROWS + row, key.int()).view(-1, self.columns, ROWS)
        side = min(round(self.reach * self.columns / 360), (self.columns - 1) // 2)
        around = torch.cat([count[:, self.columns - side :], count, count[:, :side]], 1)
        sums = pad(around.cumsum(1, dtype=torch.int32), (0, 0, 1, 0))
        return sums[:, 2 * side + 1 :] - sums[:, : -2 * side - 1] >= FEWEST

    def _draw(
        self, origin: Tensor, cells: Tensor, heights: Tensor, seeds: Tensor
    ) -> tuple[Rays, Bool[Tensor, "B R"]]:
        """Rays into ``(B, columns, rows)`` cells, each as likely."""
        ends = cells.flatten(1).cumsum(1, dtype=torch.int32)
        total = ends[:, -1:]
        along, across = ops.uniform(seeds, (2, self.num_rays)).unbind(1)
        rank = (along.double() * total).int()
        cell = torch.searchsorted(ends, rank, right=True).clamp(max=ends.shape[1] - 1)
        azimuth = ((cell // ROWS + across) / self.columns - 0.5) * 2 * math.pi
        elevation = heights.gather(1, cell % ROWS)
        flat = elevation.cos()
        directions = torch.stack([azimuth.cos() * flat, azimuth.sin() * flat, elevation.sin()], -1)
        return Rays(origin[:, None].expand_as(directions), directions), (total > 0).expand_as(cell)


def is_of_spinning_sensor(offsets: Float[Tensor, "P 3"]) -> bool:
    """Whether places may be a sweep: nearly all of them lie within the elevations of beams.

    Scans and merged pictures of rooms see floor and ceiling: a third of the places of a synthetic room lies
    beyond; of synthetic streets, KITTI, nuScenes and Argoverse 2 none, of PandaSet 0.6 %.

    Args:
        offsets: From the sensor to places of the key sweep, metres.
    """
    x, y, z = offsets.unbind(-1)
    beyond = z.abs() > math.tan(math.radians(HIGHEST)) * torch.hypot(x, y)
    return len(offsets) == 0 or float(beyond.float().mean()) < MOST_BEYOND


def directions_of(points: Points) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P"]]:
    """Azimuth and elevation of points as their sensor sees them, radians; 0 of what is not valid."""
    offsets = torch.where(points.valid[..., None], points.xyz - points.origin[:, None], 0.0)
    x, y, z = offsets.unbind(-1)
    return torch.atan2(y, x), torch.atan2(z, torch.hypot(x, y))


def _parts(share: Tensor, count: int) -> Tensor:
    """Which of so many equal parts a share of 1 falls into."""
    return (share * count).floor().long().clamp(0, count - 1)


def _means(elevation: Tensor, row: Tensor, key: Tensor) -> Float[Tensor, "B rows"]:
    """Mean elevation of every row's returns, radians."""
    nothing = elevation.new_zeros(len(elevation), ROWS)
    count = nothing.scatter_add(1, row, key.to(elevation.dtype))
    return nothing.scatter_add(1, row, torch.where(key, elevation, 0.0)) / count.clamp(min=1)
