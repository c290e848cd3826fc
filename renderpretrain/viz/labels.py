"""Words in a picture: legible on whatever is below them, inside of it, and none on another."""

from collections.abc import Sequence

from PIL import ImageDraw, ImageFont

from renderpretrain.viz.sheet import BACKGROUND

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Color = tuple[int, int, int]

RIM = 2
"""Pixels of a dark rim around letters."""


class Labels:
    """Writes words on a picture, each at the first of some places where no other stands.

    Args:
        draw: Of the picture.
        size: Its width and height, pixels.
        font: Of all words.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, size: tuple[int, int], font: Font) -> None:
        self.draw, self.size, self.font = draw, size, font
        self.taken: list[tuple[float, float, float, float]] = []

    def write(self, text: str, places: Sequence[tuple[int | float, int | float]], color: Color) -> None:
        """Write a text with its middle at the first place that is free, or below the first one.

        Args:
            text: What is written.
            places: Pixels, the preferred first; moved into the picture. Without any nothing is written.
            color: Of the letters.
        """
        if not places:
            return
        left, top, right, bottom = self.draw.textbbox((0, 0), text, font=self.font, anchor="mm")
        half = ((right - left) / 2 + RIM, (bottom - top) / 2 + RIM)
        step = 2 * half[1]
        below = [(places[0][0], places[0][1] + k * step * side) for k in range(1, 40) for side in (1, -1)]
        for x, y in (*places, *below):
            x, y = (min(max(v, h), s - h) for v, h, s in zip((x, y), half, self.size, strict=True))
            box = (x - half[0], y - half[1], x + half[0], y + half[1])
            if not any(_meet(box, other) for other in self.taken):
                break
        self.taken.append(box)
        self.draw.text((x, y), text, color, self.font, "mm", stroke_width=RIM, stroke_fill=BACKGROUND)


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two rectangles overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
