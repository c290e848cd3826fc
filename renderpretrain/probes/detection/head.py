"""A small detector on a map seen from above, and the boxes that it says."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.detection.boxes import over_map
from renderpretrain.probes.detection.targets import CODES, boxes_from_codes

WIDTH = 32
"""Channels between features and answers."""

PRIOR = 0.1
"""How hot every cell is before anything is learned."""

MOST_BOXES = 100
"""That are said of a scene, the surest ones; nuScenes allows 500 of six cameras and a sweep."""

LARGEST_SIDE = 50.0
"""Metres; no box is said to be longer, whatever an untrained head says."""


class CenterHead(nn.Module):
    """The heat of every class, and what every cell says of a box whose centre it holds.

    Batch norm, so that one learning rate fits features of any scale; a linear map of every cell; one 3x3
    convolution; and one for the answers. Deliberately small: what it finds must be in the features.

    Args:
        channels: Of the map.
        classes: How many there are.
        seed: Of the weights.
        width: Channels between.
    """

    def __init__(self, channels: int, classes: int, seed: int, width: int = WIDTH) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            answers = nn.Conv2d(width, classes + CODES, 3, padding=1)
            self.layers = nn.Sequential(
                nn.BatchNorm2d(channels, affine=False),
                nn.Conv2d(channels, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                answers,
            )
        with torch.no_grad():
            answers.bias[:classes] = torch.logit(torch.tensor(PRIOR))  # type: ignore[index]

    def forward(self, features: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B _ Y X"]:
        """Logits of the classes' heat, then the codes of boxes (:data:`CODES`). Differentiable."""
        return self.layers(features)


@torch.no_grad()
def said_boxes(
    outputs: Float[Tensor, "1 _ Y X"], grid: VoxelGrid, most: int = MOST_BOXES
) -> Float[Tensor, "K 9"]:
    """The boxes at cells that are hotter than their neighbours, the hottest first.

    A cell that its class's heat is nowhere higher within one cell of is a box: of boxes that overlap one
    remains. Boxes whose centre is not over the map are left out.

    Args:
        outputs: Of :class:`CenterHead`, of one scene.
        grid: The map.
        most: Boxes.

    Returns:
        Centre, size, heading, label, score.
    """
    classes = outputs.shape[1] - CODES
    heat = outputs[0, :classes].float().sigmoid()
    peak = heat == nn.functional.max_pool2d(heat[None], 3, stride=1, padding=1)[0]
    scores, order = torch.where(peak, heat, 0.0).flatten().topk(min(most, heat.numel()))
    order, scores = order[scores > 0], scores[scores > 0]
    label, y, x = torch.unravel_index(order, heat.shape)
    codes = outputs[0, classes:].float()[:, y, x].T.clone()
    codes[:, 3:6] = codes[:, 3:6].clamp(max=torch.tensor(LARGEST_SIDE).log().item())
    boxes = boxes_from_codes(torch.stack([x, y], 1), codes, grid)
    rows = torch.cat([boxes, label[:, None].float(), scores[:, None]], 1)
    return rows[over_map(rows, grid)]
