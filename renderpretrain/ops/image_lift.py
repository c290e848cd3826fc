"""Images to points: what the cameras see there, times how likely they find it to be that far away."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_mask, check_shape
from renderpretrain.ops._library import common_type, register, register_gradient, stored_float
from renderpretrain.ops._native import TYPE_CODES, Lift, has_native, launch, new_memory
from renderpretrain.ops._trilinear import gather_reference

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
            memory, and in half precision as they are. Differentiable once.
        probabilities: Distribution over ``D`` equal depth bins in every cell, with either bins or columns
            neighbours in memory; ``None`` takes every depth for certain. Differentiable once.
        coordinates: ``(u, v, d)`` of every point in every camera, -1 at the first edge and 1 at the last,
            from :func:`frustum_coordinates` or a projection of one's own. Not differentiable.
        valid: Which camera sees which point; one with a NaN or infinite coordinate is not seen.
        reduce: ``"sum"``, or ``"mean"`` over the cameras that see the point.

    Returns:
        Values in float32 or float64, zero where no camera sees the point; with the channels last, so that
        ``.mT`` unflattened is a volume in ``torch.channels_last_3d`` memory.

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
    lift = torch.ops.renderpretrain.image_lift
    return lift(rows, probabilities, coordinates, valid, reduce == "mean")


def image_lift_reference(
    features: Float[Tensor, "B N C h w"],
    probabilities: Float[Tensor, "B N D h w"] | None,
    coordinates: Float[Tensor, "B N P 3"],
    valid: Bool[Tensor, "B N P"],
    reduce: str = "sum",
) -> Float[Tensor, "B P C"]:
    """:func:`image_lift` in plain PyTorch: one camera at a time, so that memory is that of one camera."""
    return _lift(features, probabilities, coordinates, valid, reduce, _read)


def _lift(
    features: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    reduce: str,
    read: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The sum over cameras; ``read`` takes maps ``(B, C, [D], h, w)`` and places ``(B, P, 2 | 3)``."""
    seen = valid & coordinates.isfinite().all(-1)
    total = coordinates.new_zeros(*coordinates.shape[::2], features.shape[2])
    for n in range(features.shape[1]):
        uvd = torch.where(seen[:, n, :, None], coordinates[:, n], 2.0)
        values = read(features[:, n], uvd[..., :2])
        likely = seen[:, n, :, None].to(values)
        if probabilities is not None:
            likely = likely * read(probabilities[:, n, None], uvd)
        total = total + values * likely
    return total / seen.sum(1).clamp(min=1)[..., None] if reduce == "mean" else total


def _read(maps: Tensor, places: Tensor) -> Tensor:
    """Bi- or trilinear reading: ``(B, P, C)``. Places keep full precision under autocast."""
    with torch.autocast(maps.device.type, enabled=False):
        grid = places[:, None] if places.shape[-1] == 2 else places[:, None, None]
        read = torch.nn.functional.grid_sample(
            maps.to(places.dtype), grid, padding_mode="zeros", align_corners=False
        )
    return read.flatten(2).mT


def _read_by_gathers(maps: Tensor, places: Tensor) -> Tensor:
    """The same, slower, and with a gradient that CUDA can compute in a fixed order."""
    if places.shape[-1] == 2:
        maps, places = maps[:, :, None], torch.cat([places, torch.zeros_like(places[..., :1])], -1)
    size = maps.shape[:1:-1]
    scale, offset = [extent / 2 for extent in size], [(extent - 1) / 2 for extent in size]
    return gather_reference(maps.to(places.dtype), places, scale, offset)


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


def _dense(probabilities: Tensor) -> Tensor:
    """Probabilities whose bins or whose columns are neighbours in memory; a copy only of anything else."""
    if probabilities.permute(0, 1, 3, 4, 2).is_contiguous():
        return probabilities
    return probabilities.contiguous()


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
    """From maps ``(B, N, h, w, C)``."""
    rows, coordinates, valid = rows.contiguous(), coordinates.contiguous(), valid.contiguous()
    probabilities = None if probabilities is None else _dense(probabilities)
    out = new_memory(coordinates, *coordinates.shape[::2], rows.shape[-1])
    sizes = _sizes(rows, probabilities, coordinates, mean)
    launch("image_lift", coordinates, valid, rows, probabilities, sizes, out)
    return out


