"""mmdetection3d: keys, the lines of its configuration, and its networks said again."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseEncoder, SparseTensor, VoxelBackBone8x
from renderpretrain.encoders.image_tables import MM_SWIN, authors_convnext, export_mm_swin, import_mm_swin
from renderpretrain.encoders.key_tables import Table
from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.sparse_blocks import strided_specs
from renderpretrain.encoders.strides import covering_shape
from renderpretrain.recipes.columns import SWEEPS
from renderpretrain.transfer.architecture import Spec, describe
from renderpretrain.transfer.columns import read_by
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.image_snippets import MEAN, STD, image_summary, no_depth
from renderpretrain.transfer.layouts import Layout, Shapes, Tensors
from renderpretrain.transfer.part import IMAGE_NORM, SECOND_NORM, Host, Pair, Part, State
from renderpretrain.transfer.restating.cells import (
    VOXELS,
    Cells,
    Network,
    as_cells,
    has_last,
    in_axes,
    last_volume,
    random_voxels,
)
from renderpretrain.transfer.restating.image_networks import (
    ConvNeXtNames,
    SwinNames,
    check_convnext,
    check_resnet,
    check_swin,
)
from renderpretrain.transfer.restating.necks import check_fpn, check_lss_fpn
from renderpretrain.transfer.restating.own_code import OwnCode
from renderpretrain.transfer.snippets import grid_of

LAYOUT = Layout("KRSC", "zyx")

Lines = Mapping[str, Callable[[Spec], list[str]]]
"""Lines of an encoder's own, by kind."""

PLAIN_TO_MMDET3D: Table = (
    ("conv_input.", "conv_input."),
    ("conv#.#.", "encoder_layers.encoder_layer#.#."),
    ("conv_out.", "conv_out."),
)

CONVNEXT = ConvNeXtNames(
    stem="downsample_layers.0.",
    between="downsample_layers.{i}.",
    block="stages.{i}.{j}.",
    depthwise="depthwise_conv",
    norm="norm",
    perceptron=("pointwise_conv1", "pointwise_conv2"),
)
SWIN = SwinNames(
    projection="patch_embed.projection",
    norm="patch_embed.norm",
    between="stages.{p}.downsample.",
    block="stages.{i}.blocks.{j}.",
    attention="attn.w_msa.",
    perceptron=("ffn.layers.0.0", "ffn.layers.1"),
    one_norm=False,
    unfolded=True,
)


def second_conv_out(shapes: Shapes) -> Shapes:
    """mmdetection3d's ``SparseEncoder`` as exported, but its last convolution always halves the height."""
    out, *cells, channels = shapes["conv_out.0.weight"]
    if cells == [3, 1, 1]:
        return shapes
    return {**shapes, "conv_out.0.weight": (out, 3, 1, 1, channels)}


def snippet(pretrained: Pretrained, tensors: Tensors, *, parts: Lines | None = None) -> list[str]:
    """Lines of its Python configuration.

    Args:
        pretrained: The encoders.
        tensors: What is written.
        parts: Lines of encoders that only a fork has.
    """
    box, size = grid_of(pretrained)
    lines = ["load_from = 'FILE'", f"point_cloud_range = {list(box)}" if box else ""]
    lines += [f"voxel_size = {list(size)}" if size else ""]
    columns = read_by(pretrained)
    if use_dim(columns):
        lines.append(f"# LoadPointsFromFile: use_dim={use_dim(columns)}")
    lines += ["model = dict("]
    if columns:
        lines.append(f"    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features={len(columns)}),")
    for encoder in pretrained.encoders.values():
        lines += _part(encoder, tensors, cells_of(box, size), parts or {})
    if any(e.role.reads == "images" for e in pretrained.encoders.values()):
        lines.append(f"    data_preprocessor=dict(mean={list(MEAN)}, std={list(STD)}, bgr_to_rgb=True),")
    return [*lines, ")"]


def _part(encoder: Encoder, tensors: Tensors, cells: Sequence[int] | None, others: Lines) -> list[str]:
    """The lines of the configuration that make one encoder."""
    if encoder.kind == "SparseEncoder":
        return _sparse_encoder(encoder.spec, tensors, cells)
    if encoder.role.reads == "images":
        why = no_depth(encoder)
        return [
            f"    {why}" if why else "",
            f"    {'# ' if why else ''}img_backbone=dict({image_summary(encoder)}),",
        ]
    lines = {**LINES, **others}
    return lines[encoder.kind](encoder.spec) if encoder.kind in lines else []


