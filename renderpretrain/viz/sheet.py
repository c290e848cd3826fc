"""One PNG of labelled pictures in rows and columns."""

import json
from collections.abc import Mapping
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

BACKGROUND = (24, 24, 28)
INK = (225, 225, 225)


def save_sheet(
    path: Path,
    title: str,
    rows: list[tuple[str, list[tuple[str, Float[Tensor, "3 H W"]]]]],
    *,
    height: int = 150,
    legend: Mapping[str, Float[Tensor, "3"]] | None = None,
) -> Path:
    """Write a sheet, creating its folder; :func:`read_sheet` finds its pictures again.

    Args:
        path: The PNG.
        title: First line.
        rows: Label of each row, and its pictures with their captions; RGB in [0, 1].
        height: Pixels every picture is scaled to.
        legend: What colours mean, below the title.
    """
    pictures = [[(caption, _image(tensor, height)) for caption, tensor in row] for _, row in rows]
    columns = max(len(row) for row in pictures)
    widths = [max(row[c][1].width for row in pictures if c < len(row)) for c in range(columns)]
    width = sum(widths) + MARGIN * (columns + 1)
    font = ImageFont.load_default()
    marks = _marks(legend or {}, width, font)
    places: list[dict[str, object]] = []
    top = HEADER + (marks[-1][1] + HEADER if marks else 0)
    sheet = Image.new("RGB", (width, top + HEADER + len(rows) * (height + HEADER + MARGIN)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 4), title, INK, font=font)
    for left, line, name, color in marks:
        corners = (left, HEADER + line + 4, left + SWATCH, HEADER + line + 4 + SWATCH)
        draw.rectangle(corners, color, outline=INK)
        draw.text((left + SWATCH + 4, HEADER + line + 3), name, INK, font=font)
    for (label, _), row in zip(rows, pictures, strict=True):
        left = MARGIN
        for column, (caption, picture) in enumerate(row):
            text = f"{label}: {caption}" if column == 0 and label else caption
            draw.text((left, top + 3), text, INK, font=font)
            sheet.paste(picture, (left, top + HEADER))
            box = (left, top + HEADER, left + picture.width, top + HEADER + picture.height)
            places.append({"row": label, "caption": caption, "box": box})
            left += widths[column] + MARGIN
        top += height + HEADER + MARGIN
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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected pictures by row, caption and box, got {said[:60]!r}") from error
    return Sheet(tuple(panels), legend)


def _panel(sheet: Image.Image, said: Mapping[str, Any]) -> SheetPanel:
    """A picture of a sheet, where the sheet says that it lies."""
    left, top, right, bottom = map(int, said["box"])
    return SheetPanel(str(said["row"]), str(said["caption"]), sheet.crop((left, top, right, bottom)))


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
    """A tensor as a picture of the given height, its pixels kept square and sharp."""
    array = (tensor.detach().cpu().clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(array))
    return image.resize(
        (max(1, round(image.width * height / image.height)), height), Image.Resampling.NEAREST
    )
