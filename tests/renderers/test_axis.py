"""Compositing along an axis: NS-MAE's own numbers, a slow loop, and scenes whose view is known."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain import RaySamples, VoxelGrid
from renderpretrain.lifters import LiftSplat
from renderpretrain.renderers import render_axis, render_bev, render_frustum

GRID = VoxelGrid((-3.0, -2.0, -1.0, 3.0, 2.0, 3.0), (1.0, 1.0, 0.5))


def released_bins(near, far, count):
    """NS-MAE's samples: at ``linspace(near, far)``, each as long as the step to the next, the last 1e10."""
    z = torch.linspace(near, far, count, dtype=torch.float64)
    delta = torch.cat([z[1:] - z[:-1], torch.tensor([1e10], dtype=torch.float64)])
    return RaySamples(z - delta / 2, z + delta / 2, torch.ones(count, dtype=torch.bool))


def released_depth(rendered):
    """Theirs is the sum of the weighted distances; ours is that divided by the opacity."""
    return (rendered.depth * rendered.opacity)[:, None]


def close(got, expected, relative):
    """Equal to a share of the tensor's largest entry, the size of the terms float32 has summed."""
    assert_close(got.float(), expected, rtol=relative, atol=relative * expected.abs().max().item())


def test_the_perspective_numbers_agree_with_ns_mae(golden):
    """Their bins handed over as they are; in float64, which holds the last interval of 1e10 and its middle.

    They composite with 1 - alpha + 1e-10, below float32's rounding.
    """
    g = golden("nsmae_axis_render.npz")
    raw = g["density_logits_b_bin_h_w"].double().requires_grad_()
    colours = g["rgb_logits_b_bin_3_h_w"].double().requires_grad_()
    bins = released_bins(g["near"].item(), g["far"].item(), raw.shape[1])
    rendered = render_axis(raw.relu(), {"rgb": colours.transpose(1, 2).sigmoid()}, bins)
    depth, rgb = released_depth(rendered), rendered.channels["rgb"]
    close(depth, g["out_depth"], 1e-5)
    close(rgb, g["out_rgb"], 1e-5)
    torch.autograd.backward([depth, rgb], [g["grad_out_depth"].double(), g["grad_out_rgb"].double()])
    close(raw.grad, g["grad_density_logits"], 1e-5)
    close(colours.grad, g["grad_rgb_logits"], 1e-5)


def test_the_bev_numbers_agree_with_ns_mae(golden):
    """Theirs counts slices from the top: the index of a slice is where its value is taken."""
    g = golden("nsmae_axis_render.npz")
    raw = g["bev_logits_b_bin_y_x"].double().requires_grad_()
    bins = released_bins(g["bev_near"].item(), g["bev_far"].item(), raw.shape[1])
    depth = released_depth(render_axis(raw.relu(), {}, bins))
    close(depth, g["out_bev"], 1e-5)
    depth.backward(g["grad_out_bev"].double())
    close(raw.grad, g["grad_bev_logits"], 1e-5)


def test_it_equals_a_slow_loop():
    densities = torch.rand(2, 6, 3, 2, dtype=torch.float64) * 2
    values = torch.randn(2, 5, 6, 3, 2, dtype=torch.float64)
    ends = torch.tensor([1.0, 1.5, 2.5, 4.0, 4.5, 7.0], dtype=torch.float64)
    starts = torch.tensor([0.5, 1.0, 1.5, 2.5, 4.0, 4.5], dtype=torch.float64)
    valid = torch.tensor([True, True, False, True, True, True])
    rendered = render_axis(densities, {"feature": values}, RaySamples(starts, ends, valid))
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)).tolist():
        light, depth, total = 1.0, 0.0, torch.zeros(5, dtype=torch.float64)
        for s in range(6):
            passed = math.exp(-densities[b, s, i, j].item() * (ends[s] - starts[s]).item()) if valid[s] else 1
            weight = light * (1 - passed)
            light *= passed
            assert_close(rendered.weights[b, s, i, j].item(), weight, rtol=1e-9, atol=1e-12)
            depth += weight * (starts[s] + ends[s]).item() / 2
            total += weight * values[b, :, s, i, j]
        assert_close(rendered.opacity[b, i, j].item(), 1 - light, rtol=1e-9, atol=1e-12)
        # The expected depth divides by the opacity + 1e-10.
        assert_close(rendered.depth[b, i, j].item(), depth / (1 - light), rtol=1e-8, atol=0)
        assert_close(rendered.channels["feature"][b, :, i, j], total)


def test_it_has_the_right_gradients():
    densities = torch.rand(1, 5, 2, 2, dtype=torch.float64).requires_grad_()
    values = torch.randn(1, 3, 5, 2, 2, dtype=torch.float64).requires_grad_()
    bins = RaySamples.even(1.0, 4.0, 5)

    def outputs(densities, values):
        rendered = render_axis(densities, {"feature": values}, bins)
        return rendered.depth, rendered.opacity, rendered.weights, rendered.channels["feature"]

    assert gradcheck(outputs, (densities, values))


