"""Uniform random numbers that depend on a seed and a position, and on nothing else.

A training step must treat a sample alike whatever batch, rank or device it lands on, so its random numbers
come from its own seed by hashing a counter (the finaliser of splitmix64) instead of from a generator's
hidden state.
"""

import os
from hashlib import sha256

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed

from renderpretrain.checks import check_integer, check_shape
from renderpretrain.ops._library import Shape, register_plain
from renderpretrain.ops.constant import constant

GOLDEN_GAMMA = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed integer: the step of splitmix64."""

FIRST_CAMERA = 16
"""Purpose of seeds for the first camera of a rig; the others follow."""


def draw_seeds(count: int, device: torch.device | str = "cpu") -> Int[Tensor, " B"]:
    """Seeds from torch's global generator: ``torch.manual_seed`` rules where nobody gives seeds.

    Ranks of a distributed run draw differently, also where all of them called ``torch.manual_seed(0)``.
    """
    seeds, rank = torch.randint(2**62, (count,)), _rank()
    return (fold_in(seeds, rank) & (2**62 - 1) if rank else seeds).to(device)


def fold_in(seeds: Int[Tensor, " B"], purpose: int | str) -> Int[Tensor, " B"]:
    """Independent seeds for another purpose of the same samples.

    Everything that draws folds the name of its class into the seeds, so that a mask and a sampler given the
    same seeds draw independently. Two of one kind, on the same candidates, would draw the same: give the
    second one ``fold_in(seeds, 1)``.

    Args:
        seeds: One per sample, or of any shape.
        purpose: A number below ``2**63``, or a name, which stands for a number of its own.
    """
    number = _number(purpose) if isinstance(purpose, str) else purpose
    folded: Tensor = torch.ops.renderpretrain.fold_in(seeds, [_mixed(number)])
    return folded


def own_seeds(seeds: Int[Tensor, " B"], batch_size: int, name: str) -> Int[Tensor, " B"]:
    """What the class or function of a name draws from, given its caller's seeds: :func:`fold_in`, checked.

    Raises:
        ValueError: Unless there is one whole number per sample.
    """
    check_shape("seeds", seeds, "B", B=batch_size)
    check_integer("seeds", seeds)
    return fold_in(seeds, name)


def per_camera(seeds: Int[Tensor, " B"], num_cameras: int) -> Int[Tensor, " M"]:
    """Seeds ``(B * N,)`` for the images of a batch in one row: every camera of every sample has its own.

    For masks of ``batch.views.images.flatten(0, 1)``, whose candidates are ``(B * N, h, w)``.

    Args:
        seeds: One per sample.
        num_cameras: ``N``.
    """
    check_shape("seeds", seeds, "B")
    check_integer("seeds", seeds)
    if num_cameras < 1:
        raise ValueError(f"num_cameras: expected at least 1, got {num_cameras}")
    purposes = [_mixed(FIRST_CAMERA + n) for n in range(num_cameras)]
    folded: Tensor = torch.ops.renderpretrain.fold_in(seeds[:, None], purposes)
    return folded.flatten()


def uniform(seeds: Int[Tensor, " B"], shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Uniform numbers in [0, 1), float32, the same on every device.

    A number depends on its own indices, not on the shape: padding an axis leaves the others' numbers as they
    are.

    Args:
        seeds: One per sample.
        shape: Shape of each sample's numbers.

    Returns:
        ``(B, *shape)``.
    """
    numbers: Tensor = torch.ops.renderpretrain.uniform(seeds, shape)
    return numbers


@torch.compiler.assume_constant_result
def _number(name: str) -> int:
    """A number for a name, the same in every process."""
    return int.from_bytes(sha256(name.encode()).digest()[:7], "little")


def _rank() -> int:
    """Which process of a distributed run this is, also in a worker of its data loader; else 0."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _shift(bits: Tensor, places: int) -> Tensor:
    """Logical right shift: torch shifts signed integers arithmetically."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


@torch.compiler.assume_constant_result
def _mixed(number: int) -> int:
    """What the finaliser makes of a purpose: on the host, where it costs no kernels."""
    bits = number * GOLDEN_GAMMA % 2**64
    for places, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ bits >> places) * factor % 2**64
    bits ^= bits >> 31
    return bits - 2**64 if bits >= 2**63 else bits


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of splitmix64; integer products wrap."""
    bits = (bits ^ _shift(bits, 30)) * -4658895280553007687
    bits = (bits ^ _shift(bits, 27)) * -7723592293110705685
    return bits ^ _shift(bits, 31)


def _fold_in(seeds: Tensor, mixed: list[int]) -> Tensor:
    purposes = mixed[0] if len(mixed) == 1 else constant(mixed, seeds, torch.int64)
    return _mix(seeds ^ purposes)


def _uniform(seeds: Tensor, shape: list[int]) -> Tensor:
    bits = _mix(seeds)
    for size in shape:
        bits = _mix(bits[..., None] + torch.arange(1, size + 1, device=seeds.device) * GOLDEN_GAMMA)
    return _shift(bits, 40).float() / 2**24


def _fake_fold_in(seeds: Tensor, mixed: list[int]) -> Tensor:
    return torch.empty_like(seeds) if len(mixed) == 1 else seeds.new_empty(*seeds.shape[:-1], len(mixed))


def _fake_uniform(seeds: Tensor, shape: Shape) -> Tensor:
    return seeds.new_empty((*seeds.shape, *shape), dtype=torch.float32)


# Operators, for torch's compiler on the CPU makes code of these products that kills the process.
register_plain(
    "fold_in(Tensor seeds, int[] mixed) -> Tensor", _fold_in, _fake_fold_in, {"seeds": "integer *"}
)
register_plain(
    "uniform(Tensor seeds, SymInt[] shape) -> Tensor", _uniform, _fake_uniform, {"seeds": "integer *"}
)
