"""Registration: native functions become PyTorch operators of the namespace ``renderpretrain``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from renderpretrain.ops._native import has_native

LIBRARY = torch.library.Library("renderpretrain", "DEF")

HALF = (torch.float16, torch.bfloat16)
"""Types a kernel may read but does not compute in."""

Triple = Sequence[float]
"""Three numbers (x, y, z); a tuple from the user is a list behind PyTorch's dispatcher."""

Shape = Sequence[int | torch.SymInt]
"""(Z, Y, X) of a volume; symbols while a graph with changing shapes is traced."""


def register(
    schema: str, implementation: Callable[..., Any], fake: Callable[..., Any], stored: Sequence[int] = ()
) -> None:
    """Define an operator whose implementation serves every device that has a native library.

    Under autocast the operator runs in float32: half-precision arguments are widened, others pass unchanged.

    Args:
        schema: ``"name(Tensor x, ...) -> Tensor"``.
        implementation: Takes tensors of float32 or float64.
        fake: Shapes of the result without computing it.
        stored: Positions of the arguments that the kernel also reads in half precision; they pass unchanged.
    """
    LIBRARY.define(schema)
    name = schema.split("(")[0]
    for device_type in ("cpu", "cuda"):
        if has_native(device_type):
            LIBRARY.impl(name, implementation, device_type.upper())
            LIBRARY.impl(name, _widening(name, device_type, stored), "Autocast" + device_type.upper())
    torch.library.register_fake(f"renderpretrain::{name}", fake, lib=LIBRARY)


def register_gradient(
    name: str, backward: Callable[..., Any], save: Callable[..., None] | None = None
) -> None:
    """Give an operator its derivative; ``save(ctx, inputs, output)`` keeps what ``backward`` needs."""
    torch.library.register_autograd(f"renderpretrain::{name}", backward, setup_context=save, lib=LIBRARY)


def _widening(name: str, device_type: str, stored: Sequence[int]) -> Callable[..., Any]:
    """The operator's autocast rule."""

    def widened(place: int, value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in HALF and place not in stored
        return value.float() if half else value

    def run(*arguments: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            values = (widened(place, value) for place, value in enumerate(arguments))
            return getattr(torch.ops.renderpretrain, name)(*values)

    return run


def dense(tensor: Tensor | None) -> Any:
    """A tensor as kernels read it; what is absent stays ``None``."""
    return None if tensor is None else tensor.contiguous()


def common_type(**tensors: Tensor) -> torch.dtype:
    """The type to compute in, float32 or float64: rendering does not run in half precision.

    Raises:
        ValueError: If a tensor is not floating, or lies on another device than the first.
    """
    dtype = torch.float32
    leader, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: expected a floating type, got {tensor.dtype}")
        if tensor.device != first.device:
            raise ValueError(
                f"{name}: expected a tensor on {first.device} like {leader}, got {tensor.device}"
            )
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def common_float(stored: Sequence[str] = (), /, **tensors: Tensor) -> list[Tensor]:
    """The tensors in their :func:`common_type`, but those called as in ``stored`` by :func:`stored_float`."""
    dtype = common_type(**tensors)
    return [stored_float(x, dtype) if name in stored else x.to(dtype) for name, x in tensors.items()]


def stored_float(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as a kernel that computes in ``dtype`` reads it: half precision may stay beside float32."""
    return tensor if tensor.dtype in HALF and dtype == torch.float32 else tensor.to(dtype)
