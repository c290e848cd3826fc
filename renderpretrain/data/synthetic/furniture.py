"""Furniture of synthetic rooms: solids around a place, of any height; y points to the wall behind."""

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, ELLIPSOID, Solid
from renderpretrain.data.synthetic.textures import CHECKER, DRAWERS, PLANKS

TABLE, CHAIR, CABINET, SOFA, LAMP, PICTURE, OBJECT = range(4, 11)

Triple = tuple[int | float, int | float, int | float]

WOODS: tuple[Triple, ...] = (
    (0.55, 0.38, 0.22),
    (0.42, 0.27, 0.16),
    (0.72, 0.56, 0.36),
    (0.84, 0.83, 0.80),
    (0.2, 0.2, 0.22),
)
CLOTHS: tuple[Triple, ...] = (
    (0.62, 0.18, 0.16),
    (0.16, 0.32, 0.52),
    (0.22, 0.44, 0.30),
    (0.72, 0.60, 0.22),
    (0.42, 0.40, 0.42),
    (0.80, 0.74, 0.62),
    (0.55, 0.38, 0.22),
)


class Piece(NamedTuple):
    """Something that is put somewhere as a whole.

    Attributes:
        solids: Around its place, x to the right, y to the back, z up, metres.
        radius: What it needs around it, metres.
        deep: From front to back, metres.
        tops: Places that carry things.
    """

    solids: tuple[Solid, ...]
    radius: float
    deep: float
    tops: tuple[Triple, ...] = ()


def table(random: Random) -> Piece:
    """A table, a desk, a low or a bar table: round or square, on legs, a foot or sides."""
    wood, height = (
        random.choice(WOODS),
        random.choice((0.4, 0.55, 0.74, 0.76, 1.05)) * random.uniform(0.85, 1.15),
    )
    long, deep = random.uniform(0.3, 0.8), random.uniform(0.25, 0.45)
    kind = random.random()
    if kind < 0.3:
        deep = long = random.uniform(0.25, 0.55)
        top = Solid(CYLINDER, (0, 0, height), (long, long, 0.03), TABLE, wood)
        foot = Solid(CYLINDER, (0, 0, height / 2), (0.04, 0.04, height / 2), TABLE, wood)
        return Piece((top, foot), long + 0.1, 2 * long, ((0, 0, height + 0.03),))
    top = Solid(BOX, (0, 0, height), (long, deep, 0.03), TABLE, wood, PLANKS)
    if kind < 0.5:
        sides = [
            Solid(BOX, (s * (long - 0.03), 0, height / 2), (0.02, deep, height / 2), TABLE, wood)
            for s in (-1, 1)
        ]
    else:
        sides = [
            Solid(
                CYLINDER,
                (a * (long - 0.06), b * (deep - 0.06), height / 2),
                (0.03, 0.03, height / 2),
                TABLE,
                wood,
            )
            for a in (-1, 1)
            for b in (-1, 1)
        ]
    return Piece(
        (top, *sides),
        math.hypot(long, deep),
        2 * deep,
        ((0.4 * long, 0, height + 0.03), (-0.4 * long, 0, height + 0.03)),
    )


def chair(random: Random) -> Piece:
    """A chair, a stool or a bar stool, with or without a back."""
    color, frame = random.choice(CLOTHS), random.choice(WOODS)
    seat, half = (
        random.choice((0.42, 0.45, 0.5, 0.75)) * random.uniform(0.8, 1.15),
        random.uniform(0.16, 0.27),
    )
    solids = [Solid(BOX, (0, 0, seat), (half, half, random.uniform(0.02, 0.07)), CHAIR, color)]
    if random.random() < 0.5:
        solids.append(Solid(CYLINDER, (0, 0, seat / 2), (0.04, 0.04, seat / 2), CHAIR, frame))
        solids.append(Solid(CYLINDER, (0, 0, 0.02), (half, half, 0.02), CHAIR, frame))
    else:
        for a in (-1, 1):
            for b in (-1, 1):
                leg = (a * (half - 0.03), b * (half - 0.03), seat / 2)
                solids.append(Solid(CYLINDER, leg, (0.02, 0.02, seat / 2), CHAIR, frame))
    if random.random() < 0.75:
        high = random.uniform(0.15, 0.4)
        back = (0, half - 0.02, seat + high)
        solids.append(Solid(BOX, back, (half, 0.025, high), CHAIR, color))
    return Piece(tuple(solids), half + 0.12, 2 * half, ((0, 0, seat + 0.05),))


def cabinet(random: Random) -> Piece:
    """A chest, a sideboard, a shelf or a wardrobe."""
    wood, high = random.choice(WOODS), random.choice((0.25, 0.4, 0.5, 0.7, 0.95)) * random.uniform(0.8, 1.05)
    wide, deep = random.uniform(0.25, 0.7), random.uniform(0.15, 0.3)
    body = Solid(
        BOX, (0, 0, high), (wide, deep, high), CABINET, wood, random.choice((DRAWERS, DRAWERS, PLANKS))
    )
    if random.random() < 0.3:  # an open shelf: sides and boards
        count = max(2, round(2 * high / 0.4))
        boards = [
            Solid(BOX, (0, 0, k * 2 * high / count), (wide, deep, 0.015), CABINET, wood)
            for k in range(1, count + 1)
        ]
        sides = [Solid(BOX, (s * wide, 0, high), (0.015, deep, high), CABINET, wood) for s in (-1, 1)]
        tops = tuple((0.0, 0.0, k * 2 * high / count + 0.015) for k in range(1, count + 1))
        return Piece((*sides, *boards), math.hypot(wide, deep), 2 * deep, tops)
    return Piece((body,), math.hypot(wide, deep), 2 * deep, ((0, 0, 2 * high),))


