"""How a number comes about: equality first, then both sides in turns, medians, peak memory, and the floor.

On a GPU a call is recorded into a graph where that is possible and the replay is timed by the device's own
clock, its cache emptied before: what the kernels take, without the host that starts them.

The floor of a pass is the longer of two times: that of copying the bytes it cannot avoid to touch, and that
of a matrix product with as many operations, both measured on this machine with the same threads.
"""

import ctypes
import gc
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Results = tuple[Tensor, ...]
Run = Callable[[], Results]
Function = Callable[..., Tensor | Results]


class UnequalError(Exception):
    """A peer computes something else than the case: its time would mean nothing."""


@dataclass(frozen=True)
class Case:
    """One pass of one operator on one shape, and everybody who can do the same.

    Attributes:
        op: Name of the operator.
        stage: ``"forward"``, ``"backward"``, ``"forward+backward"``, ``"double backward"``.
        shape: In words, short.
        ours: Runs the pass and returns what it computed.
        peers: The same by others: the operator's definition as ``"reference"``, the best form of plain torch
            that is not it as ``"torch"``, and libraries under their names.
        num_bytes: Memory traffic that no implementation can avoid: inputs once, outputs once.
        num_flops: Floating-point operations, a multiply-add counted as two. With no bytes either the floor is
            not known.
        tolerance: Largest difference allowed, over the largest entry of the peer's result.
        not_compared: Peers whose result differs by design (say why beside it): timed only.
    """

    op: str
    stage: str
    shape: str
    ours: Run
    peers: dict[str, Run]
    num_bytes: int
    num_flops: int = 0
    tolerance: float = 1e-4
    not_compared: tuple[str, ...] = field(default=())


def with_compiled(case: Case) -> Case:
    """The case with one peer more, its reference by ``torch.compile``, where it has one."""
    found = case.peers.get("reference")
    if found is None:
        return case
    return replace(case, peers=case.peers | {"compiled": torch.compile(found)})


def rows(case: Case, device: str, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """One row per peer of a case.

    Raises:
        UnequalError: If a peer that can be compared differs by more than the case allows.
    """
    errors = _errors(case)
    runs = {"": case.ours, **{name: case.peers[name] for name in errors}}
    times = medians(runs, device, seconds, repeats)
    peaks = {name: peak_megabytes(run, device) for name, run in runs.items()}
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
            "floor_share": floor / times[""] if floor else None,
        }
        for name in errors
    ]


