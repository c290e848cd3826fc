"""A convolution of volumes that has a fast kernel on a CPU also where the batch is one small volume."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

SMALL = 20480
"""Numbers in all planes ``(C, Z, Y)`` of one volume up to which PyTorch leaves oneDNN aside."""


class Conv3d(nn.Conv3d):
    """Torch's, where torch has a fast kernel; elsewhere the same as a convolution of slices.

    On a CPU PyTorch asks oneDNN for batches of two volumes and for large ones. One small volume, such as a
    street that an encoder is tried on, it unfolds into a matrix of all neighbours, which takes up to three
    times as long. Here as many slices as the kernel is high lie behind one another as channels of a picture,
    and a 2D convolution of all heights does the rest, by oneDNN. Results differ by rounding alone, and lie
    in ``torch.channels_last_3d`` memory.

    Weights, arguments and errors are those of ``nn.Conv3d``. Differentiable as often as torch's.
    """

    def forward(self, x: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B O z y x"]:
        """The convolution of a volume."""
        return self._by_slices(x) if self._is_slow(x) else super().forward(x)

    def _is_slow(self, x: Tensor) -> bool:
        """Whether PyTorch would unfold the volume, and slices are the same convolution."""
        plain = self.groups == 1 and self.dilation == (1, 1, 1) and self.padding_mode == "zeros"
        fits = x.ndim == 5 and x.shape[1] == self.in_channels
        small = fits and len(x) == 1 and x.shape[:4].numel() <= SMALL
        pointwise = self.kernel_size == (1, 1, 1)
        alone = plain and small and not pointwise and not isinstance(self.padding, str)
        return alone and x.is_cpu and x.dtype == torch.float32 and not torch.jit.is_tracing()

    def _by_slices(self, x: Tensor) -> Tensor:
        """Heights become the batch, and those that meet in the kernel its channels."""
        (high, *_), (step, *steps), (edge, *edges) = self.kernel_size, self.stride, map(int, self.padding)
        cells = x.movedim(1, -1).contiguous()
        if edge:  # padding by nothing copies, too
            cells = pad(cells, (0, 0, 0, 0, 0, 0, edge, edge))
        count = (cells.shape[1] - high) // step + 1
        if count < 1:
            return super().forward(x)
        meeting = [cells[:, low : low + (count - 1) * step + 1 : step] for low in range(high)]
        pictures = (meeting[0] if high == 1 else torch.cat(meeting, -1))[0].movedim(-1, 1)
        kernel = self.weight.movedim(2, 1).flatten(1, 2)
        return conv2d(pictures, kernel, self.bias, steps, edges).movedim(0, 1)[None]
