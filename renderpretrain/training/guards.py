"""What stops a run before it does harm: signals, and numbers that are not finite."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from renderpretrain.runs.folder import is_first_process
from renderpretrain.training.sharded import local

Handler = Callable[[int, FrameType | None], object]
"""What the system calls with a signal."""


class StopRequest:
    """Whether somebody asked the run to end.

    Attributes:
        signal: The name of the first signal.
        otherwise: What a second one does.
    """

    def __init__(self, otherwise: Handler = signal.default_int_handler) -> None:
        self.signal: str | None = None
        self.otherwise = otherwise

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second one interrupts at once, as SIGINT did before the run."""
        if self.signal is not None:
            self.otherwise(number, frame)
        elif number == signal.SIGINT and is_first_process() and os.isatty(2):
            # Not print, which may be at work when the signal comes.
            os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C again stops at once\n")
        self.signal = self.signal or signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGINT and SIGHUP into a request that the loop honours after its step.

    A SIGHUP that is ignored, as under ``nohup``, stays so. Elsewhere than in the main thread Python allows no
    handlers, and the request stays silent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    interrupted = signal.getsignal(signal.SIGINT)
    request = StopRequest(interrupted if callable(interrupted) else signal.default_int_handler)
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    heard = [n for n in numbers if n != getattr(signal, "SIGHUP", 0) or signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, request) for number in heard}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class CheckpointClock:
    """When a checkpoint is overdue, whatever the number of steps: what a crash may cost is time.

    Args:
        minutes: Between checkpoints; the first one comes after a tenth of it.
    """

    def __init__(self, minutes: int | float) -> None:
        self.seconds, self.allowed, self.began = 60 * minutes, 6 * minutes, time.monotonic()

    def restart(self) -> None:
        """Begin to count anew, after a checkpoint has been written."""
        self.allowed, self.began = self.seconds, time.monotonic()

    def is_overdue(self) -> bool:
        """Whether the last checkpoint was too long ago."""
        return not 0 <= time.monotonic() - self.began < self.allowed  # a clock may be set back


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors with a NaN or an infinity in this process; waits for the device once."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return []
    finite = torch.stack([local(tensor).isfinite().all() for tensor in floating.values()]).tolist()
    return [name for name, good in zip(floating, finite, strict=True) if not good]


def non_finite_message(step: int, terms: dict[str, float], grad_norm: float) -> str | None:
    """Which loss term, or else the gradient, is not finite; ``None`` if all are."""
    bad = [f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        return f"step {step}: {', '.join(bad)}"
    if not math.isfinite(grad_norm):
        finite = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        return (
            f"step {step}: the norm of the gradient is {grad_norm} while every loss term is finite ({finite})"
        )
    return None
