"""What stands on a synthetic street: solids in metres, x right, y along, z up, the road at z = 0."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, ELLIPSOID, Solid
from renderpretrain.data.synthetic.textures import CAR_BODY, CAR_CABIN, FACADE, FOLIAGE, GRASS, PAVING, ROAD

CLASS_NAMES = ("free", "road", "sidewalk", "terrain", "building", "pole", "vegetation", "pedestrian", "car")
ROAD_, SIDEWALK, TERRAIN, BUILDING, POLE, VEGETATION, PEDESTRIAN, CAR = range(1, 9)

HALF_LENGTH = 70.0
"""Metres of street on either side of the origin, beyond what the recorder drives."""

HORIZON = 400.0
"""Half size of the ground, metres."""

PAINTS = (
    (0.75, 0.12, 0.10),
    (0.12, 0.25, 0.62),
    (0.85, 0.85, 0.84),
    (0.10, 0.10, 0.11),
    (0.55, 0.57, 0.60),
    (0.14, 0.42, 0.26),
    (0.88, 0.68, 0.14),
    (0.36, 0.62, 0.75),
)
WALLS = (
    (0.66, 0.36, 0.27),
    (0.80, 0.72, 0.58),
    (0.58, 0.57, 0.55),
    (0.72, 0.62, 0.42),
    (0.48, 0.36, 0.30),
    (0.62, 0.68, 0.66),
    (0.78, 0.58, 0.46),
)


@dataclass(frozen=True)
class Box:
    """A car's outline: what an annotator would draw around body and cabin, in the street's frame."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float, float]


@dataclass(frozen=True)
class Street:
    """One street at time 0.

    Attributes:
        solids: In the order in which the later one wins where two overlap.
        boxes: One per car.
        ego_x: Lateral position of the recording car, metres; it drives along +y.
        ego_speed: Metres per second.
        yaw: Heading of the recorder relative to the street, radians.
    """

    solids: list[Solid]
    boxes: list[Box]
    ego_x: float
    ego_speed: float
    yaw: float


def build_street(random: Random, travel: float) -> Street:
    """Draw a street.

    Args:
        random: The only source of chance.
        travel: How far the recorder will drive, metres; the street is that much longer.
    """
    half_road = random.uniform(5.6, 6.6)
    walk = random.uniform(2.4, 3.6)
    ego_speed = random.uniform(3.0, 10.0)
    span = (-HALF_LENGTH, HALF_LENGTH + travel)
    solids = _ground(half_road, walk)
    for side in (-1, 1):
        solids += _buildings(random, side, half_road + walk, span)
        solids += _sidewalk_furniture(random, side, half_road, walk, span)
    cars = list(_parked(random, half_road, span)) + list(_traffic(random, half_road, span, ego_speed))
    boxes = []
    for box, color in cars:
        boxes.append(box)
        solids += _car(box, color)
    return Street(solids, boxes, _lane(half_road), ego_speed, math.radians(random.uniform(-4, 4)))


def _lane(half_road: float) -> float:
    """Lateral centre of the right lane; 2.3 m at the kerb are for parking."""
    return (half_road - 2.3) / 2


def _ground(half_road: float, walk: float) -> list[Solid]:
    """Terrain, the road 2 cm above it and kerbed sidewalks."""
    ground = [
        Solid(BOX, (0, 0, -1.02), (HORIZON, HORIZON, 1.0), TERRAIN, (0.36, 0.44, 0.24), GRASS),
        Solid(BOX, (0, 0, -1.0), (half_road, HORIZON, 1.0), ROAD_, (0.30, 0.30, 0.32), ROAD),
    ]
    for side in (-1, 1):
        center = (side * (half_road + walk / 2), 0, -0.925)
        ground.append(Solid(BOX, center, (walk / 2, HORIZON, 1.075), SIDEWALK, (0.60, 0.58, 0.55), PAVING))
    return ground


def _buildings(random: Random, side: int, edge: float, span: tuple[float, float]) -> list[Solid]:
    """A row of houses with a few gaps."""
    houses = []
    y = span[0] + random.uniform(0, 8)
    while y < span[1]:
        width, depth, height = (
            random.uniform(9, 17),
            random.uniform(8, 13),
            random.choice((6.7, 9.8, 12.9, 16.0)),
        )
        setback = random.choice((0.0, 0.0, 1.5, 3.0))
        if random.random() < 0.88:
            center = (side * (edge + setback + depth / 2), y + width / 2, height / 2)
            half = (depth / 2, width / 2, height / 2)
            houses.append(Solid(BOX, center, half, BUILDING, _jitter(random, random.choice(WALLS)), FACADE))
        y += width + random.choice((0.0, 0.0, 0.8, 4.0))
    return houses


def _sidewalk_furniture(
    random: Random, side: int, half_road: float, walk: float, span: tuple[float, float]
) -> list[Solid]:
    """Trees, lamp posts and people."""
    things: list[Solid] = []
    y = span[0] + random.uniform(0, 6)
    while y < span[1]:
        x = side * (half_road + 0.6)
        if random.random() < 0.55:
            things += _tree(random, x, y)
        else:
            things += _lamp_post(x, y, side)
        if random.random() < 0.5:
            things += _person(
                random, side * (half_road + random.uniform(1.2, walk - 0.3)), y + random.uniform(2, 5)
            )
        y += random.uniform(8, 15)
    return things


