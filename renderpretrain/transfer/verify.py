"""Does the file compute what the encoder computes? Both are run on the same random input."""

import io
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from renderpretrain.encoders import SparseEncoder, SparseTensor, SparseUNet, VoxelBackBone8x
from renderpretrain.encoders.sparse_blocks import strided_specs
from renderpretrain.encoders.strides import covering_shape
from renderpretrain.transfer.architecture import describe
from renderpretrain.transfer.dense_voxels import Cells, Network, openpcdet_backbone, second_encoder, spunet
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.host_package import run_host_package
from renderpretrain.transfer.image_checks import IMAGE_CHECKS, Check, Pair
from renderpretrain.transfer.part import Host
from renderpretrain.transfer.pretrained import encoder_module

TOLERANCE = 1e-4
"""Of the largest output: float32 rounding through some thirty layers is a tenth of it, one wrong kernel a
thousand times as much."""

VOXELS = (24, 40, 32)
"""``(Z, Y, X)`` of the random voxels: all sides differ, and eight divides them."""

UNET_VOXELS = (16, 48, 32)
"""The same for a U-Net, whose stride is sixteen."""


@torch.no_grad()
def verify_part(
    pretrained: Pretrained, name: str, host: Host, content: bytes, prefix: str | None = None
) -> float | None:
    """Largest difference between our encoder's outputs and the host's, over the largest output.

    The host's side is :mod:`dense_voxels` and :mod:`dense_images`, run on the bytes of the file.

    Args:
        pretrained: The encoders.
        name: Of the one to verify.
        host: Whose file it is.
        content: The file.
        prefix: Of the encoder's keys, if not the usual one.

    Returns:
        ``None`` where there is no re-statement: lifters, and U-Nets for several data sets.

    Raises:
        ValueError: If the file lacks a key that the host's network needs.
    """
    encoder = pretrained.encoders[name]
    part = host.part(encoder.kind, encoder.tensors)
    check = CHECKS.get(encoder.kind)
    if part is None or check is None or encoder.spec.get("prompt"):
        return None
    start = part.prefix if prefix is None else prefix
    state = {
        k.removeprefix(start): v.float() if v.is_floating_point() else v
        for k, v in read_as_host(content, host).items()
        if k.startswith(start)
    }
    generator = torch.Generator().manual_seed(0)
    module = encoder_module(name, pretrained).eval()
    try:
        ours, theirs = check(module, state, host, generator)
    except KeyError as error:
        raise ValueError(
            f"verify: {name}: {host.name} finds no {start}{error.args[0]} in the file"
        ) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"verify: {name}: {host.name} cannot run the file's weights ({reason})") from error
    return largest_difference(ours, theirs)


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Over the largest output; infinite where shapes differ, nothing came out, or it is no number."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        scale = float(a.abs().max())
        if a.shape != b.shape or not scale > 0:
            return float("inf")
        difference = float((a - b).abs().max()) / scale
        if math.isnan(difference):
            return float("inf")
        worst = max(worst, difference)
    return worst


def read_as_host(content: bytes, host: Host) -> dict[str, Tensor]:
    """The tensors of a file as the host's loader sees them."""
    try:
        loaded: Any = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # not torch's format
        return load(content)
    state: Mapping[str, Tensor] = loaded if host.wrapper is None else loaded[host.wrapper]
    return {key.removeprefix(host.outer): value for key, value in state.items()}