def _errors(case: Case) -> dict[str, float | None]:
    """Each able peer's difference; every side runs once, so that the first timed call is not its first."""
    expected, errors = case.ours(), dict[str, float | None]()
    for name, peer in case.peers.items():
        try:
            found = peer()
        except (NotImplementedError, RuntimeError) as error:
            if "not implemented" not in str(error) and name != "compiled":
                raise
            if name == "compiled":  # as where a second derivative is asked of it
                print(f"{case.op} {case.stage}: torch.compile: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        try:
            errors[name] = None if name in case.not_compared else relative_error(expected, found)
        except UnequalError as error:
            raise UnequalError(f"{case.op} {case.stage} {case.shape}: {name}: {error}") from None
        if (errors[name] or 0.0) > case.tolerance:
            raise UnequalError(
                f"{case.op} {case.stage} {case.shape}: differs from {name} by {errors[name]:.1e}, "
                f"more than {case.tolerance:.0e}"
            )
    return errors


def relative_error(ours: Results, theirs: Results) -> float:
    """Largest difference over the largest finite entry, of the worst pair of results.

    Infinities are equal to infinities of the same sign; NaN equals nothing, not even NaN.

    Raises:
        UnequalError: If the numbers of results, their shapes, or entries that are not finite do not agree.
    """
    if len(ours) != len(theirs):
        raise UnequalError(f"{len(theirs)} results, ours are {len(ours)}")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            raise UnequalError(f"a result of shape {tuple(b.shape)}, ours has {tuple(a.shape)}")
        if a.numel() == 0:
            continue
        a, b = a.detach().double(), b.detach().double()
        difference = torch.where(a == b, 0.0, (a - b).abs())
        if not difference.isfinite().all():
            raise UnequalError("NaN, or an infinity where the other is finite or of the other sign")
        scale = float(torch.where(b.isfinite(), b, 0.0).abs().max())
        worst = max(worst, float(difference.max()) / max(scale, 1e-30))
    return worst


def medians(sides: dict[str, Run], device: str, seconds: float, repeats: int = 5) -> dict[str, float]:
    """Milliseconds of each side: one call of each in turn, ``repeats`` at least, until the time is up."""
    clock = _by_device if device == "cuda" else _by_host
    if device == "cuda":
        sides = {name: recorded(run) for name, run in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds * len(sides)
    while time.perf_counter() < end or len(times[""]) < repeats:
        for name, run in sides.items():
            times[name].append(clock(run))
    return {name: statistics.median(values) for name, values in times.items()}


def _by_host(run: Run) -> float:
    """Milliseconds of a call."""
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def _by_device(run: Run) -> float:
    """Milliseconds on the device, whose cache holds nothing of the inputs."""
    _scratch().zero_()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


@cache
def _scratch() -> Tensor:
    """More than the cache of any GPU."""
    return torch.empty(64 << 20, device="cuda")


def own_stream(device: str) -> AbstractContextManager[object]:
    """On a GPU a stream that a graph may record, as the first one may not be; what is timed is made on it."""
    return torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else nullcontext()


def recorded(run: Run) -> Run:
    """The replay of a graph of the call, or the call itself where the host has a say in it."""
    if _waits(run):
        return run
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    run()
    # A backward pass runs on the stream of its forward pass, which is the one that must be recorded.
    with torch.cuda.graph(graph, stream=stream):
        results = run()

    def replay() -> Results:
        graph.replay()
        return results

    return replay


def _waits(run: Run) -> bool:
    """Whether the host waits for the device within a call, which a graph cannot hold."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def peak_megabytes(run: Run, device: str) -> float:
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
    return 2 * source.numel() * source.element_size() / seconds


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


@cache
def installed(name: str) -> Any:
    """The module of a peer, or None where it is absent or does not import."""
    try:
        return importlib.import_module(name)
    except Exception:  # not installed, or built for another torch
        return None


def as_tuple(results: Tensor | Results) -> Results:
    """A single result as a tuple of one."""
    return (results,) if isinstance(results, Tensor) else tuple(results)


def cotangents_of(outputs: Results) -> Results:
    """What arrives from behind: the same random numbers for all sides, in the layout of their own results."""
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.empty_like(output).copy_(torch.randn(output.shape, generator=generator)) for output in outputs
    )


def forward(function: Function, inputs: Results) -> Run:
    """The forward pass alone."""

    def run() -> Results:
        with torch.no_grad():
            return as_tuple(function(*inputs))

    return run


def forward_backward(function: Function, inputs: Results) -> Run:
    """Both passes; what is returned are the gradients by the inputs that require one."""
    leaves = tuple(tensor for tensor in inputs if tensor.requires_grad)
    cotangents: Results = ()

    def run() -> Results:
        nonlocal cotangents
        outputs = as_tuple(function(*inputs))
        cotangents = cotangents or cotangents_of(outputs)
        return torch.autograd.grad(outputs, leaves, cotangents)

    return run


def gradients(outputs: Results, inputs: Results) -> Run:
    """A backward pass alone, that can be run again and again."""
    cotangents = cotangents_of(outputs)

    def run() -> Results:
        return torch.autograd.grad(outputs, inputs, cotangents, retain_graph=True)

    return run


def both_passes(
    op: str,
    shape: str,
    sides: Mapping[str, tuple[Function, Results]],
    num_bytes: tuple[int, int],
    num_flops: tuple[int, int] = (0, 0),
    tolerances: tuple[float, float] = (1e-4, 1e-4),
) -> Iterator[Case]:
    """The forward pass alone, and with the backward pass.

    Every side comes with inputs of its own, for a peer may want another layout; our side's name is empty.
    """
    for i, (stage, make) in enumerate((("forward", forward), ("forward+backward", forward_backward))):
        runs = {name: make(*side) for name, side in sides.items()}
        yield Case(op, stage, shape, runs.pop(""), runs, num_bytes[i], num_flops[i], tolerances[i])