def _tree(random: Random, x: float, y: float) -> list[Solid]:
    """A trunk and one or two ellipsoids of leaves."""
    height, radius = random.uniform(2.0, 3.0), random.uniform(1.3, 2.0)
    green = _jitter(random, random.choice(((0.24, 0.42, 0.16), (0.32, 0.46, 0.18), (0.46, 0.42, 0.16))))
    trunk = Solid(CYLINDER, (x, y, height / 2), (0.16, 0.16, height / 2), VEGETATION, (0.34, 0.25, 0.18))
    crown = Solid(
        ELLIPSOID, (x, y, height + radius * 0.8), (radius, radius, radius * 1.15), VEGETATION, green, FOLIAGE
    )
    top = Solid(
        ELLIPSOID,
        (x + random.uniform(-0.6, 0.6), y + random.uniform(-0.6, 0.6), height + radius * 1.9),
        (radius * 0.7, radius * 0.7, radius * 0.7),
        VEGETATION,
        green,
        FOLIAGE,
    )
    return [trunk, crown, top]


def _lamp_post(x: float, y: float, side: int) -> list[Solid]:
    """A pole with an arm over the road."""
    grey = (0.28, 0.30, 0.32)
    return [
        Solid(CYLINDER, (x, y, 2.9), (0.09, 0.09, 2.9), POLE, grey),
        Solid(BOX, (x - side * 0.8, y, 5.75), (0.85, 0.06, 0.06), POLE, grey),
        Solid(BOX, (x - side * 1.5, y, 5.66), (0.28, 0.12, 0.06), POLE, (0.95, 0.93, 0.80)),
    ]


def _person(random: Random, x: float, y: float) -> list[Solid]:
    """Legs, coat and head, walking along the street."""
    velocity = (0.0, random.choice((-1.3, 1.3, 0.0)), 0.0)
    coat = _jitter(random, random.choice(PAINTS))
    return [
        Solid(CYLINDER, (x, y, 0.55), (0.13, 0.16, 0.4), PEDESTRIAN, (0.15, 0.16, 0.22), velocity=velocity),
        Solid(ELLIPSOID, (x, y, 1.2), (0.20, 0.26, 0.42), PEDESTRIAN, coat, velocity=velocity),
        Solid(ELLIPSOID, (x, y, 1.72), (0.11, 0.11, 0.14), PEDESTRIAN, (0.78, 0.60, 0.50), velocity=velocity),
    ]


def _parked(
    random: Random, half_road: float, span: tuple[float, float]
) -> Iterator[tuple[Box, tuple[float, float, float]]]:
    """Cars at both kerbs, heading with the traffic of their side."""
    for side in (-1, 1):
        y = span[0] + random.uniform(0, 6)
        while y < span[1]:
            if random.random() < 0.5:
                at = (side * (half_road - 1.15), y)
                yield _outline(random, at, side, 0.0), _jitter(random, random.choice(PAINTS))
            y += random.uniform(6.0, 7.5)


def _traffic(
    random: Random, half_road: float, span: tuple[float, float], ego_speed: float
) -> Iterator[tuple[Box, tuple[float, float, float]]]:
    """Moving cars; those in the recorder's lane keep its speed, so that nobody ever collides."""
    for side, speed in ((1, ego_speed), (-1, random.uniform(4.0, 10.0))):
        y = span[0] + random.uniform(0, 10)
        while y < span[1]:
            clear = side < 0 or abs(y) > 9
            if clear and random.random() < 0.6:
                at = (side * _lane(half_road), y)
                yield _outline(random, at, side, speed), _jitter(random, random.choice(PAINTS))
            y += random.uniform(10, 22)


def _outline(random: Random, at: tuple[float, float], side: int, speed: float) -> Box:
    """A car's outline at a point of the street; the right side drives along +y."""
    size = (random.uniform(3.9, 4.9), random.uniform(1.7, 1.9), random.choice((1.42, 1.5, 1.75)))
    yaw = side * math.pi / 2 + math.radians(random.uniform(-2, 2))
    velocity = (speed * math.cos(yaw), speed * math.sin(yaw), 0.0) if speed else (0.0, 0.0, 0.0)
    return Box((at[0], at[1], size[2] / 2), size, yaw, velocity)


def _car(box: Box, color: tuple[float, float, float]) -> list[Solid]:
    """Body and cabin that fill the outline, but for the clearance below."""
    x, y, _ = box.center
    length, width, height = box.size
    middle, bottom = 0.58 * height, 0.14
    back = -0.06 * length
    cabin = (x + back * math.cos(box.yaw), y + back * math.sin(box.yaw), (middle + height) / 2)
    half = (0.29 * length, 0.44 * width, (height - middle) / 2)
    return [
        Solid(
            BOX,
            (x, y, (middle + bottom) / 2),
            (length / 2, width / 2, (middle - bottom) / 2),
            CAR,
            color,
            CAR_BODY,
            box.yaw,
            box.velocity,
        ),
        Solid(BOX, cabin, half, CAR, color, CAR_CABIN, box.yaw, box.velocity),
    ]


def _jitter(random: Random, color: tuple[float, float, float]) -> tuple[float, float, float]:
    """The colour, a little brighter or darker."""
    factor = random.uniform(0.85, 1.12)
    r, g, b = (min(1.0, c * factor) for c in color)
    return r, g, b
