"""OpenPCDet: keys, the lines of its configuration, and its two backbones said again."""

import importlib

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseEncoder, SparseTensor, VoxelBackBone8x
from renderpretrain.encoders.key_tables import Table
from renderpretrain.encoders.sparse_blocks import strided_specs
from renderpretrain.encoders.strides import covering_shape
from renderpretrain.transfer.architecture import Spec, describe
from renderpretrain.transfer.columns import read_by
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.layouts import Layout, Shape, Shapes, Tensors
from renderpretrain.transfer.part import SECOND_NORM, Host, Pair, Part, State
from renderpretrain.transfer.restating.cells import (
    VOXELS,
    Cells,
    Network,
    as_cells,
    has_last,
    last_volume,
    random_voxels,
)
from renderpretrain.transfer.restating.own_code import OwnCode, dense
from renderpretrain.transfer.snippets import grid_of

LAYOUT = Layout("KRSC", "zyx")

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


def _layer(name: str, kernel: Shape) -> Shapes:
    """A convolution and its norm."""
    return {f"{name}.0.weight": kernel, **_norm(f"{name}.1", kernel[0])}


def _norm(name: str, width: int) -> Shapes:
    """The entries of one batch norm."""
    sides = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{side}": (width,) for side in sides} | {f"{name}.num_batches_tracked": ()}


def snippet(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    """The lines to paste into OpenPCDet's YAML."""
    box, size = grid_of(pretrained)
    residual = any(".conv1.weight" in key for key in tensors)
    columns = ["timestamp" if name == "lag" else name for name in read_by(pretrained)]
    return [
        "# tools/cfgs/<model>.yaml; then: python train.py --cfg_file <model>.yaml --pretrained_model FILE",
        "DATA_CONFIG:" if box or columns else "",
        f"    POINT_CLOUD_RANGE: {list(box)}" if box else "",
        f"    POINT_FEATURE_ENCODING: {{used_feature_list: [{', '.join(columns)}]}}" if columns else "",
        f"    # in DATA_PROCESSOR, transform_points_to_voxels: VOXEL_SIZE: {list(size)}" if size else "",
        "MODEL:",
        "    VFE: {NAME: MeanVFE}",
        f"    BACKBONE_3D: {{NAME: {'VoxelResBackBone8x' if residual else 'VoxelBackBone8x'}}}",
        "    # its batch norms have eps 1e-3 and momentum 0.01, fixed in the code",
    ]


def backbone(net: Network, x: Cells) -> list[Cells]:
    """``VoxelBackBone8x`` or ``VoxelResBackBone8x``: four stages, then ``conv_out`` where the file has it."""
    residual = "conv1.0.conv1.weight" in net.state
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    stages = []
    for stage, padding in enumerate(((), (1, 1, 1), (1, 1, 1), (0, 1, 1)), 1):
        first = 0
        if padding:
            name, first = f"conv{stage}.0", 1
            x = net.norm(net.new_cells(x, f"{name}.0", (2, 2, 2), padding), f"{name}.1")
        for i in range(first, first + 2 if residual or padding else 1):
            name = f"conv{stage}.{i}"
            x = net.block(x, name) if residual else net.norm(net.same_cells(x, f"{name}.0"), f"{name}.1")
        stages.append(x)
    if "conv_out.0.weight" in net.state:
        stages.append(net.norm(net.new_cells(x, "conv_out.0", (2, 1, 1), (0, 0, 0)), "conv_out.1"))
    return stages


def check_residual(module: SparseEncoder, state: State, generator: torch.Generator) -> Pair:
    """The volume, or the last stage's where the host has another last convolution."""
    x = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    ours = last_volume(module, x, whole=has_last(state))
    shape = covering_shape(VOXELS, strided_specs(module.encoder_layers))
    theirs = backbone(Network(state, LAYOUT.kernels), as_cells(x, shape, LAYOUT.axes))
    outputs = [ours], [theirs[-1].values]
    return OWN.beside(outputs, describe(module), state, x) if has_last(state) else outputs


def check_plain(module: VoxelBackBone8x, state: State, generator: torch.Generator) -> Pair:
    """Compare the results of all five stages."""
    x = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    cells = as_cells(x, (VOXELS[0] + 1, *VOXELS[1:]), LAYOUT.axes)
    theirs = backbone(Network(state, LAYOUT.kernels), cells)
    outputs = [y.dense() for y in module.levels(x)], [y.values for y in theirs]
    return OWN.beside(outputs, describe(module), state, x) if has_last(state) else outputs


def _build(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("pcdet.models.backbones_3d.spconv_backbone")
    name = "VoxelResBackBone8x" if spec["kind"] == "SparseEncoder" else "VoxelBackBone8x"
    size = importlib.import_module("numpy").array(x.spatial_shape[::-1])
    return getattr(package, name)({}, spec["in_channels"], size)


def _run(network: nn.Module, x: SparseTensor) -> Tensor:
    out = network(
        {
            "voxel_features": x.features,
            "voxel_coords": x.coords.int().contiguous(),
            "batch_size": x.batch_size,
        }
    )
    return dense(out["encoded_spconv_tensor"])


OWN = OwnCode("openpcdet", _build, _run)

RESIDUAL = Part(
    "SparseEncoder",
    "backbone_3d.",
    "VoxelResBackBone8x",
    marker="conv1.0.conv1.weight",
    table=RESIDUAL_TO_OPENPCDET,
    to_host=add_zero_biases,
    from_host=fold_biases,
    stock=voxel_res_backbone,
    axes="zyx",
    norm=SECOND_NORM,
    check=check_residual,
    fixed="OpenPCDet's code fixes the widths and stages of VoxelResBackBone8x, which only the presets named "
    "`paper` have",
)
PLAIN = Part(
    "VoxelBackBone8x",
    "backbone_3d.",
    "VoxelBackBone8x",
    marker="conv1.0.0.weight",
    axes="zyx",
    norm=SECOND_NORM,
    check=check_plain,
)
OPENPCDET = Host(
    "openpcdet",
    "OpenPCDet",
    "model_state",
    LAYOUT,
    (RESIDUAL, PLAIN),
    snippet,
    warning="keys it does not know are dropped with one line in the log: look for 'loaded N/M'",
)
