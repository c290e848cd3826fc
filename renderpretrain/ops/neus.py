"""The NeuS opacity law: from signed distances to the opacity of an interval."""

import torch
from jaxtyping import Float
from torch import Tensor

ALPHA_EPSILON = 1e-5
"""Keeps the quotient finite where the logistic CDF underflows; the value of NeuS."""


def neus_alphas(
    sdf: Float[Tensor, "*batch"],
    cosines: Float[Tensor, "*batch"],
    deltas: Float[Tensor, "*batch"],
    inv_s: Float[Tensor, ""],
) -> Float[Tensor, "*batch"]:
    r"""Opacity of an interval from the logistic CDF of the signed distance at its two ends.

    .. math:: \alpha = \mathrm{clip}\Big(\frac{\Phi_s(f_-) - \Phi_s(f_+) + \epsilon}{\Phi_s(f_-) + \epsilon},
        0, 1\Big), \quad f_\mp = f \pm \min(\cos, 0)\,\delta / 2 \text{ up to sign}

    NeuS (https://arxiv.org/abs/2106.10689), equation 13, with the distance at the ends extrapolated along
    the gradient and the cosine fully annealed, as UniPAD and PonderV2 run it.

    Args:
        sdf: Signed distance at the interval's middle, metres, positive in free space. Differentiable.
        cosines: Ray direction times sdf gradient; positive values (leaving a surface) count as 0.
            Differentiable.
        deltas: Interval lengths, metres.
        inv_s: Sharpness in 1/m; grows as training converges. Differentiable.
    """
    drop = cosines.clamp(max=0.0) * deltas * 0.5
    before = torch.sigmoid((sdf - drop) * inv_s)
    after = torch.sigmoid((sdf + drop) * inv_s)
    return ((before - after + ALPHA_EPSILON) / (before + ALPHA_EPSILON)).clamp(0.0, 1.0)
