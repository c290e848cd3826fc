"""One PNG of labelled pictures in rows and columns."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 6
HEADER = 18
SWATCH = 9
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
    """Write a sheet, creating its folder.

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
            left += widths[column] + MARGIN
        top += height + HEADER + MARGIN
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


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
