"""Procedural surfaces: colour that depends on where a solid is hit, so that colour carries information.

Every edge is averaged over the pixel's footprint in closed form, so distant patterns fade instead of
flickering.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

PLAIN, ROAD, PAVING, GRASS, FACADE, FOLIAGE, CAR_BODY, CAR_CABIN, PLANKS, WALLPAPER, CHECKER, DRAWERS = range(
    12
)

WHITE = (0.92, 0.92, 0.88)
GLASS = (0.16, 0.22, 0.30)
TYRE = (0.06, 0.06, 0.07)


@dataclass(frozen=True)
class Surface:
    """Points on solids, in each solid's own axes.

    Attributes:
        points: From the solid's centre, metres.
        normals: Outward unit normals in the solid's axes.
        half_sizes: Of the solid, metres.
        colors: The solid's base colour, RGB in [0, 1].
        footprints: Width of what one pixel or beam sees, metres, positive.
    """

    points: Float[Tensor, "P 3"]
    normals: Float[Tensor, "P 3"]
    half_sizes: Float[Tensor, "P 3"]
    colors: Float[Tensor, "P 3"]
    footprints: Float[Tensor, " P"]

    def __getitem__(self, index: Tensor) -> "Surface":
        """The points that an index or a mask chooses."""
        return Surface(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def paint(surface: Surface, patterns: Int[Tensor, " P"]) -> Float[Tensor, "P 3"]:
    """Albedo of the points, RGB in [0, 1]."""
    colors = surface.colors.clone()
    for pattern, draw in PATTERNS.items():
        chosen = torch.nonzero(patterns == pattern)[:, 0]
        if len(chosen):
            colors[chosen] = draw(surface[chosen])
    return colors.clamp(0, 1)


def stripes(x: Tensor, period: float, start: float, end: float, width: Tensor) -> Tensor:
    """Share of ``[x - width/2, x + width/2]`` under stripes ``[start, end]`` repeated every ``period``."""
    duty = (end - start) / period

    def covered(u: Tensor) -> Tensor:
        return u.floor() * duty + (u - u.floor() - start / period).clamp(0, duty)

    share = (width / period).clamp(min=1e-3)
    return (covered(x / period + share / 2) - covered(x / period - share / 2)) / share


def band(x: Tensor, low: Tensor | float, high: Tensor | float, width: Tensor) -> Tensor:
    """Share of ``[x - width/2, x + width/2]`` that lies in ``[low, high]``."""
    width = width.clamp(min=1e-3)
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    return ((x + width / 2).clamp(low, high) - (x - width / 2).clamp(low, high)) / width


def grain(points: Tensor, cell: float, width: Tensor) -> Tensor:
    """Noise in [-1, 1] that is constant on cubes of ``cell`` metres and fades where a pixel sees several."""
    i, j, k = torch.floor(points / cell).long().unbind(-1)
    bits = (i * 73856093) ^ (j * 19349663) ^ (k * 83492791)
    bits = (bits ^ (bits >> 13)) * 1274126177
    return ((bits & 0xFFFF).float() / 32767.5 - 1) * (cell / width).clamp(max=1)


def mix(colors: Tensor, other: tuple[float, float, float], share: Tensor) -> Tensor:
    """Blend colours towards another one, by a share in [0, 1] of each."""
    return torch.lerp(colors, colors.new_tensor(other).expand_as(colors), share.clamp(0, 1)[:, None])


def _road(s: Surface) -> Tensor:
    """Asphalt with a dashed centre line, lines at the parking lanes and zebra crossings, along y."""
    x, y, _ = s.points.unbind(-1)
    half = s.half_sizes[:, 0]
    colors = (
        s.colors
        * (1 + 0.12 * grain(s.points, 0.4, s.footprints) + 0.08 * grain(s.points, 3.0, s.footprints))[:, None]
    )
    dashes = band(x.abs(), 0.0, 0.09, s.footprints) * stripes(y, 6.0, 0.0, 3.0, s.footprints)
    lanes = band(x.abs(), half - 2.35, half - 2.2, s.footprints)
    zebra = stripes(x, 1.0, 0.0, 0.5, s.footprints) * stripes(y, 45.0, 20.0, 23.0, s.footprints)
    return mix(colors, WHITE, dashes + lanes + zebra * band(x.abs(), 0.0, half - 0.3, s.footprints))


def _paving(s: Surface) -> Tensor:
    """Slabs of 1.2 m with dark joints, and a light kerb up to half the road's width from its middle."""
    x, y, _ = s.points.unbind(-1)
    joints = torch.maximum(stripes(x, 1.2, 0.0, 0.06, s.footprints), stripes(y, 1.2, 0.0, 0.06, s.footprints))
    slabs = s.colors * (1 + 0.1 * grain(s.points, 1.2, s.footprints))[:, None]
    kerb = band(x.abs(), 0.0, s.half_sizes[:, 0] + 0.15, s.footprints)
    return mix(mix(slabs, (0.3, 0.29, 0.28), 0.6 * joints), (0.78, 0.77, 0.74), kerb)


