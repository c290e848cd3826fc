"""Fields of signed distances: with the gradient, on the way back, and the distance alone; and a colour."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Case, both_passes
from torch import Tensor

from renderpretrain import VoxelGrid, ops

OPERATORS = ("fused_mlp", "sdf_field", "sdf_field_infer")


def cases(device: str, quick: bool) -> Iterator[Case]:
    """UniPAD's field, and the network of its colour."""
    count = 1 << (12 if quick else 16)
    yield from _fields(device, count)
    yield from _colors(device, count)


def _colors(device: str, count: int) -> Iterator[Case]:
    """A colour of direction, feature, gradient and geometry, at 96 samples of each ray."""
    rays, samples = count // 96, 96
    shape = ops.InjectedShape(3 + 32 + 3 + 16, 16, 3, 3, activation="relu")
    generator = torch.Generator().manual_seed(0)
    sizes = (rays, 3), (rays * samples, 32), (rays * samples, 3), (rays * samples, 16)
    known = [torch.randn(1, *size, generator=generator).to(device) for size in sizes]
    known = [x.requires_grad_(place > 0) for place, x in enumerate(known)]
    places = torch.rand(1, rays * samples, 3, generator=generator).to(device)
    parameters = (0.2 * torch.randn(shape.num_parameters, generator=generator)).to(device).requires_grad_()

    def run(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def said(parameters: Tensor, *inputs: Tensor) -> Tensor:
            return operator(inputs, parameters, shape, positions=places, sigmoid=True)

        return said

    sides = {
        "": (run(ops.fused_mlp), (parameters, *known)),
        "reference": (run(ops.fused_mlp_reference), (parameters, *known)),
    }
    told = f"54 inputs in 4 parts, hidden 16, 3 blocks, {rays * samples} points"
    read = 4 * rays * samples * (51 + 3 + 3)
    flops = 2 * shape.num_parameters * rays * samples
    yield from both_passes("fused_mlp", told, sides, (read, 3 * read), (flops, 4 * flops))


def _fields(device: str, count: int) -> Iterator[Case]:
    """UniPAD's field, 180 x 180 x 5 with 32 channels; ``render_step.py`` has whole steps, and more peers."""
    street = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
    shape = ops.FieldShape(ops.InjectedShape(32, 16, 17, 5, beta=100.0), 54.0)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 32, *street.shape, generator=generator)
    volume = volume.to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
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
