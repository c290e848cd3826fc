"""Where along a ray to ask the field: sorted distances ``t`` in metres, none differentiable."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain import ops


def uniform_positions(
    near: Float[Tensor, "B R"], far: Float[Tensor, "B R"], count: int, seeds: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B R S"]:
    """The middles of ``count`` equal intervals between ``near`` and ``far``.

    Args:
        near: Start of each ray's range.
        far: End of it.
        count: Positions per ray.
        seeds: With seeds, all positions of a ray move together by up to half an interval either way.
    """
    step = (far - near)[..., None] / count
    places = torch.arange(count, device=near.device) + 0.5
    if seeds is None:
        return near[..., None] + step * places
    jitter = ops.uniform(seeds, (near.shape[1], 1)) - 0.5
    return near[..., None] + step * (places + jitter)
