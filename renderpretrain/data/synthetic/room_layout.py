"""A synthetic room, its shell and where furniture goes: metres, z up, the origin at the floor's centre."""

import math
from random import Random

from renderpretrain.data.synthetic import furniture
from renderpretrain.data.synthetic.furniture import Piece
from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, Solid
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

PAPERS = ((0.80, 0.74, 0.62), (0.62, 0.72, 0.76), (0.74, 0.78, 0.64), (0.80, 0.66, 0.60), (0.45, 0.42, 0.40))
FLOORS = ((0.55, 0.38, 0.22), (0.42, 0.27, 0.16), (0.72, 0.56, 0.36), (0.60, 0.60, 0.58), (0.80, 0.76, 0.70))
CEILINGS = ((0.88, 0.88, 0.86), (0.70, 0.56, 0.40), (0.74, 0.78, 0.80), (0.52, 0.50, 0.48))


def lay_room(random: Random) -> tuple[list[Solid], tuple[float, float, float]]:
    """Draw a room; also its inner size ``(x, y, z)`` in metres."""
    size = (random.uniform(3.8, 5.6), random.uniform(3.8, 5.6), random.uniform(2.1, 2.75))
    solids, levels = _shell(random, size)
    plan = _Plan(random, size, levels)
    for name in ("sofa", "cabinet", "table", "chair", "chair"):
        plan.furnish(name)
    for _ in range(random.randint(4, 9)):
        plan.furnish(random.choice(("table", "chair", "chair", "cabinet", "sofa", "object", "lamp")))
    for _ in range(random.randint(2, 5)):
        plan.hang(random.choice(("picture", "picture", "lamp", "cabinet")))
    plan.hang("picture")
    plan.light()
    plan.strew(random.randint(5, 10))
    return solids + plan.solids, size


def _shell(
    random: Random, size: tuple[float, float, float]
) -> tuple[list[Solid], list[tuple[float, float, float]]]:
    """Floor, ceiling, walls, and what is built in; also platforms as ``(side, where it begins, height)``."""
    x, y, z = (s / 2 for s in size)
    half, paper, ceiling = THICK / 2, random.choice(PAPERS), random.choice(CEILINGS)
    wide = (x + THICK, y + THICK, half)
    wood, pattern = random.choice(FLOORS), random.choice((PLANKS, PLANKS, CHECKER, 0))
    solids = [
        Solid(BOX, (0, 0, -half), wide, FLOOR, wood, pattern),
        Solid(BOX, (0, 0, 2 * z + half), wide, CEILING, ceiling, random.choice((0, PLANKS))),
    ]
    for side in (-1, 1):
        solids.append(Solid(BOX, (side * (x + half), 0, z), (half, y + THICK, z), WALL, paper, WALLPAPER))
        solids.append(Solid(BOX, (0, side * (y + half), z), (x + THICK, half, z), WALL, paper, WALLPAPER))
    door = (random.uniform(-0.4, 0.4) * x, y - 0.015, 1.0)
    solids.append(Solid(BOX, door, (0.45, 0.015, 1.0), WALL, (0.86, 0.84, 0.78), DRAWERS))
    rug = (random.uniform(0.6, 1.4), random.uniform(0.6, 1.2), 0.01)
    at = (random.uniform(-0.4, 0.4) * x, random.uniform(-0.4, 0.4) * y, 0.01)
    cloth = random.choice(furniture.CLOTHS)
    solids.append(Solid(BOX, at, rug, FLOOR, cloth, CHECKER, random.uniform(0, 3)))
    levels = []
    for side in random.choice(((), (-1,), (1,), (-1, 1))):
        deep, height = random.uniform(0.6, 0.9 * x), random.uniform(0.12, 0.75)
        at, box = (side * (x - deep / 2), 0.0, height / 2), (deep / 2, y, height / 2)
        solids.append(Solid(BOX, at, box, FLOOR, wood, pattern))
        levels.append((float(side), x - deep, height))
    solids += _built_in(random, (x, y, z), paper, ceiling)
    return solids, levels


def _built_in(
    random: Random,
    half: tuple[float, float, float],
    paper: tuple[float, float, float],
    ceiling: tuple[float, float, float],
) -> list[Solid]:
    """Slopes under a roof, lower parts of a ceiling, beams, columns and low walls."""
    x, y, z = half
    solids = []
    if random.random() < 0.5:  # a slope along one wall, or along two that face each other
        angle, reach = random.uniform(0.4, 0.9), random.uniform(0.6, 1.3)
        for side in random.choice(((-1,), (1,), (-1, 1))):
            at = (side * (x - reach / 2), 0.0, 2 * z - reach / 2 * math.tan(angle) + 0.1)
            box = (reach / 2 / math.cos(angle) + 0.2, y + 0.1, 0.1)
            solids.append(Solid(BOX, at, box, CEILING, ceiling, lean=side * angle))
    if random.random() < 0.5:
        deep, low = random.uniform(0.5, 2.0), random.uniform(0.15, 0.55)
        at = (0.0, random.choice((-1, 1)) * (y - deep / 2), 2 * z - low / 2)
        solids.append(Solid(BOX, at, (x, deep / 2, low / 2), CEILING, ceiling))
    for _ in range(random.choice((0, 1, 3))):
        at = (0.0, random.uniform(-0.9, 0.9) * y, 2 * z - 0.1)
        solids.append(Solid(BOX, at, (x, 0.07, 0.12), CEILING, random.choice(CEILINGS)))
    for _ in range(random.choice((0, 1, 1, 2))):  # columns, chimneys, half walls
        thick, high = random.uniform(0.06, 0.25), random.choice((z, z, random.uniform(0.3, 0.75)))
        long = thick if random.random() < 0.4 else random.uniform(0.4, 1.0)
        at = (random.choice((-1, 1)) * (x - long), random.uniform(-0.9, 0.9) * y, high)
        kind = CYLINDER if long == thick else BOX
        solids.append(Solid(kind, at, (long, thick, high), WALL, paper, 0 if kind == CYLINDER else WALLPAPER))
    return solids