def sofa(random: Random) -> Piece:
    """A sofa, an armchair or a bench with cushions."""
    cloth, wide, deep = random.choice(CLOTHS), random.uniform(0.4, 0.95), random.uniform(0.35, 0.48)
    seat, rest = random.uniform(0.13, 0.27), random.uniform(0.1, 0.28)
    solids = [Solid(BOX, (0, 0, seat), (wide, deep, seat), SOFA, cloth)]
    solids.append(Solid(BOX, (0, deep - 0.1, 2 * seat + rest), (wide, 0.11, rest), SOFA, cloth))
    if random.random() < 0.7:
        arm = random.uniform(0.06, 0.16)
        for s in (-1, 1):
            at = (s * (wide - 0.09), -0.05, 2 * seat + arm)
            solids.append(Solid(BOX, at, (0.09, deep - 0.05, arm), SOFA, cloth))
    return Piece(tuple(solids), math.hypot(wide, deep), 2 * deep, ((0, -0.1, 2 * seat),))


def lamp(random: Random) -> Piece:
    """A floor lamp of any height."""
    high, shade = random.uniform(0.7, 1.8), random.uniform(0.1, 0.24)
    solids = (
        Solid(CYLINDER, (0, 0, high / 2), (0.02, 0.02, high / 2), LAMP, random.choice(WOODS)),
        _shade(random, (0.0, 0.0, high), shade),
    )
    return Piece(solids, 0.25, 0.4)


def table_lamp(random: Random) -> Piece:
    """A foot with a shade."""
    high, shade = random.uniform(0.1, 0.35), random.uniform(0.07, 0.16)
    foot = Solid(CYLINDER, (0, 0, high / 2), (0.04, 0.04, high / 2), LAMP, random.choice(CLOTHS))
    return Piece((foot, _shade(random, (0.0, 0.0, high + 0.5 * shade), shade)), 0.2, 0.3)


def pendant(random: Random) -> Piece:
    """A lamp under the ceiling, flat or on a rod."""
    drop, shade = random.choice((0.05, random.uniform(0.1, 0.9))), random.uniform(0.1, 0.25)
    rod = Solid(CYLINDER, (0, 0, -drop / 2), (0.015, 0.015, drop / 2), LAMP, (0.2, 0.2, 0.2))
    return Piece((rod, _shade(random, (0.0, 0.0, -drop - 0.3 * shade), shade)), 0.3, 0.4)


def wall_lamp(random: Random) -> Piece:
    """A lamp on a wall."""
    return Piece((_shade(random, (0.0, 0.0, 0.0), random.uniform(0.07, 0.14)),), 0.2, 0.2)


def picture(random: Random) -> Piece:
    """A flat picture of any size."""
    half = (random.uniform(0.2, 0.6), 0.012, random.uniform(0.15, 0.5))
    color, pattern = random.choice(CLOTHS), random.choice((CHECKER, CHECKER, 0))
    return Piece((Solid(BOX, (0, 0, 0), half, PICTURE, color, pattern),), 0.3, 0.03)


def hung_cabinet(random: Random) -> Piece:
    """A cupboard or a board on the wall."""
    half = (random.uniform(0.2, 0.6), random.uniform(0.08, 0.18), random.choice((0.015, 0.15, 0.3)))
    body = Solid(BOX, (0, 0, 0), half, CABINET, random.choice(WOODS), random.choice((DRAWERS, PLANKS)))
    return Piece((body,), 0.3, 2 * half[1], ((0, 0, half[2]),))


def thing(random: Random) -> Piece:
    """A ball, a vase, a box, a cushion, a book or a stack of boxes."""
    color, size = random.choice(CLOTHS), random.uniform(0.06, 0.24)
    kind = random.randrange(4)
    if kind == 0:
        solid = Solid(ELLIPSOID, (0, 0, size), (size, size, size), OBJECT, color)
    elif kind == 1:
        half = (0.6 * size, 0.6 * size, 1.3 * size)
        solid = Solid(random.choice((ELLIPSOID, CYLINDER)), (0, 0, 1.3 * size), half, OBJECT, color)
    else:
        high = size * random.choice((0.2, 0.7, 1.2))
        pattern = random.choice((CHECKER, 0))
        solid = Solid(BOX, (0, 0, high), (size, size * random.uniform(0.5, 1), high), OBJECT, color, pattern)
    top = solid.center[2] + solid.half_size[2]
    return Piece((solid,), size, size, ((0, 0, top),) if kind > 1 else ())


def _shade(random: Random, at: Triple, size: int | float) -> Solid:
    """A globe, a drum or a plate that gives light."""
    tone = random.choice(((1.0, 0.96, 0.80), (0.9, 0.9, 0.9), (0.75, 0.5, 0.3), (0.3, 0.32, 0.36)))
    kind, flat = random.choice(((ELLIPSOID, 1.0), (CYLINDER, 0.75), (CYLINDER, 0.25), (BOX, 0.3)))
    return Solid(kind, at, (size, size, flat * size), LAMP, tone)


DRAWN: dict[str, Callable[[Random], Piece]] = {
    "table": table,
    "chair": chair,
    "cabinet": cabinet,
    "sofa": sofa,
    "lamp": lamp,
    "object": thing,
}
"""What stands on the floor."""

HUNG: dict[str, Callable[[Random], Piece]] = {
    "picture": picture,
    "lamp": wall_lamp,
    "cabinet": hung_cabinet,
}
"""What hangs on walls."""
