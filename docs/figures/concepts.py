"""Draws the figures of ``concepts.md`` as SVG: ``python docs/figures/concepts.py``.

Lines and words take the color of the text around them, as in ``draw.py``.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER))
from draw import HEAD, HOME, MADE, STYLE  # noqa: E402

INK, SOFT, TEAL, ORANGE = "currentColor", "#8b949e99", HOME, MADE
WIDTH = 640

Point = tuple[float, float]


def line(a: Point, b: Point, color: str = INK, width: float = 1.5, dash: str = "") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'stroke="{color}" stroke-width="{width}"{dashed}/>'
    )


def path(points: Sequence[Point], color: str, width: float = 2.5) -> str:
    """A line through many points."""
    along = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{along}" fill="none" stroke="{color}" stroke-width="{width}"/>'


def box(x: float, y: float, width: float, height: float, fill: str = "none", color: str = INK) -> str:
    """A rectangle by its upper left corner."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}" stroke="{color}" stroke-width="1"/>'
    )


def dot(at: Point, color: str = INK, radius: float = 3) -> str:
    """A filled circle."""
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{color}" stroke="none"/>'


def words(x: float, y: float, text: str, color: str = INK, anchor: str = "start") -> str:
    """A line of text; code in it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" stroke="none" text-anchor="{anchor}">{text}</text>'


def drawing(title: str, height: int, parts: Sequence[str]) -> str:
    """The parts as a file, with a title for those who do not see it."""
    head = HEAD.format(width=WIDTH, height=height)
    return "\n".join([head, STYLE, f"<title>{title}</title>", *parts, "</svg>\n"])


def voxels() -> str:
    """A box of voxels from above, their centres, and those of an encoder with stride 2."""
    size, left, top, columns, rows = 38, 66, 40, 8, 4
    right, bottom = left + columns * size, top + rows * size
    parts = [box(left + i * size, top + j * size, size, size) for j in range(rows) for i in range(columns)]
    parts += [
        dot((left + (i + 0.5) * size, top + (j + 0.5) * size)) for j in range(rows) for i in range(columns)
    ]
    coarse = [(left + (2 * i + 1) * size, top + (2 * j + 1) * size) for j in range(2) for i in range(4)]
    parts += [dot(at, ORANGE, 6) for at in coarse]
    parts += [
        words(left - 8, bottom + 5, "lower", anchor="end"),
        words(right + 8, top + 5, "upper"),
        words(right + 20, top + 46, "a voxel's value is at its centre:"),
        words(right + 20, top + 66, "lower + (i + 0.5) * size"),
        words(right + 20, top + 106, "behind an encoder of stride 2:", ORANGE),
        words(right + 20, top + 126, "encoder.output_grid(grid)", ORANGE),
        words(left + size / 2, top - 12, "voxel_size", anchor="middle"),
        line((left, top - 4), (left + size, top - 4), TEAL, 3),
        words((left + right) / 2, bottom + 24, "point_cloud_range: from edge to edge", TEAL, "middle"),
        line((left, bottom + 6), (right, bottom + 6), TEAL, 3),
    ]
    return drawing("A grid of voxels with the centres that hold its values", bottom + 36, parts)


def rays() -> str:
    """A camera, a ray through the centre of a pixel, and its two depths."""
    eye, pixel, surface = (60, 110), (150, 86), (450, 6)
    low = eye[1] + 70
    parts = [line(eye, (620, eye[1]), SOFT, 1.5, "6 5")]
    parts += [box(pixel[0] - 5, pixel[1] + 24 * k - 12, 10, 24) for k in range(-1, 3)]
    parts += [
        line(eye, surface, ORANGE, 2.5),
        line((surface[0], surface[1] - 20), (surface[0], surface[1] + 36), INK, 4),
        dot(eye),
        dot(pixel, TEAL, 4),
        dot(surface, ORANGE, 5),
        line((eye[0], low), (surface[0], low), TEAL, 2),
        line((surface[0], surface[1] + 36), (surface[0], low), SOFT, 1.5, "4 4"),
        line(eye, (eye[0], low), SOFT, 1.5, "4 4"),
        words((eye[0] + surface[0]) / 2, low + 20, "z_depth: along the optical axis", TEAL, "middle"),
        words(210, 28, "depth = t: metres along the unit ray", ORANGE, "middle"),
        words(eye[0] - 8, eye[1] + 5, "origin", anchor="end"),
        words(pixel[0] + 14, eye[1] + 36, "pixels, centres at +0.5", TEAL),
        words(surface[0] + 14, surface[1] + 10, "hit: measured here"),
        words(618, eye[1] - 8, "+z", anchor="end"),
    ]
    parts = ['<g transform="translate(0 30)">', *parts, "</g>"]
    return drawing("A ray through a pixel's centre, with its depth and its z-depth", 240, parts)


def masks() -> str:
    """What the encoder sees, what is hidden, and what is rendered."""
    size, top = 26, 44
    hidden = {(1, 0), (2, 0), (1, 1), (2, 1), (5, 1), (6, 1), (5, 2), (6, 2), (0, 3), (1, 3)}
    seen = {(0, 1), (0, 2), (3, 2), (4, 2), (3, 3), (4, 3), (7, 0), (7, 1), (6, 0), (2, 3), (5, 0)}
    parts = []
    for number, title in enumerate(("candidates", "mask: True = hidden", "what the encoder sees")):
        left = 10 + number * 216
        parts.append(words(left, top - 14, title))
        for i in range(8):
            for j in range(4):
                place = (i, j)
                shown = place in (seen | hidden, hidden, seen)[number]
                fill = (TEAL, ORANGE, TEAL)[number] if shown else "none"
                parts.append(box(left + i * size - i * 1.5, top + j * size, size - 1.5, size, fill, SOFT))
    bottom = top + 4 * size
    parts += [
        words(10, bottom + 26, "Targets are the rays of the whole scene, hidden or not.", INK),
        words(10, bottom + 48, "valid, hit: True = counts in a loss. With nothing valid a loss is 0.", INK),
    ]
    return drawing("Candidates, a mask, and what is left for the encoder", bottom + 60, parts)


def curve(of: Callable[[float], float], top: float, height: float, least: float, most: float) -> list[Point]:
    """A function of metres along a ray, from 0 to 10, as points of the drawing."""
    points = [k / 20 for k in range(201)]
    return [(70 + 50 * t, top + height * (1 - (of(t) - least) / (most - least))) for t in points]


def neus() -> str:
    """Distance, opacity and weights along a ray that meets a wall at 6 m, computed as the operators do."""
    sharpness, step, wall = 4.0, 0.05, 6.0

    def sdf(t: float) -> float:
        return wall - t

    def share(t: float) -> float:
        return 1 / (1 + math.exp(-sharpness * sdf(t)))

    def alpha(t: float) -> float:
        before, after = share(t - step / 2), share(t + step / 2)
        return max((before - after) / before, 0.0)

    weights, left = {}, 1.0
    for k in range(201):
        weights[k] = left * alpha(k / 20)
        left *= 1 - alpha(k / 20)

    def weight(t: float) -> float:
        return weights[round(20 * t)]

    rows = [
        ("sdf", "metres to the surface, positive before it", sdf, -4, 6, INK),
        ("alpha", "share of the light that an interval stops", alpha, 0, 0.2, TEAL),
        ("weight", "alpha times what is left: what the ray sees", weight, 0, 0.06, ORANGE),
    ]
    parts, top = [], 26.0
    for name, meaning, of, least, most, color in rows:
        zero = top + 60 * (1 - (0 - least) / (most - least))
        parts += [line((70, zero), (570, zero), SOFT, 1.5), path(curve(of, top, 60, least, most), color)]
        parts += [words(62, zero + 4, name, color, "end"), words(76, top - 6, meaning, color)]
        top += 96
    parts += [
        line((370, 20), (370, top - 30), SOFT, 1.5, "5 5"),
        words(370, top - 12, "the wall, 6 m", anchor="middle"),
        words(570, top - 12, "t", anchor="end"),
    ]
    return drawing("Signed distance, alpha and weight along a ray", int(top), parts)


FIGURES = {f"concept_{draw.__name__}": draw for draw in (voxels, rays, masks, neus)}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw())