class _Plan:
    """What stands where so far.

    Args:
        random: The only source of chance.
        size: Of the room, metres.
        levels: Platforms: side, where it begins from the middle along x, height.
    """

    def __init__(
        self, random: Random, size: tuple[float, float, float], levels: list[tuple[float, float, float]]
    ) -> None:
        self.random, self.size, self.levels = random, size, levels
        self.solids: list[Solid] = []
        self.taken: list[tuple[float, float, float]] = []
        self.tops: list[tuple[float, float, float, float]] = []

    def floor(self, x: int | float) -> float:
        """Height of the floor at a place, metres."""
        return max((h for side, begins, h in self.levels if side * x > begins), default=0.0)

    def furnish(self, name: str) -> None:
        """A piece on the floor where there is room for it: at a wall, or anywhere."""
        random, (x, y) = self.random, (s / 2 for s in self.size[:2])
        piece = furniture.DRAWN[name](random)
        for _ in range(12):
            at = (random.uniform(-1, 1) * (x - 0.5), random.uniform(-1, 1) * (y - 0.5))
            yaw = random.uniform(0, 2 * math.pi)
            if random.random() < 0.45:
                side, yaw = random.choice((-1, 1)), 0.0
                if random.random() < 0.5:
                    at, yaw = (side * (x - piece.deep / 2 - 0.03), at[1]), -side * math.pi / 2
                else:
                    at, yaw = (at[0], side * (y - piece.deep / 2 - 0.03)), math.pi if side < 0 else 0.0
            if all(math.dist(at, (a, b)) > r + piece.radius for a, b, r in self.taken):
                self.taken.append((*at, piece.radius))
                self._put(piece, (*at, self.floor(at[0])), yaw)
                return

    def _put(self, piece: Piece, at: tuple[float, float, float], yaw: int | float) -> None:
        """The piece there; what it can carry is remembered."""
        c, s = math.cos(yaw), math.sin(yaw)
        for solid in piece.solids:
            dx, dy, dz = solid.center
            center = (at[0] + c * dx - s * dy, at[1] + s * dx + c * dy, at[2] + dz)
            self.solids.append(solid._replace(center=center, yaw=solid.yaw + yaw))
        for dx, dy, dz in piece.tops:
            self.tops.append((at[0] + c * dx - s * dy, at[1] + s * dx + c * dy, at[2] + dz, piece.deep / 2))

    def hang(self, name: str) -> None:
        """A piece on a wall, at any height; a picture may also lean on the floor."""
        random, (x, y, z) = self.random, self.size
        piece = furniture.HUNG[name](random)
        along, side = random.uniform(-0.42, 0.42), random.choice((-1, 1))
        height = random.uniform(0.25, z - 0.35)
        if random.random() < 0.5:
            at, yaw = (side * (x / 2 - piece.deep / 2), along * y, height), -side * math.pi / 2
        else:
            at, yaw = (along * x, side * (y / 2 - piece.deep / 2), height), math.pi if side < 0 else 0.0
        self._put(piece, at, yaw)

    def light(self) -> None:
        """Lamps under the ceiling, at any place and height."""
        random, (x, y, z) = self.random, self.size
        for _ in range(random.randint(1, 3)):
            at = (random.uniform(-0.4, 0.4) * x, random.uniform(-0.4, 0.4) * y, z)
            self._put(furniture.pendant(random), at, random.uniform(0, 6))

    def strew(self, count: int) -> None:
        """Things and table lamps on what can carry them, and on the floor."""
        random, (x, y) = self.random, self.size[:2]
        for _ in range(count):
            piece = furniture.thing(random) if random.random() < 0.85 else furniture.table_lamp(random)
            if self.tops and random.random() < 0.65:
                a, b, top, reach = random.choice(self.tops)
                at = (a + random.uniform(-0.5, 0.5) * reach, b + random.uniform(-0.5, 0.5) * reach, top)
                self.tops += [(at[0], at[1], top + t[2], 0.05) for t in piece.tops]
            else:
                at = (random.uniform(-0.45, 0.45) * x, random.uniform(-0.45, 0.45) * y, 0.0)
                at = (at[0], at[1], self.floor(at[0]))
            self._put(piece._replace(tops=()), at, random.uniform(0, 6))
