"""Sparse convolution in plain PyTorch: gather the rows of a kernel cell, multiply, add to the outputs.

Within a kernel cell no output row occurs twice, so no two additions race: results are the same in every run.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.encoders.rulebook import Rulebook


def gather_gemm(
    features: Float[Tensor, "M C"], kernel: Float[Tensor, "K C D"], rulebook: Rulebook
) -> Float[Tensor, "N D"]:
    """Sum over kernel cells ``k`` and pairs ``(i, o)`` of ``features[i] @ kernel[k]`` into row ``o``.

    Once differentiable in features and kernel; what the gradient needs beyond its inputs is gathered again
    instead of being kept.
    """
    return _GatherGemm.apply(features, kernel, rulebook)


class _GatherGemm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, rulebook: Rulebook) -> Tensor:
        ctx.save_for_backward(features, kernel)
        ctx.rulebook = rulebook
        out = features.new_zeros(len(rulebook.out_coords), kernel.shape[2])
        seen, product = _buffer(features, rulebook), _buffer(out, rulebook)
        for weight, pair in zip(kernel, rulebook.pairs, strict=True):
            if pair is None:
                out.addmm_(features, weight)
            else:
                rows = _gathered(features, pair[0], seen)
                out.index_add_(0, pair[1], torch.mm(rows, weight, out=product[: len(rows)]))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors
        to_features, to_kernel = ctx.needs_input_grad[:2]
        with torch.autocast(grad.device.type, enabled=False):
            grad = grad.to(kernel.dtype).contiguous()
            grad_features, grad_kernel = torch.zeros_like(features), torch.zeros_like(kernel)
            seen, behind = _buffer(features, ctx.rulebook), _buffer(grad, ctx.rulebook)
            for weight, into, pair in zip(kernel, grad_kernel, ctx.rulebook.pairs, strict=True):
                g = grad if pair is None else _gathered(grad, pair[1], behind)
                if to_kernel:
                    f = features if pair is None else _gathered(features, pair[0], seen)
                    torch.mm(f.t(), g, out=into)
                if to_features and pair is None:
                    grad_features.addmm_(g, weight.t())
                elif to_features:
                    product = torch.mm(g, weight.t(), out=seen[: len(g)])
                    grad_features.index_add_(0, pair[0], product)
        return grad_features if to_features else None, grad_kernel if to_kernel else None, None


def _buffer(like: Tensor, rulebook: Rulebook) -> Tensor:
    """Room for the rows of the largest kernel cell: used for one cell after another, it stays in cache."""
    most = max((len(pair[0]) for pair in rulebook.pairs if pair is not None), default=0)
    return like.new_empty(most, like.shape[1])


def _gathered(source: Tensor, rows: Tensor, buffer: Tensor) -> Tensor:
    """Some rows, in the buffer."""
    return torch.index_select(source, 0, rows, out=buffer[: len(rows)])
