"""How a synthetic street is laid out: roads over hills, and what stands and moves beside and on them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from renderpretrain.data.synthetic import buildings, things
from renderpretrain.data.synthetic.ground import Ground, Strip
from renderpretrain.data.synthetic.raycast import GROUND, Solid
from renderpretrain.data.synthetic.roads import REACH, draw_paths, draw_roads, lay_ground
from renderpretrain.data.synthetic.textures import GRASS, PAVING, ROAD
from renderpretrain.data.synthetic.things import ROAD_, SIDEWALK, TERRAIN, Rider, Thing

AROUND = 50.0
"""Things are drawn so far around the recorder's way, metres."""

SCATTERED = 130
"""How many places are drawn at which something may stand."""

ON_SURFACES = (
    (("person", 30), ("car", 16), ("pole", 12), ("bush", 8), ("nothing", 60)),
    (("person", 36), ("pole", 22), ("tree", 16), ("bush", 12), ("car", 8), ("wall", 4), ("hedge", 6)),
    (("person", 10), ("pole", 12), ("tree", 24), ("bush", 22), ("car", 7), ("wall", 9), ("hedge", 14)),
)
"""What may stand on road, sidewalk and terrain, and how often."""

ASPHALTS = ((0.30, 0.30, 0.32), (0.38, 0.37, 0.36), (0.24, 0.24, 0.26), (0.45, 0.40, 0.37), (0.5, 0.49, 0.47))
SLABS = ((0.60, 0.58, 0.55), (0.36, 0.36, 0.37), (0.52, 0.40, 0.36), (0.48, 0.48, 0.50), (0.62, 0.56, 0.44))
SOILS = ((0.36, 0.44, 0.24), (0.30, 0.40, 0.20), (0.46, 0.42, 0.28), (0.44, 0.36, 0.27), (0.48, 0.47, 0.45))


@dataclass(frozen=True)
class Street:
    """One street.

    Attributes:
        ground: The surface.
        surfaces: Its road, sidewalk and terrain: colours and reflectances.
        things: What stands, or walks straight on.
        cars: What follows the roads.
        recorder: The way of the recording car.
    """

    ground: Ground
    surfaces: tuple[Solid, ...]
    things: tuple[Thing, ...]
    cars: tuple[tuple[Rider, Thing], ...]
    recorder: Rider

    def at_time(self, seconds: int | float) -> list[Thing]:
        """Everything where it is then."""
        moved = [thing.later(seconds) for thing in self.things]
        return moved + [rider.carry(thing, seconds) for rider, thing in self.cars]


def build_street(random: Random, seconds: int | float) -> Street:
    """Draw a street.

    Args:
        random: The only source of chance.
        seconds: How long the recorder will drive.
    """
    roads = draw_roads(random, 10.0 * seconds)
    recorder = _recorder(random, roads)
    times = [seconds * k / 12 for k in range(13)]
    way = torch.tensor([recorder.place(t)[0] for t in times])
    middle = recorder.place(seconds / 2)[0]
    reach = REACH + float((way - torch.tensor(middle)).norm(dim=-1).max())
    paths = draw_paths(random, roads, 10.0 * seconds)
    ground = lay_ground(random, roads, paths, middle, reach)
    plan = _Plan(random, roads, paths, ground, recorder, way, times)
    houses = plan.houses()
    cars = plan.cars()
    small = plan.scattered()
    kept = plan.apart(cars, small, houses)
    return Street(
        ground, _surfaces(random), (*houses, *plan.over_the_road(), *kept[1]), tuple(kept[0]), recorder
    )


def _recorder(random: Random, roads: Sequence[Strip]) -> Rider:
    """A way along any road: in a lane, at the kerb, in the middle or half on the pavement."""
    road = random.choices(roads, [3, 1, 1, 1][: len(roads)])[0]
    begins = road.start > -1
    side = 1 if begins else random.choice((-1, 1))
    lane = min(0.5 * road.half, road.half - 1.4)
    pavement = (road.right if side > 0 else road.left) - road.half
    places = [lane, lane, max(road.half - 1.2, 0.0), 0.0 if road.island == 0 else lane]
    places.append(road.half + 1.2 if pavement > 2.0 else lane)
    across = random.choice(places)
    fast = random.uniform(3.0, 10.0)
    return Rider(
        road, side * across, random.uniform(5, 25) if begins else random.uniform(-20, 20), side * fast
    )


