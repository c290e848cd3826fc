"""What stands in a synthetic room: solids in metres, z up, the origin at the floor's centre."""

import math
from random import Random

from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, ELLIPSOID, Solid
from renderpretrain.data.synthetic.textures import CHECKER, DRAWERS, PLANKS, WALLPAPER

CLASS_NAMES = (
    "free",
    "floor",
    "wall",
    "ceiling",
    "table",
    "chair",
    "cabinet",
    "sofa",
    "lamp",
    "picture",
    "object",
)
FLOOR, WALL, CEILING, TABLE, CHAIR, CABINET, SOFA, LAMP, PICTURE, OBJECT = range(1, 11)

COARSE_NAMES = ("free", "floor", "wall", "ceiling", "furniture", "thing")
COARSE = (0, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5)
"""What a class of ``CLASS_NAMES`` is called in ``COARSE_NAMES``."""

THICK = 0.3
"""Thickness of walls, floor and ceiling, metres."""

PAPERS = ((0.80, 0.74, 0.62), (0.62, 0.72, 0.76), (0.74, 0.78, 0.64), (0.80, 0.66, 0.60))
WOODS = ((0.55, 0.38, 0.22), (0.42, 0.27, 0.16), (0.72, 0.56, 0.36))
CLOTHS = ((0.62, 0.18, 0.16), (0.16, 0.32, 0.52), (0.22, 0.44, 0.30), (0.72, 0.60, 0.22), (0.42, 0.40, 0.42))


def lay_room(random: Random) -> tuple[list[Solid], tuple[float, float, float]]:
    """Draw a room; also its inner size ``(x, y, z)`` in metres."""
    size = (random.uniform(4.4, 6.2), random.uniform(4.4, 6.2), random.uniform(2.4, 2.9))
    solids = _shell(random, size)
    solids += _table(random, (random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5)))
    solids += _against_walls(random, size)
    solids += _lamp(random, size)
    return solids, size


def _shell(random: Random, size: tuple[float, float, float]) -> list[Solid]:
    """Floor, ceiling, four walls, a rug, a door and pictures."""
    x, y, z = (s / 2 for s in size)
    half, paper = THICK / 2, random.choice(PAPERS)
    solids = [
        Solid(BOX, (0, 0, -half), (x + THICK, y + THICK, half), FLOOR, random.choice(WOODS), PLANKS),
        Solid(BOX, (0, 0, 2 * z + half), (x + THICK, y + THICK, half), CEILING, (0.88, 0.88, 0.86)),
    ]
    for side in (-1, 1):
        solids.append(Solid(BOX, (side * (x + half), 0, z), (half, y + THICK, z), WALL, paper, WALLPAPER))
        solids.append(Solid(BOX, (0, side * (y + half), z), (x + THICK, half, z), WALL, paper, WALLPAPER))
        frame = (side * (x - 0.01), random.uniform(-0.5, 0.5) * y, random.uniform(1.4, 1.7))
        picture = (0.01, random.uniform(0.3, 0.6), random.uniform(0.22, 0.4))
        solids.append(Solid(BOX, frame, picture, PICTURE, random.choice(CLOTHS), CHECKER))
    door = (random.uniform(-0.4, 0.4) * x, y - 0.015, 1.0)
    solids.append(Solid(BOX, door, (0.45, 0.015, 1.0), WALL, (0.86, 0.84, 0.78), DRAWERS))
    rug = (random.uniform(1.0, 1.5), random.uniform(0.8, 1.2), 0.01)
    solids.append(
        Solid(BOX, (0, 0, 0.01), rug, FLOOR, random.choice(CLOTHS), CHECKER, random.uniform(-0.3, 0.3))
    )
    return solids


