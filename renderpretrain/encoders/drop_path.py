"""Stochastic depth: branches are skipped at random (https://arxiv.org/abs/1603.09382)."""

import torch
from jaxtyping import Float
from torch import Tensor


def drop_path(branch: Float[Tensor, "B ..."], probability: int | float) -> Float[Tensor, "B ..."]:
    """Zero a residual branch for some samples and scale it for the others, keeping its expectation.

    Args:
        branch: What is to be added to the skip. Differentiable.
        probability: Of a sample to lose its branch, in [0, 1).
    """
    if probability == 0:
        return branch
    shape = (len(branch), *(1 for _ in branch.shape[1:]))
    keep = torch.rand(shape, device=branch.device) >= probability
    return branch * (keep / (1 - probability)).to(branch.dtype)
