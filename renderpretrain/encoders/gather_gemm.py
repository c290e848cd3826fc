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
        for weight, pair in zip(kernel, rulebook.pairs, strict=True):
            seen = features if pair is None else features.index_select(0, pair[0])
            _add_product(out, pair and pair[1], seen, weight)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel = ctx.saved_tensors
        to_features, to_kernel = ctx.needs_input_grad[:2]
        with torch.autocast(grad.device.type, enabled=False):
            grad = grad.to(kernel.dtype).contiguous()
            grad_features = torch.zeros_like(features) if to_features else None
            cells = []
            for weight, pair in zip(kernel, ctx.rulebook.pairs, strict=True):
                behind = grad if pair is None else grad.index_select(0, pair[1])
                if to_kernel:
                    seen = features if pair is None else features.index_select(0, pair[0])
                    cells.append(seen.t() @ behind)
                if grad_features is not None:
                    _add_product(grad_features, pair and pair[0], behind, weight.t())
        return grad_features, torch.stack(cells) if to_kernel else None, None


def _add_product(out: Tensor, rows: Tensor | None, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to some rows of ``out``, each of them once, or to all."""
    if rows is None:
        out.addmm_(left, right)
    elif len(rows):
        out.index_add_(0, rows, left @ right)