def test_an_opaque_bin_is_seen_at_its_centre_with_its_own_colour():
    """For every bin: the depth is the middle of the lifter's bin, the colour the bin's own."""
    lifter = LiftSplat(GRID, 2, depth_bins=118, depth_range=(0.75, 59.75))
    centres = torch.arange(1, 60, 0.5)  # the bins of NS-MAE's lifter
    densities = torch.zeros(1, 118, 1, 118)
    densities[0, torch.arange(118), 0, torch.arange(118)] = 1e4
    colours = (torch.arange(118 * 3) / 354).reshape(1, 3, 118, 1, 1).expand(1, 3, 118, 1, 118)
    rendered = render_frustum(densities, {"rgb": colours}, lifter.depth_range)
    assert_close(rendered.depth[0, 0], centres)
    assert_close(rendered.channels["rgb"][0, :, 0], (torch.arange(118 * 3) / 354).reshape(3, 118))


def test_the_released_bins_are_not_the_lifters():
    """Why the published depths are wrong: a surface in the bin at 30 m is reported 9 m farther."""
    densities = torch.zeros(1, 118, 1, 1, dtype=torch.float64)
    densities[0, 58] = 1e6
    released = render_axis(densities, {}, released_bins(1.0, 80.0, 118)).depth.item()
    ours = render_frustum(densities, {}, (0.75, 59.75)).depth.item()
    assert ours == pytest.approx(30.0) and released == pytest.approx(1 + 79 * 58 / 117)


def test_the_released_layout_mixes_bins():
    """A network's output per bin is (bin, component); split as (component, bin), densities are colours."""
    per_bin = torch.arange(8.0)[:, None] * 10 + torch.arange(4.0)  # bin * 10 + component
    right = per_bin.reshape(1, 8, 4).transpose(1, 2)
    released = per_bin.flatten()
    assert right[0, 3].tolist() == [3, 13, 23, 33, 43, 53, 63, 73]
    assert released[3 * 8 :].tolist() == [60, 61, 62, 63, 70, 71, 72, 73]


def test_a_slope_is_seen_from_above_where_it_is():
    """Ground z = x / 3 + 0.5 filled from below: the depth is down to the highest filled slice's middle."""
    centers = GRID.centers()
    filled = centers[..., 2] < centers[..., 0] / 3 + 0.5
    features = centers.permute(3, 0, 1, 2)[None]
    rendered = render_bev(filled[None] * 1e4, {"position": features}, GRID)
    highest = torch.where(filled, centers[..., 2], -torch.inf).amax(0)
    assert filled.any(0).all() and len(highest.unique()) > 3
    assert_close(GRID.upper[2] - rendered.depth[0], highest)
    # A BEV feature map shows the topmost surface, here its position.
    assert_close(rendered.channels["position"][0, 2], highest)
    assert_close(rendered.channels["position"][0, :2], features[0, :2, 0])


def test_fog_has_its_expected_depth():
    """Uniform density s over a length L: the mean of an exponential cut at L, to half a bin."""
    s, length = 0.8, 4.0
    rendered = render_axis(torch.full((1, 400, 1, 1), s), {}, RaySamples.even(0.0, length, 400))
    exact = 1 / s - length * math.exp(-s * length) / (1 - math.exp(-s * length))
    assert rendered.depth.item() == pytest.approx(exact, abs=0.005)
    assert rendered.opacity.item() == pytest.approx(1 - math.exp(-s * length), rel=1e-5)


def test_nothing_along_a_column_is_depth_zero():
    densities = torch.zeros(1, 4, 2, 2, requires_grad=True)
    rendered = render_frustum(densities, {"rgb": torch.ones(1, 3, 4, 2, 2)}, (1.0, 5.0))
    assert not rendered.depth.any() and not rendered.opacity.any() and not rendered.channels["rgb"].any()
    (rendered.depth.sum() + rendered.channels["rgb"].sum()).backward()
    assert torch.isfinite(densities.grad).all()


def test_it_is_float32_under_autocast():
    densities, colours = torch.rand(1, 8, 2, 2), torch.rand(1, 3, 8, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = render_frustum(densities, {"rgb": colours}, (1.0, 5.0))
    full = render_frustum(densities, {"rgb": colours}, (1.0, 5.0))
    assert_close(mixed.depth, full.depth, rtol=0, atol=0)
    assert_close(mixed.channels["rgb"], full.channels["rgb"], rtol=0, atol=0)


@pytest.mark.untyped
def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"channels\['rgb'\]: expected \(B C S h w\) .*got \(1, 24, 2, 2\)"):
        render_frustum(torch.zeros(1, 8, 2, 2), {"rgb": torch.zeros(1, 24, 2, 2)}, (1.0, 5.0))
    with pytest.raises(ValueError, match=r"densities: expected \(B Z Y X\) with Z=8"):
        render_bev(torch.zeros(1, 7, 4, 6), {}, GRID)
    with pytest.raises(ValueError, match="near, far, count: expected near < far and at least 1, got 5"):
        render_frustum(torch.zeros(1, 8, 2, 2), {}, (5.0, 1.0))
