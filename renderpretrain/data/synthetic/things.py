"""What stands and moves on a synthetic street: cars, people, plants, poles; and how they stand on it."""

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data.synthetic.ground import Ground, Strip
from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, ELLIPSOID, Solid, Solids, about_z
from renderpretrain.data.synthetic.textures import CAR_BODY, CAR_CABIN, FOLIAGE

CLASS_NAMES = ("free", "road", "sidewalk", "terrain", "building", "pole", "vegetation", "pedestrian", "car")
ROAD_, SIDEWALK, TERRAIN, BUILDING, POLE, VEGETATION, PEDESTRIAN, CAR = range(1, 9)

Color = tuple[int | float, int | float, int | float]

PAINTS: tuple[Color, ...] = (
    (0.75, 0.12, 0.10),
    (0.12, 0.25, 0.62),
    (0.85, 0.85, 0.84),
    (0.10, 0.10, 0.11),
    (0.55, 0.57, 0.60),
    (0.14, 0.42, 0.26),
    (0.88, 0.68, 0.14),
    (0.36, 0.62, 0.75),
)
LEAVES: tuple[Color, ...] = (
    (0.24, 0.42, 0.16),
    (0.32, 0.46, 0.18),
    (0.46, 0.42, 0.16),
    (0.16, 0.30, 0.18),
    (0.50, 0.26, 0.18),
)


class Thing(NamedTuple):
    """Solids that stand together at one place.

    Attributes:
        solids: Around the place, metres: x forward, z up from the ground.
        at: The place in the street's frame at time 0, metres.
        yaw: Heading, radians.
        tilts: Whether it leans with the ground, as cars do; houses, trees and people do not.
        velocity: Along the ground, metres per second.
        size: Length, width and height of a car's outline; ``None`` for what is no car.
    """

    solids: tuple[Solid, ...]
    at: tuple[float, float]
    yaw: float = 0.0
    tilts: bool = False
    velocity: tuple[float, float] = (0.0, 0.0)
    size: tuple[float, float, float] | None = None

    def later(self, seconds: int | float) -> "Thing":
        """Where it is after having gone straight on."""
        x, y = (p + seconds * v for p, v in zip(self.at, self.velocity, strict=True))
        return self._replace(at=(x, y))


class Rider(NamedTuple):
    """What follows a road.

    Attributes:
        road: It runs beside the middle of.
        across: To the right of the middle, metres.
        along: Where it is at time 0, metres along the road's axis.
        speed: Metres per second along the road, negative against it.
        turn: Its heading beside the direction that it drives in, radians.
    """

    road: Strip
    across: float
    along: float
    speed: float
    turn: float = 0.0

    def place(self, seconds: int | float) -> tuple[tuple[float, float], float, tuple[float, float]]:
        """Place, heading and velocity in the street's frame."""
        along = self.along + self.speed * seconds
        heading = self.road.direction(along)
        speed = self.speed * self.road.stretch(along)
        forward = heading if self.speed > 0 or (self.speed == 0 and self.across > 0) else heading + math.pi
        velocity = (speed * math.cos(heading), speed * math.sin(heading))
        return self.road.place(along, self.across), forward + self.turn, velocity

    def carry(self, thing: Thing, seconds: int | float) -> Thing:
        """The thing where the rider is."""
        at, yaw, velocity = self.place(seconds)
        return thing._replace(at=at, yaw=yaw, velocity=velocity)


class Standing(NamedTuple):
    """Things on their ground.

    Attributes:
        solids: All of them.
        centers: Of the outlines of cars, metres.
        rotations: From the cars' axes.
        sizes: Length, width, height, metres.
        velocities: Metres per second.
    """

    solids: Solids
    centers: Float[Tensor, "K 3"]
    rotations: Float[Tensor, "K 3 3"]
    sizes: Float[Tensor, "K 3"]
    velocities: Float[Tensor, "K 3"]