def _grass(s: Surface) -> Tensor:
    """Colours of grass: patches of two sizes."""
    return (
        s.colors
        * (1 + 0.15 * grain(s.points, 0.5, s.footprints) + 0.12 * grain(s.points, 4.0, s.footprints))[:, None]
    )


def _facade(s: Surface) -> Tensor:
    """Window rows on the walls, a dark base, lit and unlit panes, and a plain roof."""
    x, y, z = s.points.unbind(-1)
    across = torch.where(s.normals[:, 0].abs() > s.normals[:, 1].abs(), y, x)
    height = z + s.half_sizes[:, 2]
    wall = s.colors * (1 - 0.1 * stripes(height, 0.3, 0.0, 0.06, s.footprints))[:, None]
    wall = wall * (1 - 0.35 * band(height, -1.0, 0.5, s.footprints))[:, None]
    panes = stripes(across, 2.6, 0.65, 1.95, s.footprints) * stripes(height, 3.1, 1.0, 2.6, s.footprints)
    frames = stripes(across, 2.6, 0.5, 2.1, s.footprints) * stripes(height, 3.1, 0.85, 2.75, s.footprints)
    house = torch.floor(1e3 * s.half_sizes.sum(-1))
    cell = torch.stack([torch.floor(across / 2.6), torch.floor(height / 3.1), house], -1)
    lit = (grain(cell + 0.5, 1.0, s.footprints / 2.6) > 0.6).float()
    glass = mix(mix(wall, WHITE, frames), GLASS, panes)
    glass = mix(glass, (0.9, 0.78, 0.45), panes * lit)
    return torch.where(s.normals[:, 2:].abs() > 0.5, s.colors * 0.55, glass)


def _foliage(s: Surface) -> Tensor:
    """Leaves: bright and dark tufts."""
    tufts = 0.3 * grain(s.points, 0.35, s.footprints) + 0.2 * grain(s.points, 0.9, s.footprints)
    return s.colors * (1 + tufts)[:, None]


def _car_body(s: Surface) -> Tensor:
    """Paint with wheels on the sides, white lights in front (+x) and red ones behind."""
    x, y, z = s.points.unbind(-1)
    length, width, height = s.half_sizes.unbind(-1)
    side = s.normals[:, 1].abs() > 0.7
    radius = ((x.abs() - 0.6 * length).square() + (z + height).square()).sqrt()
    wheels = band(radius, -1.0, 0.36, s.footprints) * side
    sill = band(z, -2.0, 0.12 - height, s.footprints) * (s.normals[:, 2].abs() < 0.7)
    lights = band(y.abs(), 0.55 * width, 0.95 * width, s.footprints) * band(
        z, 0.0, 0.6 * height, s.footprints
    )
    colors = mix(mix(s.colors, (0.12, 0.12, 0.13), sill), TYRE, wheels)
    colors = mix(colors, (1.0, 1.0, 0.9), lights * (s.normals[:, 0] > 0.7))
    return mix(colors, (0.85, 0.08, 0.06), lights * (s.normals[:, 0] < -0.7))


