"""A field of signed distances in one pass: the volume is read, the networks and the gradient are computed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_frame
from renderpretrain.ops._library import (
    chosen,
    common_float,
    dense,
    double_backward,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch, new_memory, scratch_size
from renderpretrain.ops._signatures import Field, Grid, Head, Mlp
from renderpretrain.ops.field_shape import MOST_HEADS, FieldOutputs, FieldShape, FieldValues, named_values
from renderpretrain.ops.grid_sample import (
    grid_sample,
    grid_sample_reference,
    grid_sample_vjp,
    grid_sample_vjp_reference,
)
from renderpretrain.ops.injected_mlp import first_output_gradient, injected_layers

GRADIENTS_ALONE = FieldOutputs()


def sdf_field(  # noqa: PLR0913  a field has a volume, a place for it, and networks
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    parameters: Float[Tensor, " K"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    shape: FieldShape,
    *,
    directions: Float[Tensor, "B R D"] | None = None,
    valid: Bool[Tensor, "B P"] | None = None,
    wanted: FieldOutputs = GRADIENTS_ALONE,
) -> FieldValues:
    r"""Signed distances decoded from a volume, their gradients, and what networks on top of them say.

    The feature :math:`f` is read trilinearly (:func:`grid_sample`), the distance network computes
    ``h = embed(p); h = act(layer(h + inject(f)))``, and the gradient is

    .. math:: \nabla s = W_p^T t_0 + J_f(p)^T g_f

    with ``t_0`` and ``g_f`` the network's own derivatives by its position and its feature. It is an output
    like any other: a loss on it trains with one backward pass, without ``create_graph``. Nothing is kept for
    the way back but the inputs; tiles of points that stay in cache are computed again there. The field is the
    one of UniPAD (https://arxiv.org/abs/2310.08370, section 3.2) and PonderV2
    (https://arxiv.org/abs/2310.08586).

    Args:
        volume: Features; fastest where it already is in ``torch.channels_last_3d`` memory. Differentiable.
        points: World coordinates (x, y, z), metres. Differentiable.
        parameters: Of all networks, one behind the other as :meth:`InjectedShape.sizes` lists them.
            Differentiable.
        scale: Voxels per metre.
        offset: Index of the world's origin.
        shape: The networks' sizes.
        directions: For heads that see them, of the ``R`` rays on which equally many points lie one behind the
            other. Differentiable.
        valid: Points that count; at the others nothing is computed and everything is 0. All, if not given.
        wanted: What to return.

    Returns:
        Values in float32 or float64; differentiable to any order, from the second on without a kernel. Sums
        over points have a fixed order, on CUDA those in the volume's gradient only under
        ``torch.use_deterministic_algorithms``, where the field is composed of other operators.

    Raises:
        ValueError: If shapes do not fit the networks.
    """
    check_frame(scale, offset)
    shape.check(volume, points, parameters, directions, valid)
    named = {"volume": volume, "points": points, "parameters": parameters}
    named |= {} if directions is None else {"directions": directions}
    volume, points, parameters, *rays = common_float(**named)
    directions = rays[0] if rays else None
    inputs = volume, points, parameters, directions, valid
    ordered = points.is_cuda and torch.are_deterministic_algorithms_enabled()
    if ordered or not has_native(points.device.type):
        found = _composed(
            lambda points: grid_sample(volume, points, scale, offset),
            lambda points, cotangents: grid_sample_vjp(volume, points, cotangents, scale, offset),
            inputs,
            shape,
            slopes=wanted.gradients or bool(shape.heads),
        )
    else:
        found = torch.ops.renderpretrain.sdf_field(*inputs, scale, offset, *shape.codes(), list(wanted))
    return named_values(found, shape, wanted)


def sdf_field_infer(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    parameters: Float[Tensor, " K"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    shape: FieldShape,
) -> Float[Tensor, "B P"]:
    """The distance of :func:`sdf_field` alone, as importance sampling and meshes ask for it.

    Args:
        volume: As for :func:`sdf_field`. Differentiable.
        points: As for :func:`sdf_field`. Differentiable.
        parameters: Of the distance network alone. Differentiable.
        scale: Voxels per metre.
        offset: Index of the world's origin.
        shape: Without heads.

    Returns:
        Metres, positive in free space.

    Raises:
        ValueError: If shapes do not fit the network.
    """
    nothing_else = FieldOutputs(gradients=False)
    return sdf_field(volume, points, parameters, scale, offset, shape, wanted=nothing_else).sdf


def sdf_field_reference(  # noqa: PLR0913  as sdf_field
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    parameters: Float[Tensor, " K"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    shape: FieldShape,
    *,
    directions: Float[Tensor, "B R D"] | None = None,
    valid: Bool[Tensor, "B P"] | None = None,
    wanted: FieldOutputs = GRADIENTS_ALONE,
) -> FieldValues:
    """:func:`sdf_field` in plain PyTorch: the definition the kernels are tested against."""
    found = _composed(
        lambda points: grid_sample_reference(volume, points, scale, offset),
        lambda points, cotangents: grid_sample_vjp_reference(volume, points, cotangents, scale, offset),
        (volume, points, parameters, directions, valid),
        shape,
        slopes=wanted.gradients or bool(shape.heads),
    )
    return named_values(found, shape, wanted)


def _composed(
    read: Callable[[Tensor], Tensor],
    slant: Callable[[Tensor, Tensor], Tensor],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    shape: FieldShape,
    *,
    slopes: bool,
) -> list[Tensor | None]:
    """Distance, gradients, geometry, features and what the heads say, one operator after the other.

    Args:
        read: What the volume holds at points.
        slant: The gradient by points of that times cotangents.
        inputs: Volume, points, parameters, directions, valid.
        shape: The networks.
        slopes: Whether to compute gradients.
    """
    volume, points, parameters, directions, valid = inputs
    if valid is not None:
        points = torch.where(valid[..., None], points, 0.0)
    networks = parameters.split([network.num_parameters for network in shape.networks])
    channels, places = read(points), points / shape.extent
    weights = shape.distance.unpack(networks[0])
    outputs = injected_layers(shape.distance, weights, places, channels[..., : shape.distance.in_channels])
    known = [channels[..., shape.first_feature :]]
    if slopes:
        by_position, by_input = first_output_gradient(shape.distance, weights, outputs)
        by_input = torch.nn.functional.pad(by_input, (0, volume.shape[1] - by_input.shape[-1]))
        gradients = slant(points, by_input) * shape.extent
        known.append(gradients if by_position is None else by_position + gradients)
    known.append(outputs[-1][..., 1:])
    heads = []
    for head, its in zip(shape.heads, networks[1:], strict=True):
        seen = known
        if head.directions and directions is not None:
            seen = [directions.repeat_interleave(points.shape[1] // directions.shape[1], 1), *known]
        layers = injected_layers(head.network, head.network.unpack(its), places, torch.cat(seen, -1))
        heads.append(torch.sigmoid(layers[-1]) if head.sigmoid else layers[-1])
    sdf = outputs[-1][..., 0] * shape.extent
    found = [sdf, known[1] if slopes else None, known[-1], known[0], *heads]
    if valid is None:
        return found
    marks = valid[..., None]
    others = [x if x is None else torch.where(marks, x, 0.0) for x in found[1:]]
    return [torch.where(valid, sdf, 0.0), *others]


def _native_field(inputs: Sequence[Any], shape: FieldShape) -> Field:
    """``rp_field`` of an operator's arguments."""
    volume, points, _, directions, _, scale, offset = inputs
    rays, width = (1, 0) if directions is None else directions.shape[1:]
    networks = [Mlp(*network.code(), network.beta) for network in shape.networks]
    pairs = zip(networks[1:], shape.heads, strict=True)
    heads = [Head(mlp, head.directions, head.sigmoid) for mlp, head in pairs]
    grid = Grid(*volume.shape, points.shape[1], *scale, *offset)
    samples = max(points.shape[1] // max(rays, 1), 1)
    counts = shape.distance.in_channels, shape.first_feature, samples, width, len(heads)
    return Field(grid, float(shape.extent), *counts, networks[0], (Head * MOST_HEADS)(*heads))


def _scratch(field: Field, like: Tensor, *, backward: bool) -> Tensor:
    """Memory for the tiles that are worked on at a time."""
    return new_memory(like, scratch_size("sdf_field_scratch", like, field, int(backward)))


def _channels_last(volume: Tensor) -> Tensor:
    return volume.contiguous(memory_format=torch.channels_last_3d)


def _sdf_field(*inputs: Any) -> tuple[Tensor, ...]:
    """Everything the operator returns; what nobody wants is an empty tensor."""
    volume, points, parameters, directions, valid, *_, sizes, numbers, wanted = inputs
    shape, out = FieldShape.from_codes(sizes, numbers), _fake(*inputs)
    field = _native_field(inputs[:7], shape)
    scratch = _scratch(field, points, backward=False)
    asked = (True, *wanted, *(place < len(shape.heads) for place in range(MOST_HEADS)))
    results = [value if want else None for value, want in zip(out, asked, strict=True)]
    read = points, valid, _channels_last(volume), parameters, directions
    launch("sdf_field", *read, field, scratch, scratch.numel(), *results)
    return out


def _sdf_field_backward(*inputs: Any) -> tuple[Tensor, ...]:
    """Gradients by volume, points, directions and parameters; one of the first three may be empty."""
    volume, points, parameters, directions, valid, *grads = inputs[: 5 + 4 + MOST_HEADS]
    scale, offset, sizes, numbers, needed = inputs[5 + 4 + MOST_HEADS :]
    field = _native_field([*inputs[:5], scale, offset], FieldShape.from_codes(sizes, numbers))
    scratch = _scratch(field, points, backward=True)
    grad_volume, grad_points, grad_directions, grad_parameters = _fake_backward(*inputs)
    turns = None
    if needed[2]:
        turns = points.new_zeros(*points.shape[:2], directions.shape[-1])
    launch(
        "sdf_field_backward",
        *(points, valid, _channels_last(volume), parameters, directions, field, scratch, scratch.numel()),
        *map(dense, grads),
        grad_volume.zero_() if needed[0] else None,
        grad_points.zero_() if needed[1] else None,
        *(turns, grad_parameters),
    )
    if turns is not None:
        torch.sum(turns.unflatten(1, (directions.shape[1], -1)), 2, out=grad_directions)
    return grad_volume, grad_points, grad_directions, grad_parameters


def _fake(*inputs: Any) -> tuple[Tensor, ...]:
    volume, points, *_, sizes, numbers, wanted = inputs
    shape = FieldShape.from_codes(sizes, numbers)
    widths = 3, shape.distance.out_channels - 1, volume.shape[1] - shape.first_feature
    batch, count = points.shape[:2]

    def memory(wanted: bool, *width: Any) -> Tensor:
        return new_memory(points, batch, count, *width) if wanted else points.new_empty(0)

    values = [memory(want, width) for want, width in zip(wanted, widths, strict=True)]
    heads = [memory(True, head.network.out_channels) for head in shape.heads]
    heads += [memory(False) for _ in range(MOST_HEADS - len(heads))]
    return memory(True), *values, *heads


def _fake_backward(*inputs: Any) -> tuple[Tensor, ...]:
    volume, points, parameters, directions, *_, needed = inputs
    batch, channels, *size = volume.shape
    grad_volume, grad_directions = volume.new_empty(0), points.new_empty(0)
    if needed[0]:
        grad_volume = new_memory(volume, batch, *size, channels).permute(0, 4, 1, 2, 3)
    if needed[2]:
        grad_directions = directions.new_empty(directions.shape)
    grad_points = points.new_empty(points.shape if needed[1] else 0)
    return grad_volume, grad_points, grad_directions, parameters.new_empty(parameters.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.offset, ctx.sizes, ctx.numbers, ctx.wanted = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    tensors, by = ctx.saved_tensors, ctx.needs_input_grad
    num_heads = len(FieldShape.from_codes(ctx.sizes, ctx.numbers).heads)
    asked = [True, *ctx.wanted, *(place < num_heads for place in range(MOST_HEADS))]
    needed = [by[0], by[1], by[3]]
    settings = ctx.scale, ctx.offset, ctx.sizes, ctx.numbers, needed
    *found, parameters = torch.ops.renderpretrain.sdf_field_backward(
        *tensors, *chosen(grads, asked), *settings
    )
    volume, points, directions = chosen(found, needed)
    return volume, points, parameters if by[2] else None, directions, *[None] * 6


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.offset, ctx.sizes, ctx.numbers, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    volume, points, parameters, directions, valid, *grads = ctx.saved_tensors
    shape = FieldShape.from_codes(ctx.sizes, ctx.numbers)
    scale, offset, num_heads = tuple(ctx.scale), tuple(ctx.offset), len(shape.heads)

    def reference(
        volume: Tensor, points: Tensor, parameters: Tensor, directions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        *values, heads = sdf_field_reference(
            *(volume, points, parameters, scale, offset, shape),
            directions=directions,
            valid=valid,
            wanted=FieldOutputs(True, True, True),
        )
        return *(value for value in values if value is not None), *heads

    by_volume, by_points, by_directions = chosen(along[:3], ctx.needed)
    asked = [by_volume, by_points, along[3]] + ([] if directions is None else [by_directions])
    inputs = [volume, points, parameters] + ([] if directions is None else [directions])
    by_inputs, by_grads = double_backward(reference, inputs, grads[: 4 + num_heads], asked)
    by_inputs += [None] * (4 - len(inputs))
    return *by_inputs, None, *by_grads, *[None] * (MOST_HEADS - num_heads), *[None] * 5


def _check_call(*arguments: Any) -> None:
    """What the kernels follow, whoever calls the operator by its name."""
    *tensors, scale, offset, sizes, numbers, _ = arguments
    check_frame(scale, offset)
    FieldShape.from_codes(sizes, numbers).check(*tensors[:5])


def _check_backward(*arguments: Any) -> None:
    """The same, and gradients as wide as what they belong to."""
    _check_call(*arguments)
    volume, _, _, directions, *_, sizes, numbers, needed = arguments
    if needed[2] and directions is None:
        raise ValueError("directions: expected those that a gradient is asked for by, got None")
    shape = FieldShape.from_codes(sizes, numbers)
    heads = [head.network.out_channels for head in shape.heads]
    widths = [shape.distance.out_channels - 1, volume.shape[1] - shape.first_feature, *heads]
    for name, grad, width in zip(list(_GRADS)[2:], arguments[7:], widths, strict=False):
        if isinstance(grad, Tensor) and grad.shape[-1] != width:
            raise ValueError(f"{name}: expected {width} channels, got {grad.shape[-1]}")


_FRAME = "float[3] scale, float[3] offset, int[] sizes, float[] numbers"
_INPUTS = "Tensor volume, Tensor points, Tensor parameters, Tensor? directions, Tensor? valid"
_TENSORS = {
    "volume": "float~ B C Z Y X",
    "points": "float B P 3",
    "parameters": "float K",
    "directions": "float B R D",
    "valid": "bool B P",
}
_GRADS = {
    "grad_sdf": "float B P",
    "grad_gradients": "float B P 3",
    "grad_geometry": "float B P G",
    "grad_features": "float B P F",
    "grad_head_0": "float B P K0",
    "grad_head_1": "float B P K1",
}
register(
    f"sdf_field({_INPUTS}, {_FRAME}, bool[3] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _sdf_field,
    _fake,
    _TENSORS,
    _check_call,
)
register(
    f"sdf_field_backward({_INPUTS}, {', '.join(f'Tensor? {name}' for name in _GRADS)}, {_FRAME},"
    " bool[3] needed) -> (Tensor, Tensor, Tensor, Tensor)",
    _sdf_field_backward,
    _fake_backward,
    {**_TENSORS, **_GRADS},
    _check_backward,
)
register_gradient("sdf_field", _gradient, _save)
register_gradient("sdf_field_backward", _second_gradient, _save_backward)