def _image_lift_backward(
    grad: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    asked: list[bool],
) -> tuple[Tensor, ...]:
    """Gradients by maps and probabilities; one that is not needed is an empty tensor.

    ``asked`` says whether to average, and which of the two gradients are needed.
    """
    rows, coordinates, valid = rows.contiguous(), coordinates.contiguous(), valid.contiguous()
    probabilities = None if probabilities is None else _dense(probabilities)
    grad_rows = grad_probabilities = None
    if asked[1]:
        grad_rows = new_memory(coordinates, *rows.shape).zero_()
    if asked[2] and probabilities is not None:
        grad_probabilities = torch.zeros_like(probabilities, dtype=coordinates.dtype)
    inputs = (coordinates, valid, rows, probabilities, grad.contiguous())
    sizes = _sizes(rows, probabilities, coordinates, asked[0])
    launch("image_lift_backward", *inputs, sizes, grad_rows, grad_probabilities)
    grads = (grad_rows, grad_probabilities)
    return tuple(coordinates.new_empty(0) if found is None else found for found in grads)


def _fake_lift(
    rows: Tensor, probabilities: Tensor | None, coordinates: Tensor, valid: Tensor, mean: bool
) -> Tensor:
    return coordinates.new_empty(*coordinates.shape[::2], rows.shape[-1])


def _fake_backward(
    grad: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    asked: list[bool],
) -> tuple[Tensor, Tensor]:
    grad_rows, grad_probabilities = coordinates.new_empty(0), coordinates.new_empty(0)
    if asked[1]:
        grad_rows = coordinates.new_empty(rows.shape)
    if probabilities is not None and asked[2]:
        grad_probabilities = torch.empty_like(_dense(probabilities), dtype=coordinates.dtype)
    return grad_rows, grad_probabilities


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.mean = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, probabilities, coordinates, valid = ctx.saved_tensors
    needed = [ctx.needs_input_grad[0], probabilities is not None and ctx.needs_input_grad[1]]
    fixed = grad.is_cuda and torch.are_deterministic_algorithms_enabled()
    backward = _backward_in_fixed_order if fixed else torch.ops.renderpretrain.image_lift_backward
    grads = backward(grad, rows, probabilities, coordinates, valid, [ctx.mean, *needed])
    grad_rows = grads[0].to(rows.dtype) if needed[0] else None
    grad_probabilities = grads[1].to(probabilities.dtype) if needed[1] else None
    return grad_rows, grad_probabilities, None, None, None


def _backward_in_fixed_order(
    grad: Tensor,
    rows: Tensor,
    probabilities: Tensor | None,
    coordinates: Tensor,
    valid: Tensor,
    asked: list[bool],
) -> tuple[Tensor, ...]:
    """In plain PyTorch, for CUDA's kernel adds in the order its threads happen to run in."""
    mean, *needed = asked
    with torch.enable_grad():
        rows = rows.detach().to(coordinates.dtype).requires_grad_(needed[0])
        if probabilities is not None:
            probabilities = probabilities.detach().to(coordinates.dtype).requires_grad_(needed[1])
        features = rows.permute(0, 1, 4, 2, 3)
        lifted = _lift(features, probabilities, coordinates, valid, REDUCTIONS[mean], _read_by_gathers)
    leaves = [leaf for leaf in (rows, probabilities) if leaf is not None and leaf.requires_grad]
    found = iter(torch.autograd.grad(lifted, leaves, grad))
    return tuple(next(found) if need else coordinates.new_empty(0) for need in needed)


def _second_gradient(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError("image_lift: differentiable once; beyond that use image_lift_reference")


register(
    "image_lift(Tensor rows, Tensor? probabilities, Tensor coordinates, Tensor valid, bool mean) -> Tensor",
    _image_lift,
    _fake_lift,
    stored=(0, 1),
)
register(
    "image_lift_backward(Tensor grad, Tensor rows, Tensor? probabilities, Tensor coordinates, Tensor valid,"
    " bool[3] asked) -> (Tensor, Tensor)",
    _image_lift_backward,
    _fake_backward,
    stored=(1, 2),
)
register_gradient("image_lift", _gradient, _save)
register_gradient("image_lift_backward", _second_gradient)
