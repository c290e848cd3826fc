"""One PNG of labelled pictures in rows and columns."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

MARGIN = 6
HEADER = 18
SWATCH = 9
ABOUT = "renderpretrain sheet"
"""Names the text in the PNG that says which picture lies where, and what colours mean."""

LETTERS = 12
"""Pixels of the letters."""

WIDEST = 1600
"""Pixels that a line of pictures is wide at most, and so is a picture."""

BACKGROUND = (24, 24, 28)
INK = (225, 225, 225)


@dataclass(frozen=True)
class Line:
    """Pictures of one row that stand side by side.

    Attributes:
        row: What the row is called.
        pictures: From left to right, with their captions.
        starts: Whether the row begins with it.
        ends: Whether the row ends with it.
    """

    row: str
    pictures: tuple[tuple[str, Image.Image], ...]
    starts: bool
    ends: bool

    @property
    def captions(self) -> list[str]:
        """What stands above each picture."""
        names = [caption for caption, _ in self.pictures]
        return [f"{self.row}: {names[0]}", *names[1:]] if self.starts and self.row else names

    @property
    def height(self) -> int:
        """Pixels from its captions to what follows."""
        return max(image.height for _, image in self.pictures) + HEADER + MARGIN * (3 if self.ends else 1)


def save_sheet(
    path: Path,
    title: str,
    rows: list[tuple[str, list[tuple[str, Float[Tensor, "3 _ _"]]]]],
    *,
    height: int | Sequence[int] = 190,
    across: int = 4,
    legend: Mapping[str, Float[Tensor, "3"]] | None = None,
) -> Path:
    """Write a sheet, creating its folder; :func:`read_sheet` finds its pictures again.

    Args:
        path: The PNG.
        title: First line.
        rows: Label of each row, and its pictures with their captions; RGB in [0, 1].
        height: Pixels that pictures are scaled to, all or those of each row; a very wide one gets less.
        across: Pictures of a row that stand side by side at most; the others follow below.
        legend: What colours mean, below the title.
    """
    heights = [height] * len(rows) if isinstance(height, int) else height
    lines = [line for row, most in zip(rows, heights, strict=True) for line in _lines(*row, most, across)]
    font = ImageFont.load_default(LETTERS)
    widths = _column_widths(lines, font)
    alone = max((line.pictures[0][1].width for line in lines), default=0) + 2 * MARGIN
    width = max(sum(widths) + MARGIN * (len(widths) + 1), alone)
    marks = _marks(legend or {}, width, font)
    places: list[dict[str, object]] = []
    top = HEADER + (marks[-1][1] + HEADER if marks else 0)
    sheet = Image.new("RGB", (width, top + HEADER + sum(line.height for line in lines)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 2), title, INK, font=font)
    for left, at, name, color in marks:
        corners = (left, HEADER + at + 4, left + SWATCH, HEADER + at + 4 + SWATCH)
        draw.rectangle(corners, color, outline=INK)
        draw.text((left + SWATCH + 4, HEADER + at + 1), name, INK, font=font)
    for line in lines:
        left = MARGIN
        for caption, (name, picture), column in zip(line.captions, line.pictures, widths, strict=False):
            draw.text((left, top + 2), caption, INK, font=font)
            sheet.paste(picture, (left, top + HEADER))
            box = (left, top + HEADER, left + picture.width, top + HEADER + picture.height)
            places.append({"row": line.row, "caption": name, "box": box})
            left += column + MARGIN
        top += line.height
    path.parent.mkdir(parents=True, exist_ok=True)
    about = PngInfo()
    colors = {name: color for _, _, name, color in marks}
    about.add_text(ABOUT, json.dumps({"panels": places, "legend": colors}))
    sheet.save(path, pnginfo=about)
    return path


@dataclass(frozen=True)
class SheetPanel:
    """One picture of a sheet.

    Attributes:
        row: What its row is called.
        caption: What it shows; pictures of one row have different ones.
        picture: Its pixels, RGB.
    """

    row: str
    caption: str
    picture: Image.Image


@dataclass(frozen=True)
class Sheet:
    """What a PNG of pictures holds.

    Attributes:
        panels: Its pictures, row by row.
        legend: What colours mean, red, green and blue from 0 to 255.
    """

    panels: tuple[SheetPanel, ...]
    legend: Mapping[str, tuple[int, int, int]]


def read_sheet(path: Path) -> Sheet:
    """The pictures of a sheet; a PNG that does not say where it has some is one without words.

    Raises:
        OSError: If it is no picture.
        ValueError: If what it says of its pictures is damaged.
    """
    with Image.open(path) as file:
        whole = file.convert("RGB")
        said = getattr(file, "text", {}).get(ABOUT)
    if said is None:
        return Sheet((SheetPanel("", "", whole),), {})
    try:
        about = json.loads(said)
        panels = [_panel(whole, each) for each in about["panels"]]
        legend = {str(name): (int(r), int(g), int(b)) for name, (r, g, b) in about["legend"].items()}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected pictures by row, caption and box, got {said[:60]!r}") from error
    return Sheet(tuple(panels), legend)


def _panel(sheet: Image.Image, said: Mapping[str, Any]) -> SheetPanel:
    """A picture of a sheet, where the sheet says that it lies."""
    left, top, right, bottom = map(int, said["box"])
    return SheetPanel(str(said["row"]), str(said["caption"]), sheet.crop((left, top, right, bottom)))


def _lines(label: str, row: list[tuple[str, Tensor]], height: int, across: int) -> Iterator[Line]:
    """The pictures of a row in lines, as many side by side as there is room for."""
    pictures = [(caption, _image(tensor, height)) for caption, tensor in row]
    widest = max(picture.width for _, picture in pictures)
    count = max(1, min(across, (WIDEST + MARGIN) // (widest + MARGIN)))
    for start in range(0, len(pictures), count):
        some = tuple(pictures[start : start + count])
        yield Line(label, some, start == 0, start + count >= len(pictures))


def _column_widths(lines: Sequence[Line], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[int]:
    """Pixels of the widest picture or caption of each column; what stands alone in its line has no column."""
    widths = [0] * max(len(line.pictures) for line in lines)
    for line in (line for line in lines if len(line.pictures) > 1):
        for column, (caption, (_, picture)) in enumerate(zip(line.captions, line.pictures, strict=True)):
            widths[column] = max(widths[column], picture.width, math.ceil(font.getlength(caption)))
    return widths


def _marks(
    legend: Mapping[str, Tensor], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[tuple[int, int, str, tuple[int, ...]]]:
    """Left edge, line's top, name and colour of every entry, in lines no longer than the sheet."""
    marks, left, line = [], MARGIN, 0
    for name, color in legend.items():
        length = SWATCH + 4 + round(font.getlength(name)) + 2 * MARGIN
        if left > MARGIN and left + length > width:
            left, line = MARGIN, line + HEADER
        marks.append((left, line, name, tuple((color * 255 + 0.5).int().tolist())))
        left += length
    return marks


def _image(tensor: Tensor, height: int) -> Image.Image:
    """A tensor as a picture so high, unless it is too wide then, its pixels kept square and sharp."""
    array = (tensor.detach().cpu().clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(array))
    factor = min(height / image.height, WIDEST / image.width)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST)
