"""Masked 2D layers: a convolutional network that sees only the visible cells of an image.

SparK (https://arxiv.org/abs/2301.03580): dense layers imitate sparse ones by zeroing the hidden cells after
every layer that mixes positions, and by leaving them out of batch statistics. The mask ``hidden`` (True =
hidden, any resolution) is an argument of ``forward``; without it every layer is its ordinary dense self, with
the same parameters and keys.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.checks import check_bool, check_shape


def resize_mask(hidden: Bool[Tensor, "B 1 _ _"], size: tuple[int, int]) -> Bool[Tensor, "B 1 _ _"]:
    """The mask at another resolution ``(h, w)``: each cell takes the state of the cell its centre lies in."""
    if tuple(hidden.shape[-2:]) == tuple(size):
        return hidden
    if torch.compiler.is_compiling() or hidden.is_inference():
        return _resized(hidden, size)
    kept: tuple[int, dict[tuple[int, ...], Tensor]] | None = getattr(hidden, _SIZES, None)
    if kept is None or kept[0] != hidden._version:
        kept = hidden._version, {}
        setattr(hidden, _SIZES, kept)
    made = kept[1].get(tuple(size))
    if made is None:
        made = kept[1][tuple(size)] = _resized(hidden, size)
    return made


_SIZES = "_renderpretrain_sizes"
"""Where a mask keeps itself in other resolutions, until it is written to: every layer of a network asks."""


def _resized(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask at another resolution."""
    return nn.functional.interpolate(hidden.float(), tuple(size), mode="nearest-exact") > 0.5


def hide_cells(
    features: Float[Tensor, "B C h w"], hidden: Bool[Tensor, "B 1 _ _"] | None
) -> Float[Tensor, "B C h w"]:
    """Set hidden cells to zero, whatever they held (NaN included); no gradient passes through them."""
    if hidden is None:
        return features
    check_shape("features", features, "B C h w")
    check_shape("hidden", hidden, "B 1 h w", B=len(features))
    check_bool(hidden=hidden)
    # Where a mask is filled, torch writes a contiguous result whatever the memory format was.
    return torch.where(resize_mask(hidden, (features.shape[-2], features.shape[-1])), 0.0, features)


class MaskedConv2d(nn.Conv2d):
    """A convolution whose output is zero in hidden cells. Visible cells see hidden neighbours as zeros."""

    def forward(
        self, x: Float[Tensor, "B _ _ _"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        """Convolve, then set the hidden cells to zero."""
        return hide_cells(super().forward(x), hidden)


class MaskedMaxPool2d(nn.MaxPool2d):
    """A maximum over windows whose output is zero in hidden cells."""

    def forward(
        self, x: Float[Tensor, "B C _ _"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> Float[Tensor, "B C _ _"]:
        """Take the maxima, then set the hidden cells to zero."""
        return hide_cells(super().forward(x), hidden)


class MaskedLayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each visible cell of ``(B, C, h, w)``; hidden cells are zero.

    Args:
        channels: Number of channels.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, *, eps: int | float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(
        self, x: Float[Tensor, "B C h w"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Normalise each cell, then hide."""
        return hide_cells(super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), hidden)


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics, running ones included, are those of the visible cells alone.

    With fewer than two visible cells the running statistics stay as they are.

    Args:
        channels: Number of channels.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
    """

    def __init__(self, channels: int, *, eps: int | float = 1e-5, momentum: int | float = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)

    def forward(
        self, x: Float[Tensor, "B C h w"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Normalise the visible cells, then hide."""
        if hidden is None or not self.training:
            return hide_cells(super().forward(x), hidden)
        hidden = resize_mask(hidden, (x.shape[-2], x.shape[-1]))
        seen = hide_cells(x, hidden).float()
        count = (~hidden).sum()
        # Sums under a mask instead of a selection of rows: their size is known without asking the device.
        share = (~hidden).float() / count.clamp(min=1)
        mean = (seen * share).sum((0, 2, 3))
        centred = seen - mean[:, None, None]
        variance = (centred.square() * share).sum((0, 2, 3))
        self._track(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return hide_cells((centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype), hidden)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards the batch's, the variance unbiased."""
        enough = count > 1
        weight = (enough * float(self.momentum or 0.0)).to(mean.dtype)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            if running is not None:
                running.lerp_(batch.to(running.dtype), weight)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += enough
