"""One picture of a recording: what its sensors saw of one moment, and from above where everything is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from renderpretrain.viz.boxes import box_outline
from renderpretrain.viz.colors import DEPTH_STOPS, depth_colors, ramp
from renderpretrain.viz.labels import Font, Labels
from renderpretrain.viz.sheet import BACKGROUND, INK, MARGIN

PICTURE_WIDTH, PICTURE_HEIGHT, ACROSS = 760, 570, 3
"""Pixels of a picture's width and height at most, and pictures side by side; one alone is twice as wide."""

ABOVE = 900
"""Pixels of the view from above, either side."""

LINE = 24
"""Pixels of a line of text."""

CAMERA = (90, 220, 255)
"""Colour of cameras from above."""

REACHES = (0, 40, 75)
"""Pixels from a camera to the two ends of the line that says where it looks, and to its name."""

BOXES_WITHIN = 80.0
"""Metres from the sensor within which the view from above has all boxes."""

SWEEPS_WITHIN = 25.0
"""Metres around the sensor within which neighbouring sweeps are drawn on each other: a fault of half a metre
is nine pixels."""

AGE_STOPS = (
    (0.96, 0.35, 0.25),
    (0.98, 0.80, 0.25),
    (0.95, 0.95, 0.95),
    (0.35, 0.80, 0.95),
    (0.35, 0.45, 1.0),
)
"""Earlier is red, this moment white, later blue."""

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
"""Metres that scales may be labelled with."""


@dataclass(frozen=True)
class FromAbove:
    """What is drawn from above, in the world of one moment: x to the right, y up, metres.

    Attributes:
        points: World points; the higher the brighter.
        boxes: Centre x, y, length, width and yaw of each box.
        box_colors: RGB in [0, 1] of each box.
        classes: What these colours mean.
        track: Places of the recording's sensor, in order of time.
        places: Named cameras: where they are, and where they look, x and y.
        origin: Where the sensor is.
        sweeps: Upright points of neighbouring sweeps, put here by their poses, by their names in order of
            time; drawn in a picture of their own.
    """

    points: Float[Tensor, "P 3"]
    boxes: Float[Tensor, "K 5"] = field(default_factory=lambda: torch.zeros(0, 5))
    box_colors: Float[Tensor, "K 3"] = field(default_factory=lambda: torch.zeros(0, 3))
    classes: Mapping[str, Float[Tensor, "3"]] = field(default_factory=dict)
    track: Float[Tensor, "T 2"] = field(default_factory=lambda: torch.zeros(0, 2))
    places: Mapping[str, tuple[Float[Tensor, "2"], Float[Tensor, "2"]]] = field(default_factory=dict)
    origin: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    sweeps: Mapping[str, Float[Tensor, "Q 3"]] = field(default_factory=dict)


def save_recording_picture(
    path: Path,
    title: str,
    pictures: Sequence[tuple[str, Float[Tensor, "3 H W"]]],
    above: FromAbove | None,
    *,
    distances: tuple[float, float] | None = None,
    across: int = ACROSS,
) -> Path:
    """Write a sheet of pictures, the view from above and the scales of both, creating its folder.

    Args:
        path: The PNG.
        title: First line.
        pictures: With their captions, RGB in [0, 1], each in its own proportions.
        above: The view from above; ``None`` leaves it out.
        distances: Metres that the brightest and the darkest colour of points stand for.
        across: Pictures side by side, at most.
    """
    font = ImageFont.load_default(16)
    width = PICTURE_WIDTH * (2 if len(pictures) == 1 else 1)
    tiles = [_tile(caption, tensor, font, width) for caption, tensor in pictures]
    rows = [tiles[k : k + across] for k in range(0, len(tiles), across)]
    parts = [_line(title, font)]
    if distances is not None:
        parts.append(_bar(*distances, font))
    parts += [_beside(row) for row in rows]
    if above is not None and above.classes:
        parts.append(_legend(above.classes, font))
    if above is not None:
        overlaid = [_overlaid(above, font)] if len(above.sweeps) > 1 else []
        parts.append(_beside([_from_above(above, font), *overlaid]))
    width = max(part.width for part in parts) + 2 * MARGIN
    sheet = Image.new("RGB", (width, sum(part.height + MARGIN for part in parts) + MARGIN), BACKGROUND)
    top = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN, top))
        top += part.height + MARGIN
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _line(text: str, font: Font) -> Image.Image:
    """A line of text."""
    line = Image.new("RGB", (max(1, math.ceil(font.getlength(text))), LINE), BACKGROUND)
    ImageDraw.Draw(line).text((0, 2), text, INK, font=font)
    return line


