"""How the roads of a synthetic street run, and the hills that they run over."""

import math
from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from renderpretrain.data.synthetic.ground import NOTHING, Ground, Strip, strip_distances

CELL = 1.25
"""Size of a cell of the ground's table, metres."""

REACH = 70.0
"""The table reaches so far around all that the recorder drives, metres."""


def draw_roads(random: Random, travel: int | float) -> list[Strip]:
    """The roads, the recorder's own first, at most 3 that branch off or cross.

    Args:
        random: The only source of chance.
        travel: How far the recorder will drive, metres.
    """
    heading = random.uniform(0, 2 * math.pi)
    first = _road(random, (0.0, 0.0), heading, random.uniform(0, 2 * math.pi))
    roads = [first]
    for _ in range(random.choices((0, 1, 2, 3), (15, 40, 30, 15))[0]):
        along = random.uniform(-30, 30 + travel)
        turn = random.choice((-1, 1)) * math.radians(random.uniform(55, 125))
        heading = first.direction(along) + turn
        # The phase is 0 or half a turn, so that the road begins in the middle of the first one.
        branch = _road(random, first.place(along, 0.0), heading, random.choice((0.0, math.pi)))
        roads.append(branch._replace(start=random.choice((0.0, -NOTHING)), bend=0.5 * branch.bend))
    return roads


def draw_paths(random: Random, roads: Sequence[Strip], travel: int | float) -> list[Strip]:
    """Driveways, parking lots, footpaths and squares beside the roads."""
    paths = []
    for _ in range(random.randint(1, 7)):
        road, side = random.choice(roads), random.choice((-1, 1))
        along = random.uniform(max(road.start, -45), 45 + travel)
        x, y = road.place(along, side * max(road.half - 0.5, 0))
        heading = road.direction(along) - side * math.pi / 2 + random.uniform(-0.4, 0.4)
        half, edge, length = random.choice(
            (
                (random.uniform(1.3, 2.6), 0.0, random.uniform(6, 18)),
                (random.uniform(7, 13), 0.0, random.uniform(12, 28)),
                (-NOTHING, random.uniform(0.7, 1.8), random.uniform(12, 40)),
                (-NOTHING, random.uniform(5, 13), random.uniform(9, 24)),
            )
        )
        edge = max(half, edge)
        bend = random.uniform(0, 2) if edge < 3 else 0.0
        paths.append(Strip(x, y, heading, bend, 0.2, 0.0, half, edge, edge, 0.0, length))
    return paths


def lay_ground(
    random: Random,
    roads: Sequence[Strip],
    paths: Sequence[Strip],
    middle: tuple[float, float],
    reach: int | float,
) -> Ground:
    """Hills, banks and kerbs under roads and paths, for ``reach`` metres around a place."""
    count = 2 * math.ceil(reach / CELL)
    lower = (middle[0] - CELL * count / 2, middle[1] - CELL * count / 2)
    steps = torch.arange(count + 1) * CELL
    y, x = torch.meshgrid(steps + lower[1], steps + lower[0], indexing="ij")
    places = torch.stack([x, y], -1).view(-1, 2)
    road, edge = strip_distances([*roads, *paths], places)
    base = _waves(random, places, [(50, 180, 0.05)] * 3 + [(14, 35, 0.025)] * 2)
    width = random.uniform(1.5, 6)
    bank = random.uniform(-0.2, 0.3) * width * (0.5 + 1.5 * _wave(random, places, 30, 80)).clamp(0, 1)
    rough = _waves(random, places, [(4, 9, random.uniform(0, 0.12))] * 2)
    base = base + bank * (edge / width).clamp(0, 1) + rough * edge.clamp(0, 1)
    kerb = random.choice((0.0, 1.0, 1.0, 1.0)) * random.uniform(0.02, 0.2)
    kerbs = kerb * (0.6 + 1.5 * _wave(random, places, 20, 60)).clamp(0, 1)
    table = torch.stack([base, kerbs, road, edge]).view(4, count + 1, count + 1)
    verge = random.choice((0.0, 0.0, random.uniform(0.6, 2.5)))
    return Ground.tabulate(table, lower, CELL, verge=verge, strips=roads)


def _road(random: Random, at: tuple[float, float], heading: int | float, phase: int | float) -> Strip:
    """A road of any width that swings to the sides, with or without pavements."""
    rate = 2 * math.pi / random.uniform(60, 200)
    half = random.choice((random.uniform(2.5, 3.5), random.uniform(3.5, 6), random.uniform(4, 9)))
    pavements = [random.choice((0.0, 0.6, 1, 1, 1)) * random.uniform(0.9, 5.5) for _ in range(2)]
    island = random.choice((0.0, 0.0, random.uniform(0.3, 1.4))) if half > 5 else 0.0
    bend = random.uniform(0, 0.4) / rate
    return Strip(
        *at, heading, bend, rate, phase, half, half + pavements[0], half + pavements[1], island=island
    )


def _wave(random: Random, places: Tensor, shortest: int | float, longest: int | float) -> Tensor:
    """A plane wave between -1 and 1, of a length between two, in metres."""
    heading, rate = random.uniform(0, 2 * math.pi), 2 * math.pi / random.uniform(shortest, longest)
    direction = places.new_tensor([rate * math.cos(heading), rate * math.sin(heading)])
    return (places @ direction + random.uniform(0, 2 * math.pi)).sin()


def _waves(random: Random, places: Tensor, kinds: Sequence[tuple[int | float, int | float, float]]) -> Tensor:
    """A sum of waves: shortest and longest length in metres, and how steep each may be."""
    total = torch.zeros(len(places))
    for shortest, longest, slope in kinds:
        height = random.uniform(0, slope) * (shortest + longest) / 2 / (2 * math.pi)
        total = total + height * _wave(random, places, shortest, longest)
    return total
