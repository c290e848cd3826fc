"""What processes that train together exchange and read in a step, and how long it should take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training.cost import StepCost

ASSUMED_FLOPS = 1e13
"""Floating-point operations a second of one process, where nobody says how long its step takes."""

ASSUMED_BANDWIDTH = 1e10
"""Bytes a second that one process exchanges with the others, where nobody says how fast."""


@dataclass(frozen=True)
class Scaling:
    """A step of several processes; each of them works on a batch of its own.

    Attributes:
        ranks: How many processes.
        samples: Scenes of a step, over all of them.
        exchanged: Bytes that one process sends in a step.
        reads: Files, or parts of files, that all of them read for a step.
        read_bytes: How much that is.
        alone: Seconds that a step takes one process that exchanges nothing.
        exchange: Seconds of the exchange.
        seconds: Of a step.
    """

    ranks: int
    samples: int
    exchanged: float
    reads: float
    read_bytes: float
    alone: float
    exchange: float
    seconds: float

    @property
    def efficiency(self) -> float:
        """Samples a second, as a share of what as many processes would do that do not wait for each other."""
        return self.alone / self.seconds


def predict_scaling(
    cost: StepCost,
    optimization: OptimizationConfig,
    ranks: int,
    reads: Sequence[int],
    *,
    step_seconds: float | None = None,
    bandwidth: float | None = None,
) -> Scaling:
    r"""What a step takes, from what it costs.

    Copies exchange gradients once a step, in a ring: :math:`2 \frac{N - 1}{N}` of their bytes. Parts
    (``optimization.parallel=fsdp``) gather weights for either pass and scatter gradients with every batch:
    :math:`3 \frac{N - 1}{N}`. The exchange goes on behind the backward pass of the last batch, or behind all
    of a step; what takes longer is waited for. Reading is not in it: it is prepared ahead.

    Args:
        cost: Of one batch of one process.
        optimization: Batch size, accumulation, and what processes keep.
        ranks: How many processes.
        reads: Bytes of every file, or part of one, that one batch was read from.
        step_seconds: Of one process alone; from the arithmetic at :data:`ASSUMED_FLOPS` unless told.
        bandwidth: Bytes a second that one process sends; :data:`ASSUMED_BANDWIDTH` unless told.
    """
    batches, whole = optimization.accumulate, cost.gradients * (ranks - 1) / ranks
    alone = cost.step_flops * batches / ASSUMED_FLOPS if step_seconds is None else step_seconds
    if optimization.parallel == "fsdp":
        exchanged, behind = 3 * batches * whole, alone
    else:
        exchanged, behind = 2 * whole, alone / batches * (1 - cost.forward_flops / max(cost.step_flops, 1))
    exchange = exchanged / (bandwidth or ASSUMED_BANDWIDTH)
    return Scaling(
        ranks=ranks,
        samples=ranks * batches * optimization.batch_size,
        exchanged=exchanged,
        reads=float(ranks * batches * len(reads)),
        read_bytes=float(ranks * batches * sum(reads)),
        alone=alone,
        exchange=exchange,
        seconds=alone + max(0.0, exchange - behind),
    )
