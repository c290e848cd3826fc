"""What may be stored in half precision is read as it is: nobody makes a wide copy of it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from renderpretrain import ops

pytestmark = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
FRAME = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


class _Copies(TorchDispatchMode):
    """Notes the shapes of tensors of half precision that are converted."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        if operator is torch.ops.aten._to_copy.default and arguments[0].dtype in (
            torch.float16,
            torch.bfloat16,
        ):
            self.shapes.append(tuple(arguments[0].shape))
        return operator(*arguments, **(keywords or {}))


def calls(dtype, device):
    """By name: an operator on something in half precision."""
    rays, values = torch.rand(5, 7, device=device), torch.randn(5, 7, 3, device=device).to(dtype)
    inv_s = torch.tensor(9.0, device=device)
    volume, points = torch.randn(1, 3, 4, 5, 6, device=device).to(dtype), torch.rand(1, 8, 3, device=device)
    plan = ops.lss_plan(torch.arange(24, device=device).reshape(1, 2, 3, 4), 24)
    maps, likely = values.reshape(1, 1, 3, 5, 7), torch.rand(1, 1, 2, 5, 7, device=device).to(dtype)
    index, seen = torch.arange(5, device=device), torch.ones(1, 1, 8, dtype=torch.bool, device=device)
    return {
        "accumulate": lambda: ops.accumulate(rays, values),
        "composite_values": lambda: ops.composite_values(rays, values, rays),
        "neus_render": lambda: ops.neus_render(rays, -rays, rays, rays, inv_s, values),
        "grid_sample": lambda: ops.grid_sample(volume, points, *FRAME),
        "grid_sample_vjp": lambda: ops.grid_sample_vjp(volume, points, points, *FRAME),
        "lss_pool": lambda: ops.lss_pool(torch.rand(1, 2, 3, 4, device=device), maps[0, :, :, :3, :4], plan),
        "image_lift": lambda: ops.image_lift(maps, likely, points[None], seen),
        "voxel_scatter": lambda: ops.voxel_scatter(values[:, 0], index, 5),
    }


@pytest.mark.parametrize("name", calls(torch.float16, "cpu"))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_copied(name, dtype, device):
    call = calls(dtype, device)[name]
    with _Copies() as copies:
        call()
    assert copies.shapes == []
