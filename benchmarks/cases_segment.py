"""Scans along rays and the distortion of their weights, for rays of equal and of different length."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from measure import Case, Results, forward, gradients, installed
from torch import Tensor
from torch.nn.functional import pad

from renderpretrain import ops

OPERATORS = ("segment_exclusive_sum", "segment_exclusive_prod", "distortion_loss")

Peers = dict[str, Callable[[Tensor], Tensor]]


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
    sums: Peers = {"reference": lambda x: ops.segment_exclusive_sum_reference(x, offsets)}
    products: Peers = {"reference": lambda x: ops.segment_exclusive_prod_reference(x, offsets)}
    if offsets is not None:
        sums["torch"] = lambda x: _scan(x, offsets)
        # Rounded in float32 the sum of all logarithms would leave the product 1 in 500.
        products["torch"] = lambda x: _scan(x.log(), offsets, torch.float64).exp().to(x.dtype)
    nerfacc = installed("nerfacc")
    if nerfacc and offsets is None:  # its scans of ragged rays are for CUDA, compiled when first called
        sums["nerfacc"] = nerfacc.exclusive_sum
        products["nerfacc"] = nerfacc.exclusive_prod
    for name, peers in (("segment_exclusive_sum", sums), ("segment_exclusive_prod", products)):
        # The sum of all samples reaches 4e5 in float32, and the difference of two such sums keeps 1 in 1000.
        yield from _passes(name, shape, partial(getattr(ops, name), offsets=offsets), peers, (x,), 1e-3)


def _scan(x: Tensor, offsets: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What lies in front of each sample: the sum of all of them, less that in front of the ray."""
    before = pad(x.cumsum(0, dtype=dtype), (1, 0))
    return before[:-1] - before[offsets[:-1]].repeat_interleave(offsets.diff(), output_size=x.shape[0])


def _distortion(shape: str, x: Tensor, offsets: Tensor | None) -> Iterator[Case]:
    """As a loss: weights that are differentiated, intervals that are not."""
    t = torch.linspace(0, 1, x.shape[-1], device=x.device).expand_as(x).contiguous()
    inputs = (x / 96, t, t + 0.5 / x.shape[-1])
    peers: Peers = {
        "reference": lambda w: ops.distortion_loss_reference(w, *inputs[1:], offsets),
        "torch": lambda w: _distortion_of_rows(w, *inputs[1:]),
    }
    if offsets is not None:
        peers["torch"] = lambda w: _distortion_of_packed(w, *inputs[1:], offsets)
    # Of ragged rays differences of sums over all samples, as above.
    yield from _passes(
        "distortion_loss", shape, lambda w: ops.distortion_loss(w, *inputs[1:], offsets), peers, inputs, 1e-3
    )


def _distortion_of_rows(weights: Tensor, t_starts: Tensor, t_ends: Tensor) -> Tensor:
    """Every gap between middles counts what lies in front of it times what lies behind."""
    mass, gaps = weights.cumsum(-1), (0.5 * (t_starts + t_ends)).diff(dim=-1)
    front = mass[..., :-1]
    between = 2 * (front * (mass[..., -1:] - front) * gaps).sum(-1)
    return between + (weights.square() * (t_ends - t_starts)).sum(-1) / 3


def _distortion_of_packed(weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor) -> Tensor:
    """The same for ragged rays; in front of a ray's first sample there is a gap, but no mass."""
    counts, gaps = offsets.diff(), pad((0.5 * (t_starts + t_ends)).diff(), (1, 0))
    before = pad(weights.cumsum(0), (1, 0))
    starts, ends = (
        before[edges].repeat_interleave(counts, output_size=len(weights))
        for edges in (offsets[:-1], offsets[1:])
    )
    between = 2 * (before[:-1] - starts) * (ends - before[:-1]) * gaps
    shares = between + weights.square() * (t_ends - t_starts) / 3
    return torch.segment_reduce(shares, "sum", lengths=counts, initial=0.0)


def _passes(
    name: str,
    shape: str,
    ours: Callable[[Tensor], Tensor],
    peers: Peers,
    inputs: Results,
    tolerance: float,
) -> Iterator[Case]:
    """Without gradients, and the backward pass alone, by the first input."""
    x = inputs[0].detach().clone().requires_grad_()
    num_results = ours(x).numel()
    least = 4 * (sum(tensor.numel() for tensor in inputs) + num_results)
    sides = {"": ours, **peers}
    runs = {peer: forward(function, (x,)) for peer, function in sides.items()}
    yield Case(name, "forward", shape, runs.pop(""), runs, least, tolerance=tolerance)
    runs = {peer: gradients((function(x),), (x,)) for peer, function in sides.items()}
    num_bytes = least + 4 * x.numel()
    yield Case(name, "backward", shape, runs.pop(""), runs, num_bytes, tolerance=tolerance)
