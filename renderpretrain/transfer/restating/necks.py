"""The pyramids of mmdetection and of BEVFusion, and ours beside them on the same maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from renderpretrain.encoders import FPN, LSSFPN
from renderpretrain.transfer.part import Pair, State
from renderpretrain.transfer.restating.layers import Weights, batch_norm, conv, random_pyramid


def check_fpn(module: FPN, state: State, generator: torch.Generator) -> Pair:
    """Compare the maps of all levels."""
    sizes = module.sizes
    maps = random_pyramid(sizes["in_channels"], generator)
    return module(maps), fpn(state, maps[sizes["start_level"] :], sizes["num_outs"])


def fpn(state: Weights, maps: Sequence[Tensor], num_outs: int) -> list[Tensor]:
    """Mmdetection's ``FPN``, with ``add_extra_convs='on_output'`` where the file has such convolutions."""
    laterals = [conv(state, f"lateral_convs.{i}.conv", x) for i, x in enumerate(maps)]
    for i in reversed(range(len(laterals) - 1)):
        size = laterals[i].shape[-2:]
        laterals[i] = laterals[i] + nn.functional.interpolate(laterals[i + 1], size=size, mode="nearest")
    outs = [conv(state, f"fpn_convs.{i}.conv", x, 1, 1) for i, x in enumerate(laterals[:num_outs])]
    while len(outs) < num_outs:
        i = len(outs)
        if f"fpn_convs.{i}.conv.weight" in state:
            x = outs[-1].relu() if i > len(laterals) else outs[-1]
            outs.append(conv(state, f"fpn_convs.{i}.conv", x, 2, 1))
        else:
            outs.append(nn.functional.max_pool2d(outs[-1], 1, stride=2))
    return outs


def check_lss_fpn(module: LSSFPN, state: State, generator: torch.Generator) -> Pair:
    """Compare the maps of all levels."""
    maps = random_pyramid(module.sizes["in_channels"], generator)
    return module(maps), lss_fpn(state, maps)


def lss_fpn(state: Weights, maps: Sequence[Tensor]) -> list[Tensor]:
    """``GeneralizedLSSFPN`` of BEVFusion, edges aligned as its configurations have it."""
    outs = [maps[-1]]
    for i in reversed(range(len(maps) - 1)):
        up = nn.functional.interpolate(outs[0], size=maps[i].shape[-2:], mode="bilinear")
        y = conv(state, f"lateral_convs.{i}.conv", torch.cat([maps[i], up], 1))
        y = conv(state, f"fpn_convs.{i}.conv", batch_norm(state, f"lateral_convs.{i}.bn", y).relu(), 1, 1)
        outs.insert(0, batch_norm(state, f"fpn_convs.{i}.bn", y).relu())
    return outs[:-1]
