"""The ground of a street: a surface z = h(x, y) of road, sidewalk and terrain, and where rays meet it.

Strips of road, pavement and path wind over waves of hills. Heights and the signed distances to the kerb and
to the far edge of the pavements are tabulated once per street and read bilinearly; the table *is* the ground:
rays, labels, voxels and what stands on it all read the same one, so that they agree exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

KERB_WIDTH = 0.1
"""Metres over which the kerb rises."""

NOTHING = 1e4
"""A distance beyond all strips, metres."""


class Strip(NamedTuple):
    """A road that winds about a straight axis, with pavements, or a path where ``half`` is negative.

    Attributes:
        x: Start of the axis, metres.
        y: The same.
        heading: Of the axis, radians; ``along`` counts along it, ``across`` to its right.
        bend: How far the middle of the road swings to either side, metres.
        rate: Of its swings, radians per metre.
        phase: Of its swings at ``along = 0``, radians.
        half: Half the width between the kerbs, metres.
        left: From the middle to the far edge of the left pavement, metres.
        right: The same of the right pavement.
        start: Where it begins along the axis, metres.
        end: Where it ends.
        island: Half the width of the islands in its middle, metres; 0 without.
    """

    x: float
    y: float
    heading: float
    bend: float
    rate: float
    phase: float
    half: float
    left: float
    right: float
    start: float = -NOTHING
    end: float = NOTHING
    island: float = 0.0

    def place(self, along: int | float, across: int | float) -> tuple[float, float]:
        """A place of the strip in the street's frame."""
        side = across + self.bend * math.sin(self.rate * along + self.phase)
        c, s = math.cos(self.heading), math.sin(self.heading)
        return self.x + along * c + side * s, self.y + along * s - side * c

    def direction(self, along: int | float) -> float:
        """Heading of its middle, radians."""
        slope = self.bend * self.rate * math.cos(self.rate * along + self.phase)
        return self.heading - math.atan(slope)

    def stretch(self, along: int | float) -> float:
        """Metres of the winding middle per metre of the axis."""
        return math.hypot(1.0, self.bend * self.rate * math.cos(self.rate * along + self.phase))


def strip_coordinates(
    strips: Sequence[Strip], points: Float[Tensor, "P 2"]
) -> tuple[Float[Tensor, "S P"], Float[Tensor, "S P"]]:
    """``across`` and ``along`` of every point in every strip, metres."""
    rows = torch.tensor([s[:6] for s in strips])
    origins, (heading, bend, rate, phase) = rows[:, :2], rows[:, 2:, None].unbind(1)
    c, s = heading.cos(), heading.sin()
    x, y = (points.T[:, None] - origins.T[:, :, None]).unbind(0)
    along = c * x + s * y
    return s * x - c * y - bend * (rate * along + phase).sin(), along


