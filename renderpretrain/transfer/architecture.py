"""What an encoder is, read off its weights, and built again from that: plain values that fit in a file."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from renderpretrain.encoders import (
    FPN,
    LSSFPN,
    ConvNeXt,
    ResNet,
    SparseEncoder,
    SparseUNet,
    SwinTransformer,
    VolumeNeck,
    VoxelBackBone8x,
)
from renderpretrain.encoders.sparse_blocks import strided_specs

Spec = dict[str, Any]
"""``kind``, the class, and its arguments."""

State = Mapping[str, Tensor]

SECOND_PADDINGS = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
"""``(z, y, x)`` of the strided convolutions of SECOND's line, which weights do not tell."""


def describe(module: nn.Module) -> Spec:
    """What a module is. One that is no encoder of ours has its kind alone: a lifter, or a class of yours."""
    kind = type(module).__name__
    if kind not in KINDS or type(module) is not KINDS[kind][0]:
        ours = type(module).__module__.startswith("renderpretrain.")
        return {"kind": kind if ours else f"{type(module).__module__}.{kind}"}
    spec = {"kind": kind, **read_sizes(kind, module.state_dict()), **_not_in_weights(module)}
    norm = next((m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)), None)
    return spec if norm is None else {**spec, "momentum": norm.momentum}


def read_sizes(kind: str, state: State) -> Spec:
    """The arguments that weights tell, under our keys.

    Args:
        kind: A key of :data:`KINDS`.
        state: Weights; missing layers at the end are no error.
    """
    return KINDS[kind][1](state)


def build(spec: Spec) -> nn.Module:
    """The module, with fresh weights.

    Raises:
        ValueError: If its kind cannot be built from a file.
    """
    kind = spec.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind}")
    arguments = {k: _tuples(v) for k, v in spec.items() if k not in ("kind", "momentum")}
    module = KINDS[kind][0](**arguments)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and "momentum" in spec:
            part.momentum = spec["momentum"]
    return module


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that constructors take."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _not_in_weights(module: nn.Module) -> Spec:
    """The arguments that weights do not tell."""
    if isinstance(module, SparseEncoder):
        *specs, out = strided_specs(module)
        return {
            "strides": [list(s.stride) for s in specs],
            "paddings": [list(s.padding) for s in specs],
            "out_geometry": [list(out.kernel_size), list(out.stride), list(out.padding)],
        }
    if isinstance(module, ResNet):
        strides = [m.stride[0] for n, m in module.named_modules() if n == "layer2.0.conv1"]
        caffe = strides == [2] and "layer2.0.conv3.weight" in module.state_dict()
        return {"out_indices": list(module.out_indices), "stride_first": caffe}
    if isinstance(module, FPN):
        used = [conv.conv.in_channels for conv in module.lateral_convs]  # type: ignore[union-attr]
        return {
            "in_channels": [0] * module.start_level + used,
            "start_level": module.start_level,
            "num_outs": len(module.fpn_convs) + (0 if module.extra_convs else module.num_extra),
        }
    return {}


def _sparse_encoder(state: State) -> Spec:
    channels: list[list[int]] = []
    for i in range(_count(state, r"encoder_layers\.encoder_layer(\d+)\.", first=1)):
        stage = f"encoder_layers.encoder_layer{i + 1}"
        widths = []
        for j in range(_count(state, rf"{re.escape(stage)}\.(\d+)\.")):
            key = f"{stage}.{j}.0.weight"
            widths.append(_size(state, key if key in state else f"{stage}.{j}.conv1.weight", 0))
        channels.append(widths)
    kernel = tuple(state["conv_out.0.weight"].shape[1:4]) if "conv_out.0.weight" in state else (1, 1, 1)
    flat = kernel == (1, 1, 1)
    return {
        "in_channels": _size(state, "conv_input.0.weight", 4),
        "out_channels": _size(state, "conv_out.0.weight", 0) if "conv_out.0.weight" in state else 256,
        "channels": channels,
        "strides": [[2, 2, 2]] * (len(channels) - 1),
        "paddings": [list(p) for p in SECOND_PADDINGS[: len(channels) - 1]],
        "out_geometry": [1, 1, 0] if flat else [list(kernel), [1 if k == 1 else 2 for k in kernel], 0],
    }


def _voxelbackbone8x(state: State) -> Spec:
    return {"in_channels": _size(state, "conv_input.0.weight", 4)}


def _sparse_unet(state: State) -> Spec:
    prompted = "conv_input.conv.weight" in state
    conv, stages = ("conv" if prompted else "0"), _count(state, r"down\.(\d+)\.")
    down = [_size(state, f"down.{s}.{conv}.weight", 0) for s in range(stages)]
    up = [_size(state, f"up.{s}.{conv}.weight", 0) for s in reversed(range(stages))]
    depths = [_count(state, rf"enc\.{s}\.block(\d+)\.") for s in range(stages)]
    depths += [_count(state, rf"dec\.{s}\.block(\d+)\.") for s in reversed(range(stages))]
    spec = {
        "in_channels": _size(state, f"conv_input.{conv}.weight", 4),
        "channels": down + up,
        "depths": depths,
        "stem_channels": _size(state, f"conv_input.{conv}.weight", 0),
    }
    if prompted:
        domains = _count(state, r"conv_input\.bn\.bns\.(\d+)\.")
        spec["prompt"] = [domains, _size(state, "conv_input.bn.modulation.1.weight", 1)]
    return spec


