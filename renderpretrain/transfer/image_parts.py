"""Image networks, necks and lifters in the hosts: key tables and the few values that differ."""

from dataclasses import replace

from renderpretrain.encoders.image_names import NAMINGS
from renderpretrain.encoders.image_tables import (
    MM_SWIN,
    TIMM_CONVNEXT,
    TIMM_SWIN,
    TORCHVISION_CONVNEXT,
    TORCHVISION_SWIN,
    authors_convnext,
    mm_swin_enters,
    mm_swin_leaves,
    scale_as_map,
    scale_as_row,
    torchvision_swin_leaves,
    without_index,
)
from renderpretrain.encoders.key_tables import Table
from renderpretrain.transfer.layouts import Shapes, Tensors
from renderpretrain.transfer.part import Part

NECK_TO_MMDET3D: Table = (("blocks.", "pts_backbone.blocks."), ("deblocks.", "pts_neck.deblocks."))


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
ANY_LIBRARY = tuple(
    Part(
        naming.kind,
        "",
        f"{naming.kind} of {naming.library}",
        sign=naming.sign,
        table=naming.table,
        enter=naming.enter,
        norm=IMAGE_NORM if naming.kind == "ResNet" else None,
        absent=naming.absent,
    )
    for naming in NAMINGS
)
"""Image networks on their way in: who named their weights is told by the names."""

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
        table=authors_convnext("depthwise_conv", "pointwise_conv"),
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
        table=authors_convnext("dwconv", "pwconv"),
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
