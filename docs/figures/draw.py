"""Draws the figures of the methods as SVG: ``python docs/figures/draw.py``.

Lines and words take the color of the text around them, so that they can be read on light and dark pages.
"""

import math
import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" class="drawn" role="img" '
    'font-family="system-ui, sans-serif" font-size="13" fill="none" stroke-width="1.4" '
    'stroke-linejoin="round" stroke-linecap="round" color="#24292f">'
)
STYLE = "<style>@media (prefers-color-scheme: dark) {svg.drawn {color: #d5d9e0}}</style>"
"""For a figure that is shown as a picture; on the site it is part of the page."""

HOME, SEEN, MADE, LOSS = "#0b9a8d", "#4a7fd4", "#d9822b", "#c8466b"
"""Colors of what is taken home, of what sensors saw, of what is rendered, and of what is compared."""


class Figure:
    """A drawing of a width and a height in pixels; each method adds something to it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height, self.parts = width, height, []

    def add(self, part: str) -> None:
        """Put a piece of SVG on top."""
        self.parts.append(part)

    def text(self, x: float, y: float, words: str, color: str = "currentColor", **style: object) -> None:
        """Words, a line each, centred at a place; ``anchor``, ``size`` and ``weight`` change that."""
        told = {"text-anchor": style.get("anchor", "middle"), "font-size": style.get("size", 13)}
        told["font-weight"] = style.get("weight", 400)
        names = " ".join(f'{name}="{value}"' for name, value in told.items())
        for number, line in enumerate(words.split("\n")):
            self.add(
                f'<text x="{x}" y="{y + 16 * number}" {names} fill="{color}" stroke="none">{line}</text>'
            )

    def box(self, x: float, y: float, width: float, height: float, words: str, color: str) -> None:
        """A part of the method, a network or a step."""
        self.add(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" stroke="{color}" '
            f'fill="{color}" fill-opacity=".16"/>'
        )
        lines = words.count("\n") + 1
        self.text(x + width / 2, y + height / 2 + 5 - 8 * (lines - 1), words)

    def arrow(self, *places: tuple[float, float], color: str = "currentColor", dashed: bool = False) -> None:
        """A line through some places that ends in a head."""
        path = " L".join(f"{x} {y}" for x, y in places)
        (x0, y0), (x1, y1) = places[-2:]
        turn = math.degrees(math.atan2(y1 - y0, x1 - x0))
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        self.add(f'<path d="M{path}" stroke="{color}"{dash}/>')
        place = f"translate({x1} {y1}) rotate({turn:.1f})"
        self.add(f'<path d="M-7 -4 0 0 -7 4" transform="{place}" stroke="{color}"/>')

    def cells(
        self, x: float, y: float, columns: int, rows: int, size: float, fills: dict[tuple[int, int], str]
    ) -> None:
        """A grid of voxels or patches; ``fills`` has a color, ``hidden`` or a letter for some of them."""
        for row in range(rows):
            for column in range(columns):
                fill, left, top = fills.get((column, row)), x + column * size, y + row * size
                color = fill if fill and fill.startswith("#") else "none"
                self.add(
                    f'<rect x="{left}" y="{top}" width="{size}" height="{size}" stroke="currentColor" '
                    f'stroke-opacity=".3" fill="{color}" fill-opacity=".75"/>'
                )
                if fill == "hidden":
                    far = size - 6
                    cross = f"M{left + 3} {top + 3}l{far} {far}m0 {-far}l{-far} {far}"
                    self.add(f'<path d="{cross}" stroke="currentColor" stroke-opacity=".45"/>')
                elif fill and color == "none":
                    self.text(left + size / 2, top + size / 2 + 4, fill, LOSS, size=11, weight=700)

    def volume(self, x: float, y: float, size: float, color: str, steps: int = 4) -> None:
        """A cube of voxels, seen from the side."""
        lean = size * 0.35
        for k in range(steps + 1):
            at = size * k / steps
            back = lean * k / steps
            lines = f"M{x + at} {y}v{size}M{x} {y + at}h{size}M{x + at} {y}l{lean} {-lean}"
            lines += f"M{x + size} {y + at}l{lean} {-lean}M{x + back} {y - back}h{size}M{x + size + back} "
            lines += f"{y - back}v{size}"
            self.add(f'<path d="{lines}" stroke="{color}" stroke-opacity=".8"/>')
        self.add(f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="{color}" fill-opacity=".14"/>')

    def ray(
        self, start: tuple[float, float], end: tuple[float, float], surface: float, number: int = 13
    ) -> None:
        """A ray with its samples, each as large as its weight beside a surface at a share of its length."""
        (x0, y0), (x1, y1) = start, end
        self.add(f'<path d="M{x0} {y0}L{x1} {y1}" stroke="{MADE}" stroke-opacity=".8"/>')
        places = [(k + 0.5) / number for k in range(number)]
        distances = [surface - place for place in places]
        for place, weight in zip(places, neus_weights(distances, 25.0), strict=True):
            self.add(
                f'<circle cx="{x0 + (x1 - x0) * place:.1f}" cy="{y0 + (y1 - y0) * place:.1f}" '
                f'r="{1.6 + 6 * weight:.1f}" fill="{MADE}"/>'
            )

    def svg(self) -> str:
        """The whole drawing as a file of SVG."""
        head = HEAD.format(width=self.width, height=self.height)
        return "\n".join([head, STYLE, *self.parts, "</svg>\n"])


def neus_weights(distances: list[float], sharpness: float) -> list[float]:
    """What each interval along a ray is worth, from signed distances at its samples (NeuS, Eq. 13)."""
    inside = [1 / (1 + math.exp(-sharpness * distance)) for distance in distances]
    weights, left = [], 1.0
    for near, far in zip(inside, [*inside[1:], inside[-1]], strict=True):
        alpha = max((near - far) / near, 0.0)
        weights.append(left * alpha)
        left *= 1 - alpha
    return weights


def street(figure: Figure, x: float, y: float, size: float, hidden: float, instead: str = "hidden") -> None:
    """Voxels of a street from the side, a share of those with returns hidden."""
    occupied = [(c, 6) for c in range(9)] + [(c, r) for c in (0, 8) for r in range(1, 6)]
    occupied += [(3, 5), (4, 5), (5, 5), (4, 4)]
    draw = random.Random(3)
    draw.shuffle(occupied)
    count = round(hidden * len(occupied))
    fills = {place: instead if number < count else SEEN for number, place in enumerate(occupied)}
    figure.cells(x, y, 9, 7, size, fills)


def picture(figure: Figure, x: float, y: float, size: float, hidden: set[tuple[int, int]]) -> None:
    """A picture in patches: sky, houses, road; some patches hidden."""
    colors = {row: ("#8fb8e8", "#8fb8e8", "#b08968", "#8d9299", "#8d9299")[row] for row in range(5)}
    fills = {(c, r): colors[r] if 2 <= c <= 5 or r != 1 else "#b08968" for c in range(8) for r in range(5)}
    figure.cells(x, y, 8, 5, size, fills | dict.fromkeys(hidden, "hidden"))


def rendered(figure: Figure, x: float, words: str, y: float = 60) -> None:
    """The volume with rays through it, and what of them is compared with what sensors saw."""
    figure.volume(x, y + 40, 100, MADE, 5)
    figure.ray((x - 14, y + 128), (x + 128, y + 52), 0.72)
    figure.ray((x - 14, y + 128), (x + 132, y + 104), 0.55)
    figure.text(x + 64, y + 170, words)


def compared(figure: Figure, x: float, y: float, words: str) -> None:
    """The loss at the end."""
    figure.box(x, y, 134, 30 + 16 * words.count("\n"), words, LOSS)


PATCHES = {(1, 1), (2, 3), (4, 0), (6, 2), (7, 4), (3, 2), (5, 4), (0, 3), (6, 0), (2, 0), (4, 3), (7, 1)}


def unipad() -> Figure:
    """Both branches, one volume, rays."""
    figure = Figure(910, 330)
    street(figure, 20, 30, 17, 0.8)
    figure.text(96, 168, "voxels, 80 % of the\noccupied blocks dropped")
    picture(figure, 20, 206, 18, PATCHES)
    figure.text(92, 314, "patches, 30 % hidden")
    figure.arrow((178, 90), (212, 90))
    figure.box(214, 62, 112, 56, "sparse encoder\nand neck", HOME)
    figure.arrow((170, 250), (212, 250))
    figure.box(214, 222, 112, 56, "masked\nimage network", HOME)
    figure.arrow((328, 250), (352, 250))
    figure.box(354, 222, 86, 56, "lift by\ndepth", MADE)
    figure.arrow((328, 90), (397, 90), (397, 138))
    figure.arrow((397, 220), (397, 174))
    figure.add('<circle cx="397" cy="156" r="15" stroke="currentColor"/>')
    figure.add('<path d="M389 156h16M397 148v16" stroke="currentColor"/>')
    figure.arrow((414, 156), (442, 156))
    figure.box(444, 132, 76, 48, "3D conv", MADE)
    figure.arrow((522, 156), (556, 156))
    rendered(figure, 574, "signed distance and\ncolour along rays", 46)
    figure.arrow((716, 130), (752, 130))
    compared(figure, 756, 94, "rendered depth\nand colour\nbeside measured")
    figure.text(270, 26, "taken home", HOME, weight=600)
    return figure


def ponder() -> Figure:
    """Hidden voxels stay as a token."""
    figure = Figure(910, 240)
    street(figure, 20, 34, 18, 0.8, "T")
    figure.text(100, 184, "hidden voxels stay:\na learned token T for\ntheir features")
    figure.arrow((186, 98), (222, 98))
    figure.box(224, 66, 120, 64, "sparse U-Net", HOME)
    figure.text(284, 56, "taken home", HOME, weight=600)
    figure.arrow((346, 98), (382, 98))
    figure.box(384, 66, 128, 64, "average into a\ncoarse volume,\n3D conv", MADE)
    figure.arrow((514, 98), (548, 98))
    rendered(figure, 568, "rays from the cameras\nto the returns", 0)
    figure.arrow((712, 86), (748, 86))
    compared(figure, 752, 48, "depth; colour,\nembedding of the\nclass on request")
    return figure


def ns_mae() -> Figure:
    """Pictures along bins, and the view from above."""
    figure = Figure(910, 340)
    picture(figure, 20, 34, 18, PATCHES)
    figure.text(92, 142, "patches, 50 % replaced")
    street(figure, 20, 188, 15, 0.9)
    figure.text(92, 310, "voxels, 90 % dropped")
    figure.arrow((170, 78), (206, 78))
    figure.box(208, 50, 108, 56, "image network\nand neck", HOME)
    figure.arrow((162, 240), (206, 240))
    figure.box(208, 212, 108, 56, "sparse encoder", HOME)
    figure.text(262, 40, "taken home", HOME, weight=600)
    figure.arrow((318, 78), (352, 78))
    figure.box(354, 46, 120, 64, "frustum of\ndepth bins", HOME)
    figure.arrow((476, 78), (520, 78))
    for k, weight in enumerate(neus_weights([0.62 - k / 9 for k in range(9)], 25.0)):
        place = f'x="{524 + 22 * k}" y="52" width="18" height="52"'
        figure.add(f'<rect {place} fill="{MADE}" fill-opacity="{0.08 + weight:.2f}" stroke="{MADE}"/>')
    figure.text(620, 128, "each pixel rendered along its bins")
    figure.arrow((724, 78), (752, 78))
    compared(figure, 756, 48, "a small picture,\nits depth")
    figure.arrow((414, 112), (414, 196))
    figure.arrow((318, 240), (352, 240))
    figure.box(354, 198, 120, 84, "both maps from\nabove to slices\nof columns", MADE)
    figure.arrow((476, 240), (560, 240))
    figure.volume(584, 214, 76, MADE, 4)
    for k in range(3):
        figure.arrow((604 + 24 * k, 168), (604 + 24 * k, 268 - 10 * k), color=MADE)
    figure.text(636, 316, "each column rendered from above")
    figure.arrow((716, 240), (752, 240))
    compared(figure, 756, 212, "the height of the\ntopmost return")
    return figure


def uniscene() -> Figure:
    """Images to occupancy; labels from the beams of several frames."""
    figure = Figure(910, 330)
    stripes = {(c, r) for c in range(8) for r in range(5) if c % 3 == 1 and r % 2}
    picture(figure, 20, 36, 18, stripes | {(c, r) for c in range(8) for r in (1,) if c % 3 == 1})
    figure.text(92, 146, "squares hidden\nin some steps")
    figure.arrow((170, 80), (206, 80))
    figure.box(208, 50, 104, 60, "ResNet\nand pyramid", HOME)
    figure.arrow((314, 80), (346, 80))
    figure.box(348, 50, 126, 60, "view from above,\nwith a memory", HOME)
    figure.text(340, 40, "taken home", HOME, weight=600)
    figure.arrow((476, 80), (510, 80))
    figure.box(512, 50, 96, 60, "3D decoder", MADE)
    figure.arrow((610, 80), (650, 80))
    figure.volume(664, 52, 76, MADE, 4)
    figure.text(716, 146, "occupied or not")
    figure.arrow((746, 160), (746, 192))
    compared(figure, 688, 196, "focal loss where\na beam knows")
    fills = {(c, 5): SEEN for c in range(14)} | {(9, 4): SEEN, (9, 3): SEEN, (3, 4): SEEN}
    figure.cells(250, 200, 14, 6, 17, fills)
    for x, end in ((258, (402, 262)), (258, (310, 276)), (275, (470, 296)), (292, (402, 276))):
        figure.add(f'<path d="M{x} 204L{end[0]} {end[1]}" stroke="{SEEN}"/>')
        figure.add(f'<circle cx="{x}" cy="204" r="4" fill="{SEEN}"/>')
    figure.text(368, 322, "beams of five frames: what they met, and what they passed")
    figure.arrow((492, 230), (684, 220))
    return figure


def render_distill() -> Figure:
    """Rendering as in UniPAD, and what features tell at returns."""
    figure = Figure(910, 330)
    street(figure, 20, 34, 17, 0.8)
    figure.text(96, 172, "most is hidden")
    street(figure, 20, 206, 14, 0.0)
    figure.text(84, 322, "the whole sweep")
    figure.arrow((178, 92), (214, 92))
    figure.box(216, 62, 108, 60, "encoders", HOME)
    figure.text(270, 50, "taken home", HOME, weight=600)
    figure.arrow((326, 82), (470, 82))
    rendered(figure, 490, "rendered, as in UniPAD", 0)
    figure.arrow((632, 82), (752, 82))
    compared(figure, 756, 60, "depth, colour")
    figure.arrow((270, 124), (270, 232))
    figure.box(216, 234, 108, 56, "slow copy", SEEN)
    figure.arrow((150, 256), (212, 256))
    figure.text(280, 178, "weights follow", anchor="start")
    figure.arrow((326, 112), (396, 112), (396, 216), (432, 216))
    figure.box(434, 194, 128, 46, "features at returns", MADE)
    figure.arrow((564, 216), (752, 196))
    figure.arrow((564, 222), (752, 246))
    compared(figure, 756, 164, "how flat, high and\nbright it is around")
    figure.arrow((326, 268), (752, 268), dashed=True)
    compared(figure, 756, 234, "what the copy says\n(on request, and\nwith cameras)")
    return figure


def neus() -> Figure:
    """Signed distance, opacity and weight along one ray that meets a surface."""
    figure = Figure(720, 300)
    left, width, number, surface = 60, 620, 200, 0.6
    places = [k / (number - 1) for k in range(number)]
    distances = [surface - place for place in places]
    figure.add(
        f'<path d="M{left} 150H{left + width}M{left} 30V270" stroke="currentColor" stroke-opacity=".6"/>'
    )
    x = left + width * surface
    figure.add(f'<path d="M{x} 30V270" stroke="currentColor" stroke-opacity=".5" stroke-dasharray="4 4"/>')
    opacity = [1 - 1 / (1 + math.exp(-25 * d)) for d in distances]
    weights = neus_weights(distances, 25.0)
    curves = {SEEN: [d * 150 for d in distances], HOME: [100 * v for v in opacity]}
    curves[MADE] = [100 * weight / max(weights) for weight in weights]
    for color, values in curves.items():
        line = " L".join(f"{left + width * p:.1f} {150 - v:.1f}" for p, v in zip(places, values, strict=True))
        figure.add(f'<path d="M{line}" stroke="{color}" stroke-width="2"/>')
    figure.text(left + 96, 60, "signed distance", SEEN, weight=600)
    figure.text(left + width - 60, 40, "opacity so far", HOME, weight=600)
    figure.text(x - 90, 120, "weight", MADE, weight=600)
    figure.text(x, 290, "surface")
    figure.text(left + width - 20, 170, "t")
    return figure


FIGURES = {draw.__name__: draw for draw in (unipad, ponder, ns_mae, uniscene, render_distill, neus)}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg())
