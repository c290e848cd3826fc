"""The laws of opacity: by hand, against finite differences, and where they must agree with each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain.fields import (
    NeuSOpacity,
    VolSDFOpacity,
    density_alphas,
    laplace_densities,
    occupancy_densities,
)


def test_density_alphas_by_hand():
    """Half a metre of density ln 4 / m lets half of the light through."""
    alphas = density_alphas(torch.tensor([0.0, math.log(4.0)]), torch.tensor([0.5, 0.5]))
    assert_close(alphas, torch.tensor([0.0, 0.5]))


def test_a_thin_interval_keeps_its_opacity():
    """1 - exp(-1e-9) in float32 is 1e-9 and not 0."""
    assert_close(density_alphas(torch.tensor(1e-6), torch.tensor(1e-3)), torch.tensor(1e-9))


def published_density(f, beta):
    """VolSDF's equations 2 and 3, with s = -f."""
    s = -f
    psi = 0.5 * math.exp(s / beta) if s <= 0 else 1 - 0.5 * math.exp(-s / beta)
    return psi / beta


@given(st.floats(-2, 2), st.floats(0.01, 1))
def test_the_laplace_density_is_the_published_formula(f, beta):
    got = laplace_densities(torch.tensor(f, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64))
    assert_close(got.item(), published_density(f, beta), rtol=1e-12, atol=1e-300)


def test_the_laplace_density_has_the_right_gradients():
    sdf = torch.tensor([-0.7, -0.01, 0.02, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    beta = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(laplace_densities, (sdf, beta))
    assert gradgradcheck(laplace_densities, (sdf, beta))


def test_on_the_surface_the_density_has_its_slope():
    """d sigma / d f = -1 / (2 beta^2) from outside; the gradient of |f| at 0 would give 0."""
    sdf = torch.zeros((), requires_grad=True)
    laplace_densities(sdf, torch.tensor(0.1)).backward()
    assert_close(sdf.grad, torch.tensor(-50.0))


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_far_from_the_surface_nothing_overflows(far):
    sdf = torch.tensor(far, requires_grad=True)
    densities = laplace_densities(sdf, torch.tensor(1e-3))
    densities.backward()
    assert densities.item() == pytest.approx(1000.0 if far < 0 else 0.0) and sdf.grad.item() == 0


def test_the_volsdf_law_has_the_right_gradients():
    law = VolSDFOpacity(2.0).double()
    sdf = torch.tensor([-0.4, -0.05, 0.03, 0.4], dtype=torch.float64, requires_grad=True)
    deltas = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)

    def alphas(sdf, deltas, width):
        return torch.func.functional_call(law, {"width": width}, (sdf, -torch.ones_like(sdf), deltas))

    assert gradcheck(alphas, (sdf, deltas, law.width))
    assert gradgradcheck(alphas, (sdf, deltas, law.width))


def test_widths_and_sharpness_are_in_extents():
    assert_close(VolSDFOpacity(50.0, 0.1).beta, torch.tensor(5.0))
    assert_close(NeuSOpacity(50.0, 20.0).inv_s, torch.tensor(0.4))


def test_a_width_never_reaches_zero():
    law = VolSDFOpacity(10.0, 0.1, smallest=1e-3)
    with torch.no_grad():
        law.width.zero_()
    assert_close(law.beta, torch.tensor(0.01))
    with pytest.raises(ValueError, match=r"beta, smallest: expected beta > smallest > 0, got 0.1 and 0.2"):
        VolSDFOpacity(1.0, 0.1, smallest=0.2)


@given(st.floats(-10, 10), st.integers(1, 8))
def test_an_occupied_voxel_is_as_opaque_however_finely_it_is_sampled(logit, pieces):
    """The light that several intervals let through together is 1 - p of the voxel."""
    logits = torch.full((pieces,), logit, dtype=torch.float64)
    alphas = density_alphas(occupancy_densities(logits, 0.4), torch.tensor(0.4 / pieces, dtype=torch.float64))
    assert_close(1 - (1 - alphas).prod(), torch.sigmoid(logits[0]), rtol=1e-9, atol=0)
