"""Houses, walls, passages and bridges of a synthetic street, as solids around a place on the ground."""

from random import Random

from renderpretrain.data.synthetic.raycast import BOX, CYLINDER, Solid
from renderpretrain.data.synthetic.textures import FACADE, FOLIAGE
from renderpretrain.data.synthetic.things import BUILDING, LEAVES, VEGETATION, Color, Thing, jitter

FOOT = 3.1
"""Houses reach so far below their place, metres: a slope shows no gap, and window rows stay a storey high."""

WALLS: tuple[Color, ...] = (
    (0.66, 0.36, 0.27),
    (0.80, 0.72, 0.58),
    (0.58, 0.57, 0.55),
    (0.72, 0.62, 0.42),
    (0.48, 0.36, 0.30),
    (0.62, 0.68, 0.66),
    (0.78, 0.58, 0.46),
    (0.36, 0.38, 0.36),
)


def house(random: Random, width: int | float, depth: int | float) -> Thing:
    """A house whose front, along x, looks to -y.

    Args:
        random: The only source of chance.
        width: Along the front, metres.
        depth: Behind it, metres.
    """
    low = width < 6
    height = random.uniform(2.0, 3.2) if low else random.choice((3.3, 4.5, 6.4, 9.5, 12.6, 15.7))
    color, shine = jitter(random, random.choice(WALLS)), random.uniform(0.1, 0.7)
    wall = _Wall(color, shine)
    solids = [wall.box((0, 0, (height - FOOT) / 2), (width / 2, depth / 2, (height + FOOT) / 2))]
    front = -depth / 2
    kind = random.random()
    if height > 6 and kind < 0.3:  # upper floors that stand out over the pavement
        out = random.uniform(0.4, 2.2)
        solids.append(
            wall.box((0, front - out / 2, (3.0 + height) / 2), (width / 2, out / 2, height / 2 - 1.5))
        )
    elif height > 6 and kind < 0.6:
        solids += [
            wall.box((random.uniform(-0.3, 0.3) * width, front - 0.5, z), (random.uniform(0.8, 2), 0.5, 0.5))
            for z in (3.4, 6.5)[: random.randint(1, 2)]
        ]
    elif kind < 0.8:  # steps, a porch or an awning
        z, thin = random.choice(((0.2, 0.25), (2.5, 0.08), (1.1, 1.2)))
        at = (random.uniform(-0.3, 0.3) * width, front - 0.6, z)
        solids.append(wall.box(at, (random.uniform(0.6, 1.6), 0.6, thin)))
    if random.random() < 0.25:
        half = (random.uniform(0.1, 0.45) * width, 0.12, random.uniform(0.2, 0.5) * height)
        green = jitter(random, random.choice(LEAVES))
        at = (random.uniform(-0.25, 0.25) * width, front - 0.1, half[2])
        solids.append(Solid(BOX, at, half, VEGETATION, green, FOLIAGE, reflectance=random.uniform(0.15, 0.6)))
    return Thing(tuple(solids), (0.0, 0.0))


def low_wall(random: Random, length: int | float) -> Thing:
    """A garden wall or a fence along x, which may be higher than a car or lower than a knee."""
    wall = _Wall(jitter(random, random.choice(WALLS)), random.uniform(0.1, 0.7))
    thick = random.choice((0.04, random.uniform(0.1, 0.3)))
    top = random.uniform(0.35, 2.4)
    return Thing(
        (wall.plain((0, 0, top / 2 - 0.15), (length / 2, thick, top / 2 + 0.15)),), (0.0, 0.0), tilts=True
    )


def passage(random: Random, width: int | float) -> Thing:
    """A house over the road, along y, ``width`` metres clear between its legs."""
    wall = _Wall(jitter(random, random.choice(WALLS)), random.uniform(0.1, 0.7))
    clear, height, half = random.uniform(4.2, 5.0), random.uniform(7.5, 13), random.uniform(2, 5)
    leg = random.uniform(1.0, 4.0)
    upper = wall.box((0, 0, (clear + height) / 2), (half, width / 2 + 2 * leg, (height - clear) / 2))
    legs = [
        wall.box((0, side * (width / 2 + leg), (clear - FOOT) / 2), (half, leg, (clear + FOOT) / 2))
        for side in (-1, 1)
    ]
    return Thing((upper, *legs), (0.0, 0.0))


def bridge(random: Random, width: int | float) -> Thing:
    """A slab over the road, along y, on round piers ``width`` metres apart."""
    wall = _Wall(jitter(random, (0.6, 0.6, 0.58)), random.uniform(0.1, 0.6))
    z, half = random.uniform(4.7, 5.6), random.uniform(1.2, 3.5)
    spans = [k * width / 2 for k in (-3, -2, -1, 0, 1, 2, 3)]
    decks = [wall.plain((0, y, z + 0.3), (half, width / 4, 0.3)) for y in spans]
    rails = [wall.plain((side * half, y, z + 1.1), (0.08, width / 4, 0.5)) for y in spans for side in (-1, 1)]
    piers = [
        Solid(CYLINDER, (0, side * width / 2, z / 2 - 1), (0.4, 0.4, z / 2 + 1), BUILDING, wall.color)
        for side in (-1, 1)
    ]
    return Thing((*decks, *rails, *piers), (0.0, 0.0))


class _Wall:
    """One material for all parts of a building."""

    def __init__(self, color: Color, shine: int | float) -> None:
        self.color, self.shine = color, shine

    def box(self, center: Color, half: Color, pattern: int = FACADE) -> Solid:
        """A part with windows."""
        return Solid(BOX, center, half, BUILDING, self.color, pattern, reflectance=self.shine)

    def plain(self, center: Color, half: Color) -> Solid:
        """A part without."""
        return self.box(center, half, 0)
