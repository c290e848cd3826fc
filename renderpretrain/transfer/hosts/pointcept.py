"""Pointcept and PonderV2: keys, the lines of their configuration, and SpUNet said again."""

import importlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseTensor, SparseUNet
from renderpretrain.transfer.architecture import Spec, describe
from renderpretrain.transfer.columns import read_by
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.layouts import Layout, Tensors
from renderpretrain.transfer.part import SECOND_NORM, Host, Pair, Part, State
from renderpretrain.transfer.restating.cells import Cells, Network, as_cells, in_axes, random_voxels
from renderpretrain.transfer.restating.own_code import OwnCode
from renderpretrain.transfer.snippets import grid_of

LAYOUT = Layout("KRSC", "xyz")

VOXELS = (16, 48, 32)
"""``(Z, Y, X)`` of random voxels: all sides differ, and the network's stride of sixteen divides them."""

NAMES = {"x": "coord", "intensity": "strength", "r": "color", "nx": "normal"}
"""Pointcept's name of what begins with a column."""


def feature_names(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns as Pointcept's ``feat_keys`` call them."""
    members = ("y", "z", "g", "b", "ny", "nz")
    return tuple(NAMES.get(name, name) for name in columns if name not in members)


def snippet(pretrained: Pretrained, _: Tensors) -> list[str]:
    """Lines of its Python configuration."""
    spec = next(e.spec for e in pretrained.encoders.values() if e.kind == "SparseUNet")
    size = grid_of(pretrained)[1]
    read = feature_names(read_by(pretrained))
    kind = "SpUNet-v1m3" if spec.get("prompt") else "SpUNet-v1m1"
    return [
        "weight = 'FILE'",
        f"grid_size = {size[0]}  # of GridSample" if size else "",
        f"backbone = dict(type='{kind}', in_channels={spec['in_channels']}, num_classes=NUM_CLASSES,",
        f"    base_channels={spec['stem_channels']}, channels={tuple(spec['channels'])},",
        f"    layers={tuple(spec['depths'])})",
        f"# in Collect: feat_keys={read}" if read else "",
        "hooks = [dict(type='CheckpointLoader', keywords='module.', replacement='module.')]",
    ]


def spunet(net: Network, x: Cells) -> Cells:
    """``SpUNet-v1m1`` without its classifier, in Pointcept's axes; sides are multiples of its stride."""
    x = net.norm(net.same_cells(x, "conv_input.0"), "conv_input.1")
    skips, stages = [x], 0
    while f"down.{stages}.0.weight" in net.state:
        x = net.norm(net.new_cells(x, f"down.{stages}.0", (2, 2, 2), (0, 0, 0)), f"down.{stages}.1")
        x = _unet_blocks(net, x, f"enc.{stages}")
        skips.append(x)
        stages += 1
    skips.pop()
    for s in reversed(range(stages)):
        skip = skips.pop()
        x = net.norm(net.old_cells(x, f"up.{s}.0", skip), f"up.{s}.1")
        x = _unet_blocks(net, Cells(torch.cat([x.values, skip.values], 1), x.exist), f"dec.{s}")
    return x


def _unet_blocks(net: Network, x: Cells, name: str) -> Cells:
    """Residual blocks of one stage; the skip is projected where the width changes."""
    i = 0
    while f"{name}.block{i}.conv1.weight" in net.state:
        block = f"{name}.block{i}"
        skip = None
        if f"{block}.proj.0.weight" in net.state:
            skip = net.norm(net.same_cells(x, f"{block}.proj.0"), f"{block}.proj.1", relu=False)
        x = net.block(x, block, skip)
        i += 1
    return x


def check_unet(module: SparseUNet, state: State, generator: torch.Generator) -> Pair:
    """The features of all voxels."""
    x = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    theirs = spunet(Network(state, LAYOUT.kernels), as_cells(x, VOXELS, LAYOUT.axes))
    outputs = [module(x).dense()], [in_axes(theirs.values, LAYOUT.axes)]
    return OWN.beside(outputs, describe(module), state, x)


def _build(spec: Spec, x: SparseTensor) -> nn.Module:
    package = importlib.import_module("pointcept.models.sparse_unet.spconv_unet_v1m1_base")
    return package.SpUNetBase(
        spec["in_channels"],
        num_classes=0,
        base_channels=spec["stem_channels"],
        channels=spec["channels"],
        layers=spec["depths"],
    )


def _run(network: nn.Module, x: SparseTensor) -> Tensor:
    places = x.coords[:, [3, 2, 1]]
    counts = torch.bincount(x.coords[:, 0], minlength=x.batch_size)
    features = network({"grid_coord": places, "feat": x.features, "offset": counts.cumsum(0)})
    return x.with_features(features).dense()


OWN = OwnCode("pointcept", _build, _run)

UNET = Part(
    "SparseUNet",
    "backbone.",
    "SpUNet-v1m1",
    marker="down.0.0.weight",
    axes="xyz",
    norm=SECOND_NORM,
    check=check_unet,
)
PROMPTED = replace(UNET, module="SpUNet-v1m3", marker="down.0.conv.weight", check=None)
POINTCEPT = Host(
    "pointcept",
    "Pointcept and PonderV2",
    "state_dict",
    LAYOUT,
    (UNET, PROMPTED),
    snippet,
    outer="module.",
    warning="missing keys are only logged",
)
