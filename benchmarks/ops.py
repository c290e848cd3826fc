"""Times the operators on this machine beside their references, after checking that they agree.

One realistic step: 2048 rays of 96 samples through a volume of 32 channels on 10 x 100 x 100 voxels. Prints a
Markdown table of medians. ``python benchmarks/ops.py [cpu|cuda]``
"""

import platform
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.benchmark import Timer

from renderpretrain import VoxelGrid, ops

RAYS, SAMPLES, CHANNELS = 2048, 96, 32
GRID = VoxelGrid((-50.0, -50.0, -5.0, 50.0, 50.0, 5.0), (1.0, 1.0, 1.0))
SECONDS = 2.0
"""Time given to each number."""


class Case(NamedTuple):
    """An operator, its reference, and both as functions of the tensors to differentiate by."""

    name: str
    kernel: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def cases(device: str) -> Iterator[Case]:
    """The five operators at the realistic shape."""
    rays = (
        torch.randn(RAYS, 3, device=device),
        torch.nn.functional.normalize(torch.randn(RAYS, 3, device=device)),
    )
    t = torch.linspace(0.5, 40, SAMPLES, device=device)
    points = (rays[0][:, None] + t[:, None] * rays[1][:, None]).reshape(1, -1, 3)
    volume = torch.randn(1, CHANNELS, *GRID.shape, device=device)
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    values = torch.randn(1, RAYS * SAMPLES, CHANNELS, device=device)
    alphas = torch.rand(RAYS, SAMPLES, device=device)
    frame = GRID.scale, GRID.offset
    edges, u = t.expand(RAYS, SAMPLES), torch.rand(RAYS, 24, device=device)
    yield Case("composite", ops.composite, ops.composite_reference, (alphas,))
    yield Case(
        "grid_sample",
        lambda v, p: ops.grid_sample(v, p, *frame),
        lambda v, p: ops.grid_sample_reference(v, p, *frame),
        (volume, points),
    )
    yield Case(
        "splat",
        lambda v, p: ops.splat(v, p, GRID.shape, *frame),
        lambda v, p: ops.splat_reference(v, p, GRID.shape, *frame),
        (values, points),
    )
    yield Case(
        "box_intersect",
        lambda o, d: ops.box_intersect(o, d, GRID.lower, GRID.upper)[1],
        lambda o, d: ops.box_intersect_reference(o, d, GRID.lower, GRID.upper)[1],
        rays,
    )
    yield Case(
        "resample",
        lambda e, w: ops.resample(e, w, u),
        lambda e, w: ops.resample_reference(e, w, u),
        (edges, alphas[:, 1:]),
    )


def backward(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Value and gradients of its sum of squares."""
    value = function(*inputs)
    return value, *torch.autograd.grad(value.square().sum(), inputs)


def milliseconds(function: Callable[..., object], *arguments: object) -> float:
    """Median time of a call; the timer waits for the device."""
    timer = Timer(
        "function(*arguments)",
        globals={"function": function, "arguments": arguments},
        num_threads=torch.get_num_threads(),
    )
    return 1e3 * timer.blocked_autorange(min_run_time=SECONDS).median


def pair(kernel: float, reference: float) -> list[str]:
    """Three cells of the table."""
    return [f"{kernel:.2f}", f"{reference:.2f}", f"{reference / kernel:.1f}x"]


def row(case: Case) -> str:
    """Check the kernel against the reference, then time both."""
    # float32 sums of up to thousands of terms in another order.
    assert_close(case.kernel(*case.inputs), case.reference(*case.inputs), rtol=1e-4, atol=1e-3)
    cells = pair(milliseconds(case.kernel, *case.inputs), milliseconds(case.reference, *case.inputs))
    inputs = tuple(tensor.detach().clone().requires_grad_() for tensor in case.inputs)
    if case.kernel(*inputs).requires_grad:
        for ours, theirs in zip(backward(case.kernel, inputs), backward(case.reference, inputs), strict=True):
            assert_close(
                ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.detach().abs().max()), check_stride=False
            )
        cells += pair(
            milliseconds(backward, case.kernel, inputs), milliseconds(backward, case.reference, inputs)
        )
    else:
        cells += ["-"] * 3
    return f"| {case.name} | {' | '.join(cells)} |"


def main(device: str) -> None:
    """Print the table."""
    if not ops.has_native(device):
        raise SystemExit(f"nothing to compare: {ops.native_status()[device].why}")
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, median ms\n")
    print("| op | forward | reference | ratio | forward + backward | reference | ratio |")
    print("|---|---|---|---|---|---|---|")
    for case in cases(device):
        print(row(case), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
