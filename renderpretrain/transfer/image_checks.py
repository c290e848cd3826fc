"""Our image networks and necks beside the hosts', on the same random input."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import FPN, LSSFPN, ConvNeXt, ResNet, SwinTransformer, VolumeNeck
from renderpretrain.transfer.architecture import describe
from renderpretrain.transfer.dense_images import (
    conv_stack,
    convnext,
    fpn,
    layer_norm,
    lss_fpn,
    resnet,
    swin_layer,
    swin_stem,
    volume_neck,
)
from renderpretrain.transfer.part import Host

State = dict[str, Tensor]
Pair = tuple[list[Tensor], list[Tensor]]
Check = Callable[[Any, State, Host, torch.Generator], Pair]


def _check_resnet(module: ResNet, state: State, host: Host, generator: torch.Generator) -> Pair:
    """The maps it returns; timm and torchvision always stride in the second convolution."""
    images = torch.randn(2, 3, 64, 96, generator=generator)
    caffe = describe(module)["stride_first"] and host.name not in ("timm", "torchvision")
    theirs = resnet(state, images, stride_first=caffe)
    return module(images), [theirs[i] for i in module.out_indices]


def _check_convnext(module: ConvNeXt, state: State, host: Host, generator: torch.Generator) -> Pair:
    """All stages, and the output norms where the host has them."""
    images = torch.randn(2, 3, 64, 96, generator=generator)
    stages = _outputs(module, module.stages, images)
    theirs = convnext(state, images, host.name)
    for i in module.out_indices:
        if f"norm{i}.weight" in state:
            stages.append(module.get_submodule(f"norm{i}")(stages[i]))
            theirs.append(
                layer_norm(state, f"norm{i}", theirs[i].permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)
            )
    return stages, theirs


def _check_swin(module: SwinTransformer, state: State, host: Host, generator: torch.Generator) -> Pair:
    """Patches, then every layer on a map of more than one window; the output norms the host has."""
    family = host.name if host.name in ("timm", "torchvision") else "mm"
    images = torch.randn(2, 3, 32, 48, generator=generator)
    ours, theirs = [module.patch_embed(images)], [swin_stem(state, images, family)]
    window = describe(module)["window"]
    for i, layer in enumerate(module.layers):
        width = describe(module)["width"] * 2 ** max(i - 1, 0)
        scale = 2 if i else 1
        x = torch.randn(1, scale * (window + 2), scale * (window + 4), width, generator=generator)
        ours.append(layer(x))
        theirs.append(swin_layer(state, x, i, family))
    last = len(module.layers) - 1
    for i in module.out_indices:
        name = "norm" if family != "mm" and i == last else f"norm{i}"
        if f"{name}.weight" in state:
            ours.append(module.get_submodule(f"norm{i}")(ours[i + 1]))
            theirs.append(layer_norm(state, name, theirs[i + 1]))
    return ours, theirs


def _check_fpn(module: FPN, state: State, host: Host, generator: torch.Generator) -> Pair:
    """All levels."""
    spec = describe(module)
    maps = _pyramid(spec["in_channels"], generator)
    return module(maps), fpn(state, maps[spec["start_level"] :], spec["num_outs"])


def _check_lssfpn(module: LSSFPN, state: State, host: Host, generator: torch.Generator) -> Pair:
    """All levels."""
    maps = _pyramid(describe(module)["in_channels"], generator)
    return module(maps), lss_fpn(state, maps)


def _check_volume_neck(module: VolumeNeck, state: State, host: Host, generator: torch.Generator) -> Pair:
    """The summed volume."""
    spec = describe(module)
    side = max(spec["strides"])
    volume = torch.randn(1, spec["in_channels"], 3, 4 * side, 6 * side, generator=generator)
    return [module(volume)], [volume_neck(state, volume)]


def _check_depth_lss(module: Any, state: State, host: Host, generator: torch.Generator) -> Pair:
    """The three stacks of convolutions; the last runs on a map of BEVFusion's ``(X, Y)``."""
    depthnet = torch.randn(1, module.depthnet[0].in_channels, 10, 14, generator=generator)
    bev = torch.randn(1, module.downsample[0].in_channels, 16, 24, generator=generator)
    scale = module.downsample[3].stride[0]
    ours = [module.depthnet(depthnet), module.downsample(bev)]
    swapped = conv_stack(state, "downsample", bev.transpose(2, 3), (1, scale, 1)).transpose(2, 3)
    theirs = [conv_stack(state, "depthnet", depthnet, (1, 1, 1)), swapped]
    if module.dtransform is not None:
        depth = torch.randn(1, 1, 32, 48, generator=generator)
        ours.append(module.dtransform(depth))
        theirs.append(conv_stack(state, "dtransform", depth, (1, 4, 2)))
    return ours, theirs


def _outputs(module: nn.Module, stages: Iterable[nn.Module], images: Tensor) -> list[Tensor]:
    """What the stages of a network give on the way."""
    seen: list[Tensor] = []
    hooks = [s.register_forward_hook(lambda _, __, out: seen.append(out)) for s in stages]
    module(images)
    for hook in hooks:
        hook.remove()
    return seen


def _pyramid(channels: list[int], generator: torch.Generator) -> list[Tensor]:
    """Maps, each half as large as the one before."""
    return [
        torch.randn(
            1, max(c, 1), 2 ** (len(channels) - i) * 3, 2 ** (len(channels) - i) * 4, generator=generator
        )
        for i, c in enumerate(channels)
    ]


IMAGE_CHECKS: dict[str, Check] = {
    "ResNet": _check_resnet,
    "ConvNeXt": _check_convnext,
    "SwinTransformer": _check_swin,
    "FPN": _check_fpn,
    "LSSFPN": _check_lssfpn,
    "VolumeNeck": _check_volume_neck,
    "DepthLSS": _check_depth_lss,
}
"""By kind."""
