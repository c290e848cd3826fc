"""Images to points: what the cameras see there, times how likely they find it to be that far away."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_mask, check_shape
from renderpretrain.ops._library import (
    chosen,
    common_type,
    dense,
    double_backward,
    register,
    register_gradient,
    stored_float,
)
from renderpretrain.ops._maps import add, read_by_gathers, read_maps
from renderpretrain.ops._native import TYPE_CODES, has_native, launch, new_memory
from renderpretrain.ops._signatures import Lift

REDUCTIONS = ("sum", "mean")


def image_lift(
    features: Float[Tensor, "B N C h w"],
    probabilities: Float[Tensor, "B N D h w"] | None,
    coordinates: Float[Tensor, "B N P 3"],
    valid: Bool[Tensor, "B N P"],
    reduce: str = "sum",
) -> Float[Tensor, "B P C"]:
    r"""Features at points, weighted by the probability of their depth, summed over the cameras that see them.

    .. math:: F(x) = \sum_n [x \in \text{frustum}_n]\; f_n(u, v)\; p_n(u, v, d)

    Features are read bilinearly and probabilities trilinearly, edge to edge and with zeros outside, as
    ``torch.nn.functional.grid_sample`` does with ``align_corners=False``. No camera's values at the points
    are ever stored.

    Args:
        features: Feature maps; read without a copy where ``(B N, C, h, w)`` is in ``torch.channels_last``
            memory, and in half precision as they are. Differentiable.
        probabilities: Distribution over ``D`` equal depth bins in every cell, with either bins or columns
            neighbours in memory; ``None`` takes every depth for certain. Differentiable.
        coordinates: ``(u, v, d)`` of every point in every camera, -1 at the first edge and 1 at the last,
            from :func:`frustum_coordinates` or a projection of one's own. Not differentiable.
        valid: Which camera sees which point; one with a NaN or infinite coordinate is not seen.
        reduce: ``"sum"``, or ``"mean"`` over the cameras that see the point.

    Returns:
        Values in float32 or float64, zero where no camera sees the point; with the channels last, so that
        ``.mT`` unflattened is a volume in ``torch.channels_last_3d`` memory. Differentiable to any order,
        from the second on without a kernel. The order of additions to gradients is fixed on the CPU; on CUDA
        under ``torch.use_deterministic_algorithms`` only.

    The view transform of UVTR (https://arxiv.org/abs/2206.00630, section 3.1) and UniPAD
    (https://arxiv.org/abs/2310.08370, section 3.1).
    """
    dtype = _check(features, probabilities, coordinates, valid, reduce)
    coordinates = coordinates.to(dtype)
    if not has_native(features.device.type):
        return image_lift_reference(features, probabilities, coordinates, valid, reduce)
    rows = stored_float(features, dtype).permute(0, 1, 3, 4, 2).contiguous()
    if probabilities is not None:
        probabilities = _dense(stored_float(probabilities, dtype))
    return torch.ops.renderpretrain.image_lift(rows, probabilities, coordinates, valid, reduce == "mean")


def image_lift_reference(
    features: Float[Tensor, "B N C h w"],
    probabilities: Float[Tensor, "B N D h w"] | None,
    coordinates: Float[Tensor, "B N P 3"],
    valid: Bool[Tensor, "B N P"],
    reduce: str = "sum",
) -> Float[Tensor, "B P C"]:
    """:func:`image_lift` in plain PyTorch: one camera at a time, so that memory is that of one camera."""
    return _lift(features, probabilities, coordinates, valid, reduce, read_maps)


def _lift(
    features: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    reduce: str,
    read: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The sum over cameras; ``read`` takes maps ``(B, C, [D], h, w)`` and places ``(B, P, 2 | 3)``."""
    seen = _seen(coordinates, valid)
    total = coordinates.new_zeros(*coordinates.shape[::2], features.shape[2])
    for n in range(features.shape[1]):
        uvd = torch.where(seen[:, n], coordinates[:, n], 2.0)
        values = read(features[:, n], uvd[..., :2])
        likely = seen[:, n].to(values)
        if probabilities is not None:
            likely = likely * read(probabilities[:, n, None], uvd)
        total = total + values * likely
    return total / seen.sum(1).clamp(min=1) if reduce == "mean" else total


def _seen(coordinates: Tensor, valid: Tensor) -> Tensor:
    """Which camera sees which point, (B, N, P, 1)."""
    return valid[..., None] & coordinates.isfinite().all(-1, keepdim=True)


def _check(
    features: Tensor, probabilities: Tensor | None, coordinates: Tensor, valid: Tensor, reduce: str
) -> torch.dtype:
    """The type to compute in."""
    sizes = check_shape("features", features, "B N C h w")
    floats = {"features": features, "coordinates": coordinates}
    shared = {name: sizes[name] for name in ("B", "N")}
    if probabilities is not None:
        check_shape("probabilities", probabilities, "B N D h w", **shared, h=sizes["h"], w=sizes["w"])
        floats["probabilities"] = probabilities
    check_shape("coordinates", coordinates, "B N P 3", **shared)
    check_mask("valid", valid, coordinates.shape[:3], features.device)
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce: expected one of {REDUCTIONS}, got {reduce!r}")
    if coordinates.requires_grad and torch.is_grad_enabled():
        raise ValueError("coordinates: have no gradient here, got a tensor that requires one: detach it")
    return common_type(**floats)


def _dense(probabilities: Tensor | None) -> Any:
    """Probabilities whose bins or whose columns are neighbours in memory; a copy only of anything else."""
    if probabilities is not None and probabilities.permute(0, 1, 3, 4, 2).is_contiguous():
        return probabilities
    return dense(probabilities)


def _without_bins(probabilities: Tensor | None) -> bool:
    """No depth is likely; its address would be that of no distribution, with which all are certain."""
    return probabilities is not None and probabilities.numel() == 0


def _sizes(rows: Tensor, probabilities: Tensor | None, coordinates: Tensor, mean: bool) -> Lift:
    batch, views, height, width, channels = rows.shape
    depths, kind, cell, depth = 0, 0, 0, 0
    if probabilities is not None:
        depths, kind = probabilities.shape[2], TYPE_CODES[probabilities.dtype]
        cell, depth = (1, height * width) if probabilities.is_contiguous() else (depths, 1)
    num_points = coordinates.shape[2]
    sizes = (batch, views, channels, depths, height, width, num_points)
    return Lift(*sizes, TYPE_CODES[rows.dtype], kind, cell, depth, mean)


def _image_lift(
    rows: Tensor, probabilities: Tensor | None, coordinates: Tensor, valid: Tensor, mean: bool
) -> Tensor:
    """What :func:`image_lift` does, on maps ``(B, N, h, w, C)``."""
    probabilities = _dense(probabilities)
    out = new_memory(coordinates, *coordinates.shape[::2], rows.shape[-1])
    if _without_bins(probabilities):
        return out.zero_()
    sizes = _sizes(rows, probabilities, coordinates, mean)
    launch("image_lift", coordinates, valid, rows, probabilities, sizes, out)
    return out


def _image_lift_backward(  # noqa: PLR0913 - the op's arguments and what is asked for
    grad: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    mean: bool,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients by maps and probabilities; one that is not needed is an empty tensor."""
    probabilities = _dense(probabilities)
    grad_rows, grad_probabilities = coordinates.new_empty(0), coordinates.new_empty(0)
    if needed[0]:
        grad_rows = new_memory(coordinates, *rows.shape).zero_()
    if needed[1] and probabilities is not None:
        grad_probabilities = torch.zeros_like(probabilities, dtype=coordinates.dtype)
    needed = [needed[0], needed[1] and probabilities is not None]
    inputs, outputs = (
        (coordinates, valid, rows, probabilities),
        chosen((grad_rows, grad_probabilities), needed),
    )
    if _without_bins(probabilities):
        return grad_rows, grad_probabilities
    if grad.is_cuda and torch.are_deterministic_algorithms_enabled():
        _add_in_fixed_order(grad, *inputs, mean, *outputs)
    else:
        sizes = _sizes(rows, probabilities, coordinates, mean)
        launch("image_lift_backward", *inputs, grad, sizes, *outputs)
    return grad_rows, grad_probabilities


def _add_in_fixed_order(  # noqa: PLR0913 - the op's arguments and its outputs
    grad: Tensor,
    coordinates: Tensor,
    valid: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    mean: bool,
    grad_rows: Tensor | None,
    grad_probabilities: Tensor | None,
) -> None:
    """The sums in plain PyTorch, because CUDA's kernel adds in the order its threads happen to run in."""
    seen = _seen(coordinates, valid)
    grad = grad / seen.sum(1).clamp(min=1) if mean else grad
    for n in range(rows.shape[1]):
        uvd = torch.where(seen[:, n], coordinates[:, n], 2.0)
        if grad_probabilities is not None:
            values = read_by_gathers(rows[:, n].permute(0, 3, 1, 2), uvd[..., :2])
            likeness = (grad * values).sum(-1, keepdim=True)
            grad_probabilities[:, n] = add(likeness, uvd, grad_probabilities.shape[2:])[:, 0]
        if grad_rows is not None:
            share = grad
            if probabilities is not None:
                share = grad * read_by_gathers(probabilities[:, n, None], uvd)
            added = add(share, uvd[..., :2], (1, *rows.shape[2:4]))
            grad_rows[:, n] = added[:, :, 0].permute(0, 2, 3, 1)


def _fake_lift(
    rows: Tensor, probabilities: Tensor | None, coordinates: Tensor, valid: Tensor, mean: bool
) -> Tensor:
    return coordinates.new_empty(*coordinates.shape[::2], rows.shape[-1])


def _fake_backward(  # noqa: PLR0913 - the op's arguments and what is asked for
    grad: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    mean: bool,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    grad_rows, grad_probabilities = coordinates.new_empty(0), coordinates.new_empty(0)
    if needed[0]:
        grad_rows = coordinates.new_empty(rows.shape)
    if needed[1] and probabilities is not None:
        grad_probabilities = torch.empty_like(_dense(probabilities), dtype=coordinates.dtype)
    return grad_rows, grad_probabilities


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.mean = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors  # read once: a checkpoint computes them anew, and gives them away
    rows, probabilities, _, _ = tensors
    needed = [ctx.needs_input_grad[0], probabilities is not None and ctx.needs_input_grad[1]]
    backward = torch.ops.renderpretrain.image_lift_backward
    grad_rows, grad_probabilities = backward(grad, *tensors, ctx.mean, needed)
    if needed[1]:
        grad_probabilities = grad_probabilities.to(probabilities.dtype)
    return *chosen((grad_rows.to(rows.dtype), grad_probabilities), needed), None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.mean, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, rows, probabilities, coordinates, valid = ctx.saved_tensors
    maps = [rows] if probabilities is None else [rows, probabilities]

    def lift(rows: Tensor, probabilities: Tensor | None = None) -> Tensor:
        features, reduce = rows.permute(0, 1, 4, 2, 3), REDUCTIONS[ctx.mean]
        return _lift(features, probabilities, coordinates, valid, reduce, read_by_gathers)

    by_maps, by_grad = double_backward(lift, maps, [grad], chosen(along, ctx.needed)[: len(maps)])
    by_rows, by_probabilities = (*by_maps, None)[:2]
    return *by_grad, by_rows, by_probabilities, None, None, None, None


_TENSORS = {
    "rows": "stored B N h w C",
    "probabilities": "stored~ B N D h w",
    "coordinates": "float B N P 3",
    "valid": "bool B N P",
}
register(
    "image_lift(Tensor rows, Tensor? probabilities, Tensor coordinates, Tensor valid, bool mean) -> Tensor",
    _image_lift,
    _fake_lift,
    _TENSORS,
)
register(
    "image_lift_backward(Tensor grad, Tensor rows, Tensor? probabilities, Tensor coordinates, Tensor valid,"
    " bool mean, bool[2] needed) -> (Tensor, Tensor)",
    _image_lift_backward,
    _fake_backward,
    {"grad": "float B P C", **_TENSORS},
)
register_gradient("image_lift", _gradient, _save)
register_gradient("image_lift_backward", _second_gradient, _save_backward)
