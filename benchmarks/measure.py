"""How a number comes about: equality first, then both sides in turns, medians, peak memory, and the floor.

The floor of a pass is the longer of two times: that of copying the bytes it cannot avoid to touch, and that
of a matrix product with as many operations, both measured on this machine with the same threads.
"""

import ctypes
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Results = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """One pass of one operator on one shape, and everybody who can do the same.

    Attributes:
        op: Name of the operator.
        stage: ``"forward"``, ``"backward"``, ``"forward+backward"``, ``"double backward"``.
        shape: In words, short.
        ours: Runs the pass and returns what it computed.
        peers: The same by others, the best plain-torch form under the name ``"torch"``.
        num_bytes: Memory traffic that no implementation can avoid: inputs once, outputs once.
        num_flops: Floating-point operations, a multiply-add counted as two.
        tolerance: Largest difference allowed, over the largest entry of the peer's result.
        not_compared: Peers whose result differs by design (say why beside it): timed only.
    """

    op: str
    stage: str
    shape: str
    ours: Callable[[], Results]
    peers: dict[str, Callable[[], Results]]
    num_bytes: int
    num_flops: int = 0
    tolerance: float = 1e-4
    not_compared: tuple[str, ...] = field(default=())


def rows(case: Case, device: str, seconds: float) -> list[dict[str, Any]]:
    """One row per peer of a case."""
    expected = case.ours()
    errors = {
        name: None if name in case.not_compared else relative_error(expected, peer(), case, name)
        for name, peer in case.peers.items()
    }
    del expected
    times = medians({"": case.ours, **case.peers}, device, seconds)
    peaks = {name: peak_megabytes(run, device) for name, run in {"": case.ours, **case.peers}.items()}
    floor = 1e3 * max(case.num_bytes / copy_rate(device), case.num_flops / product_rate(device))
    return [
        {
            "op": case.op,
            "pass": case.stage,
            "shape": case.shape,
            "device": device,
            "threads": torch.get_num_threads(),
            "allocator": allocator(),
            "ours_ms": times[""],
            "peer": name,
            "peer_ms": times[name],
            "ratio": times[name] / times[""],
            "ours_peak_mb": peaks[""],
            "peer_peak_mb": peaks[name],
            "rel_err": errors[name],
            "floor_share": floor / times[""],
        }
        for name in case.peers
    ]


def relative_error(ours: Results, theirs: Results, case: Case, peer: str) -> float:
    """Largest difference over the largest entry; an exit where it is more than the case allows."""
    if len(ours) != len(theirs):
        raise SystemExit(f"{case.op} {case.stage}: {len(ours)} results, {peer} has {len(theirs)}")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        scale = max(float(b.detach().double().abs().max()), 1e-30) if b.numel() else 1.0
        difference = (a.detach().double() - b.detach().double()).abs()
        worst = max(worst, float(difference.max()) / scale if b.numel() else 0.0)
    if not worst <= case.tolerance:
        raise SystemExit(f"{case.op} {case.stage} {case.shape}: differs from {peer} by {worst:.1e}")
    return worst


def medians(sides: dict[str, Callable[[], Results]], device: str, seconds: float) -> dict[str, float]:
    """Milliseconds of each side: one call of each in turn, at least three, until the time is up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds * len(sides)
    while time.perf_counter() < end or len(times[""]) < 3:
        for name, run in sides.items():
            begin = _now(device)
            run()
            times[name].append(_now(device) - begin)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_megabytes(run: Callable[[], Results], device: str) -> float:
    """What a call needs at most beyond what was there, its results included."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if sys.platform != "linux":
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1e3


def _status(name: str) -> float:
    """A line of /proc/self/status, in units of 1000 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(found) * 1.024


@cache
def copy_rate(device: str) -> float:
    """Bytes a second, read and written, of copying an array that fits no cache."""
    source = torch.ones(64 << 20, device=device)
    target = torch.empty_like(source)
    seconds = medians({"": lambda: (target.copy_(source),)}, device, 1.0)[""] / 1e3
    return 2 * source.numel() * 4 / seconds


@cache
def product_rate(device: str) -> float:
    """Operations a second of a float32 matrix product."""
    a, b = torch.randn(2048, 2048, device=device), torch.randn(2048, 2048, device=device)
    out = torch.empty_like(a)
    seconds = medians({"": lambda: (torch.mm(a, b, out=out),)}, device, 1.0)[""] / 1e3
    return 2 * 2048**3 / seconds


TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Environment under which glibc keeps freed memory instead of handing it back to the system."""


def allocator() -> str:
    """``"tuned"`` where this process runs under it, else ``"default"``."""
    return "tuned" if all(os.environ.get(name) == value for name, value in TUNED.items()) else "default"


def gradients(outputs: Results, inputs: Results, cotangents: Results | None = None) -> Callable[[], Results]:
    """A backward pass that can be run again and again, for :attr:`Case.ours` and peers."""
    cotangents = cotangents or tuple(torch.ones_like(output) for output in outputs)

    def run() -> Results:
        return torch.autograd.grad(outputs, inputs, cotangents, retain_graph=True)

    return run