def _tile(caption: str, tensor: Tensor, font: Font, width: int) -> Image.Image:
    """A picture below its caption, so wide unless it is very high."""
    array = (tensor.detach().cpu().clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(array))
    factor = min(width / image.width, PICTURE_HEIGHT / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    tile = Image.new("RGB", (max(size[0], math.ceil(font.getlength(caption))), size[1] + LINE), BACKGROUND)
    tile.paste(image.resize(size, Image.Resampling.BILINEAR), (0, LINE))
    ImageDraw.Draw(tile).text((0, 2), caption, INK, font=font)
    return tile


def _beside(tiles: Sequence[Image.Image]) -> Image.Image:
    """Pictures side by side."""
    width = sum(tile.width + MARGIN for tile in tiles) - MARGIN
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), BACKGROUND)
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width + MARGIN
    return row


def _bar(near: float, far: float, font: Font) -> Image.Image:
    """The colours of distances, with metres below them."""
    width, left = PICTURE_WIDTH - 120, 120
    shades = torch.exp(torch.linspace(math.log(near), math.log(far), width))[None].expand(16, -1)
    colors = depth_colors(shades, torch.ones_like(shades).bool(), near=near, far=far)
    bar = Image.new("RGB", (PICTURE_WIDTH + 40, 16 + LINE), BACKGROUND)
    bar.paste(Image.fromarray((colors * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()), (left, 0))
    draw = ImageDraw.Draw(bar)
    draw.text((0, 0), "distance [m]", INK, font=font)
    draw.text((left, 18), f"{near:.3g}", INK, font=font, anchor="la")
    draw.text((left + width, 18), f"{far:.3g}", INK, font=font, anchor="ra")
    for tick in TICKS:
        at = left + round(math.log(tick / near) / math.log(far / near) * width)
        if not left + 50 < at < left + width - 60:
            continue
        draw.line((at, 12, at, 18), INK)
        draw.text((at, 18), f"{tick:g}", INK, font=font, anchor="ma")
    return bar


def _legend(legend: Mapping[str, Tensor], font: Font) -> Image.Image:
    """Names beside swatches of their colours, in as many lines as they need."""
    width, left, top, placed = ACROSS * PICTURE_WIDTH, 0, 0, []
    for name, color in legend.items():
        length = LINE + math.ceil(font.getlength(name)) + 2 * MARGIN
        if left and left + length > width:
            left, top = 0, top + LINE
        placed.append((left, top, name, tuple((color * 255 + 0.5).int().tolist())))
        left += length
    block = Image.new("RGB", (width if top else left, top + LINE), BACKGROUND)
    draw = ImageDraw.Draw(block)
    for left, top, name, shade in placed:
        draw.rectangle((left, top + 5, left + 13, top + 18), shade, outline=INK)
        draw.text((left + 18, top + 2), name, INK, font=font)
    return block


def _from_above(view: FromAbove, font: Font) -> Image.Image:
    """Points, boxes, track and cameras from above, with circles of distance around the sensor."""
    middle, half = _extent(view)
    scale = ABOVE / 2 / half

    def at(places: Tensor) -> list[tuple[float, float]]:
        moved = (places[..., :2] - middle) * scale
        return [(ABOVE / 2 + x, ABOVE / 2 - y) for x, y in moved.reshape(-1, 2).tolist()]

    image = Image.fromarray(_point_image(view.points, middle, scale))
    draw = ImageDraw.Draw(image)
    step = next((tick for tick in TICKS if tick >= half / 4), TICKS[-1])
    ((left, top),) = at(view.origin)
    rings = {ring * step: ring * step * scale for ring in range(1, 1 + math.ceil(1.5 * half / step))}
    for radius in rings.values():
        draw.ellipse((left - radius, top - radius, left + radius, top + radius), outline=(70, 70, 78))
    _draw_boxes_and_track(draw, view, at)
    labels = Labels(draw, (ABOVE, ABOVE), font)
    looks = {
        n: at(torch.stack([at_ + ahead * r / scale for r in REACHES]))
        for n, (at_, ahead) in view.places.items()
    }
    for (x, y), end, _ in looks.values():
        draw.line(((x, y), end), CAMERA, width=2)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), CAMERA)
    for name, (_, _, beyond) in looks.items():
        labels.write(name, [beyond], CAMERA)
    for distance, radius in rings.items():
        labels.write(f"{distance:g} m", _within_picture(left, top, radius), (190, 190, 198))
    return _with_words(image, sum(not _inside(place) for place in at(view.boxes)), font)


