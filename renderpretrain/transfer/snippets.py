"""What to paste into a host's configuration, and what else its user must know."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.strides import covering_shape
from renderpretrain.transfer.layouts import Tensors
from renderpretrain.transfer.part import Host
from renderpretrain.transfer.pretrained import Encoder, Pretrained

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""What our image networks are fed with, in the hosts' units of 0 to 255, RGB."""


def snippet(pretrained: Pretrained, host: Host, tensors: Tensors, *, plain: bool = False) -> str:
    """Lines of the host's configuration with which the exported encoders are built and loaded.

    Args:
        pretrained: The encoders.
        host: Where they go.
        tensors: What is written.
        plain: Whether that is a safetensors file.
    """
    lines = SNIPPETS[host.name](pretrained, tensors)
    if plain and host.wrapper is None:
        lines = [line.replace("torch.load('FILE', weights_only=True)", "load_file('FILE')") for line in lines]
        lines.insert(0, "from safetensors.torch import load_file")
    return "\n".join(line for line in lines if line) + "\n"


def notes_for(pretrained: Pretrained, host: Host) -> tuple[str, ...]:
    """What no loader checks: units of the inputs, and the host's own trap."""
    notes = [host.trap] if host.trap else []
    sparse = [e for e in pretrained.encoders.values() if e.kind in ("SparseEncoder", "SparseUNet")]
    if sparse:
        columns = sparse[0].spec["in_channels"]
        names = ("x", "y", "z", "intensity in 0 to 1 (nuScenes stores 0 to 255)", "time lag in seconds")
        notes.append(f"a voxel is the mean of its points' {', '.join(names[:columns])}")
    if any(e.kind == "FPN" or e.kind in IMAGE_KINDS for e in pretrained.encoders.values()):
        notes.append(f"images are RGB, mean {MEAN}, std {STD}")
    caffe = any(e.spec.get("stride_first") for e in pretrained.encoders.values())
    if caffe and host.wrapper is None:
        notes.append(f"{host.name}'s ResNet strides in its second convolutions, this one in its first")
    return (*notes, *unfinished(pretrained))


def unfinished(pretrained: Pretrained) -> tuple[str, ...]:
    """What is to be known of a run that has not ended, where it has batch norms."""
    normed = any(k.endswith("running_mean") for e in pretrained.encoders.values() for k in e.tensors)
    if pretrained.about.get("statistics") != "masked" or not normed:
        return ()
    step = pretrained.about.get("step", "(unknown)")
    return (
        f"the run stopped at step {step}: its batch norms' running statistics are those "
        "of masked inputs; `pretrain --resume` to its end measures them on whole ones",
    )


