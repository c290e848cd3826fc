"""A world of ground and boxes, and a spinning LiDAR in it, worked out by formulas of their own.

Ground is a plane through ``(0, 0, -1.8)``, which may slope; boxes stand anywhere, along the axes.
"""

import math

import torch

from renderpretrain.geometry import Points

FAR = 60.0
"""Metres that the LiDAR sees."""


def town(seed, count=40):
    """Lower and upper corners ``(K, 3)`` of houses, walls and cars, none of them around the sensor."""
    generator = torch.Generator().manual_seed(seed)
    angle, distance = (
        2 * math.pi * torch.rand(count, generator=generator),
        torch.rand(count, generator=generator),
    )
    distance = 9 + 46 * distance
    middle = torch.stack([angle.cos() * distance, angle.sin() * distance], -1)
    half = 0.5 + 3.0 * torch.rand(count, 2, generator=generator)
    top = -1.0 + 9.0 * torch.rand(count, generator=generator)
    lower = torch.cat([middle - half, torch.full((count, 1), -6.0)], -1)
    return lower, torch.cat([middle + half, top[:, None]], -1)


def cast(directions, boxes, slope=(0.0, 0.0)):
    """Distance and outward normal of what rays from the origin meet; infinite where they meet nothing."""
    up = torch.nn.functional.normalize(torch.tensor([-slope[0], -slope[1], 1.0]), dim=0)
    down = directions @ up
    t = torch.where(down < -1e-6, -1.8 * up[2] / torch.where(down < -1e-6, down, -1.0), torch.inf)
    normals = up.expand_as(directions)
    for lower, upper in zip(*boxes, strict=True):
        step = torch.where(directions.abs() < 1e-9, 1e-9, directions)
        enter = torch.minimum(lower / step, upper / step)
        leave = torch.maximum(lower / step, upper / step)
        first, axis = enter.max(-1)
        nearer = (first < leave.min(-1).values) & (first > 0) & (first < t)
        t = torch.where(nearer, first, t)
        face = torch.nn.functional.one_hot(axis, 3) * -directions.sign()
        normals = torch.where(nearer[:, None], face, normals)
    return t, normals


def tilted(degrees):
    """Turns directions of the sensor into the world's, where it is mounted at a slant."""
    a = math.radians(degrees)
    return torch.tensor([[1.0, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])


def turn(mount, beams=32, firings=600):
    """Directions of one turn, beams from 30 degrees below the horizon to 10 above, in the world."""
    elevation = torch.deg2rad(torch.linspace(-30, 10, beams))[:, None]
    azimuth = torch.arange(firings) * (2 * math.pi / firings)
    flat = elevation.cos()
    parts = [flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin().expand(beams, firings)]
    return torch.stack(parts, -1).reshape(-1, 3) @ mount.T


def sweep(seed, *, degrees=0.0, lost=0.15, noise=0.02, slope=(0.0, 0.0)):
    """Returns of one turn, their exact normals, and the world: near ones seldom lost, far ones often."""
    generator, boxes = torch.Generator().manual_seed(seed), town(seed)
    directions = turn(tilted(degrees))
    t, normals = cast(directions, boxes, slope)
    chance = torch.rand(len(t), generator=generator)
    kept = (t < FAR) & (chance >= lost + 0.4 * (t / FAR).square())
    t = (t + noise * torch.randn(len(t), generator=generator))[kept]
    return Points.from_table((t[:, None] * directions[kept])[None]), normals[kept], boxes
