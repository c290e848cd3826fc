"""The hosts' image networks and necks said again, from the numbers in a file alone.

Every function takes the weights by the host's keys. Nothing of our encoders or key tables is used.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


def batch_norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """In evaluation."""
    mean, var, weight, bias = (
        state[f"{name}.{side}"] for side in ("running_mean", "running_var", "weight", "bias")
    )
    return nn.functional.batch_norm(x, mean, var, weight, bias, eps=eps)


def conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """With its bias where there is one."""
    return nn.functional.conv2d(
        x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride=stride, padding=padding
    )


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """On the last axis."""
    return nn.functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def layer_norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Over the last axis."""
    return nn.functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def resnet(state: State, images: Tensor, *, stride_first: bool) -> list[Tensor]:
    """Maps of all stages, under torchvision's keys, which timm and mmdetection share."""
    x = batch_norm(state, "bn1", conv(state, "conv1", images, 2, 3)).relu()
    x = nn.functional.max_pool2d(x, 3, 2, 1)
    maps, stage = [], 1
    while f"layer{stage}.0.conv1.weight" in state:
        j = 0
        while f"layer{stage}.{j}.conv1.weight" in state:
            x = _residual(state, f"layer{stage}.{j}", x, 2 if stage > 1 and j == 0 else 1, stride_first)
            j += 1
        maps.append(x)
        stage += 1
    return maps


def _residual(state: State, name: str, x: Tensor, stride: int, stride_first: bool) -> Tensor:
    """A basic or a bottleneck block."""
    skip = x
    if f"{name}.downsample.0.weight" in state:
        skip = batch_norm(state, f"{name}.downsample.1", conv(state, f"{name}.downsample.0", x, stride))
    deep = f"{name}.conv3.weight" in state
    early = stride_first or not deep
    first, second = (stride, 1) if early else (1, stride)
    y = batch_norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x, first, 0 if deep else 1)).relu()
    y = batch_norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", y, second, 1))
    if deep:
        y = batch_norm(state, f"{name}.bn3", conv(state, f"{name}.conv3", y.relu()))
    return (y + skip).relu()


CONVNEXT_NAMES = {
    "timm": (
        "stem.",
        "stages.{i}.downsample.",
        "stages.{i}.blocks.{j}.",
        "conv_dw",
        "norm",
        "mlp.fc1 mlp.fc2",
    ),
    "torchvision": (
        "features.0.",
        "features.{s}.",
        "features.{t}.{j}.",
        "block.0",
        "block.2",
        "block.3 block.5",
    ),
    "mmdet3d": (
        "downsample_layers.0.",
        "downsample_layers.{i}.",
        "stages.{i}.{j}.",
        "depthwise_conv",
        "norm",
        "pointwise_conv1 pointwise_conv2",
    ),
    "mmdet3d-0.17": (
        "downsample_layers.0.",
        "downsample_layers.{i}.",
        "stages.{i}.{j}.",
        "dwconv",
        "norm",
        "pwconv1 pwconv2",
    ),
}
"""Stem, what lies between stages, a block, and its layers."""