def random_voxels(channels: int, shape: tuple[int, int, int], generator: torch.Generator) -> SparseTensor:
    """A tenth of the cells, in clumps, as surfaces are."""
    coarse = torch.rand(1, 1, *(n // 2 for n in shape), generator=generator)
    clumps = nn.functional.interpolate(coarse, size=shape)[0, 0] < 0.3
    coords = (clumps & (torch.rand(shape, generator=generator) < 0.4)).nonzero()
    coords = torch.cat([torch.zeros(len(coords), 1, dtype=torch.long), coords], 1)
    features = torch.randn(len(coords), channels, generator=generator)
    return SparseTensor(features, coords, shape, 1)


def as_cells(x: SparseTensor, shape: tuple[int, int, int], axes: str) -> Cells:
    """The voxels as a dense volume of a host, enlarged at the upper ends."""
    exist = SparseTensor(torch.ones(len(x.coords), 1), x.coords, shape, 1).dense()
    values = SparseTensor(x.features, x.coords, shape, 1).dense()
    return Cells(in_axes(values, axes).contiguous(), in_axes(exist, axes).contiguous())


def in_axes(volume: Tensor, axes: str) -> Tensor:
    """``(B, C, Z, Y, X)`` in another order of axes, or back."""
    return volume if axes == "zyx" else volume.permute(0, 1, 4, 3, 2)


def _check_sparse_encoder(
    module: SparseEncoder, state: dict[str, Tensor], host: Host, generator: torch.Generator
) -> Pair:
    """The volume, or the last stage's where the host has another last convolution."""
    x = random_voxels(describe(module)["in_channels"], VOXELS, generator)
    specs = strided_specs(module.encoder_layers)
    shape = covering_shape(VOXELS, specs)
    ours = module(x)
    if not any(key.startswith("conv_out.") for key in state):
        enlarged = SparseTensor(x.features, x.coords, shape, 1)
        ours = module.encoder_layers(module.conv_input(enlarged)).dense()
    net, axes = Network(state, host.layout.kernels), host.layout.axes
    strides = [s.stride if axes == "zyx" else s.stride[::-1] for s in specs]
    paddings = [s.padding if axes == "zyx" else s.padding[::-1] for s in specs]
    cells = as_cells(x, shape, axes)
    if host.name == "openpcdet":
        theirs = openpcdet_backbone(net, cells)
    else:
        theirs = second_encoder(net, cells, strides, paddings)
    return _with_package(module, state, host, x, ([ours], [in_axes(theirs[-1].values, axes)]))


def _check_voxelbackbone8x(
    module: VoxelBackBone8x, state: dict[str, Tensor], host: Host, generator: torch.Generator
) -> Pair:
    """All five stages."""
    x = random_voxels(describe(module)["in_channels"], VOXELS, generator)
    net = Network(state, host.layout.kernels)
    cells = as_cells(x, (VOXELS[0] + 1, *VOXELS[1:]), host.layout.axes)
    if host.name == "openpcdet":
        theirs = openpcdet_backbone(net, cells)
    else:
        theirs = second_encoder(net, cells, ((2, 2, 2),) * 3, ((1, 1, 1), (1, 1, 1), (0, 1, 1)))
    ours = [y.dense() for y in module.stages(x)]
    return _with_package(module, state, host, x, (ours, [y.values for y in theirs]))


def _with_package(
    module: nn.Module, state: dict[str, Tensor], host: Host, x: SparseTensor, outputs: Pair
) -> Pair:
    """The outputs, and once more those of the host's own code where it is installed."""
    own = run_host_package(host.name, describe(module), state, x)
    if own is None:
        return outputs
    return [*outputs[0], outputs[0][-1]], [*outputs[1], own]


def _check_unet(module: SparseUNet, state: dict[str, Tensor], host: Host, generator: torch.Generator) -> Pair:
    """The features of all voxels."""
    x = random_voxels(describe(module)["in_channels"], UNET_VOXELS, generator)
    theirs = spunet(Network(state, host.layout.kernels), as_cells(x, UNET_VOXELS, host.layout.axes))
    ours = module(x).dense()
    return _with_package(module, state, host, x, ([ours], [in_axes(theirs.values, host.layout.axes)]))


CHECKS: dict[str, Check] = {
    "SparseEncoder": _check_sparse_encoder,
    "VoxelBackBone8x": _check_voxelbackbone8x,
    "SparseUNet": _check_unet,
    **IMAGE_CHECKS,
}
"""By kind: our outputs, and those of the re-statement."""
