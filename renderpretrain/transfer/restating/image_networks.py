"""The published image networks, whoever names their weights, and ours beside them on the same images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from renderpretrain.encoders import ConvNeXt, ResNet, SwinTransformer
from renderpretrain.transfer.part import Pair, State
from renderpretrain.transfer.restating.layers import Weights, batch_norm, conv, layer_norm, linear, norm_cells


def check_resnet(module: ResNet, state: State, generator: torch.Generator, *, caffe: bool = True) -> Pair:
    """The maps it returns.

    Args:
        module: Ours.
        state: By the host's keys.
        generator: Draws the images.
        caffe: Whether the host has bottlenecks that stride in their first convolution.
    """
    images = torch.randn(2, 3, 64, 96, generator=generator)
    theirs = resnet(state, images, stride_first=caffe and module.sizes["stride_first"])
    return module(images), [theirs[i] for i in module.out_indices]


def resnet(state: Weights, images: Tensor, *, stride_first: bool) -> list[Tensor]:
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


def _residual(state: Weights, name: str, x: Tensor, stride: int, stride_first: bool) -> Tensor:
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


@dataclass(frozen=True)
class ConvNeXtNames:
    """How a host names a ConvNeXt; ``i`` and ``j`` count stages and blocks, ``s`` is 2i, ``t`` 2i + 1.

    Attributes:
        stem: Begins the stem.
        between: Begins what lies between stages.
        block: Begins a block.
        depthwise: The depthwise convolution of a block.
        norm: Its norm.
        perceptron: Its two matrices.
    """

    stem: str
    between: str
    block: str
    depthwise: str
    norm: str
    perceptron: tuple[str, str]


def check_convnext(
    module: ConvNeXt, state: State, generator: torch.Generator, *, names: ConvNeXtNames
) -> Pair:
    """Compare the maps of all stages, after the output norms where the host has them."""
    images = torch.randn(2, 3, 64, 96, generator=generator)
    stages = _outputs(module, module.stages, images)
    theirs = convnext(state, images, names)
    for i in module.out_indices:
        if f"norm{i}.weight" in state:
            stages.append(module.get_submodule(f"norm{i}")(stages[i]))
            theirs.append(norm_cells(state, f"norm{i}", theirs[i]))
    return stages, theirs


def convnext(state: Weights, images: Tensor, names: ConvNeXtNames) -> list[Tensor]:
    """Maps of all stages before their output norms."""
    stem, block = names.stem, names.block
    x = norm_cells(state, f"{stem}1", conv(state, f"{stem}0", images, 4))
    maps, i = [], 0
    while any(key.startswith(block.format(i=i, j=0, t=2 * i + 1)) for key in state):
        if i:
            name = names.between.format(i=i, s=2 * i)
            x = conv(state, f"{name}1", norm_cells(state, f"{name}0", x), 2)
        j = 0
        while any(key.startswith(block.format(i=i, j=j, t=2 * i + 1)) for key in state):
            name = block.format(i=i, j=j, t=2 * i + 1)
            weight, bias = state[f"{name}{names.depthwise}.weight"], state[f"{name}{names.depthwise}.bias"]
            y = nn.functional.conv2d(x, weight, bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            y = layer_norm(state, f"{name}{names.norm}", y, 1e-6)
            first, second = names.perceptron
            y = linear(state, f"{name}{second}", nn.functional.gelu(linear(state, f"{name}{first}", y)))
            scale = state.get(f"{name}gamma", state.get(f"{name}layer_scale", torch.ones(1)))
            x = x + y.permute(0, 3, 1, 2) * scale.reshape(-1, 1, 1)
            j += 1
        maps.append(x)
        i += 1
    return maps


@dataclass(frozen=True)
class SwinNames:
    """How a host names a Swin transformer; ``i, j, s, t`` as in :class:`ConvNeXtNames`, ``p`` is i - 1.

    Attributes:
        projection: Of the patches.
        norm: Of the patches.
        between: Begins what lies between layers.
        block: Begins a block.
        attention: Begins the attention of a block.
        perceptron: Its two matrices.
        one_norm: Whether there is one output norm, ``norm``, of the last layer; or ``norm{i}``.
        unfolded: Whether merged cells are read channel by channel, as ``unfold`` has them.
    """

    projection: str
    norm: str
    between: str
    block: str
    attention: str
    perceptron: tuple[str, str]
    one_norm: bool = True
    unfolded: bool = False


def check_swin(
    module: SwinTransformer, state: State, generator: torch.Generator, *, names: SwinNames
) -> Pair:
    """Patches, then every layer on a map of more than one window; the output norms the host has."""
    images = torch.randn(2, 3, 32, 48, generator=generator)
    ours, theirs = [module.patch_embed(images)], [swin_stem(state, images, names)]
    window, first = module.sizes["window"], module.sizes["width"]
    for i, layer in enumerate(module.layers):
        width, scale = first * 2 ** max(i - 1, 0), 2 if i else 1
        x = torch.randn(1, scale * (window + 2), scale * (window + 4), width, generator=generator)
        ours.append(layer(x))
        theirs.append(swin_layer(state, x, i, names))
    last = len(module.layers) - 1
    for i in module.out_indices:
        name = "norm" if names.one_norm and i == last else f"norm{i}"
        if f"{name}.weight" in state:
            ours.append(module.get_submodule(f"norm{i}")(ours[i + 1]))
            theirs.append(layer_norm(state, name, theirs[i + 1]))
    return ours, theirs


def swin_stem(state: Weights, images: Tensor, names: SwinNames) -> Tensor:
    """A Swin's normalised patches, channels last."""
    stem = conv(state, names.projection, images, 4)
    return layer_norm(state, names.norm, stem.permute(0, 2, 3, 1))


def swin_layer(state: Weights, x: Tensor, i: int, names: SwinNames) -> Tensor:
    """The halving before a layer, from the second on, and its blocks; ``(B, h, w, C)``, even sides."""
    if i:
        name = names.between.format(i=i, s=2 * i, p=i - 1)
        x = linear(state, f"{name}reduction", layer_norm(state, f"{name}norm", _merged(x, names)))
    j = 0
    while f"{names.block.format(i=i, j=j, t=2 * i + 1)}norm1.weight" in state:
        name = names.block.format(i=i, j=j, t=2 * i + 1)
        y = layer_norm(state, f"{name}norm1", x)
        x = x + _window_attention(state, f"{name}{names.attention}", y, shifted=j % 2 == 1)
        first, second = names.perceptron
        y = linear(state, f"{name}{first}", layer_norm(state, f"{name}norm2", x))
        x = x + linear(state, f"{name}{second}", nn.functional.gelu(y))
        j += 1
    return x


def _merged(x: Tensor, names: SwinNames) -> Tensor:
    """Two by two cells in the channels: cell by cell, or as ``unfold`` does, channel by channel."""
    if names.unfolded:
        y = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2)
        return y.mT.unflatten(1, (x.shape[1] // 2, x.shape[2] // 2))
    return torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)


def _window_attention(state: Weights, name: str, x: Tensor, *, shifted: bool) -> Tensor:
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


def _outputs(module: nn.Module, stages: Iterable[nn.Module], images: Tensor) -> list[Tensor]:
    """What the stages of a network give on the way."""
    seen: list[Tensor] = []
    hooks = [s.register_forward_hook(lambda _, __, out: seen.append(out)) for s in stages]
    module(images)
    for hook in hooks:
        hook.remove()
    return seen