def convnext(state: State, images: Tensor, host: str) -> list[Tensor]:
    """Maps of all stages before their output norms."""
    stem, between, block, depthwise, norm, both = CONVNEXT_NAMES[host]
    x = _norm_cells(state, f"{stem}1", conv(state, f"{stem}0", images, 4))
    maps, i = [], 0
    while any(key.startswith(block.format(i=i, j=0, t=2 * i + 1)) for key in state):
        if i:
            name = between.format(i=i, s=2 * i)
            x = conv(state, f"{name}1", _norm_cells(state, f"{name}0", x), 2)
        j = 0
        while any(key.startswith(block.format(i=i, j=j, t=2 * i + 1)) for key in state):
            name = block.format(i=i, j=j, t=2 * i + 1)
            weight, bias = state[f"{name}{depthwise}.weight"], state[f"{name}{depthwise}.bias"]
            y = nn.functional.conv2d(x, weight, bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            y = layer_norm(state, f"{name}{norm}", y, 1e-6)
            first, second = both.split()
            y = linear(state, f"{name}{second}", nn.functional.gelu(linear(state, f"{name}{first}", y)))
            scale = state.get(f"{name}gamma", state.get(f"{name}layer_scale", torch.ones(1)))
            x = x + y.permute(0, 3, 1, 2) * scale.reshape(-1, 1, 1)
            j += 1
        maps.append(x)
        i += 1
    return maps


def _norm_cells(state: State, name: str, x: Tensor) -> Tensor:
    """Over the channels of every cell."""
    return layer_norm(state, name, x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


SWIN_NAMES = {
    "timm": ("layers.{i}.downsample.", "layers.{i}.blocks.{j}.", "attn.", "mlp.fc1 mlp.fc2"),
    "torchvision": ("features.{s}.", "features.{t}.{j}.", "attn.", "mlp.0 mlp.3"),
    "mm": ("stages.{p}.downsample.", "stages.{i}.blocks.{j}.", "attn.w_msa.", "ffn.layers.0.0 ffn.layers.1"),
}
"""What lies between layers, a block, its attention and its perceptron."""

SWIN_STEM = {
    "timm": ("patch_embed.proj", "patch_embed.norm"),
    "torchvision": ("features.0.0", "features.0.2"),
    "mm": ("patch_embed.projection", "patch_embed.norm"),
}


def swin_stem(state: State, images: Tensor, family: str) -> Tensor:
    """Patches, channels last."""
    project, norm = SWIN_STEM[family]
    return layer_norm(state, norm, conv(state, project, images, 4).permute(0, 2, 3, 1))


def swin_layer(state: State, x: Tensor, i: int, family: str) -> Tensor:
    """The halving before a layer, from the second on, and its blocks; ``(B, h, w, C)``, even sides."""
    between, block, attention, both = SWIN_NAMES[family]
    if i:
        name = between.format(i=i, s=2 * i, p=i - 1)
        x = linear(state, f"{name}reduction", layer_norm(state, f"{name}norm", _merged(x, family)))
    j = 0
    while f"{block.format(i=i, j=j, t=2 * i + 1)}norm1.weight" in state:
        name = block.format(i=i, j=j, t=2 * i + 1)
        y = layer_norm(state, f"{name}norm1", x)
        x = x + _window_attention(state, f"{name}{attention}", y, shifted=j % 2 == 1)
        first, second = both.split()
        y = linear(state, f"{name}{first}", layer_norm(state, f"{name}norm2", x))
        x = x + linear(state, f"{name}{second}", nn.functional.gelu(y))
        j += 1
    return x


def _merged(x: Tensor, family: str) -> Tensor:
    """Two by two cells in the channels: cell by cell, or as ``unfold`` does, channel by channel."""
    if family == "mm":
        y = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2)
        return y.mT.unflatten(1, (x.shape[1] // 2, x.shape[2] // 2))
    return torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)


def _window_attention(state: State, name: str, x: Tensor, *, shifted: bool) -> Tensor:
    """Attention of every cell to those of its own window, written as a mask on all pairs of cells."""
    table = state[f"{name}relative_position_bias_table"]
    side, heads = (round(len(table) ** 0.5) + 1) // 2, table.shape[1]
    height, width = x.shape[1:3]
    rows, columns = -(-height // side) * side, -(-width // side) * side
    padded = nn.functional.pad(x, (0, 0, 0, columns - width, 0, rows - height)).flatten(1, 2)
    y, z = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    offset = side - side // 2 if shifted else 0
    window = torch.stack([(y + offset) // side, (z + offset) // side], -1)
    together = (window[:, None] == window[None]).all(-1)
    index = (y[:, None] - y[None] + side - 1) * (2 * side - 1) + z[:, None] - z[None] + side - 1
    bias = table[torch.where(together, index, 0)].permute(2, 0, 1).masked_fill(~together, -torch.inf)
    q, k, v = (
        t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in linear(state, f"{name}qkv", padded).chunk(3, -1)
    )
    scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
    out = linear(state, f"{name}proj", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return out.unflatten(1, (rows, columns))[:, :height, :width]


def fpn(state: State, maps: Sequence[Tensor], num_outs: int) -> list[Tensor]:
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


def lss_fpn(state: State, maps: Sequence[Tensor]) -> list[Tensor]:
    """``GeneralizedLSSFPN`` of BEVFusion, edges aligned as its configurations have it."""
    outs = [maps[-1]]
    for i in reversed(range(len(maps) - 1)):
        up = nn.functional.interpolate(outs[0], size=maps[i].shape[-2:], mode="bilinear")
        y = conv(state, f"lateral_convs.{i}.conv", torch.cat([maps[i], up], 1))
        y = conv(state, f"fpn_convs.{i}.conv", batch_norm(state, f"lateral_convs.{i}.bn", y).relu(), 1, 1)
        outs.insert(0, batch_norm(state, f"fpn_convs.{i}.bn", y).relu())
    return outs[:-1]


def volume_neck(state: State, volume: Tensor) -> Tensor:
    """UniPAD's ``SECOND3D`` and ``SECOND3DFPN``: parallel branches, brought back and summed."""
    total, i = torch.zeros(()), 0
    while f"pts_backbone.blocks.{i}.0.weight" in state:
        up = state[f"pts_neck.deblocks.{i}.0.weight"]
        x, j = volume, 0
        while f"pts_backbone.blocks.{i}.{j}.weight" in state:
            stride = (1, up.shape[4], up.shape[4]) if j == 0 else (1, 1, 1)
            weight = state[f"pts_backbone.blocks.{i}.{j}.weight"]
            x = nn.functional.conv3d(x, weight, stride=stride, padding=(0, 1, 1))
            x = batch_norm(state, f"pts_backbone.blocks.{i}.{j + 1}", x, 1e-3).relu()
            j += 3
        side = up.shape[4]
        if side == 1:  # use_conv_for_no_stride
            x = nn.functional.conv3d(x, up)
        else:
            x = nn.functional.conv_transpose3d(x, up, stride=(1, side, side))
        total = total + batch_norm(state, f"pts_neck.deblocks.{i}.1", x, 1e-3).relu()
        i += 1
    return total


def conv_stack(state: State, name: str, x: Tensor, strides: Sequence[int]) -> Tensor:
    """Convolutions under the keys 0, 3, ..., each with batch norm and ReLU where the file has a norm next."""
    for i, stride in enumerate(strides):
        weight = state[f"{name}.{3 * i}.weight"]
        x = conv(state, f"{name}.{3 * i}", x, stride, weight.shape[2] // 2)
        if f"{name}.{3 * i + 1}.running_mean" in state:
            x = batch_norm(state, f"{name}.{3 * i + 1}", x).relu()
    return x
