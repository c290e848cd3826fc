"""What PyTorch is told about the operators: schemas, shapes, derivatives, autocast, compilation."""

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

pytestmark = pytest.mark.skipif(
    not ops.has_native("cpu"), reason="operators are registered for native libraries"
)

FRAME = ((1.0, 2.0, 0.5), (0.2, -0.1, 0.3))


def example(name, device):
    """Arguments of every registered operator."""

    def random(*shape):
        return torch.randn(*shape, device=device, dtype=torch.float64)

    volume, points = random(2, 3, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d), random(2, 6, 3)
    values, alphas = random(2, 6, 3), torch.rand(4, 7, device=device, dtype=torch.float64)
    index = torch.tensor([3, 0, -1, 3, 1], device=device)
    plan = torch.ops.renderpretrain.scatter_plan(index, 4)
    box = (3, 4, 5), (-1.0,) * 3, (1.0,) * 3, *FRAME
    return {
        "composite": (alphas, None),
        "composite_backward": (random(4, 7), alphas, None),
        "fold_in": (index, [3]),
        "uniform": (index, (3, 5)),
        "grid_sample": (volume, points, *FRAME),
        "grid_sample_backward": (values, volume, points, *FRAME, [True, True]),
        "grid_sample_vjp": (volume, points, values, *FRAME),
        "grid_sample_vjp_backward": (random(2, 6, 3), volume, points, values, *FRAME, [True] * 3),
        "splat": (values, points, (3, 4, 5), *FRAME),
        "box_intersect": (random(4, 3), random(4, 3), (-1.0,) * 3, (1.0,) * 3, 0.0, 9.0),
        "neus_upsample": (random(4, 7).sort(-1).values, random(4, 7), 9.0, alphas[0].sort().values),
        "resample": (random(4, 6).cumsum(-1), alphas[:, :5], torch.rand_like(alphas)),
        "scatter_plan": (index, 4),
        "voxel_scatter": (random(5, 3), *plan, "max"),
        "voxel_scatter_backward": (random(4, 3), random(5, 3), *plan, "max"),
        "voxel_index": (points, torch.rand(2, 6, device=device) < 0.5, *box),
        "occupied_cells": (index, 4),
    }[name]


NAMES = [
    "box_intersect",
    "composite",
    "composite_backward",
    "fold_in",
    "grid_sample",
    "grid_sample_backward",
    "grid_sample_vjp",
    "grid_sample_vjp_backward",
    "neus_upsample",
    "occupied_cells",
    "resample",
    "scatter_plan",
    "splat",
    "uniform",
    "voxel_index",
    "voxel_scatter",
    "voxel_scatter_backward",
]
WITHOUT_GRADIENT = {
    "box_intersect",
    "fold_in",
    "neus_upsample",
    "occupied_cells",
    "resample",
    "scatter_plan",
    "uniform",
    "voxel_index",
}


def test_every_operator_is_checked():
    registered = torch._C._dispatch_get_all_op_names()
    names = {name.split("::")[1] for name in registered if name.startswith("renderpretrain::")}
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    checked = {name for text in texts for name in re.findall(r"check_operator\(\s*\"(\w+)\"", text)}
    assert names == checked | set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_schema_shapes_and_derivatives_hold_together(name, device, check_operator):
    check_operator(name, example(name, device), name not in WITHOUT_GRADIENT)


@pytest.mark.parametrize("name", ["composite", "grid_sample", "splat"])
def test_under_autocast_the_operators_run_in_float32(name, device):
    operator = getattr(torch.ops.renderpretrain, name)
    arguments = [a.bfloat16() if isinstance(a, torch.Tensor) else a for a in example(name, device)]
    with torch.autocast(device.type, dtype=torch.bfloat16):
        result = operator(*arguments)
    assert result.dtype == torch.float32
    assert_close(result, operator(*(a.float() if isinstance(a, torch.Tensor) else a for a in arguments)))


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
def test_a_compiled_loss_and_its_gradient_are_those_of_eager_mode():
    def loss(volume, points):
        features = ops.grid_sample(volume, points, *FRAME)
        return ops.composite(torch.sigmoid(features[..., 0])).square().sum()

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        volume = torch.linspace(-1, 1, 2 * 3 * 3 * 4 * 5).reshape(2, 3, 3, 4, 5).requires_grad_()
        points = torch.linspace(-1, 3, 36).reshape(2, 6, 3).requires_grad_()
        value = function(volume, points)
        value.backward()
        results.append((value, volume.grad, points.grad))
    assert_close(*results)
