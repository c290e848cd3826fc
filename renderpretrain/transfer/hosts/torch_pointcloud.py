"""torch-pointcloud: keys, lines that load a file, and its networks.

These compute what OpenPCDet's and Pointcept's do under other names: batch norms are those of PyTorch
Geometric, with a ``module`` in them.
"""

import importlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseEncoder, SparseTensor, SparseUNet, VoxelBackBone8x
from renderpretrain.encoders.key_tables import Table, inverted, rename
from renderpretrain.transfer.architecture import Spec, describe
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.hosts import openpcdet, pointcept
from renderpretrain.transfer.layouts import Layout, Shapes, Tensors
from renderpretrain.transfer.part import SECOND_NORM, Host, Pair, Part, State
from renderpretrain.transfer.restating.cells import VOXELS, has_last, random_voxels
from renderpretrain.transfer.restating.own_code import OwnCode, dense

LAYOUT = Layout("KRSC", "zyx")
NORMS = {"eps": SECOND_NORM[0], "momentum": SECOND_NORM[1]}
"""What its own checkpoints are built with, in the place of PyTorch's constants."""

FROM_OPENPCDET: Table = (
    ("conv_input.1.", "conv_input.1.module."),
    ("conv_out.1.", "conv_out.1.module."),
    ("conv#.#.bn#.", "conv#.#.norm#.module."),
    ("conv#.#.1.", "conv#.#.1.module."),
    ("", ""),
)
"""OpenPCDet's names of both backbones, and those of torch-pointcloud."""

RESIDUAL_TABLE: Table = tuple(
    (ours + end, theirs + their_end)
    for ours, theirs in openpcdet.RESIDUAL_TO_OPENPCDET
    for end, their_end in (("bn#.", "norm#.module."), ("1.", "1.module."), ("", ""))
)
UNET_TABLE: Table = tuple(
    (ours + end, f"{side}.{ours}{their_end}")
    for side, stages in (("encoder", ("conv_input.", "down.#.", "enc.#.")), ("decoder", ("up.#.", "dec.#.")))
    for ours in stages
    for end, their_end in (
        ("block#.bn#.", "block#.norm#.module."),
        ("block#.proj.1.", "block#.proj.1.module."),
        ("block#.", "block#."),
        ("0.", "0."),
        ("1.", "1.module."),
    )
)


def add_zero_biases(tensors: Tensors) -> Tensors:
    """The convolutions of its residual blocks have biases, as OpenPCDet's; ours are 0."""
    return openpcdet.add_zero_biases(tensors)


def fold_biases(tensors: Tensors) -> Tensors:
    """Move the biases of residual blocks into the means that the norms after them subtract."""
    back = {str(rename(key, inverted(FROM_OPENPCDET))): value for key, value in tensors.items()}
    folded = openpcdet.fold_biases(back)
    return {str(rename(key, FROM_OPENPCDET)): value for key, value in folded.items()}


def voxel_res_backbone(shapes: Shapes) -> Shapes:
    """What its ``VoxelResBackbone8x`` holds; only the input's channels are free."""
    stock = openpcdet.voxel_res_backbone(shapes)
    return {str(rename(key, FROM_OPENPCDET)): shape for key, shape in stock.items()}


def unet_shapes(shapes: Shapes) -> Shapes:
    """The shapes that are exported; its U-Net is one for a single data set.

    Raises:
        ValueError: If the U-Net has a norm for each of several data sets.
    """
    if "encoder.conv_input.0.weight" not in shapes:
        raise ValueError(
            "to: torch-pointcloud has no place for a U-Net with norms for several data sets (prompt)"
        )
    return shapes


def _as_openpcdet(state: State) -> State:
    """A state by OpenPCDet's names, under which its networks are said again."""
    return {str(rename(key, inverted(FROM_OPENPCDET))): value for key, value in state.items()}


def check_residual(module: SparseEncoder, state: State, generator: torch.Generator) -> Pair:
    """As OpenPCDet's; once more by its own code where it is installed."""
    outputs = openpcdet.check_residual(module, _as_openpcdet(state), generator)
    return _beside(module, outputs, state) if has_last(state) else outputs


def check_plain(module: VoxelBackBone8x, state: State, generator: torch.Generator) -> Pair:
    """As OpenPCDet's; once more by its own code where it is installed."""
    outputs = openpcdet.check_plain(module, _as_openpcdet(state), generator)
    return _beside(module, outputs, state)


def check_unet(module: SparseUNet, state: State, generator: torch.Generator) -> Pair:
    """As Pointcept's; once more by its own code where it is installed."""
    outputs = pointcept.check_unet(module, {_as_pointcept(k): v for k, v in state.items()}, generator)
    return _beside(module, outputs, state)


def _as_pointcept(key: str) -> str:
    """A key of its U-Net by Pointcept's name."""
    plain = re.sub(r"^(encoder|decoder)\.|(?<=\.)module\.", "", key)
    return re.sub(r"\.norm(\d)\.", r".bn\1.", plain)


