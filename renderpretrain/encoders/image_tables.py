"""Image networks in other libraries: tables of their keys, and the few values that differ."""

import math

import torch
from torch import Tensor

from renderpretrain.encoders.key_tables import Table

Tensors = dict[str, Tensor]

STAGES = range(4)

TIMM_CONVNEXT: Table = (("stem.", "stem."), ("stages.", "stages."))
"""timm's classifier has one norm, after pooling: the output norms of the stages stay here."""

TIMM_SWIN: Table = (("patch_embed.", "patch_embed."), ("layers.", "layers."), ("norm3.", "norm."))

FEATURES_CONVNEXT: Table = (("stem.#.", "stem_#."), ("stages.#.", "stages_#."))
"""timm's networks of features have no dots there."""

FEATURES_SWIN: Table = (("patch_embed.", "patch_embed."), ("layers.#.", "layers_#."))

AUTHORS_SWIN: Table = (
    *((f"layers.{i}.downsample.", f"layers.{i - 1}.downsample.") for i in STAGES[1:]),
    ("patch_embed.", "patch_embed."),
    ("layers.", "layers."),
    ("norm3.", "norm."),
    ("norm", "norm"),
)
"""Names of the authors, and of timm before 0.9: a layer ends where the next one here begins."""

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


def authors_convnext(depthwise: str, pointwise: str) -> Table:
    """ConvNeXt as its authors and mmpretrain arrange it, with names for the three layers of a block."""
    return (
        ("stem.", "downsample_layers.0."),
        ("stages.#.downsample.", "downsample_layers.#."),
        ("stages.#.blocks.#.conv_dw.", f"stages.#.#.{depthwise}."),
        ("stages.#.blocks.#.mlp.fc1.", f"stages.#.#.{pointwise}1."),
        ("stages.#.blocks.#.mlp.fc2.", f"stages.#.#.{pointwise}2."),
        ("stages.#.blocks.#.", "stages.#.#."),
        ("norm", "norm"),
    )


def reorder_merging(tensors: Tensors) -> Tensors:
    """Put the four merged cells into mmdetection's order: channel by channel, and right before below."""
    out = dict(tensors)
    for key, value in tensors.items():
        if ".downsample." in key:
            cells = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
            out[key] = cells.transpose(-1, -2).flatten(-2)
    return out


def restore_merging(tensors: Tensors) -> Tensors:
    """Put the four cells of a patch merging back into our order, undoing :func:`reorder_merging`."""
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


def export_mm_swin(tensors: Tensors) -> Tensors:
    """The merging of mmdetection, and the index it keeps in its weights."""
    return reorder_merging(_with_index(tensors, flat=False))


def export_torchvision_swin(tensors: Tensors) -> Tensors:
    """The index as torchvision keeps it, a column."""
    return _with_index(tensors, flat=True)


def without_index(tensors: Tensors) -> Tensors:
    """What every network computes itself."""
    return {k: v for k, v in tensors.items() if not k.endswith(("relative_position_index", "attn_mask"))}


def import_mm_swin(tensors: Tensors) -> Tensors:
    """Take a Swin's values from mmdetection's order into ours, undoing :func:`export_mm_swin`."""
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
    """Store layer scales as rows ``(C,)``, undoing :func:`scale_as_map`."""
    return {k: v.flatten() if k.endswith("layer_scale") else v for k, v in tensors.items()}