def stand(things: Sequence[Thing], ground: Ground) -> Standing:
    """Put things on the ground."""
    places = torch.tensor([t.at for t in things])
    normals = ground.normals(places, reach=0.8)
    rotations = about_z(torch.tensor([float(t.yaw) for t in things]))
    tilts = torch.tensor([t.tilts for t in things])[:, None, None]
    rotations = torch.where(tilts, upright(rotations[:, :, 0], normals), rotations)
    feet = torch.cat([places, ground.height(places)[:, None]], 1)
    flat = torch.tensor([t.velocity for t in things])
    climb = -(normals[:, :2] * flat).sum(-1, keepdim=True) / normals[:, 2:]
    velocities = torch.cat([flat, climb], 1)
    owner = torch.tensor([k for k, thing in enumerate(things) for _ in thing.solids])
    solids = Solids.stack([solid for thing in things for solid in thing.solids])
    turns = rotations[owner]
    solids = Solids(
        kinds=solids.kinds,
        centers=feet[owner] + torch.einsum("kij,kj->ki", turns, solids.centers),
        half_sizes=solids.half_sizes,
        rotations=turns @ solids.rotations,
        labels=solids.labels,
        patterns=solids.patterns,
        colors=solids.colors,
        reflectances=solids.reflectances,
        velocities=velocities[owner],
    )
    cars = torch.tensor([k for k, thing in enumerate(things) if thing.size is not None], dtype=torch.long)
    sizes = torch.tensor([thing.size for thing in things if thing.size is not None]).view(-1, 3)
    centers = feet[cars] + rotations[cars, :, 2] * sizes[:, 2:] / 2
    return Standing(solids, centers, rotations[cars], sizes, velocities[cars])


def upright(forwards: Float[Tensor, "K 3"], normals: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3 3"]:
    """Rotations whose z is the normal and whose x is the forward direction, laid into the surface."""
    x = torch.nn.functional.normalize(forwards - (forwards * normals).sum(-1, keepdim=True) * normals, dim=-1)
    return torch.stack([x, torch.linalg.cross(normals, x), normals], -1)


def jitter(random: Random, color: Color) -> Color:
    """The colour, a little brighter or darker."""
    factor = random.uniform(0.8, 1.15)
    r, g, b = (min(1.0, c * factor) for c in color)
    return r, g, b


def car(random: Random) -> Thing:
    """A car or a van: body and cabin that fill the outline, but for the clearance below."""
    kind = random.random()
    if kind < 0.75:
        length, width, height = random.uniform(3.5, 4.9), random.uniform(1.6, 1.95), random.uniform(1.4, 1.8)
        share, belt = random.uniform(0.45, 0.75), random.uniform(0.5, 0.62)
    else:
        length, width, height = random.uniform(4.6, 6.5), random.uniform(1.8, 2.2), random.uniform(1.9, 2.8)
        share, belt = random.uniform(0.75, 0.98), random.uniform(0.4, 0.5)
    color, shine = jitter(random, random.choice(PAINTS)), random.uniform(0.05, 0.8)
    bottom, middle = random.uniform(0.12, 0.3), belt * height
    body = (length / 2, width / 2, (middle - bottom) / 2)
    half = (share * length / 2, 0.46 * width, (height - middle) / 2)
    shift = random.uniform(-0.9, 0.3) * (1 - share) * length / 2
    solids = (
        Solid(BOX, (0, 0, (middle + bottom) / 2), body, CAR, color, CAR_BODY, reflectance=shine),
        Solid(BOX, (shift, 0, (middle + height) / 2), half, CAR, color, CAR_CABIN, reflectance=shine * 0.7),
    )
    return Thing(solids, (0.0, 0.0), tilts=True, size=(length, width, height))


def person(random: Random) -> Thing:
    """Legs, coat and head of a child or a grown-up."""
    k = random.uniform(0.6, 1.1)
    coat, shine = jitter(random, random.choice(PAINTS)), random.uniform(0.1, 0.7)
    trousers = jitter(random, (0.2, 0.2, 0.26))
    wide = random.uniform(0.9, 1.4)
    solids = (
        Solid(
            CYLINDER,
            (0, 0, 0.45 * k),
            (0.13 * k, 0.17 * k, 0.45 * k),
            PEDESTRIAN,
            trousers,
            reflectance=shine,
        ),
        Solid(
            ELLIPSOID,
            (0, 0, 1.18 * k),
            (0.19 * k * wide, 0.26 * k * wide, 0.42 * k),
            PEDESTRIAN,
            coat,
            reflectance=shine,
        ),
        Solid(ELLIPSOID, (0, 0, 1.7 * k), (0.11 * k, 0.11 * k, 0.14 * k), PEDESTRIAN, (0.78, 0.60, 0.50)),
    )
    return Thing(solids, (0.0, 0.0))


def tree(random: Random) -> Thing:
    """A trunk and one or two ellipsoids of leaves, which may reach down to the ground."""
    radius = random.uniform(0.7, 2.3)
    trunk, tall = random.choice(((0.3, 2.2), (1.6, 1.2), (2.6, 1.1), (0.8, 1.4)))
    height, thick = trunk * random.uniform(0.7, 1.3), random.uniform(0.06, 0.3)
    green, shine = jitter(random, random.choice(LEAVES)), random.uniform(0.15, 0.6)
    top = height + radius * tall
    bark = (0.34, 0.25, 0.18)
    solids = [
        Solid(CYLINDER, (0, 0, top / 2 - 0.4), (thick, thick, top / 2 + 0.4), VEGETATION, bark),
        Solid(
            ELLIPSOID,
            (0, 0, top),
            (radius, radius, radius * tall),
            VEGETATION,
            green,
            FOLIAGE,
            reflectance=shine,
        ),
    ]
    if random.random() < 0.5:
        at = (random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), top + radius)
        half = (radius * 0.7, radius * 0.7, radius * 0.7)
        solids.append(Solid(ELLIPSOID, at, half, VEGETATION, green, FOLIAGE, reflectance=shine))
    return Thing(tuple(solids), (0.0, 0.0), random.uniform(0, 6))


