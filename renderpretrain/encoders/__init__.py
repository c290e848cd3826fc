"""Networks that are pre-trained and taken home: masked image CNNs, pyramids, sparse and dense 3D encoders.

Constructor arguments are the configuration; parameter names are those of the frameworks the weights go to.
"""

from renderpretrain.encoders.checking import (
    check_image_encoder,
    check_point_encoder,
    check_sensors,
    needs_trial,
    own_image_encoder,
    own_point_encoder,
)
from renderpretrain.encoders.contract import (
    FlatEncoder,
    GridLevels,
    ImageEncoder,
    ImageLevels,
    ImageMaps,
    PointEncoder,
    VolumeEncoder,
    VoxelEncoder,
)
from renderpretrain.encoders.convnext import ConvNeXt, convnext_small, convnext_tiny
from renderpretrain.encoders.described import DescribedModule, Role, Sizes
from renderpretrain.encoders.fpn import FPN
from renderpretrain.encoders.image_network import TIMM, image_network
from renderpretrain.encoders.levels import GridLevel, ImageLevel, Level, grid_levels, image_levels
from renderpretrain.encoders.lss_fpn import LSSFPN
from renderpretrain.encoders.masked import (
    MaskedBatchNorm2d,
    MaskedConv2d,
    MaskedLayerNorm2d,
    MaskedMaxPool2d,
    hide_cells,
    resize_mask,
)
from renderpretrain.encoders.occupancy_decoder import OccupancyDecoder
from renderpretrain.encoders.perceptron import FeatureHeads
from renderpretrain.encoders.prompt_norm import Domains, PromptNorm
from renderpretrain.encoders.resnet import ResNet, resnet18, resnet34, resnet50, resnet101
from renderpretrain.encoders.sparse_backend import Backend, agree_on, sparse_backend, spconv_status
from renderpretrain.encoders.sparse_blocks import RowBatchNorm, SparseBasicBlock, SparseSequential
from renderpretrain.encoders.sparse_conv import SparseConv3d, SparseInverseConv3d, SubMConv3d
from renderpretrain.encoders.sparse_encoder import SparseEncoder, VoxelBackBone8x
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.encoders.sparse_unet import SparseUNet
from renderpretrain.encoders.swin import SwinTransformer, swin_small, swin_tiny
from renderpretrain.encoders.timm_backbone import TimmBackbone, timm_backbone
from renderpretrain.encoders.volume_neck import VolumeConv, VolumeNeck
from renderpretrain.encoders.volume_unet import VolumeUNet
from renderpretrain.encoders.voxelize import Voxels, voxelize
from renderpretrain.encoders.window_attention import WindowAttention

ENCODERS: dict[str, type[DescribedModule]] = {
    encoder.__name__: encoder
    for encoder in (
        SparseEncoder,
        VoxelBackBone8x,
        SparseUNet,
        ResNet,
        ConvNeXt,
        SwinTransformer,
        FPN,
        LSSFPN,
        VolumeNeck,
    )
}
"""Encoders that can be built from a file of weights alone, by the names that files call them."""

__all__ = [
    "ENCODERS",
    "FPN",
    "LSSFPN",
    "TIMM",
    "Backend",
    "ConvNeXt",
    "DescribedModule",
    "Domains",
    "FeatureHeads",
    "FlatEncoder",
    "GridLevel",
    "GridLevels",
    "ImageEncoder",
    "ImageLevel",
    "ImageLevels",
    "ImageMaps",
    "Level",
    "MaskedBatchNorm2d",
    "MaskedConv2d",
    "MaskedLayerNorm2d",
    "MaskedMaxPool2d",
    "OccupancyDecoder",
    "PointEncoder",
    "PromptNorm",
    "ResNet",
    "Role",
    "RowBatchNorm",
    "Sizes",
    "SparseBasicBlock",
    "SparseConv3d",
    "SparseEncoder",
    "SparseInverseConv3d",
    "SparseSequential",
    "SparseTensor",
    "SparseUNet",
    "SubMConv3d",
    "SwinTransformer",
    "TimmBackbone",
    "VolumeConv",
    "VolumeEncoder",
    "VolumeNeck",
    "VolumeUNet",
    "VoxelBackBone8x",
    "VoxelEncoder",
    "Voxels",
    "WindowAttention",
    "agree_on",
    "check_image_encoder",
    "check_point_encoder",
    "check_sensors",
    "convnext_small",
    "convnext_tiny",
    "grid_levels",
    "hide_cells",
    "image_levels",
    "image_network",
    "needs_trial",
    "own_image_encoder",
    "own_point_encoder",
    "resize_mask",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "sparse_backend",
    "spconv_status",
    "swin_small",
    "swin_tiny",
    "timm_backbone",
    "voxelize",
]