def _sparse_encoder(spec: Spec, tensors: Tensors, cells: Sequence[int] | None) -> list[str]:
    """mmdetection3d's sparse encoder, whose shape the grid says."""
    flat = not any(key.startswith("pts_middle_encoder.conv_out.") for key in tensors)
    shape = list(sparse_shape(spec, cells)) if cells else "[Z + 1, Y, X]"
    return [
        "    pts_middle_encoder=dict(type='SparseEncoder', block_type='basicblock',",
        f"        in_channels={spec['in_channels']}, sparse_shape={shape},",
        f"        base_channels={spec['channels'][0][0]}, output_channels={spec['out_channels']},",
        f"        encoder_channels={spec['channels']},",
        f"        encoder_paddings={paddings_of(spec)},",
        "        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),",
        "    # without conv_out: the host halves the height there, the recipe does not" if flat else "",
    ]


def _plain(spec: Spec) -> list[str]:
    return [
        f"    pts_middle_encoder=dict(type='SparseEncoder', in_channels={spec['in_channels']}, "
        "norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),"
    ]


def _fpn(spec: Spec) -> list[str]:
    extra = ", add_extra_convs='on_output', relu_before_extra_convs=True" if spec.get("extra_convs") else ""
    start = f", start_level={spec['start_level']}" if spec.get("start_level") else ""
    return [
        f"    img_neck=dict(type='FPN', in_channels={spec['in_channels']}, "
        f"out_channels={spec['out_channels']}, num_outs={spec['num_outs']}{start}{extra}),"
    ]


def _lss_fpn(spec: Spec) -> list[str]:
    return [
        f"    img_neck=dict(type='GeneralizedLSSFPN', in_channels={spec['in_channels']}, "
        f"out_channels={spec['out_channels']}),",
        "    # its other arguments are the host's own",
    ]


LINES: Lines = {"VoxelBackBone8x": _plain, "FPN": _fpn, "LSSFPN": _lss_fpn}


def paddings_of(spec: Mapping[str, Any]) -> list[list[Any]]:
    """Paddings of every layer of every stage, in z, y, x; those of blocks, which no host reads, are 1."""
    stages = zip(spec["channels"], spec["paddings"], strict=False)
    paddings = [[1] * (len(widths) - 1) + [padding] for widths, padding in stages]
    return [*paddings, [1] * len(spec["channels"][-1])]


def cells_of(box: Sequence[int | float] | None, size: Sequence[int | float] | None) -> list[int] | None:
    """Voxels along x, y, z."""
    if not box or not size:
        return None
    return [math.ceil((box[i + 3] - box[i]) / size[i] - 1e-6) for i in range(3)]


def sparse_shape(spec: Mapping[str, Any], cells: Sequence[int]) -> tuple[int, int, int]:
    """``(Z, Y, X)`` that a host must be told so that its volume is as large as ours."""
    strided = zip(spec["strides"], spec["paddings"], strict=True)
    convs = [ConvSpec("strided", (3, 3, 3), tuple(stride), tuple(padding)) for stride, padding in strided]
    return covering_shape((cells[2], cells[1], cells[0]), convs)


def use_dim(columns: Sequence[str]) -> list[int]:
    """Places of columns among what it loads, the time lag last; empty where it has no place for one."""
    places: dict[str, int] = {name: i for i, name in enumerate(SWEEPS)}
    return [places[name] for name in columns] if columns and set(columns) <= set(places) else []


def second_encoder(
    net: Network, x: Cells, strides: Sequence[Sequence[int]], paddings: Sequence[Sequence[int]]
) -> list[Cells]:
    """``SparseEncoder`` of mmdetection3d and BEVFusion: its stages, then ``conv_out`` where the file has it.

    Args:
        net: Its weights.
        x: The voxels.
        strides: Of the strided layers, in the host's axes.
        paddings: Of the strided layers.
    """
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    stages, geometry = [], list(zip(strides, paddings, strict=True))
    for i in range(len(strides) + 1):
        j = 0
        while any(key.startswith(f"encoder_layers.encoder_layer{i + 1}.{j}.") for key in net.state):
            name = f"encoder_layers.encoder_layer{i + 1}.{j}"
            plain = f"{name}.0.weight" in net.state
            last = plain and _is_strided(net, i, j, len(strides))
            if not plain:
                x = net.block(x, name)
            elif last:
                x = net.norm(net.new_cells(x, f"{name}.0", *geometry.pop(0)), f"{name}.1")
            else:
                x = net.norm(net.same_cells(x, f"{name}.0"), f"{name}.1")
            j += 1
        stages.append(x)
    if "conv_out.0.weight" in net.state:
        stride = [2 if k == 3 else 1 for k in net.kernel("conv_out.0").shape[2:]]
        stages.append(net.norm(net.new_cells(x, "conv_out.0", stride, (0, 0, 0)), "conv_out.1"))
    return stages


def _is_strided(net: Network, stage: int, layer: int, last_stage: int) -> bool:
    """Blocks of the plain kind stride first, from the second stage on; residual stages stride last."""
    residual = "encoder_layers.encoder_layer1.0.conv1.weight" in net.state
    return stage < last_stage if residual else stage > 0 and layer == 0


