"""Batch normalisation for a network trained on several data sets at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.encoders.sparse_blocks import RowBatchNorm


@dataclass(frozen=True)
class Domains:
    """The data set that each sample of a batch comes from.

    Attributes:
        indices: Number of the data set, one per sample.
        context: Learned embedding of the data set, one row per sample. Differentiable.
    """

    indices: Sequence[int]
    context: Float[Tensor, "B E"]

    def __post_init__(self) -> None:
        check_shape("context", self.context, "B E", B=len(self.indices))


class PromptNorm(nn.Module):
    """A batch normalisation per data set, then a scale and shift read off the data set's embedding.

    ``y = bn_d(x) * (1 + scale) + shift`` with ``(shift, scale) = Linear(SiLU(context))``: the prompt-driven
    normalisation of PPT (https://arxiv.org/abs/2308.09718), decoupled, adaptive and affine as PonderV2 uses
    it. Keys as in Pointcept: ``bns.{d}``, ``modulation.1``. The norms of data sets that a batch lacks stay as
    they are and get no gradient.

    Args:
        channels: Number of channels.
        num_domains: Number of data sets.
        context_channels: Width of the embedding.

    Differs from the released code in: a batch may mix data sets; each set's statistics are those of its own
    rows.
    """

    def __init__(self, channels: int, *, num_domains: int, context_channels: int) -> None:
        super().__init__()
        self.bns = nn.ModuleList(RowBatchNorm(channels) for _ in range(num_domains))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(context_channels, 2 * channels))

    def forward(
        self, x: Float[Tensor, "M C"], sample: Int[Tensor, " M"], domains: Domains
    ) -> Float[Tensor, "M C"]:
        """Normalised rows. Differentiable.

        Args:
            x: Rows of all samples.
            sample: Number of the sample that each row belongs to.
            domains: Of each sample.
        """
        check_shape("sample", sample, "M", M=check_shape("x", x, "M C")["M"])
        shift, scale = self.modulation(domains.context).chunk(2, dim=1)
        return self._normalize(x, sample, domains.indices) * (1 + scale[sample]) + shift[sample]

    def _normalize(self, x: Tensor, sample: Tensor, indices: Sequence[int]) -> Tensor:
        """Rows, each normalised with those of its data set."""
        present = sorted(set(indices))
        if not 0 <= present[0] <= present[-1] < len(self.bns):
            raise ValueError(f"indices: expected data sets below {len(self.bns)}, got {tuple(indices)}")
        if len(present) == 1:
            return self.bns[present[0]](x)
        of_row = ops.constant(indices, sample)[sample]
        rows = [(of_row == i).nonzero()[:, 0] for i in present]
        parts = [self.bns[i](x[of_set]) for i, of_set in zip(present, rows, strict=True)]
        return torch.cat(parts)[torch.cat(rows).argsort()]