def _resnet(state: State) -> Spec:
    stages = _count(state, r"layer(\d+)\.", first=1)
    return {
        "depths": [_count(state, rf"layer{i + 1}\.(\d+)\.") for i in range(stages)],
        "bottleneck": "layer1.0.conv3.weight" in state,
        "width": _size(state, "conv1.weight", 0),
    }


def _convnext(state: State) -> Spec:
    stages = _count(state, r"stages\.(\d+)\.")
    return {
        "depths": [_count(state, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(stages)],
        "widths": [_size(state, f"stages.{i}.blocks.0.conv_dw.weight", 0) for i in range(stages)],
        "layer_scale": 1.0 if "stages.0.blocks.0.gamma" in state else 0.0,
        "out_indices": _normed(state, stages),
    }


def _swin(state: State) -> Spec:
    layers = _count(state, r"layers\.(\d+)\.")
    rows = _size(state, "layers.0.blocks.0.attn.relative_position_bias_table", 0)
    return {
        "depths": [_count(state, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(layers)],
        "width": _size(state, "patch_embed.proj.weight", 0),
        "window": (math.isqrt(rows) + 1) // 2,
        "out_indices": _normed(state, layers),
        "mask_token": "mask_token" in state,
    }


def _fpn(state: State) -> Spec:
    used = _count(state, r"lateral_convs\.(\d+)\.")
    outs = _count(state, r"fpn_convs\.(\d+)\.")
    return {
        "in_channels": [_size(state, f"lateral_convs.{i}.conv.weight", 1) for i in range(used)],
        "out_channels": _size(state, "lateral_convs.0.conv.weight", 0),
        "num_outs": outs,
        "extra_convs": outs > used,
    }


def _lssfpn(state: State) -> Spec:
    count = _count(state, r"lateral_convs\.(\d+)\.")
    out = _size(state, "lateral_convs.0.conv.weight", 0)
    both = [_size(state, f"lateral_convs.{i}.conv.weight", 1) for i in range(count)]
    # Of the two coarsest maps only the sum is known; in the networks in use each has twice the one before.
    return {"in_channels": [n - out for n in both[:-1]] + [both[-1] // 3, both[-1] - both[-1] // 3]} | {
        "out_channels": out
    }


def _volume_neck(state: State) -> Spec:
    branches = _count(state, r"blocks\.(\d+)\.")
    convs = [k for k, v in state.items() if k.startswith("blocks.0.") and v.ndim == 5]
    return {
        "in_channels": _size(state, "blocks.0.0.weight", 1),
        "out_channels": _size(state, "deblocks.0.1.weight", 0),
        "channels": [_size(state, f"blocks.{i}.0.weight", 0) for i in range(branches)],
        "strides": [_size(state, f"deblocks.{i}.0.weight", 4) for i in range(branches)],
        "num_blocks": len(convs) - 1,
    }


def _normed(state: State, stages: int) -> list[int]:
    """Stages with an output norm; all where a file has none."""
    return [i for i in range(stages) if f"norm{i}.weight" in state] or list(range(stages))


def _count(state: State, pattern: str, *, first: int = 0) -> int:
    """How many numbers in a row, from the first one on, the keys have where the pattern says."""
    found = {int(m.group(1)) for m in (re.match(pattern, key) for key in state) if m}
    return next(n for n in range(len(found) + 1) if n + first not in found)


def _size(state: State, key: str, dimension: int) -> int:
    """One side of a tensor; raises a ``ValueError`` if there is none."""
    if key not in state:
        raise ValueError(f"expected a tensor {key}, found none")
    shape = tuple(state[key].shape)
    if len(shape) <= dimension:
        raise ValueError(f"expected more than {dimension} dimensions of {key}, got {shape}")
    return shape[dimension]


KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[[State], Spec]]] = {
    "SparseEncoder": (SparseEncoder, _sparse_encoder),
    "VoxelBackBone8x": (VoxelBackBone8x, _voxelbackbone8x),
    "SparseUNet": (SparseUNet, _sparse_unet),
    "ResNet": (ResNet, _resnet),
    "ConvNeXt": (ConvNeXt, _convnext),
    "SwinTransformer": (SwinTransformer, _swin),
    "FPN": (FPN, _fpn),
    "LSSFPN": (LSSFPN, _lssfpn),
    "VolumeNeck": (VolumeNeck, _volume_neck),
}
"""Encoders that can be built from a file: class, and how its sizes are read off its weights."""
