"""A 1x1x1 convolution as the matrix product it is."""

from torch import Tensor, nn


class Pointwise(nn.Conv3d):
    """A 1x1x1 convolution whose result lies in ``torch.channels_last_3d`` memory, as readers have it.

    PyTorch's own convolution of volumes in channels-first memory leaves them there, and every reader copies.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of a volume ``(B, C, Z, Y, X)``. Differentiable."""
        rows = nn.functional.linear(x.movedim(1, 4), self.weight.flatten(1), self.bias)
        return rows.movedim(4, 1)  # not -1, which ONNX does not know
