"""Does the file compute what the encoder computes? Both are run on the same random input."""

import io
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.part import Host
from renderpretrain.transfer.pretrained import encoder_module

TOLERANCE = 1e-4
"""Largest difference allowed, as a share of the largest output: rounding through some thirty layers is
a tenth of it, one wrong kernel a thousand times as much."""


@torch.no_grad()
def verify_part(
    pretrained: Pretrained, name: str, host: Host, content: bytes, prefix: str | None = None
) -> float | None:
    """Largest difference between our encoder's outputs and the host's, over the largest output.

    The host's side is its network said again, in its file below :mod:`hosts`, run on the bytes of the file.

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
    if part is None or part.check is None:
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
        ours, theirs = part.check(module, state, generator)
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
