"""Calls of every operator by its name, right and then spoilt; run as a program, for a fault would end it.

Each spoilt call must raise ``ValueError`` or ``RuntimeError`` or return; the last one is in the file named.
"""

import contextlib
import math
import os
import resource
import sys
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renderpretrain import ops

FRAME = (1.0, 2.0, 0.5), (0.2, -0.1, 0.3)
BOX = (-1.0,) * 3, (1.0,) * 3


def right_calls():
    """Arguments that every operator takes, by its name."""
    torch.manual_seed(0)
    rand, ones = torch.rand, torch.ones
    a, v, valid = rand(4, 7), rand(4, 7, 3), rand(4, 7) < 0.8
    t, s, ray = a.cumsum(-1), torch.tensor(9.0), rand(4)
    volume, points, values = rand(2, 3, 3, 4, 5), 3 * rand(2, 6, 3), rand(2, 6, 3)
    index = torch.tensor([3, 0, -1, 3, 1])
    plan = ops.scatter_plan(index, 4)
    scatter = plan.order, plan.offsets
    lift = ops.lss_plan(torch.arange(48).view(2, 3, 2, 4) % 7 - 1, 6)
    pool = rand(2, 3, 2, 4), rand(2, 5, 2, 4), *(lift.cells, lift.order, lift.starts, lift.pixels, lift.bins)
    rows, likely, where = rand(1, 2, 4, 5, 3), rand(1, 2, 3, 4, 5), rand(1, 2, 9, 3) - 0.5
    maps = rows, likely, where, rand(1, 2, 9) < 0.8, True
    voxels = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.int32)
    table = ops.submanifold_neighbors(voxels, (1, 2, 2, 2), (3, 3, 3))
    conv = rand(3, 3), rand(27, 3, 5), table, None
    rays = rand(1, 4, 3), rand(1, 4, 3), rand(1, 4), 2 + rand(1, 4), rand(1, 3, 4, 5) < 0.5
    offsets = torch.tensor([0, 2, 2, 7])
    render = a - 0.5, -a, a, t, s, v, valid
    outputs = ray, ray, a
    grads = rand(4, 3), ray, ray, a
    network = ops.InjectedShape(3, 4, 3, 1)
    head = ops.FieldHead(ops.InjectedShape(3 + 3 + 3 + 2, 4, 3, 1, activation="relu"), True, True)
    shape = ops.FieldShape(network, 2.0, 0, (head,))
    parameters = rand(shape.num_parameters)
    field = volume, points, parameters, rand(2, 3, 3), rand(2, 6) < 0.8
    field_grads = rand(2, 6), rand(2, 6, 3), rand(2, 6, 2), rand(2, 6, 3), rand(2, 6, 3), None
    mlp_shape = ops.InjectedShape(3 + 2, 4, 3, 1, activation="relu")
    mlp = rand(mlp_shape.num_parameters), points, rand(2, 6) < 0.8, rand(2, 6, 3), rand(2, 3, 2), None, None
    mlp = *mlp, mlp_shape.code(), 1.0, True
    return {
        "accumulate": (a, v),
        "accumulate_backward": (rand(4, 3), a, v, [True, True]),
        "box_intersect": (rand(4, 3), rand(4, 3), *BOX, 0.0, 9.0),
        "composite": (a, valid),
        "composite_backward": (a, a, valid),
        "composite_values": (a, v, t, valid, 0.1),
        "composite_values_backward": (a, v, t, valid, *outputs, *grads, 0.1, True),
        "distortion_loss": (rand(7), rand(7), 1 + rand(7), offsets),
        "distortion_loss_backward": (rand(3), rand(7), rand(7), 1 + rand(7), offsets, True),
        "fold_in": (index, [3]),
        "frustum_coordinates": (rand(6, 3), rand(2, 3, 4), 1.0, 9.0, 0.1),
        "fused_mlp": mlp,
        "fused_mlp_backward": (rand(2, 6, 3), *mlp, [True, True, True, False, False]),
        "grid_sample": (volume, points, *FRAME),
        "grid_sample_backward": (values, volume, points, *FRAME, [True, True]),
        "grid_sample_vjp": (volume, points, values, *FRAME),
        "grid_sample_vjp_backward": (points, volume, points, values, *FRAME, [True] * 3),
        "image_lift": maps,
        "image_lift_backward": (rand(1, 9, 3), *maps, [True, True]),
        "lss_pool": pool,
        "lss_pool_backward": (rand(6, 5), *pool, [True, True]),
        "march": (*rays, *FRAME, 0.1, 5),
        "march_packed": (*rays, *FRAME, 0.1),
        "neus_alphas": (a, -a, a, s),
        "neus_alphas_backward": (a, a, -a, a, s),
        "neus_render": (*render, 0.1),
        "neus_render_backward": (*render, *outputs, *grads, 0.1, True),
        "neus_upsample": (t, a - 0.5, 9.0, ray.sort().values),
        "occupied_cells": (index, 4),
        "raycast_grid": (points, 2 * points, rand(2, 6) < 0.8, (3, 4, 5), *FRAME),
        "resample": (rand(4, 8).cumsum(-1), a, rand(4, 5)),
        "scatter_plan": (index, 4),
        "sdf_field": (*field, *FRAME, *shape.codes(), [True] * 3),
        "sdf_field_backward": (*field, *field_grads, *FRAME, *shape.codes(), [True] * 3),
        "segment_scan": (rand(7), rand(7), offsets, False),
        "sparse_conv3d": conv,
        "sparse_conv3d_backward": (rand(3, 5), *conv, [True, True]),
        "splat": (values, points, (3, 4, 5), *FRAME),
        "strided_chain": (voxels, (1, 2, 2, 2), [3, 3, 3, 2, 2, 2, 1, 1, 1] * 2),
        "strided_neighbors": (voxels, (1, 2, 2, 2), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
        "submanifold_neighbors": (voxels, (1, 2, 2, 2), (3, 3, 3)),
        "uniform": (index, (3, 5)),
        "voxel_index": (points, rand(2, 6) < 0.8, (3, 4, 5), *BOX, *FRAME),
        "voxel_scatter": (rand(5, 3), *scatter, "max"),
        "voxel_scatter_backward": (rand(4, 3), ones(5, 3), *scatter, "max"),
    }


def _lost(x):
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def in_table(x):
    """The same numbers with others between them."""
    return torch.stack([x, ~x if x.dtype == torch.bool else -10 * x], -1)[..., 0]


TENSORS = {
    "another type": lambda x: x.double() if x.dtype != torch.float64 else x.float(),
    "half": lambda x: x.half(),
    "integers": lambda x: x.int(),
    "long": lambda x: x.long(),
    "truths": lambda x: x > 0,
    "nothing": lambda x: x[:0] if x.dim() else x,
    "an axis more": lambda x: x[None],
    "an axis less": lambda x: x[0] if x.dim() and len(x) else x,
    "a row less": lambda x: x[1:] if x.dim() else x,
    "a row more": lambda x: torch.cat([x, x[-1:]]) if x.dim() else x,
    "a column less": lambda x: x[..., 1:] if x.dim() else x,
    "a column more": lambda x: torch.cat([x, x[..., -1:]], -1) if x.dim() else x,
    "turned": lambda x: x.mT if x.dim() > 1 else x,
    "one number": lambda x: x.flatten()[0].expand(x.shape) if x.numel() else x,
    "a column of a table": in_table,
    "without memory": _lost,
    "far": lambda x: x * 10**8 if x.dtype != torch.bool else x,
    "negative": lambda x: -x - 1 if x.dtype != torch.bool else x,
    "elsewhere by one": lambda x: x + 1 if x.dtype != torch.bool else x,
    "nan": lambda x: x * math.nan if x.is_floating_point() else x,
    "infinite": lambda x: x / 0 if x.is_floating_point() else x,
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
}
NUMBERS = [-1, 0, 1, 2**62, -(2**63)]
FLOATS = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e300]


