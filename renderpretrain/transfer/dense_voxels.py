"""The hosts' sparse networks said again with dense convolutions, from the numbers in a file alone.

A volume and the cells that exist stand for the sparse tensor. A submanifold convolution keeps the cells, a
strided one makes those its kernel reaches. Axes are the host's own, first to last; nothing of our encoders,
key tables or layout conversions is used here, so that a mistake in those shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
EPS = 1e-3
"""Of every batch norm in these networks."""


@dataclass(frozen=True)
class Cells:
    """A volume of which some cells exist.

    Attributes:
        values: ``(1, C, ...)``, zero where no cell exists.
        exist: ``(1, 1, ...)``, 1 or 0.
    """

    values: Tensor
    exist: Tensor


@dataclass(frozen=True)
class Network:
    """A host's weights, and how it reads them.

    Attributes:
        state: By its keys.
        kernels: ``"KRSC"`` or ``"RSCK"``.
    """

    state: State
    kernels: str

    def kernel(self, name: str) -> Tensor:
        """A kernel as dense convolutions want it: ``(out, in, ...)``."""
        weight = self.state[f"{name}.weight"]
        if self.kernels == "RSCK":
            return weight.permute(4, 3, 0, 1, 2)
        out, first, second, third, channels = weight.shape
        if first * second * third == 1:
            return weight.reshape(channels, out).T[..., None, None, None]
        return weight.permute(0, 4, 1, 2, 3)

    def same_cells(self, x: Cells, name: str) -> Cells:
        """Submanifold convolution, with its bias where there is one."""
        kernel = self.kernel(name)
        padding = [k // 2 for k in kernel.shape[2:]]
        bias = self.state.get(f"{name}.bias")
        return Cells(nn.functional.conv3d(x.values, kernel, bias, padding=padding) * x.exist, x.exist)

    def new_cells(self, x: Cells, name: str, stride: Sequence[int], padding: Sequence[int]) -> Cells:
        """Strided convolution."""
        kernel = self.kernel(name)
        stride, padding = tuple(stride), tuple(padding)
        reached = nn.functional.conv3d(
            x.exist, torch.ones(1, 1, *kernel.shape[2:]), stride=stride, padding=padding
        )
        exist = (reached > 0).to(x.exist.dtype)
        values = nn.functional.conv3d(x.values, kernel, stride=stride, padding=padding)
        return Cells(values * exist, exist)

    def old_cells(self, x: Cells, name: str, finer: Cells) -> Cells:
        """The inverse of a 2x2x2 convolution of stride two, on the cells that one started from."""
        values = nn.functional.conv_transpose3d(x.values, self.kernel(name).transpose(0, 1), stride=2)
        return Cells(values * finer.exist, finer.exist)

    def norm(self, x: Cells, name: str, *, relu: bool = True) -> Cells:
        """Batch normalisation in evaluation, and ReLU."""
        mean, var, weight, bias = (
            self.state[f"{name}.{side}"] for side in ("running_mean", "running_var", "weight", "bias")
        )
        values = nn.functional.batch_norm(x.values, mean, var, weight, bias, eps=EPS) * x.exist
        return Cells(values.relu() if relu else values, x.exist)

    def block(self, x: Cells, name: str, skip: Cells | None = None) -> Cells:
        """Two submanifold convolutions around a skip."""
        y = self.norm(self.same_cells(x, f"{name}.conv1"), f"{name}.bn1")
        y = self.norm(self.same_cells(y, f"{name}.conv2"), f"{name}.bn2", relu=False)
        return Cells((y.values + (skip or x).values).relu(), x.exist)


def openpcdet_backbone(net: Network, x: Cells) -> list[Cells]:
    """``VoxelBackBone8x`` or ``VoxelResBackBone8x``: four stages, then ``conv_out`` where the file has it."""
    residual = "conv1.0.conv1.weight" in net.state
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    stages = []
    for stage, padding in enumerate(((), (1, 1, 1), (1, 1, 1), (0, 1, 1)), 1):
        first = 0
        if padding:
            name, first = f"conv{stage}.0", 1
            x = net.norm(net.new_cells(x, f"{name}.0", (2, 2, 2), padding), f"{name}.1")
        for i in range(first, first + 2 if residual or padding else 1):
            name = f"conv{stage}.{i}"
            x = net.block(x, name) if residual else net.norm(net.same_cells(x, f"{name}.0"), f"{name}.1")
        stages.append(x)
    if "conv_out.0.weight" in net.state:
        stages.append(net.norm(net.new_cells(x, "conv_out.0", (2, 1, 1), (0, 0, 0)), "conv_out.1"))
    return stages


def second_encoder(
    net: Network, x: Cells, strides: Sequence[Sequence[int]], paddings: Sequence[Sequence[int]]
) -> list[Cells]:
    """``SparseEncoder`` of mmdetection3d and BEVFusion: its stages, then ``conv_out`` where the file has it.

    Args:
        net: Its weights.
        x: The voxels.
        strides: Of the strided layers, in the host's axes.
        paddings: Of the strided layers.
    """
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    stages, geometry = [], list(zip(strides, paddings, strict=True))
    for i in range(len(strides) + 1):
        j = 0
        while any(key.startswith(f"encoder_layers.encoder_layer{i + 1}.{j}.") for key in net.state):
            name = f"encoder_layers.encoder_layer{i + 1}.{j}"
            plain = f"{name}.0.weight" in net.state
            last = plain and _is_strided(net, i, j, len(strides))
            if not plain:
                x = net.block(x, name)
            elif last:
                x = net.norm(net.new_cells(x, f"{name}.0", *geometry.pop(0)), f"{name}.1")
            else:
                x = net.norm(net.same_cells(x, f"{name}.0"), f"{name}.1")
            j += 1
        stages.append(x)
    if "conv_out.0.weight" in net.state:
        stride = [2 if k == 3 else 1 for k in net.kernel("conv_out.0").shape[2:]]
        stages.append(net.norm(net.new_cells(x, "conv_out.0", stride, (0, 0, 0)), "conv_out.1"))
    return stages


def _is_strided(net: Network, stage: int, layer: int, last_stage: int) -> bool:
    """Blocks of the plain kind stride first, from the second stage on; residual stages stride last."""
    residual = "encoder_layers.encoder_layer1.0.conv1.weight" in net.state
    return stage < last_stage if residual else stage > 0 and layer == 0


def spunet(net: Network, x: Cells) -> Cells:
    """``SpUNet-v1m1`` without its classifier, in Pointcept's axes; sides are multiples of its stride."""
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    skips, stages = [x], 0
    while f"down.{stages}.0.weight" in net.state:
        x = net.norm(net.new_cells(x, f"down.{stages}.0", (2, 2, 2), (0, 0, 0)), f"down.{stages}.1")
        x = _unet_blocks(net, x, f"enc.{stages}")
        skips.append(x)
        stages += 1
    skips.pop()
    for s in reversed(range(stages)):
        skip = skips.pop()
        x = net.norm(net.old_cells(x, f"up.{s}.0", skip), f"up.{s}.1")
        x = _unet_blocks(net, Cells(torch.cat([x.values, skip.values], 1), x.exist), f"dec.{s}")
    return x


def _unet_blocks(net: Network, x: Cells, name: str) -> Cells:
    """Residual blocks of one stage; the skip is projected where the width changes."""
    i = 0
    while f"{name}.block{i}.conv1.weight" in net.state:
        block = f"{name}.block{i}"
        skip = None
        if f"{block}.proj.0.weight" in net.state:
            skip = net.norm(net.same_cells(x, f"{block}.proj.0"), f"{block}.proj.1", relu=False)
        x = net.block(x, block, skip)
        i += 1
    return x
