"""Boxes on the points of a scene, from above."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from renderpretrain.viz.colors import ramp

SIDE = 600
"""Pixels of the longer side."""

GROUND_STOPS = ((0.10, 0.10, 0.12), (0.55, 0.55, 0.60))
"""Of points: the ground is dark, what stands on it is lighter."""


def boxes_from_above(
    points: Float[Tensor, "P 3"],
    span: tuple[float, float, float, float],
    layers: Sequence[tuple[Float[Tensor, "_ 7"], tuple[float, float, float]]],
    side: int = SIDE,
) -> Float[Tensor, "3 H W"]:
    """A picture of a part of the ground, x to the right and y up: points in grey, boxes with a line ahead.

    Args:
        points: Metres.
        span: ``(x, y)`` of the lower left corner and of the upper right one, metres.
        layers: Boxes (centre, size, heading) and their colours (RGB in [0, 1]), the last on top.
        side: Pixels of the longer side.
    """
    x0, y0, x1, y1 = span
    scale = side / max(x1 - x0, y1 - y0)
    width, height = round((x1 - x0) * scale), round((y1 - y0) * scale)
    picture = Image.fromarray(_ground(points.cpu().float(), span, scale, (height, width)).numpy())
    draw = ImageDraw.Draw(picture)
    for boxes, color in layers:
        shade = tuple(round(255 * share) for share in color)
        for box in boxes[:, [0, 1, 3, 4, 6]].cpu():
            corners = [((x - x0) * scale, height - (y - y0) * scale) for x, y in box_outline(box).tolist()]
            draw.polygon(corners[:4], outline=shade)
            draw.line(corners[4:], shade)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1) / 255


def box_outline(box: Float[Tensor, "5"]) -> Float[Tensor, "6 2"]:
    """Four corners of a box ``(x, y, length, width, yaw)``, and a line from its middle to its front."""
    x, y, length, width, yaw = box.tolist()
    ahead = torch.tensor([math.cos(yaw), math.sin(yaw)]) * length / 2
    aside = torch.tensor([-math.sin(yaw), math.cos(yaw)]) * width / 2
    middle = torch.tensor([x, y])
    around = [ahead + aside, ahead - aside, -ahead - aside, -ahead + aside, torch.zeros(2), ahead]
    return middle + torch.stack(around)


def _ground(
    points: Float[Tensor, "P 3"], span: tuple[float, ...], scale: float, size: tuple[int, int]
) -> Tensor:
    """``(H, W, 3)`` bytes: the highest point of every pixel, in grey by its height among the others."""
    heights = torch.full(size, -math.inf)
    column = ((points[:, 0] - span[0]) * scale).floor().long()
    row = size[0] - 1 - ((points[:, 1] - span[1]) * scale).floor().long()
    seen = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    flat = (row * size[1] + column)[seen]
    heights.view(-1).scatter_reduce_(0, flat, points[seen, 2], "amax")
    there = heights.isfinite()
    if not there.any():
        return torch.zeros(*size, 3, dtype=torch.uint8)
    low, high = torch.quantile(
        heights[there][:: max(1, int(there.sum()) // 10000)], torch.tensor([0.02, 0.98])
    )
    place = ((heights - low) / (high - low).clamp(min=1e-3)).clamp(0, 1)
    return ((ramp(place, GROUND_STOPS) * there).permute(1, 2, 0) * 255).byte()