def bush(random: Random) -> Thing:
    """One or two round bushes."""
    green, shine = jitter(random, random.choice(LEAVES)), random.uniform(0.15, 0.6)
    solids = []
    for _ in range(random.choice((1, 1, 2))):
        radius, height = random.uniform(0.25, 0.9), random.uniform(0.25, 1.1)
        at = (random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), height * 0.7)
        half = (radius, radius * random.uniform(0.7, 1.3), height)
        solids.append(Solid(ELLIPSOID, at, half, VEGETATION, green, FOLIAGE, reflectance=shine))
    return Thing(tuple(solids), (0.0, 0.0), random.uniform(0, 6))


def hedge(random: Random, length: int | float) -> Thing:
    """A clipped hedge along x."""
    green, shine = jitter(random, random.choice(LEAVES)), random.uniform(0.15, 0.6)
    half = (length / 2, random.uniform(0.2, 0.7), random.uniform(0.25, 1.3))
    box = Solid(BOX, (0, 0, half[2] - 0.15), half, VEGETATION, green, FOLIAGE, reflectance=shine)
    return Thing((box,), (0.0, 0.0), tilts=True)


def pole(random: Random) -> Thing:
    """A lamp post, a sign, a bollard, a mast or a column."""
    tone = random.choice(((0.28, 0.30, 0.32), (0.55, 0.56, 0.58), (0.36, 0.28, 0.2), (0.75, 0.74, 0.7)))
    color, shine = jitter(random, tone), random.uniform(0.1, 0.8)

    def upright_pole(radius: int | float, height: int | float) -> Solid:
        half = (radius, radius, height / 2 + 0.2)
        return Solid(CYLINDER, (0, 0, height / 2 - 0.2), half, POLE, color, reflectance=shine)

    kind = random.random()
    solids: tuple[Solid, ...]
    if kind < 0.3:
        height, arm = random.uniform(3.2, 8.0), random.uniform(0.3, 1.2)
        lamp = Solid(BOX, (arm * 2, 0, height - 0.1), (0.28, 0.12, 0.07), POLE, (0.95, 0.93, 0.80))
        beam = Solid(BOX, (arm, 0, height), (arm, 0.05, 0.05), POLE, color, reflectance=shine)
        solids = (upright_pole(random.uniform(0.06, 0.14), height), beam, lamp)
    elif kind < 0.55:
        height, plate = random.uniform(1.8, 3.2), random.uniform(0.2, 0.45)
        sign = Solid(
            BOX,
            (0.08, 0, height - plate),
            (0.02, plate, plate),
            POLE,
            random.choice(PAINTS),
            reflectance=0.9,
        )
        solids = (upright_pole(random.uniform(0.03, 0.06), height), sign)
    elif kind < 0.85:
        solids = (upright_pole(random.uniform(0.06, 0.2), random.uniform(0.5, 1.3)),)
    else:
        solids = (upright_pole(random.uniform(0.15, 0.5), random.uniform(1.6, 4.5)),)
    return Thing(solids, (0.0, 0.0), random.uniform(0, 6))