def _beside(module: Any, outputs: Pair, state: State) -> Pair:
    """The outputs, and those of the package's own network on voxels of its own."""
    generator = torch.Generator().manual_seed(1)
    voxels = random_voxels(module.sizes["in_channels"], VOXELS, generator)
    ours = module(voxels)
    ours = ours.dense() if isinstance(ours, SparseTensor) else ours
    found = OWN.beside(([ours], [ours]), describe(module), state, voxels)
    return [*outputs[0], *found[0][1:]], [*outputs[1], *found[1][1:]]


def _build(spec: Spec, x: SparseTensor) -> nn.Module:
    models = importlib.import_module("torch_pointcloud.models")
    if spec["kind"] == "SparseUNet":
        sizes = _unet_sizes(spec)
        return models.SparseUNetSegmentation(spec["in_channels"], 0, **sizes, norm_kwargs=NORMS)
    second = importlib.import_module("torch_pointcloud.models.second")
    name = "VoxelResBackbone8x" if spec["kind"] == "SparseEncoder" else "VoxelBackbone8x"
    return getattr(second, name)(spec["in_channels"], norm_kwargs=NORMS)


def _unet_sizes(spec: Spec) -> dict[str, object]:
    """Its names for the sizes of ours."""
    half = len(spec["channels"]) // 2
    return {
        "stem_channels": spec["stem_channels"],
        "encoder_channels": tuple(spec["channels"][:half]),
        "decoder_channels": tuple(spec["channels"][half:]),
        "encoder_depths": tuple(spec["depths"][:half]),
        "decoder_depths": tuple(spec["depths"][half:]),
    }


def _run(network: Any, x: SparseTensor) -> Tensor:
    if hasattr(network, "decoder"):
        places = x.coords[:, [3, 2, 1]]
        sparse, skips = network.encoder(x.features, places, x.coords[:, 0], return_intermediates=True)
        return x.with_features(network.decoder(sparse, skips).features).dense()
    z, y, w = x.spatial_shape
    sparse = importlib.import_module("spconv.pytorch").SparseConvTensor
    shape = [z + 1, y, w]  # an empty slice more, as its detectors have it
    return dense(network(sparse(x.features, x.coords.int().contiguous(), shape, x.batch_size)))


def snippet(pretrained: Pretrained, _: Tensors) -> list[str]:
    """Lines of Python that load the file into a model of it."""
    encoder = next(e for e in pretrained.encoders.values() if e.role.reads == "points")
    if encoder.kind == "SparseUNet":
        sizes = ", ".join(f"{name}={value}" for name, value in _unet_sizes(encoder.spec).items())
        made = f"tp.models.SparseUNetSegmentation({encoder.spec['in_channels']}, NUM_CLASSES, {sizes},"
        lines = [f"model = {made}", f"    norm_kwargs={NORMS})"]
    else:
        residual = encoder.kind == "SparseEncoder"
        name = "second-multihead.nuscenes.openpcdet" if residual else "second.kitti.openpcdet"
        module = RESIDUAL.module if residual else PLAIN.module
        lines = [f"model = tp.create_model({name!r})  # its {module}; sizes and classes as arguments"]
    loaded = "model.load_state_dict(torch.load('FILE', weights_only=True), strict=False)"
    return ["import torch", "import torch_pointcloud as tp", *lines, f"print({loaded}.unexpected_keys)  # []"]


OWN = OwnCode("torch-pointcloud", _build, _run)

RESIDUAL = Part(
    "SparseEncoder",
    "backbone_3d.",
    "VoxelResBackbone8x",
    marker="conv1.0.conv1.weight",
    table=RESIDUAL_TABLE,
    to_host=add_zero_biases,
    from_host=fold_biases,
    stock=voxel_res_backbone,
    axes="zyx",
    norm=SECOND_NORM,
    check=check_residual,
    fixed="its code fixes the widths and stages of VoxelResBackbone8x, which only the presets named `paper` "
    "have",
)
PLAIN = Part(
    "VoxelBackBone8x",
    "backbone_3d.",
    "VoxelBackbone8x",
    marker="conv1.0.0.weight",
    table=FROM_OPENPCDET,
    axes="zyx",
    norm=SECOND_NORM,
    check=check_plain,
)
UNET = Part(
    "SparseUNet",
    "",
    "SparseUNetSegmentation",
    marker="encoder.down.0.0.weight",
    table=UNET_TABLE,
    stock=unet_shapes,
    axes="zyx",  # x comes first in ours and in theirs, so that nothing is turned on the way
    norm=SECOND_NORM,
    check=check_unet,
)
TORCH_POINTCLOUD = Host(
    "torch-pointcloud", "torch-pointcloud", None, LAYOUT, (RESIDUAL, PLAIN, UNET), snippet
)