def _overlaid(view: FromAbove, font: Font) -> Image.Image:
    """Neighbouring sweeps near the sensor in colours by their time: walls are one line if poses are right."""
    picture = np.empty((ABOVE, ABOVE, 3), np.uint8)
    picture[:] = BACKGROUND
    scale = ABOVE / 2 / SWEEPS_WITHIN
    colors = ramp(torch.linspace(0, 1, len(view.sweeps))[None], AGE_STOPS)[:, 0].mT
    for points, color in zip(view.sweeps.values(), colors, strict=True):
        places = (points[:, :2] - view.origin) * scale
        column, row = (ABOVE / 2 + places[:, 0]).long(), (ABOVE / 2 - places[:, 1]).long()
        inside = (column >= 0) & (column < ABOVE) & (row >= 0) & (row < ABOVE)
        picture[row[inside].numpy(), column[inside].numpy()] = (color * 255).byte().numpy()
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.ellipse((ABOVE / 2 - 4, ABOVE / 2 - 4, ABOVE / 2 + 4, ABOVE / 2 + 4), (255, 255, 255))
    words = _line(
        f"upright points of {len(view.sweeps)} sweeps by their poses, within {SWEEPS_WITHIN:g} m of "
        "the sensor: a wall is one line if poses are right; what moves leaves a trail",
        font,
    )
    legend = _legend(dict(zip(view.sweeps, colors, strict=True)), font)
    whole = Image.new(
        "RGB", (max(ABOVE, words.width, legend.width), ABOVE + LINE + legend.height), BACKGROUND
    )
    for part, top in ((words, 0), (image, LINE), (legend, LINE + ABOVE)):
        whole.paste(part, (0, top))
    return whole


def _draw_boxes_and_track(
    draw: ImageDraw.ImageDraw, view: FromAbove, at: Callable[[Tensor], list[tuple[float, float]]]
) -> None:
    """Boxes with a line to their front, and where the sensor went; ``at`` says which pixels places are."""
    for box, color in zip(view.boxes, view.box_colors, strict=True):
        shade = tuple((color * 255 + 0.5).int().tolist())
        corners = at(box_outline(box))
        draw.polygon(corners[:4], outline=shade, width=2)
        draw.line(corners[4:], shade, width=2)
    if len(view.track) > 1:
        draw.line(at(view.track), (255, 255, 255), width=2)
        for x, y in at(view.track):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), (255, 255, 255))


def _with_words(image: Image.Image, outside: int, font: Font) -> Image.Image:
    """The view from above below the words that explain it, and how many boxes lie outside."""
    words = "from above: x to the right, y up; higher points are brighter; boxes with a line to their front"
    words += "; white: where the sensor went; blue: where cameras look"
    label = _line(f"{words}; {outside} boxes lie outside" if outside else words, font)
    whole = Image.new("RGB", (max(ABOVE, label.width + 4 * MARGIN), ABOVE + LINE), BACKGROUND)
    whole.paste(label, (0, 0))
    whole.paste(image, (0, LINE))
    return whole


def _inside(place: tuple[float, float], rim: int = 0) -> bool:
    """Whether a pixel is in the view from above, so far from its border."""
    return all(rim <= value < ABOVE - rim for value in place)


def _within_picture(left: float, top: float, radius: float) -> list[tuple[float, float]]:
    """Where a circle's distance can be written: above its middle, or where else it is in the picture."""
    angles = [math.radians(angle) for angle in (90, 45, 135, 0, 180, -90, -45, -135)]
    places = [(left + radius * math.cos(a), top - radius * math.sin(a)) for a in angles]
    return [place for place in places if _inside(place, 25)]


def _extent(view: FromAbove) -> tuple[Tensor, float]:
    """The middle of what is drawn, and half of its longer side: nearly all points, cameras, boxes not far."""
    places = torch.stack([place for place, _ in view.places.values()]) if view.places else view.origin[None]
    held = torch.cat([places, view.origin[None]])
    if len(view.points):
        spans = np.quantile(view.points[:, :2].numpy(), (0.03, 0.97), axis=0)
        held = torch.cat([held, torch.from_numpy(spans).float()])
    boxes = view.boxes[:, :2]
    held = torch.cat([held, boxes[(boxes - view.origin).norm(dim=-1) < BOXES_WITHIN]])
    low, high = held.amin(0), held.amax(0)
    return (low + high) / 2, max(0.55 * float((high - low).max()), 0.5)


def _point_image(points: Tensor, middle: Tensor, scale: float) -> np.ndarray:
    """Points as pixels, by their height among the others; the highest on top."""
    picture = np.empty((ABOVE, ABOVE, 3), np.uint8)
    picture[:] = BACKGROUND
    if len(points):
        points = points[points[:, 2].argsort()]
        places = (points[:, :2] - middle) * scale
        column, row = (ABOVE / 2 + places[:, 0]).long(), (ABOVE / 2 - places[:, 1]).long()
        inside = (column >= 0) & (column < ABOVE) & (row >= 0) & (row < ABOVE)
        low, high = np.quantile(points[:, 2].numpy(), (0.02, 0.98))
        height = (points[:, 2] - float(low)) / max(float(high - low), 1e-3)
        colors = ramp(0.8 * (1 - height.clamp(0, 1))[None], DEPTH_STOPS)[:, 0].mT
        shades = (colors * 200 + 30).byte().numpy()
        picture[row[inside].numpy(), column[inside].numpy()] = shades[inside.numpy()]
    return picture
