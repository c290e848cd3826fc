"""A small network whose input is added before every layer, on inputs that are read where they lie."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_bool, check_shape
from renderpretrain.ops._library import (
    chosen,
    common_float,
    double_backward,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch, new_memory, scratch_size
from renderpretrain.ops._signatures import Mlp, MlpInputs
from renderpretrain.ops.injected_mlp import InjectedShape, injected_layers

MOST_INPUTS = 4
"""``RP_MOST_INPUTS``: parts of which a network's input may consist."""


def fused_mlp(
    inputs: Sequence[Float[Tensor, "B _ _"]],
    parameters: Float[Tensor, " K"],
    shape: InjectedShape,
    *,
    positions: Float[Tensor, "B P D"] | None = None,
    valid: Bool[Tensor, "B P"] | None = None,
    sigmoid: bool = False,
) -> Float[Tensor, "B P out"]:
    """A network of a position and of an input that is added before every layer: a head of a field.

    With ``h = embed(p)``, each layer computes ``h = act(layer(h + inject(x)))``, the last one without
    ``act``; ``x`` is what the parts hold, one behind the other, without ever being put together. Nothing is
    kept for the way back but the inputs; tiles of points that stay in cache are computed again there. The
    networks of UniPAD (https://arxiv.org/abs/2310.08370) and PonderV2 (https://arxiv.org/abs/2310.08586).

    Args:
        inputs: One to four parts ``(B, N, C)``, whose widths sum to ``in_channels``. ``N`` is the number of
            points ``P``, or divides it where ``P / N`` points one behind the other share a row, as the
            samples of a ray share its direction. Differentiable.
        parameters: Of the network, as :meth:`InjectedShape.sizes` lists them. Differentiable.
        shape: The network's sizes.
        positions: Or their encoding, if the network sees them. Differentiable.
        valid: Points that count; at the others nothing is computed and the output is 0. All, if not given.
        sigmoid: Whether the output goes through the logistic function, as a colour does.

    Returns:
        The last layer's output in float32 or float64; differentiable to any order, from the second on without
        a kernel. Sums over points have a fixed order.

    Raises:
        ValueError: If shapes do not fit the network.
    """
    _check(shape, positions, valid, inputs, parameters)
    named = {f"inputs[{place}]": part for place, part in enumerate(inputs)} | {"parameters": parameters}
    named |= {} if positions is None else {"positions": positions}
    *parts, parameters = common_float(**named)[: len(inputs) + 1]
    positions = None if positions is None else positions.to(parameters.dtype)
    if not has_native(parameters.device.type):
        return fused_mlp_reference(
            parts, parameters, shape, positions=positions, valid=valid, sigmoid=sigmoid
        )
    tensors = parameters, positions, valid, *parts, *[None] * (MOST_INPUTS - len(parts))
    found: Tensor = torch.ops.renderpretrain.fused_mlp(*tensors, shape.code(), float(shape.beta), sigmoid)
    return found


