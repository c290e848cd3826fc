"""Scans along rays and the distortion of their weights, for rays of equal and of different length."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from measure import Case, Results, gradients
from torch import Tensor

from renderpretrain import ops


def cases(device: str, quick: bool) -> Iterator[Case]:
    """4096 rays with 96 samples each, and as many samples shared out at random."""
    num_rays, num_samples = (256 if quick else 4096), 96
    generator = torch.Generator().manual_seed(0)
    x = (1 - 0.1 * torch.rand(num_rays, num_samples, generator=generator)).to(device)
    cuts = torch.randint(x.numel() + 1, (num_rays - 1,), generator=generator).sort().values
    offsets = torch.cat([torch.tensor([0]), cuts, torch.tensor([x.numel()])]).to(device)
    rays = f"{num_rays} x {num_samples}"
    yield from _scans(f"{rays}, rows", x, None)
    yield from _scans(f"{rays}, ragged", x.flatten(), offsets)
    yield from _distortion(f"{rays}, rows", x, None)
    yield from _distortion(f"{rays}, ragged", x.flatten(), offsets)


def _scans(shape: str, x: Tensor, offsets: Tensor | None) -> Iterator[Case]:
    peers: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
        "segment_exclusive_sum": {"reference": lambda x: ops.segment_exclusive_sum_reference(x, offsets)},
        "segment_exclusive_prod": {"reference": lambda x: ops.segment_exclusive_prod_reference(x, offsets)},
    }
    if offsets is not None:
        peers["segment_exclusive_sum"]["torch"] = lambda x: _sum_of_all_less_that_before_the_ray(x, offsets)
    for name, others in peers.items():
        # The sum of all samples reaches 4e5 in float32, and the difference of two such sums keeps 1 in 1000.
        yield from _passes(name, shape, partial(getattr(ops, name), offsets=offsets), others, (x,), 1e-3)


def _sum_of_all_less_that_before_the_ray(x: Tensor, offsets: Tensor) -> Tensor:
    before = torch.cat([x.new_zeros(1), x.cumsum(0)])
    return before[:-1] - before[offsets[:-1]].repeat_interleave(offsets.diff(), output_size=x.shape[0])


def _distortion(shape: str, x: Tensor, offsets: Tensor | None) -> Iterator[Case]:
    """As a loss: weights that are differentiated, intervals that are not."""
    t = torch.linspace(0, 1, x.shape[-1], device=x.device).expand_as(x).contiguous()
    inputs = (x / 96, t, t + 0.5 / x.shape[-1])
    yield from _passes(
        "distortion_loss",
        shape,
        lambda w: ops.distortion_loss(w, *inputs[1:], offsets),
        {"torch": lambda w: ops.distortion_loss_reference(w, *inputs[1:], offsets)},
        inputs,
        1e-4,
    )


def _passes(
    name: str,
    shape: str,
    ours: Callable[[Tensor], Tensor],
    peers: dict[str, Callable[[Tensor], Tensor]],
    inputs: Results,
    tolerance: float,
) -> Iterator[Case]:
    """Without gradients, and the backward pass alone, by the first input."""
    x = inputs[0].detach().clone().requires_grad_()

    def forward(function: Callable[[Tensor], Tensor]) -> Callable[[], Results]:
        def run() -> Results:
            with torch.no_grad():
                return (function(x),)

        return run

    least = 4 * sum(tensor.numel() for tensor in inputs)
    result = ours(x)
    upstream = (torch.rand_like(result),)
    others = {peer: forward(function) for peer, function in peers.items()}
    yield Case(name, "forward", shape, forward(ours), others, least + 4 * result.numel(), 0, tolerance)
    others = {peer: gradients((function(x),), (x,), upstream) for peer, function in peers.items()}
    run = gradients((result,), (x,), upstream)
    yield Case(name, "backward", shape, run, others, least + 4 * result.numel() + 4 * x.numel(), 0, tolerance)
