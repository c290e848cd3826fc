"""What stops a run before it does harm: signals, and numbers that are not finite."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second one interrupts at once."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a request that the loop honours after its step.

    Elsewhere than in the main thread Python allows no handlers, and the request stays silent.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def non_finite_message(step: int, terms: dict[str, float], grad_norm: float) -> str | None:
    """Which loss term, or else the gradient, is not finite; ``None`` if all are."""
    bad = [f"loss/{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        return f"step {step}: {', '.join(bad)}"
    if not math.isfinite(grad_norm):
        finite = ", ".join(f"loss/{name} {value:.4g}" for name, value in terms.items())
        return (
            f"step {step}: the norm of the gradient is {grad_norm} while every loss term is finite ({finite})"
        )
    return None
