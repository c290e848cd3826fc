"""Sparse encoders in the hosts: key tables and the few values that differ."""

from dataclasses import replace

import torch

from renderpretrain.encoders.key_tables import Table
from renderpretrain.transfer.layouts import Shape, Shapes, Tensors
from renderpretrain.transfer.part import Part, as_exported

SECOND_NORM = (1e-3, 0.01)
"""Batch norm ``eps`` and momentum of every sparse network here."""

RESIDUAL_TO_OPENPCDET: Table = (
    ("conv_input.", "conv_input."),
    ("encoder_layers.encoder_layer1.2.", "conv2.0."),
    ("encoder_layers.encoder_layer1.#.", "conv1.#."),
    ("encoder_layers.encoder_layer2.0.", "conv2.1."),
    ("encoder_layers.encoder_layer2.1.", "conv2.2."),
    ("encoder_layers.encoder_layer2.2.", "conv3.0."),
    ("encoder_layers.encoder_layer3.0.", "conv3.1."),
    ("encoder_layers.encoder_layer3.1.", "conv3.2."),
    ("encoder_layers.encoder_layer3.2.", "conv4.0."),
    ("encoder_layers.encoder_layer4.0.", "conv4.1."),
    ("encoder_layers.encoder_layer4.1.", "conv4.2."),
    ("conv_out.", "conv_out."),
)
"""A stage ends in its strided layer here and in mmdetection3d; in OpenPCDet it begins with it."""

PLAIN_TO_MMDET3D: Table = (
    ("conv_input.", "conv_input."),
    ("conv#.#.", "encoder_layers.encoder_layer#.#."),
    ("conv_out.", "conv_out."),
)


def add_zero_biases(tensors: Tensors) -> Tensors:
    """OpenPCDet's residual blocks have convolution biases; ours are 0."""
    out = dict(tensors)
    for key, value in tensors.items():
        if key.endswith((".conv1.weight", ".conv2.weight")):
            out[key.removesuffix("weight") + "bias"] = torch.zeros(len(value), dtype=value.dtype)
    return out


def fold_biases(tensors: Tensors) -> Tensors:
    """Move the biases of residual blocks into the mean that the norm after them subtracts.

    Exact in evaluation; in training a batch norm cancels them anyway.
    """
    out = dict(tensors)
    for key, bias in tensors.items():
        if key.endswith((".conv1.bias", ".conv2.bias")):
            mean = key.replace(".conv1.", ".bn1.").replace(".conv2.", ".bn2.").removesuffix("bias")
            out[mean + "running_mean"] = tensors[mean + "running_mean"] - bias
            del out[key]
    return out


def voxel_res_backbone(shapes: Shapes) -> Shapes:
    """What OpenPCDet's ``VoxelResBackBone8x`` holds; only the input's channels are free."""
    stock = _layer("conv_input", (16, 3, 3, 3, shapes["conv_input.0.weight"][4]))
    for stage, (before, width) in enumerate(((16, 16), (16, 32), (32, 64), (64, 128)), 1):
        if stage > 1:
            stock |= _layer(f"conv{stage}.0", (width, 3, 3, 3, before))
        for block in (0, 1) if stage == 1 else (1, 2):
            name = f"conv{stage}.{block}"
            for i in (1, 2):
                stock |= {f"{name}.conv{i}.weight": (width, 3, 3, 3, width), f"{name}.conv{i}.bias": (width,)}
                stock |= _norm(f"{name}.bn{i}", width)
    return stock | _layer("conv_out", (128, 3, 1, 1, 128))


def second_conv_out(shapes: Shapes) -> Shapes:
    """mmdetection3d's ``SparseEncoder`` as exported, but its last convolution always halves the height."""
    out, *cells, channels = shapes["conv_out.0.weight"]
    if cells == [3, 1, 1]:
        return shapes
    return {**shapes, "conv_out.0.weight": (out, 3, 1, 1, channels)}


def _layer(name: str, kernel: Shape) -> Shapes:
    """A convolution and its norm."""
    return {f"{name}.0.weight": kernel, **_norm(f"{name}.1", kernel[0])}


def _norm(name: str, width: int) -> Shapes:
    """A batch norm's entries."""
    sides = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{side}": (width,) for side in sides} | {f"{name}.num_batches_tracked": ()}


OPENPCDET_RESIDUAL = Part(
    "SparseEncoder",
    "backbone_3d.",
    "VoxelResBackBone8x",
    sign="conv1.0.conv1.weight",
    table=RESIDUAL_TO_OPENPCDET,
    leave=add_zero_biases,
    enter=fold_biases,
    stock=voxel_res_backbone,
    axes="zyx",
    norm=SECOND_NORM,
    fixed="OpenPCDet's code fixes the widths and stages of VoxelResBackBone8x, which only the presets named "
    "`paper` have",
)
OPENPCDET_PLAIN = Part(
    "VoxelBackBone8x",
    "backbone_3d.",
    "VoxelBackBone8x",
    sign="conv1.0.0.weight",
    axes="zyx",
    norm=SECOND_NORM,
)
MMDET3D_RESIDUAL = Part(
    "SparseEncoder",
    "pts_middle_encoder.",
    "SparseEncoder",
    sign="encoder_layers.encoder_layer1.0.conv1.weight",
    stock=second_conv_out,
    axes="zyx",
    norm=SECOND_NORM,
)
MMDET3D_PLAIN = Part(
    "VoxelBackBone8x",
    "pts_middle_encoder.",
    "SparseEncoder",
    sign="encoder_layers.encoder_layer1.0.0.weight",
    table=PLAIN_TO_MMDET3D,
    axes="zyx",
    norm=SECOND_NORM,
)
UNIPAD_RESIDUAL = replace(MMDET3D_RESIDUAL, module="SparseEncoder, or SparseEncoderHD", stock=as_exported)
BEVFUSION_RESIDUAL = replace(MMDET3D_RESIDUAL, prefix="encoders.lidar.backbone.")
POINTCEPT_UNET = Part(
    "SparseUNet", "backbone.", "SpUNet-v1m1", sign="down.0.0.weight", axes="xyz", norm=SECOND_NORM
)
POINTCEPT_PROMPTED = replace(POINTCEPT_UNET, module="SpUNet-v1m3", sign="down.0.conv.weight")
