"""Fields of signed distances: with the gradient and on the way back, and the distance alone."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Case, both_passes
from torch import Tensor

from renderpretrain import VoxelGrid, ops

OPERATORS = ("sdf_field", "sdf_field_infer")


def cases(device: str, quick: bool) -> Iterator[Case]:
    """UniPAD's field, 180 x 180 x 5 with 32 channels; ``render_step.py`` has whole steps, and more peers."""
    street = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
    shape = ops.FieldShape(ops.InjectedShape(32, 16, 17, 5, beta=100.0), 54.0)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 32, *street.shape, generator=generator)
    volume = volume.to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    count = 1 << (12 if quick else 16)
    points = ((torch.rand(1, count, 3, generator=generator) - 0.5) * 100).to(device)
    parameters = (0.2 * torch.randn(shape.num_parameters, generator=generator)).to(device).requires_grad_()
    tensors = volume, points, parameters
    told = f"180x180x5, C=32, hidden 16, 5 blocks, {count} points"
    num_bytes = 4 * (volume.numel() + 7 * count)
    flops = 2 * shape.num_parameters * count

    def whole(operator: Callable[..., ops.FieldValues]) -> Callable[..., tuple[Tensor, ...]]:
        def run(*tensors: Tensor) -> tuple[Any, ...]:
            found = operator(*tensors, street.scale, street.offset, shape)
            return found.sdf, found.gradients

        return run

    def alone(*tensors: Tensor) -> Tensor:
        wanted = ops.FieldOutputs(gradients=False)
        return ops.sdf_field_reference(*tensors, street.scale, street.offset, shape, wanted=wanted).sdf

    def infer(*tensors: Tensor) -> Tensor:
        return ops.sdf_field_infer(*tensors, street.scale, street.offset, shape)

    sides = {"": (whole(ops.sdf_field), tensors), "reference": (whole(ops.sdf_field_reference), tensors)}
    # Softplus(100 x) and its curvature of up to 25 magnify the roundings of what they are given.
    bounds = 1e-3, 1e-3
    yield from both_passes(
        "sdf_field", told, sides, (num_bytes, 2 * num_bytes), (2 * flops, 8 * flops), bounds
    )
    sides = {"": (infer, tensors), "reference": (alone, tensors)}
    yield from both_passes(
        "sdf_field_infer", told, sides, (num_bytes, 2 * num_bytes), (flops, 4 * flops), bounds
    )