def check_residual(
    module: SparseEncoder,
    state: State,
    generator: torch.Generator,
    *,
    layout: Layout = LAYOUT,
    own: OwnCode | None = None,
) -> Pair:
    """The volume, or the last stage's where the host has another last convolution."""
    x = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    specs = strided_specs(module.encoder_layers)
    cells = as_cells(x, covering_shape(VOXELS, specs), layout.axes)
    strides = [s.stride if layout.axes == "zyx" else s.stride[::-1] for s in specs]
    paddings = [s.padding if layout.axes == "zyx" else s.padding[::-1] for s in specs]
    theirs = second_encoder(Network(state, layout.kernels), cells, strides, paddings)
    ours = last_volume(module, x, whole=has_last(state))
    outputs = [ours], [in_axes(theirs[-1].values, layout.axes)]
    return own.beside(outputs, describe(module), state, x) if own and has_last(state) else outputs


def check_plain(
    module: VoxelBackBone8x,
    state: State,
    generator: torch.Generator,
    *,
    layout: Layout = LAYOUT,
    own: OwnCode | None = None,
) -> Pair:
    """Compare the results of all five stages."""
    x = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    cells = as_cells(x, (VOXELS[0] + 1, *VOXELS[1:]), layout.axes)
    paddings = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
    theirs = second_encoder(Network(state, layout.kernels), cells, ((2, 2, 2),) * 3, paddings)
    outputs = [y.dense() for y in module.levels(x)], [y.values for y in theirs]
    return own.beside(outputs, describe(module), state, x) if own and has_last(state) else outputs


def _build(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("mmdet3d.models.middle_encoders")
    z, y, w = x.spatial_shape
    return package.SparseEncoder(
        spec["in_channels"],
        [z + 1, y, w],
        base_channels=spec["channels"][0][0],
        output_channels=spec["out_channels"],
        encoder_channels=spec["channels"],
        encoder_paddings=paddings_of(spec),
        block_type="basicblock",
    )


def _run(network: nn.Module, x: SparseTensor) -> Tensor:
    out = network(x.features, x.coords.int().contiguous(), x.batch_size)
    channels: Any = network.output_channels
    return out.unflatten(1, (channels, -1))


OWN = OwnCode("mmdet3d", _build, _run)

RESIDUAL = Part(
    "SparseEncoder",
    "pts_middle_encoder.",
    "SparseEncoder",
    marker="encoder_layers.encoder_layer1.0.conv1.weight",
    stock=second_conv_out,
    axes="zyx",
    norm=SECOND_NORM,
    check=partial(check_residual, own=OWN),
)
PLAIN = Part(
    "VoxelBackBone8x",
    "pts_middle_encoder.",
    "SparseEncoder",
    marker="encoder_layers.encoder_layer1.0.0.weight",
    table=PLAIN_TO_MMDET3D,
    axes="zyx",
    norm=SECOND_NORM,
    check=partial(check_plain, own=OWN),
)
RESNET = Part(
    "ResNet",
    "img_backbone.",
    "ResNet",
    marker="layer1.0.conv1.weight",
    norm=IMAGE_NORM,
    check=check_resnet,
)
SWIN_PART = Part(
    "SwinTransformer",
    "img_backbone.",
    "SwinTransformer",
    marker="stages.0.blocks.0.attn.w_msa.qkv.weight",
    table=MM_SWIN,
    to_host=export_mm_swin,
    from_host=import_mm_swin,
    check=partial(check_swin, names=SWIN),
)
CONVNEXT_PART = Part(
    "ConvNeXt",
    "img_backbone.",
    "mmpretrain.ConvNeXt",
    marker="stages.0.0.depthwise_conv.weight",
    table=authors_convnext("depthwise_conv", "pointwise_conv"),
    check=partial(check_convnext, names=CONVNEXT),
)
FPN_PART = Part("FPN", "img_neck.", "FPN", marker="lateral_convs.0.conv.bias", check=check_fpn)
LSSFPN_PART = Part(
    "LSSFPN",
    "img_neck.",
    "GeneralizedLSSFPN",
    marker="lateral_convs.0.bn.weight",
    norm=IMAGE_NORM,
    check=check_lss_fpn,
)
MMDET3D = Host(
    "mmdet3d",
    "mmdetection3d 1.x with spconv 2",
    "state_dict",
    LAYOUT,
    (RESIDUAL, PLAIN, RESNET, SWIN_PART, CONVNEXT_PART, FPN_PART, LSSFPN_PART),
    snippet,
    versions=True,
    warning="load_from keeps the layout's version, init_cfg=dict(type='Pretrained', prefix=...) loses it and "
    "loads nothing sparse: for that export --to mmdet3d-0.17",
)
