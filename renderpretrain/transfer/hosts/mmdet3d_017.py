"""mmdetection3d before 1.0, on which UniPAD, UVTR and BEVFormer are built: what differs from later ones."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from renderpretrain.encoders import VolumeNeck
from renderpretrain.encoders.image_tables import authors_convnext
from renderpretrain.encoders.key_tables import Table
from renderpretrain.transfer.architecture import Spec
from renderpretrain.transfer.hosts.mmdet3d import (
    CONVNEXT,
    CONVNEXT_PART,
    FPN_PART,
    LSSFPN_PART,
    PLAIN,
    RESIDUAL,
    RESNET,
    SWIN_PART,
    Lines,
    check_plain,
    check_residual,
    snippet,
)
from renderpretrain.transfer.layouts import Layout, Shapes
from renderpretrain.transfer.part import SECOND_NORM, Host, Pair, Part, State, as_exported
from renderpretrain.transfer.restating.image_networks import check_convnext
from renderpretrain.transfer.restating.layers import Weights, batch_norm

LAYOUT = Layout("RSCK", "zyx")

NECK_KEYS: Table = (("blocks.", "pts_backbone.blocks."), ("deblocks.", "pts_neck.deblocks."))


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


def _volume_neck(spec: Spec) -> list[str]:
    """UniPAD's two modules; https://github.com/Nightmare-n/UniPAD, uvtr_lidar_vs0.075_pretrain.py."""
    widths, strides = list(spec["channels"]), list(spec["strides"])
    branches = len(widths)
    norm = "norm_cfg=dict(type='BN3d', eps=1e-3, momentum=0.01)"
    return [
        "    pts_backbone=dict(type='SECOND3D', is_cascade=False,",
        f"        in_channels={[spec['in_channels']] * branches}, out_channels={widths},",
        f"        layer_nums={[spec['num_blocks']] * branches}, layer_strides={strides},",
        f"        {norm},",
        "        conv_cfg=dict(type='Conv3d', kernel=(1, 3, 3), bias=False)),",
        "    pts_neck=dict(type='SECOND3DFPN',",
        f"        in_channels={widths}, out_channels={[spec['out_channels']] * branches},",
        f"        upsample_strides={strides}, {norm},",
        "        upsample_cfg=dict(type='deconv3d', bias=False), use_conv_for_no_stride=True),",
        "    # UniPAD's configurations for fine-tuning add an extra_conv, which starts anew",
    ]


def _bevformer(_: Spec) -> list[str]:
    return ["    # pts_bbox_head: keep the host's own lines of BEVFormer"]


LINES: Lines = {"VolumeNeck": _volume_neck, "BEVFormerLifter": _bevformer}


def check_volume_neck(module: VolumeNeck, state: State, generator: torch.Generator) -> Pair:
    """Compare the volume that the neck makes."""
    sizes = module.sizes
    side = max(sizes["strides"])
    volume = torch.randn(1, sizes["in_channels"], 3, 4 * side, 6 * side, generator=generator)
    return [module(volume)], [volume_neck(state, volume)]


def volume_neck(state: Weights, volume: Tensor) -> Tensor:
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


UNIPAD_RESIDUAL = replace(
    RESIDUAL,
    module="SparseEncoder, or SparseEncoderHD",
    stock=as_exported,
    check=partial(check_residual, layout=LAYOUT),
)
UNIPAD_CONVNEXT = replace(
    CONVNEXT_PART,
    module="ConvNeXt",
    marker="stages.0.0.dwconv.weight",
    table=authors_convnext("dwconv", "pwconv"),
    check=partial(
        check_convnext, names=replace(CONVNEXT, depthwise="dwconv", perceptron=("pwconv1", "pwconv2"))
    ),
)
VOLUME_NECK = Part(
    "VolumeNeck",
    "",
    "SECOND3D and SECOND3DFPN",
    marker="pts_backbone.blocks.0.0.weight",
    table=NECK_KEYS,
    norm=SECOND_NORM,
    check=check_volume_neck,
)
BEVFORMER = Part(
    "BEVFormerLifter", "pts_bbox_head.", "BEVFormer", marker="bev_embedding.weight", stock=with_can_bus
)
MMDET3D_017 = Host(
    "mmdet3d-0.17",
    "mmdetection3d 0.x (UniPAD, UVTR, BEVFormer) or 1.x without spconv 2",
    "state_dict",
    LAYOUT,
    (
        UNIPAD_RESIDUAL,
        replace(PLAIN, check=partial(check_plain, layout=LAYOUT)),
        VOLUME_NECK,
        RESNET,
        SWIN_PART,
        UNIPAD_CONVNEXT,
        FPN_PART,
        LSSFPN_PART,
        BEVFORMER,
    ),
    partial(snippet, parts=LINES),
    warning="mismatches are only logged: read the log after load_from",
)
