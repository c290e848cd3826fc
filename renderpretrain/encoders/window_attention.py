"""Self-attention inside square windows of a feature map, with a learned bias per relative position.

Maps are ``(B, h, w, C)`` here, channels last.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Attention between the cells of each window; Swin's (https://arxiv.org/abs/2103.14030, Eq. 4).

    ``softmax(q k^T / sqrt(d) + bias) v`` per head. Keys as in timm: ``qkv``, ``proj``,
    ``relative_position_bias_table``, whose row ``(dy + w - 1) (2 w - 1) + dx + w - 1`` belongs to a query
    ``(dy, dx)`` cells below and to the right of its key.

    A map whose sides the window does not divide is filled up with zeros at the lower right; they are seen as
    cells, as in the published networks, where fine-tuning does so too.

    Args:
        width: Channels.
        num_heads: Divides the width.
        window: Side of a window in cells.
        shifted: Begin the windows half a window in from the corner; the smaller ones at the borders stay
            apart. Along an axis that one window covers nothing is shifted, as in timm; in mmdetection it is.
    """

    def __init__(self, width: int, num_heads: int, *, window: int, shifted: bool) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads: expected a divisor of width {width}, got {num_heads}")
        self.num_heads, self.window = num_heads, window
        self.shift = window // 2 if shifted else 0
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("bias_rows", _bias_rows(window), persistent=False)

    def forward(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """Attention among the cells of every window. Differentiable."""
        _, height, width, _ = x.shape
        # Counted in windows, so that a compiler of changing sizes knows that they divide.
        # Of positive numbers, for ONNX divides towards 0.
        windows = ((height + self.window - 1) // self.window, (width + self.window - 1) // self.window)
        size = (windows[0] * self.window, windows[1] * self.window)
        x = nn.functional.pad(x, (0, 0, 0, size[1] - width, 0, size[0] - height))
        shift = [self.shift if n > 1 else 0 for n in windows]
        bias = self.relative_position_bias_table[self.get_buffer("bias_rows")].permute(2, 0, 1)
        if any(shift):
            x = x.roll([-n for n in shift], dims=(1, 2))
            apart = separated_cells(size, self.window, (shift[0], shift[1]), x.device)
            bias = bias.masked_fill(apart[:, None], -torch.inf)
        x = join_windows(self._attend(split_windows(x, self.window), bias), self.window, size)
        return x.roll(shift, dims=(1, 2))[:, :height, :width]

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attention in each window of ``(B, windows, cells, C)``."""
        q, k, v = (
            y.unflatten(-1, (self.num_heads, -1)).transpose(2, 3) for y in self.qkv(x).chunk(3, dim=-1)
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(out.transpose(2, 3).flatten(-2))


def split_windows(x: Float[Tensor, "B h w C"], window: int) -> Float[Tensor, "B windows cells C"]:
    """Windows in reading order, the cells of each in reading order; the side divides the map's."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(1, 2).flatten(2, 3)


def join_windows(
    x: Float[Tensor, "B windows cells C"], window: int, size: tuple[int, int]
) -> Float[Tensor, "B h w C"]:
    """The map ``(h, w)`` that :func:`split_windows` made the windows of."""
    x = x.unflatten(2, (window, window)).unflatten(1, (size[0] // window, size[1] // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def separated_cells(
    size: tuple[int, int], window: int, shift: tuple[int, int], device: torch.device
) -> Bool[Tensor, "windows cells cells"]:
    """Cells of one window that a cyclic shift brought together from opposite borders: True may not meet.

    Args:
        size: ``(h, w)`` of the map, multiples of the window.
        window: Side of a window.
        shift: Cells by which the map was rolled up and left.
        device: Of the result.
    """
    wrapped = [torch.arange(n, device=device) >= n - s for n, s in zip(size, shift, strict=True)]
    border = 2.0 * wrapped[0][:, None] + 1.0 * wrapped[1]
    region = split_windows(border[None, ..., None], window)[0, ..., 0]
    return region[:, :, None] != region[:, None, :]


def _bias_rows(window: int) -> Int[Tensor, "cells cells"]:
    """Row of the bias table for every pair of query and key."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    dy, dx = (cells[:, None] - cells[None] + window - 1).unbind(-1)
    return dy * (2 * window - 1) + dx
