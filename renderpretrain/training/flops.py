"""Floating-point operations of what PyTorch's counter does not know: our operators, and reads of maps.

Importing this registers them, so that :class:`torch.utils.flop_counter.FlopCounterMode` counts them too. A
multiply-add is two operations.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import flop_registry, register_flop_formula

from renderpretrain.ops import FieldShape, InjectedShape

OURS, ATEN = torch.ops.renderpretrain, torch.ops.aten


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Operations of one call; 0 for what no formula is registered for, as element-wise arithmetic."""
    if func.overloadpacket is ATEN.convolution_backward:
        return _convolution_backward(*args)
    formula = flop_registry.get(func.overloadpacket)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """Each gradient costs as much as forward; PyTorch's own formula takes all channels for one group."""
    transposed, needed = rest[4], rest[-1]
    places = x if transposed else grad
    once = 2 * weight.numel() * places.shape[0] * math.prod(places.shape[2:])
    return sum(needed[:2]) * once


def _pairs(table: Tensor) -> int:
    """Entries of a table of neighbours that name one; all of them where there are no numbers."""
    return table.numel() if isinstance(table, FakeTensor) else int((table >= 0).sum())


def _reads(corners: int, places: Tensor, channels: int) -> int:
    """A multiply-add per corner and channel of every place ``(..., coordinates)``."""
    return 2 * corners * math.prod(places.shape[:-1]) * channels


@register_flop_formula(OURS.sparse_conv3d, get_raw=True)
def _sparse(features: Tensor, kernel: Tensor, inputs: Tensor, *_: Any, **__: Any) -> int:
    return 2 * _pairs(inputs) * kernel.shape[1] * kernel.shape[2]


@register_flop_formula(OURS.sparse_conv3d_backward, get_raw=True)
def _sparse_backward(
    grad: Tensor, features: Tensor, kernel: Tensor, inputs: Tensor, outputs: Any, needed: list[bool], **_: Any
) -> int:
    return sum(needed) * _sparse(features, kernel, inputs)


@register_flop_formula([OURS.grid_sample, OURS.grid_sample_vjp], get_raw=True)
def _volume(volume: Tensor, points: Tensor, *_: Any, **__: Any) -> int:
    return _reads(8, points, volume.shape[1])


@register_flop_formula([OURS.grid_sample_backward, OURS.grid_sample_vjp_backward], get_raw=True)
def _volume_backward(grad: Tensor, volume: Tensor, points: Tensor, *rest: Any, **_: Any) -> int:
    return sum(rest[-1]) * _volume(volume, points)


@register_flop_formula(ATEN.grid_sampler_2d, get_raw=True)
def _maps(maps: Tensor, places: Tensor, *_: Any, **__: Any) -> int:
    return _reads(4, places, maps.shape[1])


@register_flop_formula(ATEN.grid_sampler_2d_backward, get_raw=True)
def _maps_backward(grad: Tensor, maps: Tensor, places: Tensor, *_: Any, **__: Any) -> int:
    return 2 * _maps(maps, places)


@register_flop_formula(OURS.image_lift, get_raw=True)
def _lift(rows: Tensor, probabilities: Any, coordinates: Tensor, *_: Any, **__: Any) -> int:
    return _reads(4, coordinates, rows.shape[-1])


@register_flop_formula(OURS.image_lift_backward, get_raw=True)
def _lift_backward(
    grad: Tensor, rows: Tensor, probabilities: Any, coordinates: Tensor, *rest: Any, **_: Any
) -> int:
    return sum(rest[-1]) * _lift(rows, probabilities, coordinates)


@register_flop_formula(OURS.lss_pool, get_raw=True)
def _pool(depth: Tensor, features: Tensor, *_: Any, **__: Any) -> int:
    return 2 * depth.numel() * features.shape[1]


@register_flop_formula(OURS.lss_pool_backward, get_raw=True)
def _pool_backward(grad: Tensor, depth: Tensor, features: Tensor, *rest: Any, **_: Any) -> int:
    return sum(rest[-1]) * _pool(depth, features)


@register_flop_formula(OURS.fused_mlp, get_raw=True)
def _network(parameters: Tensor, *rest: Any, out_val: Tensor, **_: Any) -> int:
    return 2 * math.prod(out_val.shape[:-1]) * _products(InjectedShape.from_code(*rest[-3:-1]))


@register_flop_formula(OURS.fused_mlp_backward, get_raw=True)
def _network_backward(grad: Tensor, *rest: Any, **_: Any) -> int:
    """The network again, and each of its products reversed twice."""
    return 6 * math.prod(grad.shape[:-1]) * _products(InjectedShape.from_code(*rest[-4:-2]))


@register_flop_formula(OURS.sdf_field, get_raw=True)
def _field(volume: Tensor, points: Tensor, *rest: Any, **_: Any) -> int:
    shape, wanted = FieldShape.from_codes(*rest[-3:-1]), rest[-1]
    slopes = bool(wanted[0] or shape.heads)
    per_point = _field_products(shape, slopes=slopes)
    return 2 * math.prod(points.shape[:2]) * per_point + (1 + slopes) * _reads(8, points, volume.shape[1])


@register_flop_formula(OURS.sdf_field_backward, get_raw=True)
def _field_backward(volume: Tensor, points: Tensor, *rest: Any, **_: Any) -> int:
    """The field again, each of its products reversed twice, and what is added to the volume."""
    shape, needed = FieldShape.from_codes(*rest[-3:-1]), rest[-1]
    slopes = rest[_GRAD_GRADIENTS] is not None or bool(shape.heads)
    per_point, passes = _field_products(shape, slopes=slopes), 1 + needed[0]
    reads = (1 + slopes) * _reads(8, points, volume.shape[1])
    return 6 * math.prod(points.shape[:2]) * per_point + passes * reads


_GRAD_GRADIENTS = 4
"""Where, behind points, ``sdf_field_backward`` has the gradient by the distance's gradients."""


def _products(network: InjectedShape) -> int:
    """Multiply-adds of a network at a point: every weight is used once."""
    return sum(math.prod(size) for size in network.sizes() if len(size) == 2)


def _field_products(shape: FieldShape, *, slopes: bool) -> int:
    """The same of a field. The distance's own derivative begins with the last layer's weights as they are."""
    distance = shape.distance
    derived = _products(distance) - distance.out_channels * distance.hidden_channels
    return _products(distance) + slopes * derived + sum(_products(head.network) for head in shape.heads)