def _table(random: Random, at: tuple[float, float]) -> list[Solid]:
    """A table with four legs, things on it and chairs around it."""
    yaw, wood = random.uniform(0, math.pi), random.choice(WOODS)
    length, width, height = random.uniform(0.55, 0.8), random.uniform(0.35, 0.5), random.uniform(0.7, 0.78)

    def placed(along: float, across: float) -> tuple[float, float]:
        c, s = math.cos(yaw), math.sin(yaw)
        return at[0] + c * along - s * across, at[1] + s * along + c * across

    solids = [Solid(BOX, (*at, height), (length, width, 0.03), TABLE, wood, PLANKS, yaw)]
    for along in (-length + 0.06, length - 0.06):
        for across in (-width + 0.06, width - 0.06):
            leg = (*placed(along, across), height / 2)
            solids.append(Solid(CYLINDER, leg, (0.03, 0.03, height / 2), TABLE, wood))
    ball, box = random.uniform(0.08, 0.14), random.uniform(0.08, 0.15)
    bowl = (*placed(0.5 * length, 0.0), height + 0.03 + ball)
    parcel = (*placed(-0.4 * length, 0.1), height + 0.03 + box)
    solids.append(Solid(ELLIPSOID, bowl, (ball, ball, ball), OBJECT, random.choice(CLOTHS)))
    solids.append(
        Solid(BOX, parcel, (box, 0.7 * box, box), OBJECT, random.choice(CLOTHS), CHECKER, yaw + 0.4)
    )
    for side in (-1, 1):
        solids += _chair(random, placed(random.uniform(-0.2, 0.2), side * (width + 0.3)), yaw, side)
    return solids


def _chair(random: Random, at: tuple[float, float], yaw: float, side: int) -> list[Solid]:
    """A seat on a foot, with a back on the far side of the table."""
    color = random.choice(CLOTHS)
    back = (at[0] - side * 0.2 * math.sin(yaw), at[1] + side * 0.2 * math.cos(yaw), 0.7)
    return [
        Solid(CYLINDER, (*at, 0.21), (0.05, 0.05, 0.21), CHAIR, (0.2, 0.2, 0.22)),
        Solid(CYLINDER, (*at, 0.02), (0.2, 0.2, 0.02), CHAIR, (0.2, 0.2, 0.22)),
        Solid(BOX, (*at, 0.45), (0.22, 0.22, 0.03), CHAIR, color, yaw=yaw),
        Solid(BOX, back, (0.22, 0.025, 0.25), CHAIR, color, yaw=yaw),
    ]


def _against_walls(random: Random, size: tuple[float, float, float]) -> list[Solid]:
    """A cabinet, a sideboard and a sofa, each at its own wall."""
    x, y, _ = (s / 2 for s in size)
    high, low, cloth = random.uniform(0.8, 1.05), random.uniform(0.35, 0.5), random.choice(CLOTHS)
    along = random.uniform(-0.4, 0.4)
    cabinet = Solid(
        BOX,
        (x - 0.25, along * y, high),
        (0.25, random.uniform(0.5, 0.8), high),
        CABINET,
        random.choice(WOODS),
        DRAWERS,
    )
    board = Solid(
        BOX,
        (along * x, 0.22 - y, low),
        (random.uniform(0.6, 1.0), 0.22, low),
        CABINET,
        random.choice(WOODS),
        DRAWERS,
    )
    vase = Solid(
        ELLIPSOID, (along * x, 0.22 - y, 2 * low + 0.18), (0.1, 0.1, 0.18), OBJECT, random.choice(CLOTHS)
    )
    seat = Solid(BOX, (0.45 - x, -along * y, 0.22), (0.45, 0.9, 0.22), SOFA, cloth)
    rest = Solid(BOX, (0.12 - x, -along * y, 0.6), (0.12, 0.9, 0.2), SOFA, cloth)
    arms = [
        Solid(BOX, (0.45 - x, side * 0.8 - along * y, 0.52), (0.45, 0.1, 0.1), SOFA, cloth)
        for side in (-1, 1)
    ]
    return [cabinet, board, vase, seat, rest, *arms]


def _lamp(random: Random, size: tuple[float, float, float]) -> list[Solid]:
    """A globe on a rod from the ceiling and a floor lamp in a corner."""
    x, y, height = size[0] / 2 - 0.35, size[1] / 2 - 0.35, size[2]
    corner = (random.choice((-1, 1)) * x, y)
    glow = (1.0, 0.96, 0.80)
    return [
        Solid(CYLINDER, (0, 0, height - 0.15), (0.015, 0.015, 0.15), LAMP, (0.2, 0.2, 0.2)),
        Solid(ELLIPSOID, (0, 0, height - 0.42), (0.16, 0.16, 0.16), LAMP, glow),
        Solid(CYLINDER, (*corner, 0.75), (0.02, 0.02, 0.75), LAMP, (0.2, 0.2, 0.2)),
        Solid(CYLINDER, (*corner, 1.6), (0.18, 0.18, 0.14), LAMP, glow),
    ]
