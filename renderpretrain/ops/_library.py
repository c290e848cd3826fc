"""Registration: native functions become PyTorch operators of the namespace ``renderpretrain``."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from renderpretrain.ops._contract import HALF, Contract
from renderpretrain.ops._native import has_native
from renderpretrain.ops.uncompiled import uncompiled

LIBRARY = torch.library.Library("renderpretrain", "DEF")

Triple = Sequence[float]
"""Three numbers (x, y, z); a tuple from the user is a list behind PyTorch's dispatcher."""

Shape = Sequence[int | torch.SymInt]
"""(Z, Y, X) of a volume; symbols while a graph with changing shapes is traced."""


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    tensors: Mapping[str, str],
    check: Callable[..., object] | None = None,
) -> None:
    """Define an operator whose implementation serves the devices that have a native library.

    Under autocast the operator runs in float32: half-precision arguments are widened, but those that the
    kernel reads as they are stored pass unchanged.

    Args:
        schema: ``"name(Tensor x, ...) -> Tensor"``.
        implementation: Takes what keeps the contract.
        fake: Shapes of the result without computing it.
        tensors: What each tensor must be; see :class:`~renderpretrain.ops._contract.Contract`.
        check: Raises ``ValueError`` on arguments whose fault no line about a tensor can tell.
    """
    LIBRARY.define(schema)
    contract = Contract(schema, tensors)
    name = contract.operator

    @uncompiled
    def run(*arguments: Any) -> Any:
        if forward_ad._current_level >= 0 and name in _DIFFERENTIABLE:
            raise NotImplementedError(
                f"{name}: has no forward-mode derivative (jvp, jacfwd); take the one of {name}_reference"
            )
        given = contract(arguments)
        if check is not None:
            check(*given)
        return implementation(*given)

    stored = {entry.place for entry in contract.entries if entry.kind == "stored"}
    for device_type in ("cpu", "cuda"):
        if has_native(device_type):
            LIBRARY.impl(name, run, device_type.upper())
            LIBRARY.impl(name, _widening(name, device_type, stored), "Autocast" + device_type.upper())
    _register_fake(contract, fake)


def register_plain(
    schema: str, implementation: Callable[..., Any], fake: Callable[..., Any], tensors: Mapping[str, str]
) -> None:
    """Define an operator of plain PyTorch on every device: a compiler calls it and does not look inside."""
    LIBRARY.define(schema)
    contract = Contract(schema, tensors)
    name = contract.operator
    run = uncompiled(lambda *arguments: implementation(*contract(arguments)))
    LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    _register_fake(contract, fake)


def _register_fake(contract: Contract, fake: Callable[..., Any]) -> None:
    def run(*arguments: Any) -> Any:
        contract.check_without_numbers(arguments)
        return fake(*arguments)

    torch.library.register_fake(f"renderpretrain::{contract.operator}", run, lib=LIBRARY)


_DIFFERENTIABLE = set[str]()
"""Operators that refuse to run in forward mode: PyTorch would take their tangents for 0 and say nothing."""


def register_gradient(
    name: str, backward: Callable[..., Any], save: Callable[..., None] | None = None
) -> None:
    """Give an operator its derivative; ``save(ctx, inputs, output)`` keeps what ``backward`` needs."""
    torch.library.register_autograd(f"renderpretrain::{name}", backward, setup_context=save, lib=LIBRARY)
    _DIFFERENTIABLE.add(name)


def _widening(name: str, device_type: str, stored: Container[int]) -> Callable[..., Any]:
    """The autocast rule of an operator that computes in float32."""

    def widened(place: int, value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in HALF and place not in stored
        return value.float() if half else value

    def run(*arguments: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            values = (widened(place, value) for place, value in enumerate(arguments))
            return getattr(torch.ops.renderpretrain, name)(*values)

    return run


def chosen(grads: Sequence[Tensor | None], needed: Sequence[bool]) -> tuple[Any, ...]:
    """``None`` in place of the gradients that are not needed."""
    return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


def on_tape(tensor: Tensor) -> Tensor:
    """An alias that can be differentiated by, and still leads back to the tensor's own history."""
    alias = tensor.view_as(tensor)
    return alias if alias.requires_grad else alias.requires_grad_()


def double_backward(
    reference: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    along: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Second derivatives of an operator by differentiating its reference: rarely needed, so without a kernel.

    They can be differentiated on, as often as the reference can.

    Args:
        reference: From ``inputs`` to the operator's outputs.
        inputs: What it is differentiated by; half precision is widened.
        grads: Gradients of the outputs, ``None`` where nobody used one.
        along: Gradients of the gradients by ``inputs``, ``None`` likewise.

    Returns:
        Gradients of ``sum <along, gradients by inputs>`` by the inputs and by the grads.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [on_tape(x) for x in inputs]
        upstream = [None if grad is None else on_tape(grad) for grad in grads]
        found = reference(*common_float(**{str(place): x for place, x in enumerate(leaves)}))
        outputs = (found,) if isinstance(found, Tensor) else found
        first = _gradients(_inner(outputs, upstream), leaves, create_graph=True)
        by = [*leaves, *(grad for grad in upstream if grad is not None)]
        second = iter(_gradients(_inner(first, along), by, create_graph=again))
    by_inputs = [next(second) for _ in inputs]
    return by_inputs, [None if grad is None else next(second) for grad in grads]


def _inner(tensors: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> Tensor:
    """Sum of all products; what is absent counts as zero."""
    pairs = zip(tensors, others, strict=True)
    products = [(a * b).sum() for a, b in pairs if a is not None and b is not None]
    return torch.stack(products).sum() if products else torch.zeros(())


def _gradients(total: Tensor, leaves: list[Tensor], create_graph: bool) -> tuple[Tensor | None, ...]:
    if not total.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(total, leaves, create_graph=create_graph, allow_unused=True)


def bilinear_double_backward(
    forward: Callable[[Tensor, Tensor], Tensor],
    backward: Callable[[Tensor, Tensor, Tensor, list[bool]], tuple[Tensor, Tensor]],
    tensors: tuple[Tensor, Tensor, Tensor],
    along: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Second derivatives of an operator that is linear in each of two tensors: its own two operators are it.

    Args:
        forward: From both tensors to the result.
        backward: From the result's gradient, both tensors, and which gradients are needed, to these.
        tensors: The result's gradient and both tensors.
        along: Gradients of the two gradients, ``None`` where nobody used one.

    Returns:
        Gradients by the three ``tensors``.
    """
    grad, left, right = tensors
    by_grad = by_left = by_right = None
    if along[0] is not None:
        by_grad = forward(along[0], right)
        by_right = backward(grad, along[0], right, [False, True])[1].to(right.dtype)
    if along[1] is not None:
        also = forward(left, along[1])
        by_grad = also if by_grad is None else by_grad + also
        by_left = backward(grad, left, along[1], [True, False])[0].to(left.dtype)
    return by_grad, by_left, by_right


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