def fused_mlp_reference(
    inputs: Sequence[Float[Tensor, "B _ _"]],
    parameters: Float[Tensor, " K"],
    shape: InjectedShape,
    *,
    positions: Float[Tensor, "B P D"] | None = None,
    valid: Bool[Tensor, "B P"] | None = None,
    sigmoid: bool = False,
) -> Float[Tensor, "B P out"]:
    """:func:`fused_mlp` in plain PyTorch: the definition the kernels are tested against."""
    count = _check(shape, positions, valid, inputs, parameters)
    rows = [part.repeat_interleave(count // part.shape[1], 1) for part in inputs]
    if valid is not None:  # so that nothing of the others, not even a NaN, comes through a product with 0
        rows = [torch.where(valid[..., None], part, 0.0) for part in rows]
        positions = None if positions is None else torch.where(valid[..., None], positions, 0.0)
    out = injected_layers(shape, shape.unpack(parameters), positions, torch.cat(rows, -1))[-1]
    out = torch.sigmoid(out) if sigmoid else out
    return out if valid is None else torch.where(valid[..., None], out, 0.0)


def _check(
    shape: InjectedShape,
    positions: Tensor | None,
    valid: Tensor | None,
    inputs: Sequence[Tensor | None],
    parameters: Tensor,
) -> int:
    """The number of points.

    Raises:
        ValueError: If tensors are not what the network reads.
    """
    parts = [part for part in inputs if part is not None]
    if not 1 <= len(parts) <= MOST_INPUTS:
        raise ValueError(f"inputs: expected one to {MOST_INPUTS} parts, got {len(parts)}")
    if (positions is None) != (shape.position_channels == 0):
        got = None if positions is None else tuple(positions.shape)
        raise ValueError(f"positions: expected {shape.position_channels} channels, got {got}")
    check_shape("parameters", parameters, "K", K=shape.num_parameters)
    batch = parts[0].shape[0]
    rows = [check_shape(f"inputs[{i}]", part, "B N C", B=batch)["N"] for i, part in enumerate(parts)]
    count = max(rows)
    if positions is not None:
        sizes = {"B": batch, "D": shape.position_channels}
        count = check_shape("positions", positions, "B P D", **sizes)["P"]
    if valid is not None:
        check_bool(valid=valid)
        check_shape("valid", valid, "B P", B=batch, P=count)
    for place, number in enumerate(rows):
        if number != count and (number == 0 or count % number):
            raise ValueError(f"inputs[{place}]: expected rows that {count} points share, got {number}")
    width = sum(part.shape[2] for part in parts)
    if width != shape.in_channels:
        raise ValueError(f"inputs: expected {shape.in_channels} channels in all, got {width}")
    return count


class _Call:
    """An operator's arguments, and what the kernels are told of them."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.tensors = arguments[: 3 + MOST_INPUTS]
        self.parameters, self.positions, self.valid, *parts = self.tensors
        self.parts: list[Tensor] = [part for part in parts if part is not None]
        code, beta, self.sigmoid = arguments[3 + MOST_INPUTS :]
        self.shape = InjectedShape.from_code(code, beta)
        self.batch = self.parts[0].shape[0]
        self.count = max(part.shape[1] for part in [self.positions, *self.parts] if part is not None)

    def check(self) -> None:
        """Raise ``ValueError`` unless the tensors are what the network reads."""
        _check(self.shape, self.positions, self.valid, self.parts, self.parameters)

    def launch(self, name: str, *others: Any) -> None:
        """Call the kernel, with memory for the tiles of all threads."""
        sizes = MlpInputs(self.batch * self.count, len(self.parts), int(self.sigmoid))
        for place, part in enumerate(self.parts):
            sizes.channels[place] = part.shape[2]
            sizes.samples[place] = self.count // max(part.shape[1], 1)
        sizes.mlp = Mlp(*self.shape.code(), self.shape.beta)
        backward = int(name.endswith("backward"))
        numbers = scratch_size("fused_mlp_scratch", self.parameters, sizes, backward)
        scratch = new_memory(self.parameters, numbers)
        launch(name, *self.tensors, sizes, scratch, scratch.numel(), *others)


def _fused_mlp(*arguments: Any) -> Tensor:
    call, out = _Call(arguments), _fake(*arguments)
    call.launch("fused_mlp", out)
    return out


def _fused_mlp_backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """Gradients by parameters, positions and parts; those that are not needed are empty."""
    *others, needed = arguments
    call = _Call(others)
    places = call.positions, *call.tensors[3:]
    rows = [
        None if x is None or not need else grad.new_zeros(call.batch, call.count, x.shape[2])
        for x, need in zip(places, needed, strict=True)
    ]
    grad_parameters = torch.empty_like(call.parameters)
    call.launch("fused_mlp_backward", grad, *rows, grad_parameters)
    return grad_parameters, *(_shared(row, x, grad) for row, x in zip(rows, places, strict=True))


def _shared(row: Tensor | None, like: Tensor | None, grad: Tensor) -> Tensor:
    """The sum over points that share a row; an empty tensor for ``None``."""
    if row is None or like is None:
        return grad.new_empty(0)
    return row if row.shape == like.shape else row.unflatten(1, (like.shape[1], -1)).sum(2)


def _fake(*arguments: Any) -> Tensor:
    call = _Call(arguments)
    return new_memory(call.parameters, call.batch, call.count, call.shape.out_channels)


def _fake_backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *others, needed = arguments
    call = _Call(others)
    places = call.positions, *call.tensors[3:]
    return torch.empty_like(call.parameters), *(
        grad.new_empty(x.shape if x is not None and need else 0)
        for x, need in zip(places, needed, strict=True)
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.code, ctx.beta, ctx.sigmoid = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    by_parameters, by_positions, _, *by_parts = ctx.needs_input_grad[: 3 + MOST_INPUTS]
    needed = [by_positions, *by_parts]
    settings = ctx.code, ctx.beta, ctx.sigmoid, needed
    parameters, *found = torch.ops.renderpretrain.fused_mlp_backward(grad, *ctx.saved_tensors, *settings)
    positions, *parts = chosen(found, needed)
    return parameters if by_parameters else None, positions, None, *parts, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.code, ctx.beta, ctx.sigmoid, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, parameters, positions, valid, *parts = ctx.saved_tensors
    shape, sigmoid = InjectedShape.from_code(ctx.code, ctx.beta), ctx.sigmoid
    places = positions, *parts
    there = [place for place, x in enumerate(places) if x is not None]

    def reference(parameters: Tensor, *tensors: Tensor) -> Tensor:
        given = dict(zip(there, tensors, strict=True))
        inputs = [given[place] for place in there if place]
        return fused_mlp_reference(
            inputs, parameters, shape, positions=given.get(0), valid=valid, sigmoid=sigmoid
        )

    others = chosen(along[1:], ctx.needed)
    inputs = [parameters, *(places[place] for place in there)]
    asked = [along[0], *(others[place] for place in there)]
    (by_parameters, *found), (by_grad,) = double_backward(reference, inputs, [grad], asked)
    by_places: list[Tensor | None] = [None] * len(places)
    for place, by in zip(there, found, strict=True):
        by_places[place] = by
    return by_grad, by_parameters, by_places[0], None, *by_places[1:], *[None] * 4


def _check_call(*arguments: Any) -> None:
    """What the kernels follow, whoever calls the operator by its name."""
    first, *parts = arguments[3 : 3 + MOST_INPUTS]
    if any(a is None and b is not None for a, b in pairwise([first, *parts])):
        raise ValueError("input_0 to input_3: expected parts without a gap between them")
    _Call(arguments).check()


def _check_backward(grad: Tensor, *arguments: Any) -> None:
    """The same, and a gradient as wide as the output."""
    *others, needed = arguments
    _check_call(*others)
    call = _Call(others)
    check_shape("grad", grad, "B P K", B=call.batch, P=call.count, K=call.shape.out_channels)
    places = call.positions, *call.tensors[3:]
    if any(need and x is None for need, x in zip(needed, places, strict=True)):
        raise ValueError("needed: expected gradients by tensors that are there")


_PARTS = ["input_0", "input_1", "input_2", "input_3"]
_INPUTS = f"Tensor parameters, Tensor? positions, Tensor? valid, Tensor {_PARTS[0]}, " + ", ".join(
    f"Tensor? {name}" for name in _PARTS[1:]
)
_SETTINGS = "int[] sizes, float beta, bool sigmoid"
_TENSORS = {
    "parameters": "float K",
    "positions": "float B P D",
    "valid": "bool B P",
    **{name: f"float B N{place} C{place}" for place, name in enumerate(_PARTS)},
}
register(f"fused_mlp({_INPUTS}, {_SETTINGS}) -> Tensor", _fused_mlp, _fake, _TENSORS, _check_call)
register(
    f"fused_mlp_backward(Tensor grad, {_INPUTS}, {_SETTINGS}, bool[5] needed)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _fused_mlp_backward,
    _fake_backward,
    {"grad": "float B P O", **_TENSORS},
    _check_backward,
)
register_gradient("fused_mlp", _gradient, _save)
register_gradient("fused_mlp_backward", _second_gradient, _save_backward)
