"""Image networks, necks and lifters in the hosts: key tables and the few values that differ."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from renderpretrain.transfer.layouts import Shapes, Tensors
from renderpretrain.transfer.part import Part
from renderpretrain.transfer.tables import Table

STAGES = range(4)

TIMM_CONVNEXT: Table = (("stem.", "stem."), ("stages.", "stages."))
"""timm's classifier has one norm, after pooling: the output norms of the stages stay here."""

TIMM_SWIN: Table = (("patch_embed.", "patch_embed."), ("layers.", "layers."), ("norm3.", "norm."))

TORCHVISION_CONVNEXT: Table = (
    ("stem.#.", "features.0.#."),
    *((f"stages.{i}.downsample.#.", f"features.{2 * i}.#.") for i in STAGES[1:]),
    *((f"stages.{i}.blocks.#.conv_dw.", f"features.{2 * i + 1}.#.block.0.") for i in STAGES),
    *((f"stages.{i}.blocks.#.norm.", f"features.{2 * i + 1}.#.block.2.") for i in STAGES),
    *((f"stages.{i}.blocks.#.mlp.fc1.", f"features.{2 * i + 1}.#.block.3.") for i in STAGES),
    *((f"stages.{i}.blocks.#.mlp.fc2.", f"features.{2 * i + 1}.#.block.5.") for i in STAGES),
    *((f"stages.{i}.blocks.#.gamma", f"features.{2 * i + 1}.#.layer_scale") for i in STAGES),
)

TORCHVISION_SWIN: Table = (
    ("patch_embed.proj.", "features.0.0."),
    ("patch_embed.norm.", "features.0.2."),
    *((f"layers.{i}.downsample.", f"features.{2 * i}.") for i in STAGES[1:]),
    *((f"layers.{i}.blocks.#.mlp.fc1.", f"features.{2 * i + 1}.#.mlp.0.") for i in STAGES),
    *((f"layers.{i}.blocks.#.mlp.fc2.", f"features.{2 * i + 1}.#.mlp.3.") for i in STAGES),
    *((f"layers.{i}.blocks.#.", f"features.{2 * i + 1}.#.") for i in STAGES),
    ("norm3.", "norm."),
)

MM_SWIN: Table = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("patch_embed.norm.", "patch_embed.norm."),
    *((f"layers.{i}.downsample.", f"stages.{i - 1}.downsample.") for i in STAGES[1:]),
    ("layers.#.blocks.#.attn.", "stages.#.blocks.#.attn.w_msa."),
    ("layers.#.blocks.#.mlp.fc1.", "stages.#.blocks.#.ffn.layers.0.0."),
    ("layers.#.blocks.#.mlp.fc2.", "stages.#.blocks.#.ffn.layers.1."),
    ("layers.#.blocks.#.", "stages.#.blocks.#."),
    ("norm", "norm"),
)


def _mm_convnext(depthwise: str, pointwise: str) -> Table:
    """ConvNeXt as mmpretrain arranges it, with its names for the three layers of a block."""
    return (
        ("stem.", "downsample_layers.0."),
        ("stages.#.downsample.", "downsample_layers.#."),
        ("stages.#.blocks.#.conv_dw.", f"stages.#.#.{depthwise}."),
        ("stages.#.blocks.#.mlp.fc1.", f"stages.#.#.{pointwise}1."),
        ("stages.#.blocks.#.mlp.fc2.", f"stages.#.#.{pointwise}2."),
        ("stages.#.blocks.#.", "stages.#.#."),
        ("norm", "norm"),
    )


NECK_TO_MMDET3D: Table = (("blocks.", "pts_backbone.blocks."), ("deblocks.", "pts_neck.deblocks."))


def reorder_merging(tensors: Tensors) -> Tensors:
    """For mmdetection, which reads merged cells channel by channel, and right before below."""
    out = dict(tensors)
    for key, value in tensors.items():
        if ".downsample." in key:
            cells = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
            out[key] = cells.transpose(-1, -2).flatten(-2)
    return out


def restore_merging(tensors: Tensors) -> Tensors:
    """Undo :func:`reorder_merging`."""
    out = dict(tensors)
    for key, value in tensors.items():
        if ".downsample." in key:
            out[key] = value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)
    return out


def position_index(table: Tensor) -> Tensor:
    """Row of a Swin's bias table for every pair of cells of a window, as hosts keep it."""
    side = (math.isqrt(len(table)) + 1) // 2
    row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    down = row[:, None] - row[None] + side - 1
    return down * (2 * side - 1) + column[:, None] - column[None] + side - 1


def mm_swin_leaves(tensors: Tensors) -> Tensors:
    """The merging of mmdetection, and the index it keeps in its weights."""
    return reorder_merging(_with_index(tensors, flat=False))


def torchvision_swin_leaves(tensors: Tensors) -> Tensors:
    """The index as torchvision keeps it, a column."""
    return _with_index(tensors, flat=True)


def without_index(tensors: Tensors) -> Tensors:
    """What every network computes itself."""
    return {k: v for k, v in tensors.items() if not k.endswith(("relative_position_index", "attn_mask"))}


def mm_swin_enters(tensors: Tensors) -> Tensors:
    """Undo :func:`mm_swin_leaves`."""
    return restore_merging(without_index(tensors))


