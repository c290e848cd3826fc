"""From distances and densities to the opacity of an interval."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.ops.neus import neus_alphas


def density_alphas(
    densities: Float[Tensor, "*batch"], deltas: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch"]:
    r"""Opacity of an interval of constant density, :math:`\alpha = 1 - \exp(-\sigma \delta)`.

    NeRF (https://arxiv.org/abs/2003.08934), equation 3, after Max (1995), "Optical models for direct volume
    rendering".

    Args:
        densities: ``sigma`` in 1/m, not negative. Differentiable to any order.
        deltas: Interval lengths, metres. Differentiable to any order.
    """
    return -torch.expm1(-densities * deltas)


def laplace_densities(sdf: Float[Tensor, "*batch"], beta: Float[Tensor, ""]) -> Float[Tensor, "*batch"]:
    r"""Density from the Laplace distribution function of the signed distance.

    .. math:: \sigma = \tfrac{1}{\beta} \Psi_\beta(-f), \quad \Psi_\beta(s) = \begin{cases}
        \tfrac12 e^{s / \beta} & s \le 0 \\ 1 - \tfrac12 e^{-s / \beta} & s > 0 \end{cases}

    VolSDF (https://arxiv.org/abs/2106.12052), equations 2 and 3 with its choice ``alpha = 1 / beta``: half of
    the full density ``1 / beta`` on the surface, all of it deep inside.

    Args:
        sdf: ``f``, signed distance, metres, positive in free space. Differentiable, on the surface too.
        beta: Width of the transition, metres, positive. Differentiable.

    Returns:
        Densities, 1/m.
    """
    # Clamped on its own side, neither exponential overflows, and both have their slope at 0.
    outside = 0.5 * torch.exp(-sdf.clamp(min=0.0) / beta)
    inside = 1 - 0.5 * torch.exp(sdf.clamp(max=0.0) / beta)
    return torch.where(sdf >= 0, outside, inside) / beta


def occupancy_densities(logits: Float[Tensor, "*batch"], length: int | float) -> Float[Tensor, "*batch"]:
    r"""Density of which a path of ``length`` metres is opaque with the probability ``sigmoid(logit)``.

    .. math:: \sigma = -\log(1 - p) / \ell = \mathrm{softplus}(\text{logit}) / \ell

    so that :math:`\alpha = 1 - (1 - p)^{\delta / \ell}`. With intervals of that length it is UNISURF's rule
    ``alpha = p`` (https://arxiv.org/abs/2104.10078), and unlike that rule it gives one wall the
    same opacity however finely it is sampled. A softplus density is an occupancy with another unit.

    Args:
        logits: Log-odds of being occupied, ``torch.logit`` of a probability. Differentiable.
        length: Metres; a voxel's edge for the logits of voxels.

    Returns:
        Densities, 1/m.
    """
    return torch.nn.functional.softplus(logits) / length


class NeuSOpacity(nn.Module):
    """The law of :func:`~renderpretrain.ops.neus_alphas` with one learned sharpness.

    Args:
        extent: Length unit of the sharpness, metres.
        sharpness: Initial ``inv_s`` in 1/extent.
    """

    def __init__(self, extent: int | float, sharpness: int | float = math.exp(3.0)) -> None:
        super().__init__()
        self.extent = extent
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness) / 10))

    @property
    def inv_s(self) -> Float[Tensor, ""]:
        """Sharpness, 1/m: ``exp(10 v)`` of the learned ``v``, which moves it fast."""
        return torch.exp(10 * self.log_sharpness) / self.extent

    def forward(
        self, sdf: Float[Tensor, "*batch"], cosines: Float[Tensor, "*batch"], deltas: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Opacities of intervals, from the distance at their middles and its slope along the ray."""
        return neus_alphas(sdf, cosines, deltas, self.inv_s)


class VolSDFOpacity(nn.Module):
    """The law of :func:`laplace_densities` with one learned width; called like :class:`NeuSOpacity`.

    Unlike NeuS's it does not ask from which side a ray meets a surface, so the inside of a thing is opaque
    too.

    Args:
        extent: Length unit of the width, metres.
        beta: Initial width in extents; VolSDF takes 0.1, PonderV2 0.3.
        smallest: What the width never falls below, in extents: ``beta = |b| + smallest`` of the learned
            ``b``, as VolSDF's code has it.
    """

    def __init__(self, extent: int | float, beta: int | float = 0.1, *, smallest: int | float = 1e-4) -> None:
        super().__init__()
        if not beta > smallest > 0:
            raise ValueError(f"beta, smallest: expected beta > smallest > 0, got {beta} and {smallest}")
        self.extent = extent
        self.smallest = smallest
        self.width = nn.Parameter(torch.tensor(float(beta - smallest)))

    @property
    def beta(self) -> Float[Tensor, ""]:
        """Width of the transition, metres."""
        return (self.width.abs() + self.smallest) * self.extent

    def forward(
        self, sdf: Float[Tensor, "*batch"], cosines: Float[Tensor, "*batch"], deltas: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Opacities of intervals, from the distance at their middles; the slope is not used."""
        return density_alphas(laplace_densities(sdf, self.beta), deltas)