def _openpcdet(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    box, size = _grid(pretrained)
    residual = any(".conv1.weight" in key for key in tensors)
    return [
        "# tools/cfgs/<model>.yaml; then: python train.py --cfg_file <model>.yaml --pretrained_model FILE",
        "DATA_CONFIG:" if box else "",
        f"    POINT_CLOUD_RANGE: {list(box)}" if box else "",
        f"    # in DATA_PROCESSOR, transform_points_to_voxels: VOXEL_SIZE: {list(size)}" if size else "",
        "MODEL:",
        "    VFE: {NAME: MeanVFE}",
        f"    BACKBONE_3D: {{NAME: {'VoxelResBackBone8x' if residual else 'VoxelBackBone8x'}}}",
        "    # its batch norms have eps 1e-3 and momentum 0.01, fixed in the code",
    ]


def _mmdet3d(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    box, size = _grid(pretrained)
    lines = ["load_from = 'FILE'", f"point_cloud_range = {list(box)}" if box else ""]
    lines += [f"voxel_size = {list(size)}" if size else ""]
    lines += ["model = dict("]
    for encoder in pretrained.encoders.values():
        lines += _mm_part(encoder, tensors, _cells(box, size))
    if any(e.kind in IMAGE_KINDS for e in pretrained.encoders.values()):
        lines.append(f"    data_preprocessor=dict(mean={list(MEAN)}, std={list(STD)}, bgr_to_rgb=True),")
    return [*lines, ")"]


def _mm_part(encoder: Encoder, tensors: Tensors, cells: Sequence[int] | None) -> list[str]:
    """Lines of one encoder."""
    spec = encoder.spec
    if encoder.kind == "SparseEncoder":
        flat = not any(key.startswith("pts_middle_encoder.conv_out.") for key in tensors)
        shape = list(_sparse_shape(spec, cells)) if cells else "[Z + 1, Y, X]"
        stages = zip(spec["channels"], spec["paddings"], strict=False)
        paddings = [[1] * (len(widths) - 1) + [padding] for widths, padding in stages]
        return [
            "    pts_middle_encoder=dict(type='SparseEncoder', block_type='basicblock',",
            f"        in_channels={spec['in_channels']}, sparse_shape={shape},",
            f"        base_channels={spec['channels'][0][0]}, output_channels={spec['out_channels']},",
            f"        encoder_channels={spec['channels']},",
            f"        encoder_paddings={[*paddings, [1] * len(spec['channels'][-1])]},",
            "        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),",
            "    # without conv_out: the host halves the height there, the recipe does not" if flat else "",
        ]
    if encoder.kind == "VoxelBackBone8x":
        return [
            f"    pts_middle_encoder=dict(type='SparseEncoder', in_channels={spec['in_channels']}, "
            "norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),"
        ]
    if encoder.kind in IMAGE_KINDS:
        return [
            f"    {_no_depth(encoder)}" if _no_depth(encoder) else "",
            f"    {'# ' if _no_depth(encoder) else ''}img_backbone=dict({_image(encoder)}),",
        ]
    if encoder.kind == "FPN":
        extra = (
            ", add_extra_convs='on_output', relu_before_extra_convs=True" if spec.get("extra_convs") else ""
        )
        start = f", start_level={spec['start_level']}" if spec.get("start_level") else ""
        return [
            f"    img_neck=dict(type='FPN', in_channels={spec['in_channels']}, "
            f"out_channels={spec['out_channels']}, num_outs={spec['num_outs']}{start}{extra}),"
        ]
    return []


def _bevfusion(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    box, size = _grid(pretrained)
    lines = ["# configs/...yaml", "load_from: FILE"]
    lines += [f"point_cloud_range: {list(box)}" if box else "", f"voxel_size: {list(size)}" if size else ""]
    cells = _cells(box, size)
    for encoder in pretrained.encoders.values():
        if encoder.kind == "SparseEncoder":
            spec = encoder.spec
            shape = list(_sparse_shape(spec, cells))[::-1] if cells else "[X, Y, Z + 1]"
            lines.append(
                "model.encoders.lidar.backbone: {type: SparseEncoder, block_type: basicblock, "
                f"in_channels: {spec['in_channels']}, sparse_shape: {shape}, "
                f"output_channels: {spec['out_channels']}, encoder_channels: {spec['channels']}}}"
            )
        if encoder.kind in IMAGE_KINDS:
            none = _no_depth(encoder)
            lines += [none, f"{'# ' if none else ''}model.encoders.camera.backbone: dict({_image(encoder)})"]
    return lines


def _pointcept(pretrained: Pretrained, _: Tensors) -> list[str]:
    spec = next(e.spec for e in pretrained.encoders.values() if e.kind == "SparseUNet")
    size = _grid(pretrained)[1]
    kind = "SpUNet-v1m3" if spec.get("prompt") else "SpUNet-v1m1"
    return [
        "weight = 'FILE'",
        f"grid_size = {size[0]}  # of GridSample" if size else "",
        f"backbone = dict(type='{kind}', in_channels={spec['in_channels']}, num_classes=NUM_CLASSES,",
        f"    base_channels={spec['stem_channels']}, channels={tuple(spec['channels'])},",
        f"    layers={tuple(spec['depths'])})",
        "hooks = [dict(type='CheckpointLoader', keywords='module.', replacement='module.')]",
    ]


def _timm(pretrained: Pretrained, _: Tensors) -> list[str]:
    encoder = _image_encoder(pretrained)
    name = _published(encoder)[0]
    made = f"timm.create_model('{name}', pretrained=False)" if name else ""
    return ["import timm, torch", *_loaded(encoder, "timm", made)]


def _torchvision(pretrained: Pretrained, _: Tensors) -> list[str]:
    encoder = _image_encoder(pretrained)
    name = _published(encoder)[1]
    made = f"torchvision.models.{name}()" if name else ""
    return ["import torch, torchvision", *_loaded(encoder, "torchvision", made)]


def _loaded(encoder: Encoder, library: str, made: str) -> list[str]:
    """Lines that load the file into a library's model; ``made`` says how that is built, if it can be."""
    model = [f"model = {made}  # {_image(encoder)}"]
    if not made:
        model = [f"# no model of {library} has these sizes; build one: {_image(encoder)}", "model = ..."]
    return [*model, "print(model.load_state_dict(torch.load('FILE', weights_only=True), strict=False))"]


def _image_encoder(pretrained: Pretrained) -> Encoder:
    return next(e for e in pretrained.encoders.values() if e.kind in IMAGE_KINDS)


def _image(encoder: Encoder) -> str:
    """An image network's arguments in mmdetection's words."""
    spec = encoder.spec
    if encoder.kind == "ResNet":
        depths, depth = spec["depths"], _depth(spec)
        style = "caffe" if spec["stride_first"] else "pytorch"
        stages = f", num_stages={len(depths)}" if len(depths) != 4 else ""
        return (
            f"type='ResNet', depth={depth}, base_channels={spec['width']}, style='{style}'{stages}, "
            f"out_indices={tuple(spec['out_indices'])}"
        )
    if encoder.kind == "ConvNeXt":
        arch = {"depths": spec["depths"], "channels": spec["widths"]}
        return f"type='mmpretrain.ConvNeXt', arch={arch}, gap_before_final_norm=False"
    heads = [max(1, spec["width"] * 2**i // 32) for i in range(len(spec["depths"]))]
    return (
        f"type='SwinTransformer', embed_dims={spec['width']}, depths={spec['depths']}, num_heads={heads}, "
        f"window_size={spec['window']}, out_indices={spec['out_indices']}"
    )


def _depth(spec: Mapping[str, Any]) -> int | None:
    """The depth of a published ResNet that begins with the same stages."""
    blocks = tuple(spec["depths"])
    begins = (
        n for (b, kind), n in RESNETS.items() if (b[: len(blocks)], kind) == (blocks, spec["bottleneck"])
    )
    return next(begins, None)


def _no_depth(encoder: Encoder) -> str:
    """A comment where mmdetection cannot build a ResNet."""
    spec = encoder.spec
    if encoder.kind != "ResNet" or _depth(spec):
        return ""
    kind = "bottlenecks" if spec["bottleneck"] else "basic blocks"
    sizes = ", ".join(map(str, RESNETS.values()))
    return f"# none of its ResNets ({sizes}) has stages of {spec['depths']} {kind}"


def _published(encoder: Encoder) -> tuple[str, str]:
    """What timm and torchvision call a model of an image network's sizes; empty where there is none."""
    spec, depths = encoder.spec, tuple(encoder.spec["depths"])
    if encoder.kind == "ResNet":
        depth = RESNETS.get((depths, spec["bottleneck"])) if spec["width"] == 64 else None
        return (f"resnet{depth}",) * 2 if depth else ("", "")
    if encoder.kind == "ConvNeXt":
        doubled = all(b == 2 * a for a, b in itertools.pairwise(spec["widths"]))
        size = CONVNEXTS.get((depths, spec["widths"][0])) if doubled else None
        return (f"convnext_{size}",) * 2 if size else ("", "")
    size = SWINS.get((depths, spec["width"])) if spec["window"] == 7 else None
    return (f"swin_{size}_patch4_window7_224", f"swin_{size[0]}") if size else ("", "")


def _grid(pretrained: Pretrained) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """The box and the encoder's voxels, where a run's configuration says them."""
    config: Mapping[str, Any] = pretrained.about.get("config") or {}
    for section in ("lidar", "encoder"):
        if "voxel_size" in config.get(section, {}):
            return config["point_cloud_range"], config[section]["voxel_size"]
    return config.get("point_cloud_range"), None


def _cells(box: Sequence[float] | None, size: Sequence[float] | None) -> list[int] | None:
    """Voxels along x, y, z."""
    if not box or not size:
        return None
    return [math.ceil((box[i + 3] - box[i]) / size[i] - 1e-6) for i in range(3)]


def _sparse_shape(spec: Mapping[str, Any], cells: Sequence[int]) -> tuple[int, int, int]:
    """``(Z, Y, X)`` that a host must be told so that its volume is as large as ours."""
    strided = zip(spec["strides"], spec["paddings"], strict=True)
    convs = [ConvSpec("strided", (3, 3, 3), tuple(stride), tuple(padding)) for stride, padding in strided]
    return covering_shape((cells[2], cells[1], cells[0]), convs)


IMAGE_KINDS = ("ResNet", "ConvNeXt", "SwinTransformer")
RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
"""Depth by blocks per stage, and whether they are bottlenecks."""

CONVNEXTS = {
    ((3, 3, 9, 3), 96): "tiny",
    ((3, 3, 27, 3), 96): "small",
    ((3, 3, 27, 3), 128): "base",
    ((3, 3, 27, 3), 192): "large",
}
SWINS = {((2, 2, 6, 2), 96): "tiny", ((2, 2, 18, 2), 96): "small", ((2, 2, 18, 2), 128): "base"}
"""Published size by blocks per stage and the first stage's width."""

SNIPPETS: dict[str, Callable[[Pretrained, Tensors], list[str]]] = {
    "openpcdet": _openpcdet,
    "mmdet3d": _mmdet3d,
    "mmdet3d-0.17": _mmdet3d,
    "bevfusion": _bevfusion,
    "pointcept": _pointcept,
    "timm": _timm,
    "torchvision": _torchvision,
}
"""By host."""