def strip_distances(
    strips: Sequence[Strip], points: Float[Tensor, "P 2"]
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Signed distances to the nearest road and to the nearest strip with its pavements, negative inside."""
    across, along = strip_coordinates(strips, points)
    rows = torch.tensor([s[6:] for s in strips])[..., None]
    half, left, right, start, end, island = rows.unbind(1)
    beyond = torch.maximum(start - along, along - end)
    side = across.abs()
    road = torch.maximum(side - half, beyond)
    lens = island * (2 * (along * 0.12).sin() - 0.2)
    road = torch.where(island > 0, torch.maximum(road, lens - side), road)
    edge = torch.maximum(side - torch.where(across < 0, left, right), beyond)
    return road.amin(0), edge.amin(0)


@dataclass(frozen=True)
class Ground:
    """The surface of a street.

    Attributes:
        table: Height without kerbs, height of the kerb, distance to the road, and distance to the pavements'
            far edge, at the corners of square cells, metres. Beyond the table its border goes on.
        lower: Where the table begins, metres.
        cell: Size of a cell, metres.
        verge: Width of the green between kerb and pavement, metres.
        strips: The roads whose markings are painted.
        steepest: Upper bound of the slope without kerbs.
        highest: Upper bound of the height, metres.
    """

    table: Float[Tensor, "4 Y X"]
    lower: tuple[float, float]
    cell: float
    verge: float
    strips: tuple[Strip, ...]
    steepest: float
    highest: float

    @staticmethod
    def tabulate(
        table: Float[Tensor, "4 Y X"],
        lower: tuple[float, float],
        cell: int | float,
        *,
        verge: int | float,
        strips: Sequence[Strip],
    ) -> "Ground":
        """The ground of a table, with the bounds that rays need."""
        across, up = table[0].diff(dim=1)[:-1], table[0].diff(dim=0)[:, :-1]
        steepest = float((across.square() + up.square()).max().sqrt()) / cell
        return Ground(table, lower, cell, verge, tuple(strips), steepest, float((table[0] + table[1]).max()))

    def in_table(self, places: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Places of the street from -1 to 1 over the table."""
        _, rows, columns = self.table.shape
        scale = places.new_tensor([2 / (self.cell * (columns - 1)), 2 / (self.cell * (rows - 1))])
        return (places - places.new_tensor(self.lower)) * scale - 1

    def read(self, places: Float[Tensor, "P 2"]) -> Float[Tensor, "4 P"]:
        """The table's four values at places of the street."""
        return _bilinear(self.table, self.in_table(places))

    def height(self, places: Float[Tensor, "P 2"]) -> Float[Tensor, " P"]:
        """Height of the surface, metres."""
        return _height(self.table, self.in_table(places))

    def normals(self, places: Float[Tensor, "P 2"], reach: int | float = 0.01) -> Float[Tensor, "P 3"]:
        """Upward unit normals, from the heights ``reach`` metres to all sides."""
        steps = places.new_tensor([[reach, 0], [-reach, 0], [0, reach], [0, -reach]])
        east, west, north, south = self.height((places + steps[:, None]).reshape(-1, 2)).view(4, -1)
        normal = torch.stack([west - east, south - north, torch.full_like(east, 2 * reach)], -1)
        return torch.nn.functional.normalize(normal, dim=-1)

    def surfaces(self, places: Float[Tensor, "P 2"]) -> Int[Tensor, " P"]:
        """What the surface is: 0 road, 1 sidewalk, 2 terrain."""
        _, _, road, edge = self.read(places)
        paved = (edge <= 0) & (road > self.verge)
        return torch.where(road <= 0, 0, torch.where(paved, 1, 2))

    def cast(
        self, origin: Float[Tensor, "3"], directions: Float[Tensor, "R 3"], limits: Float[Tensor, " R"]
    ) -> Float[Tensor, " R"]:
        """Distance at which each unit ray goes below the surface first, infinite if not before its limit.

        A ray steps by what the steepest slope allows, near the surface by about 6 % of its way, until it
        is below; the crossing is then closed in on. A ray that starts below the surface meets nothing.
        """
        fall = self.steepest * directions[:, :2].norm(dim=-1) - directions[:, 2]
        # Above the highest place nothing comes any more.
        over = (self.highest - origin[2]) / directions[:, 2].clamp(min=1e-9)
        limits = torch.where(directions[:, 2] > 0, torch.minimum(limits, over), limits)
        above = origin[2] - self.height(origin[None, :2])
        found, kerb = torch.full_like(limits, torch.inf), float(self.table[1].max())
        rays = torch.nonzero((fall > 0) & (limits > 0) & (above > 0))[:, 0]
        start = self.in_table(origin[:2])
        x, y = (self.in_table(origin[:2] + directions[rays, :2]) - start).unbind(-1)
        t = torch.zeros(len(rays))
        state = torch.stack([x, y, directions[rays, 2], t, above.expand(len(rays)), fall[rays], limits[rays]])
        crossings = [torch.zeros(7, 0)]
        owners = [rays[:0]]
        while len(rays):
            t, above, fall, limits = state[3:]
            later = torch.minimum(
                t + torch.maximum((above - kerb) / fall, 0.03 + 0.06 * t + 1e-3 * t.square()), limits
            )
            left = self._above(start, origin[2], state, later)
            crossed = left <= 0
            which = torch.nonzero(crossed)[:, 0]
            crossings.append(torch.cat([state[:5, which], later[None, which], left[None, which]]))
            owners.append(rays[which])
            on = torch.nonzero(~crossed & (later < limits))[:, 0]
            state[3], state[4] = later, left
            state, rays = state[:, on], rays[on]
        found[torch.cat(owners)] = self._close_in(start, origin[2], torch.cat(crossings, 1))
        return found

    def _above(self, start: Tensor, height: Tensor, rays: Tensor, t: Tensor) -> Tensor:
        """Height above the surface after ``t`` metres; the first three rows are steps in the table and up."""
        places = torch.stack([start[0] + t * rays[0], start[1] + t * rays[1]], -1)
        return height + t * rays[2] - _height(self.table, places)

    def _close_in(self, start: Tensor, height: Tensor, crossings: Tensor) -> Tensor:
        """Where rays cross the surface, between a place above and one below, by the Illinois method."""
        near, high, far, low = crossings[3:]
        for _ in range(6):
            middle = far + (near - far) * (low / (low - high))
            left = self._above(start, height, crossings, middle)
            below = left <= 0
            # The value of the side that stays is halved, so that it does not stay forever.
            high, low = torch.where(below, high * 0.5, left), torch.where(below, left, low * 0.5)
            near, far = torch.where(below, near, middle), torch.where(below, middle, far)
        wide = torch.nonzero(far - near > 1e-4)[:, 0]
        a, b, steps = near[wide], far[wide], crossings[:3, wide]
        for _ in range(12):
            middle = (a + b) / 2
            below = self._above(start, height, steps, middle) <= 0
            a, b = torch.where(below, a, middle), torch.where(below, middle, b)
        far[wide] = b
        return far

    def marked(self, places: Float[Tensor, "P 2"]) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates for markings: across and along the nearest marked road, and half its width, metres."""
        across, along = strip_coordinates(self.strips, places)
        half = torch.tensor([s.half for s in self.strips])
        nearest = (across.abs() - half[:, None]).argmin(0)
        chosen = nearest[None]
        return across.gather(0, chosen)[0], along.gather(0, chosen)[0], half[nearest]


def _bilinear(table: Tensor, places: Tensor) -> Tensor:
    """Values of a table between its corners; places from -1 to 1."""
    read = torch.nn.functional.grid_sample(
        table[None], places[None, None], "bilinear", "border", align_corners=True
    )
    return read[0, :, 0]


def _height(table: Tensor, places: Tensor) -> Tensor:
    """Heights at places from -1 to 1: the kerb rises over its width beside the road."""
    base, kerb, road = _bilinear(table[:3], places)
    return torch.addcmul(base, kerb, (road / KERB_WIDTH).clamp(0, 1))