def spoil(draw, value):
    """Another value of the same kind, right or wrong."""
    if isinstance(value, torch.Tensor):
        return TENSORS[draw(st.sampled_from(sorted(TENSORS)))](value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw(st.sampled_from(NUMBERS))
    if isinstance(value, float):
        return draw(st.sampled_from(FLOATS))
    if isinstance(value, str):
        return draw(st.sampled_from(["sum", "mean", "max", "min", ""]))
    if isinstance(value, tuple | list):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], spoil(draw, value[place]), *value[place + 1 :]]
    return value


@st.composite
def spoilt_calls(draw):
    """The name of an operator and its arguments, one or two of them spoilt."""
    calls = right_calls()
    name = draw(st.sampled_from(sorted(calls)))
    arguments = list(calls[name])
    for place in draw(st.lists(st.integers(0, len(arguments) - 1), min_size=1, max_size=2, unique=True)):
        arguments[place] = spoil(draw, arguments[place])
    return name, arguments


def _shown(value):
    """Of a tensor its kind, not its numbers."""
    if isinstance(value, torch.Tensor):
        return str(value.to("meta")) if value.layout == torch.strided else str(value.layout)
    return repr(value)


def main(count, derandomize, last):
    """Make so many spoilt calls."""
    gibibyte = 2**30
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # which reserves more, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_AS, (24 * gibibyte, 24 * gibibyte))  # what is too large raises

    @settings(max_examples=count, database=None, deadline=None, derandomize=derandomize)
    @given(spoilt_calls())
    def call(spoilt):
        name, arguments = spoilt
        shown = [_shown(x) for x in arguments]
        last.write_text(f"{name} {shown}")
        meta = any(isinstance(x, torch.Tensor) and x.is_meta for x in arguments)
        # Without memory there is no kernel, and sizes beyond 64 bits are PyTorch's own to refuse.
        with contextlib.suppress(ValueError, RuntimeError, *(OverflowError, TypeError) * meta):
            getattr(torch.ops.renderpretrain, name)(*arguments)

    call()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "same", Path(sys.argv[3]))