def _car_cabin(s: Surface) -> Tensor:
    """Windows all around between pillars; the roof has the car's colour."""
    x, _, z = s.points.unbind(-1)
    walls = s.normals[:, 2].abs() < 0.7
    pillars = band(x.abs(), 0.0, 0.06, s.footprints) * (s.normals[:, 1].abs() > 0.7)
    glass = band(z, -0.8 * s.half_sizes[:, 2], 0.7 * s.half_sizes[:, 2], s.footprints) * walls * (1 - pillars)
    return mix(s.colors, GLASS, glass)


def _planks(s: Surface) -> Tensor:
    """Colours of floor boards that run along y."""
    x, y, _ = s.points.unbind(-1)
    row = torch.floor(x / 0.16)
    board = torch.stack([row, torch.floor(y / 1.1 + 0.37 * row), torch.zeros_like(row)], -1)
    tone = 0.16 * grain(board, 1.0, s.footprints / 0.16)
    seams = stripes(x, 0.16, 0.0, 0.008, s.footprints)
    return s.colors * (1 + tone - 0.5 * seams)[:, None]


def _wallpaper(s: Surface) -> Tensor:
    """Upright stripes above a white skirting board."""
    x, y, z = s.points.unbind(-1)
    across = torch.where(s.normals[:, 0].abs() > s.normals[:, 1].abs(), y, x)
    colors = s.colors * (1 - 0.14 * stripes(across, 0.4, 0.0, 0.2, s.footprints))[:, None]
    return mix(colors, WHITE, band(z + s.half_sizes[:, 2], -1.0, 0.1, s.footprints))


def _checker(s: Surface) -> Tensor:
    """Squares of 0.2 m in the solid's colour and its complement."""
    x, y, z = (2 * stripes(c, 0.4, 0.0, 0.2, s.footprints) - 1 for c in s.points.unbind(-1))
    normals = s.normals.abs()
    flat = torch.where(normals[:, 2] > 0.7, x * y, torch.where(normals[:, 0] > 0.7, y * z, x * z))
    return torch.lerp(1 - s.colors, s.colors, (0.5 + 0.5 * flat)[:, None])


def _drawers(s: Surface) -> Tensor:
    """Fronts of 0.4 m with dark gaps and light handles on the upright faces."""
    x, y, z = s.points.unbind(-1)
    across = torch.where(s.normals[:, 0].abs() > s.normals[:, 1].abs(), y, x)
    height = z + s.half_sizes[:, 2]
    upright = (s.normals[:, 2].abs() < 0.7).float()
    gaps = torch.maximum(
        stripes(height, 0.4, 0.0, 0.02, s.footprints), stripes(across, 0.6, 0.0, 0.02, s.footprints)
    )
    handles = stripes(height, 0.4, 0.2, 0.23, s.footprints) * stripes(across, 0.6, 0.2, 0.4, s.footprints)
    return mix(mix(s.colors, (0.1, 0.08, 0.06), gaps * upright), WHITE, handles * upright)


PATTERNS: dict[int, Callable[[Surface], Tensor]] = {
    ROAD: _road,
    PAVING: _paving,
    GRASS: _grass,
    FACADE: _facade,
    FOLIAGE: _foliage,
    CAR_BODY: _car_body,
    CAR_CABIN: _car_cabin,
    PLANKS: _planks,
    WALLPAPER: _wallpaper,
    CHECKER: _checker,
    DRAWERS: _drawers,
}
"""How each pattern index is drawn; any other index is plain."""
