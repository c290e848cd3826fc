"""What a detector is to say of boxes on a map, and how far it is from that (CenterPoint, arXiv 2006.11275).

Around the centre of every box its class's heat falls off as a Gaussian; the cell that holds the centre says
the rest. Numbers are those of the released nuScenes configurations (github.com/tianweiy/CenterPoint).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.geometry import VoxelGrid

CODES = 8
"""Numbers that a cell says of a box: centre in cells from its own (x, y), centre's height and the logarithms
of length, width and height in metres, sine and cosine of the heading."""

LEAST_OVERLAP = 0.1
"""Intersection over union that the heat's radius is computed from."""

LEAST_RADIUS = 2
"""Cells."""

BOX_WEIGHT = 0.25
"""Of the difference at centres beside the heat's loss."""

FOCUS, FALL = 2, 4
"""Exponents of the focal loss: of how wrong the heat is, and of how far a cell is from a centre."""


def heat_radius(
    length: Float[Tensor, " K"], width: Float[Tensor, " K"], overlap: float = LEAST_OVERLAP
) -> Float[Tensor, " K"]:
    """CornerNet's radius (arXiv 1808.01244) of the heat around a centre, as all released code computes it.

    That code takes the least of three cases, with their larger roots and all divided by 2 whatever the
    leading coefficient. The least is then always that of a box that grows around the true one, and is
    ``4 overlap`` times the radius at which it has the overlap.

    Args:
        length: Cells.
        width: Cells.
        overlap: Intersection over union.
    """
    both = overlap * (length + width)
    return (both.square() + 4 * overlap * (1 - overlap) * length * width).sqrt() - both


def centers_in_cells(rows: Float[Tensor, "K 8"], grid: VoxelGrid) -> Float[Tensor, "K 2"]:
    """Centres ``(x, y)`` counted in cells of a map: an integer at a cell's centre."""
    return grid.to_index(rows[:, :3])[:, :2]


def nearest_cells(centers: Float[Tensor, "K 2"], grid: VoxelGrid) -> Int[Tensor, "K 2"]:
    """The cells ``(x, y)`` that hold centres over the map."""
    most = ops.constant(grid.shape[:0:-1], centers) - 1
    return torch.minimum((centers + 0.5).floor().clamp(min=0), most).long()


def heat_targets(rows: Float[Tensor, "K 8"], classes: int, grid: VoxelGrid) -> Float[Tensor, "L Y X"]:
    """The heat of every class: 1 in the cell of a centre, around it a Gaussian of a third of the radius.

    Where Gaussians meet, the larger counts; outside of a square of the radius there is no heat.

    Args:
        rows: Boxes over the map: centre, size, heading, label.
        classes: How many there are.
        grid: The map.
    """
    heat = rows.new_zeros(classes, *grid.shape[1:])
    cells = nearest_cells(centers_in_cells(rows, grid), grid)
    sides = rows[:, 3:5] / ops.constant(grid.voxel_size[:2], rows)
    radius = heat_radius(sides[:, 0], sides[:, 1]).floor().clamp(min=LEAST_RADIUS)
    y, x = (torch.arange(size, device=rows.device, dtype=rows.dtype) for size in heat.shape[1:])
    for cell, reach, label in zip(cells, radius, rows[:, 7].long(), strict=True):
        up, along = (y - cell[1])[:, None], (x - cell[0])[None]
        sigma = (2 * reach + 1) / 6
        near = (up.abs() <= reach) & (along.abs() <= reach)
        mine = torch.where(near, (-(up.square() + along.square()) / (2 * sigma.square())).exp(), 0.0)
        heat[label] = torch.maximum(heat[label], mine)
    return heat


def box_codes(rows: Float[Tensor, "K 8"], grid: VoxelGrid) -> tuple[Int[Tensor, "K 2"], Float[Tensor, "K 8"]]:
    """The cells that hold the boxes' centres, and what they are to say."""
    centers = centers_in_cells(rows, grid)
    cells = nearest_cells(centers, grid)
    heading = torch.stack([rows[:, 6].sin(), rows[:, 6].cos()], 1)
    return cells, torch.cat([centers - cells, rows[:, 2:3], rows[:, 3:6].log(), heading], 1)


def boxes_from_codes(
    cells: Int[Tensor, "K 2"], codes: Float[Tensor, "K 8"], grid: VoxelGrid
) -> Float[Tensor, "K 7"]:
    """Centre, size and heading of what cells say; undoes :func:`box_codes`."""
    index = torch.cat([cells + codes[:, :2], torch.zeros_like(codes[:, :1])], 1)
    x, y = grid.to_world(index)[:, :2].unbind(1)
    yaw = torch.atan2(codes[:, 6], codes[:, 7])
    return torch.cat([torch.stack([x, y, codes[:, 2]], 1), codes[:, 3:6].exp(), yaw[:, None]], 1)


def heat_loss(logits: Float[Tensor, "L Y X"], heat: Float[Tensor, "L Y X"]) -> Float[Tensor, ""]:
    """CornerNet's focal loss, a sum over all cells over the number of centres; over 1 where there is none."""
    centers = heat == 1
    sure = logits.sigmoid()
    hot = nn.functional.logsigmoid(logits) * (1 - sure) ** FOCUS
    cold = nn.functional.logsigmoid(-logits) * sure**FOCUS * (1 - heat) ** FALL
    return -torch.where(centers, hot, cold).sum() / centers.sum().clamp(min=1)


def detection_loss(
    outputs: Float[Tensor, "1 _ Y X"], rows: Float[Tensor, "K 8"], grid: VoxelGrid
) -> Float[Tensor, ""]:
    """Focal loss of the heat, and a quarter of the absolute differences at centres, a mean over the boxes.

    With no box the heat is to be nowhere.

    Args:
        outputs: Logits of the heat of ``L`` classes, then the codes of boxes.
        rows: The boxes of the scene over the map: centre, size, heading, label.
        grid: The map.
    """
    classes = outputs.shape[1] - CODES
    heat = heat_loss(outputs[0, :classes].float(), heat_targets(rows, classes, grid))
    cells, codes = box_codes(rows, grid)
    said = outputs[0, classes:].float()[:, cells[:, 1], cells[:, 0]].T
    return heat + BOX_WEIGHT * (said - codes).abs().sum() / max(len(rows), 1)