def _surfaces(random: Random) -> tuple[Solid, ...]:
    """What road, sidewalk and terrain are made of; a laser sees them alike on many streets."""
    kinds = ((ROAD_, ASPHALTS, ROAD), (SIDEWALK, SLABS, PAVING), (TERRAIN, SOILS, GRASS))
    return tuple(
        Solid(
            GROUND,
            (0, 0, 0),
            (1, 1, 1),
            label,
            things.jitter(random, random.choice(colors)),
            pattern,
            reflectance=random.uniform(0.1, 0.55),
        )
        for label, colors, pattern in kinds
    )


@dataclass(frozen=True)
class _Plan:
    """All that decides where something may stand."""

    random: Random
    roads: Sequence[Strip]
    paths: Sequence[Strip]
    ground: Ground
    recorder: Rider
    way: Tensor
    times: list[float]

    def houses(self) -> list[Thing]:
        """Rows of houses, sheds, walls and hedges on both sides of every road, off all pavements."""
        drawn = [row for road in self.roads for side in (-1, 1) for row in self._row(road, side)]
        reach = torch.tensor([[x, y] for x in (-0.5, 0.0, 0.5) for y in (-0.5, 0.0, 0.5)])
        sizes = torch.tensor([size for _, size in drawn])
        yaws = torch.tensor([thing.yaw for thing, _ in drawn])
        at = torch.tensor([thing.at for thing, _ in drawn])
        x, y = (reach[:, None] * sizes).unbind(-1)
        c, s = yaws.cos(), yaws.sin()
        corners = torch.stack([c * x - s * y, s * x + c * y], -1) + at
        flat = corners.view(-1, 2)
        off = (self.ground.read(flat)[3] > -0.2) & (torch.cdist(flat, self.way).amin(1) > 3.2)
        free = off.view(corners.shape[:2]).all(0)
        # Circles around the middles of two houses may touch but not hold each other's middle.
        radii = sizes.amin(1) / 2
        gap = torch.cdist(at, at) - 0.9 * (radii + radii[:, None])
        free &= ~((gap < 0) & free[None]).tril(-1).any(1)
        near = torch.cdist(at, self.way).amin(1) < 75
        return [drawn[k][0] for k in torch.nonzero(free & near)[:, 0].tolist()]

    def _row(self, road: Strip, side: int) -> Iterator[tuple[Thing, tuple[float, float]]]:
        """Plots along one side of a road, each with the size of what stands on it."""
        random = self.random
        edge = road.right if side > 0 else road.left
        back = random.choice((0.0, 1.0, random.uniform(1, 5), random.uniform(3, 16)))
        often = random.choice((0.4, 0.75, 0.95))
        along = self._begin(road)
        while along < self._end(road):
            width = random.choice((random.uniform(2.4, 5), random.uniform(6, 18), random.uniform(7, 18)))
            depth = random.uniform(2.4, 4) if width < 6 else random.uniform(7, 12)
            if random.random() < often:
                across = side * (edge + back * random.uniform(0.6, 1.1) + depth / 2 + 0.1)
                yield (
                    self._beside(buildings.house(random, width, depth), road, along, across, side),
                    (width, depth),
                )
            if back > 1 and random.random() < 0.6:
                yield from self._border(road, side, edge, along, width)
            along += width + random.choice((0.0, 0.5, 4.0, 8.0))

    def _border(
        self, road: Strip, side: int, edge: int | float, along: int | float, width: int | float
    ) -> Iterator[tuple[Thing, tuple[float, float]]]:
        """A wall or a hedge between a plot and the street."""
        random = self.random
        make = random.choice((buildings.low_wall, things.hedge))
        count = max(1, round(width / 4))
        for k in range(count):
            thing = make(random, width / count)
            place = along + (k + 0.5 - count / 2) * width / count
            yield self._beside(thing, road, place, side * (edge + 0.6), side), (width / count, 0.5)

    def _beside(self, thing: Thing, road: Strip, along: int | float, across: int | float, side: int) -> Thing:
        """The thing at a place of a road, its front towards the road."""
        yaw = road.direction(along) + (math.pi if side > 0 else 0.0) + self.random.gauss(0, 0.03)
        return thing._replace(at=road.place(along, across), yaw=yaw)

    def _begin(self, road: Strip) -> float:
        """Where plots begin along a road; chance moves it."""
        return max(road.start + 8, -60.0) + self.random.uniform(0, 8)

    def _end(self, road: Strip) -> float:
        """Where they end."""
        return 60.0 + (10.0 * self.times[-1] if road is self.roads[0] else 0.0)

    def over_the_road(self) -> list[Thing]:
        """Perhaps a passage, a bridge and a house across the end of the road."""
        random, road = self.random, self.recorder.road
        far = [self.recorder.along + self.recorder.speed * t for t in self.times]
        found = []
        for make, often in ((buildings.passage, 0.3), (buildings.bridge, 0.3)):
            if random.random() < often:
                along = random.uniform(min(far) - 30, max(far) + 30)
                width = 2 * max(road.left, road.right) + random.uniform(0.6, 4)
                found.append(self._beside(make(random, width), road, along, 0.0, -1))
        if random.random() < 0.3:
            along = random.choice((min(far) - random.uniform(22, 40), max(far) + random.uniform(22, 40)))
            end = buildings.house(random, 2 * max(road.left, road.right) + random.uniform(4, 14), 9.0)
            thing = self._beside(end, road, along, 0.0, -1)
            found.append(thing._replace(yaw=thing.yaw + math.pi / 2))
        return found

    def cars(self) -> list[tuple[Rider, Thing]]:
        """Cars at kerbs, across parking bays, in lanes, on lots and in driveways, some of them moving."""
        riders = [r for road in self.roads for side in (-1, 1) for r in self._along(road, side)]
        for path in self.paths:
            if path.half > 0:
                riders += self._on_lot(path)
        return [(rider, things.car(self.random)) for rider in riders]

    def _along(self, road: Strip, side: int) -> Iterator[Rider]:
        """Parked and moving cars on one side of a road."""
        random, speed = self.random, self.random.uniform(3, 11)
        if road is self.recorder.road and side * self.recorder.speed > 0:
            speed = abs(self.recorder.speed)
        parked, driving = random.choice((0.0, 0.3, 0.7)), random.choice((0.08, 0.22))
        outside = random.choice((-1.1, -1.1, 0.1, -1.8))
        turn = random.choice((0.9, 1.2, -0.9)) if outside == -1.8 else 0.0
        along = self._begin(road)
        while along < self._end(road):
            if random.random() < parked and road.half > 3:
                yield Rider(road, side * (road.half + outside), along, 0.0, turn + random.gauss(0, 0.05))
            lane = side * min(0.5 * road.half, road.half - 1.2)
            if random.random() < driving:
                moves = side * speed if random.random() < 0.75 else 0.0
                yield Rider(road, lane + random.gauss(0, 0.3), along, moves, random.gauss(0, 0.05))
            along += random.uniform(5.8, 8) if turn == 0 else random.uniform(3.2, 5)

    def _on_lot(self, path: Strip) -> Iterator[Rider]:
        """Cars on a parking lot, in rows across it, or in a driveway."""
        random = self.random
        rows = range(-int(path.half // 5.5), int(path.half // 5.5) + 1)
        turn = math.pi / 2 + random.gauss(0, 0.1) if path.half > 4 else random.choice((0.0, math.pi))
        along = 3.0
        while along < path.end:
            for row in rows:
                if random.random() < 0.3:
                    yield Rider(path, row * 5.5, along, 0.0, turn + random.gauss(0, 0.05))
            along += 3.0

    def scattered(self) -> list[tuple[Thing, float]]:
        """Things at random places, by what the ground is there, with the radius that each needs."""
        random = self.random
        starts = self.way[[random.randrange(len(self.way)) for _ in range(SCATTERED)]]
        polar = [(2 + AROUND * random.random() ** 0.8, random.uniform(0, 2 * math.pi)) for _ in starts]
        places = starts + torch.tensor([(r * math.cos(a), r * math.sin(a)) for r, a in polar])
        surfaces = self.ground.surfaces(places).tolist()
        found = []
        for at, surface in zip(places.tolist(), surfaces, strict=True):
            names, weights = zip(*ON_SURFACES[surface], strict=True)
            found += self._drawn(random.choices(names, weights)[0], (at[0], at[1]))
        return found

    def _drawn(self, name: str, at: tuple[float, float]) -> list[tuple[Thing, float]]:
        """Things of a kind around a place: people and bollards come in groups."""
        random = self.random
        yaw = random.uniform(0, 2 * math.pi)
        if name == "person":
            pace = random.choice((0.0, 0.0, random.uniform(0.7, 1.7)))
            velocity = (pace * math.cos(yaw), pace * math.sin(yaw))
            return [
                (
                    things.person(random)._replace(
                        at=(at[0] + random.gauss(0, 0.9) * (k > 0), at[1] + random.gauss(0, 0.9) * (k > 0)),
                        yaw=yaw,
                        velocity=velocity,
                    ),
                    0.35,
                )
                for k in range(random.choice((1, 1, 2, 3)))
            ]
        if name == "nothing":
            return []
        length = random.uniform(1.5, 5)
        made = {
            "car": lambda: (things.car(random), 2.3),
            "pole": lambda: (things.pole(random), 0.3),
            "tree": lambda: (things.tree(random), 0.8),
            "bush": lambda: (things.bush(random), 0.9),
            "hedge": lambda: (things.hedge(random, length), length / 2),
            "wall": lambda: (buildings.low_wall(random, length), length / 2),
        }
        thing, radius = made[name]()
        return [(thing._replace(at=at, yaw=yaw), radius)]

    def apart(
        self, cars: list[tuple[Rider, Thing]], small: list[tuple[Thing, float]], houses: Sequence[Thing]
    ) -> tuple[list[tuple[Rider, Thing]], list[Thing]]:
        """Without what would touch the recorder, a house, or something before it."""
        at = torch.tensor([r.place(0)[0] for r, _ in cars] + [t.at for t, _ in small])
        radii = torch.tensor([1.9] * len(cars) + [radius for _, radius in small])
        reach = radii + 2.0
        free = torch.cdist(at, self.way).amin(1) > reach
        free &= torch.cdist(at, self.way).amin(1) < 70
        moving = torch.tensor([abs(r.speed) > 0 for r, _ in cars] + [t.velocity != (0, 0) for t, _ in small])
        for k in torch.nonzero(moving & free)[:, 0].tolist():
            later = [
                cars[k][0].place(t)[0] if k < len(cars) else small[k - len(cars)][0].later(t).at
                for t in self.times
            ]
            free[k] = bool(((torch.tensor(later) - self.way).norm(dim=-1) > reach[k] + 2).all())
        free &= ~_inside(at, houses)
        close = torch.cdist(at, at) < radii + radii[:, None]
        free &= ~(close & free[None]).tril(-1).any(1)
        kept = free.tolist()
        return (
            [car for car, stays in zip(cars, kept[: len(cars)], strict=True) if stays],
            [thing for (thing, _), stays in zip(small, kept[len(cars) :], strict=True) if stays],
        )


def _inside(places: Tensor, houses: Sequence[Thing]) -> Tensor:
    """Which places lie under the first box of a thing, or within 0.5 m of it."""
    if not houses:
        return torch.zeros(len(places), dtype=torch.bool)
    yaws = torch.tensor([h.yaw for h in houses])
    half = torch.tensor([h.solids[0].half_size[:2] for h in houses]) + 0.5
    x, y = (places[:, None] - torch.tensor([h.at for h in houses])).unbind(-1)
    c, s = yaws.cos(), yaws.sin()
    return (((c * x + s * y).abs() < half[:, 0]) & ((c * y - s * x).abs() < half[:, 1])).any(1)
