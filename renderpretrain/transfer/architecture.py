"""What an encoder is, as it says itself, and built again from that: plain values that fit in a file."""

from typing import Any, cast

from torch import nn

from renderpretrain.encoders import ENCODERS, DescribedModule, Role, TimmBackbone

Spec = dict[str, Any]
"""``kind``, the class, and its arguments."""


def describe(module: nn.Module) -> Spec:
    """What a module is. One that is no encoder of ours has its kind alone: a lifter, or a class of yours.

    A network of timm has its name there, too.
    """
    kind = type(module).__name__
    if isinstance(module, TimmBackbone):
        return {"kind": kind, "name": module.name}
    if type(module) is not ENCODERS.get(kind) or not isinstance(module, DescribedModule):
        ours = type(module).__module__.startswith("renderpretrain.")
        return {"kind": kind if ours else f"{type(module).__module__}.{kind}"}
    spec = {"kind": kind, **module.sizes}
    norm = next((m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)), None)
    return spec if norm is None else {**spec, "momentum": norm.momentum}


def role_of(kind: str, part: str = "") -> Role:
    """What encoders of a kind are called and read.

    Args:
        kind: See :func:`describe`.
        part: What the recipe calls it. Of a kind that is not ours this says whether it reads points or
            images, and nothing else is known.
    """
    if kind in ENCODERS:
        return ENCODERS[kind].role
    reads = {encoder.role.name: encoder.role.reads for encoder in ENCODERS.values()}
    return Role(part, reads[part]) if reads.get(part) in ("points", "images") else Role()


def build(spec: Spec) -> nn.Module:
    """The module, with fresh weights.

    Raises:
        ValueError: If its kind cannot be built from a file.
    """
    kind = spec.get("kind")
    if kind not in ENCODERS:
        raise ValueError(f"kind: expected one of {', '.join(ENCODERS)}, got {kind}")
    arguments = {k: _tuples(v) for k, v in spec.items() if k not in ("kind", "momentum")}
    module = cast(nn.Module, ENCODERS[kind](**arguments))
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and "momentum" in spec:
            part.momentum = spec["momentum"]
    return module


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that constructors take."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