def _with_index(tensors: Tensors, *, flat: bool) -> Tensors:
    out = dict(tensors)
    for key, value in tensors.items():
        if key.endswith("relative_position_bias_table"):
            index = position_index(value)
            out[key.removesuffix("bias_table") + "index"] = index.flatten() if flat else index
    return out


def scale_as_map(tensors: Tensors) -> Tensors:
    """A layer scale as torchvision has it, with the two dimensions of a map behind its own."""
    return {k: v[:, None, None] if k.endswith("layer_scale") else v for k, v in tensors.items()}


def scale_as_row(tensors: Tensors) -> Tensors:
    """Undo :func:`scale_as_map`."""
    return {k: v.flatten() if k.endswith("layer_scale") else v for k, v in tensors.items()}


def swap_map_axes(tensors: Tensors) -> Tensors:
    """BEVFusion's bird's-eye maps are ``(X, Y)``, ours ``(Y, X)``: so are the kernels on them."""
    return {
        k: v.transpose(2, 3).contiguous() if k.startswith("downsample.") and v.ndim == 4 else v
        for k, v in tensors.items()
    }


def with_can_bus(shapes: Shapes) -> Shapes:
    """BEVFormer also reads the car's own motion, which comes as a pose here."""
    width, name = shapes["bev_embedding.weight"][1], "transformer.can_bus_mlp"
    return shapes | {
        f"{name}.0.weight": (width // 2, 18),
        f"{name}.0.bias": (width // 2,),
        f"{name}.2.weight": (width, width // 2),
        f"{name}.2.bias": (width,),
        f"{name}.norm.weight": (width,),
        f"{name}.norm.bias": (width,),
    }


IMAGE_NORM = (1e-5, 0.1)
"""PyTorch's own, which all image networks here use."""

RESNET = Part("ResNet", "", "ResNet", sign="layer1.0.conv1.weight", norm=IMAGE_NORM)
FPN_PART = Part("FPN", "img_neck.", "FPN", sign="lateral_convs.0.conv.bias")
LSSFPN_PART = Part(
    "LSSFPN", "img_neck.", "GeneralizedLSSFPN", sign="lateral_convs.0.bn.weight", norm=IMAGE_NORM
)
TIMM = (
    RESNET,
    Part("ConvNeXt", "", "ConvNeXt", sign="stages.0.blocks.0.conv_dw.weight", table=TIMM_CONVNEXT),
    Part(
        "SwinTransformer",
        "",
        "SwinTransformer",
        sign="layers.0.blocks.0.attn.qkv.weight",
        table=TIMM_SWIN,
        enter=without_index,
    ),
)
TORCHVISION = (
    RESNET,
    Part(
        "ConvNeXt",
        "",
        "ConvNeXt",
        sign="features.1.0.block.0.weight",
        table=TORCHVISION_CONVNEXT,
        leave=scale_as_map,
        enter=scale_as_row,
    ),
    Part(
        "SwinTransformer",
        "",
        "SwinTransformer",
        sign="features.1.0.attn.qkv.weight",
        table=TORCHVISION_SWIN,
        leave=torchvision_swin_leaves,
        enter=without_index,
    ),
)
MM_SWIN_PART = Part(
    "SwinTransformer",
    "img_backbone.",
    "SwinTransformer",
    sign="stages.0.blocks.0.attn.w_msa.qkv.weight",
    table=MM_SWIN,
    leave=mm_swin_leaves,
    enter=mm_swin_enters,
)
MMDET3D_IMAGE = (
    replace(RESNET, prefix="img_backbone."),
    MM_SWIN_PART,
    Part(
        "ConvNeXt",
        "img_backbone.",
        "mmpretrain.ConvNeXt",
        sign="stages.0.0.depthwise_conv.weight",
        table=_mm_convnext("depthwise_conv", "pointwise_conv"),
    ),
    FPN_PART,
    LSSFPN_PART,
)
UNIPAD_IMAGE = (
    replace(RESNET, prefix="img_backbone."),
    MM_SWIN_PART,
    Part(
        "ConvNeXt",
        "img_backbone.",
        "ConvNeXt",
        sign="stages.0.0.dwconv.weight",
        table=_mm_convnext("dwconv", "pwconv"),
    ),
    FPN_PART,
    LSSFPN_PART,
)
VOLUME_NECK = Part(
    "VolumeNeck",
    "",
    "SECOND3D and SECOND3DFPN",
    sign="pts_backbone.blocks.0.0.weight",
    table=NECK_TO_MMDET3D,
    norm=(1e-3, 0.01),
)
BEVFORMER = Part(
    "BEVFormerLifter", "pts_bbox_head.", "BEVFormer", sign="bev_embedding.weight", stock=with_can_bus
)
BEVFUSION_IMAGE = (
    replace(MM_SWIN_PART, prefix="encoders.camera.backbone."),
    replace(RESNET, prefix="encoders.camera.backbone."),
    replace(LSSFPN_PART, prefix="encoders.camera.neck."),
    Part(
        "DepthLSS",
        "encoders.camera.vtransform.",
        "DepthLSSTransform",
        sign="depthnet.0.weight",
        leave=swap_map_axes,
        enter=swap_map_axes,
        norm=IMAGE_NORM,
    ),
)
