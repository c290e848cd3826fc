import torch
from torch.testing import assert_close

from renderpretrain.losses import (
    depth_l1,
    distortion,
    eikonal,
    free_space,
    masked_mean,
    near_surface_sdf,
    rgb_l1,
)


def test_masked_mean_by_hand():
    values = torch.tensor([[1.0, 2.0, 3.0], [5.0, float("nan"), 7.0]])
    valid = torch.tensor([[True, False, True], [True, False, False]])
    assert masked_mean(values, valid) == 3.5


def test_two_half_batches_average_to_the_whole():
    values, valid = torch.rand(4, 9), torch.rand(4, 9) < 0.5
    halves = (masked_mean(values[:2], valid[:2]) + masked_mean(values[2:], valid[2:])) / 2
    assert_close(masked_mean(values, valid), halves)


def losses(leaf, valid):
    """Every loss on a (1, 4) batch of rays with 3 samples, as functions of one leaf tensor."""
    depth = torch.full((1, 4), 2.0)
    t = torch.tensor([1.0, 2.0, 3.0]).expand(1, 4, 3)
    sdf, wide = leaf[..., None].expand(1, 4, 3), valid[..., None].expand(1, 4, 3)
    return {
        "depth": depth_l1(leaf, depth, valid),
        "rgb": rgb_l1(sdf, torch.zeros(1, 4, 3), valid),
        "free": free_space(sdf, t, depth, valid, truncation=0.5),
        "near": near_surface_sdf(sdf, t, depth, valid, truncation=0.5),
        "distortion": distortion(sdf, t - 0.5, t + 0.5, valid),
        "eikonal": eikonal(sdf[..., None].expand(1, 4, 3, 3), wide),
    }


def test_surface_losses_by_hand():
    leaf = torch.full((1, 4), 0.2)
    by_name = losses(leaf, torch.ones(1, 4, dtype=torch.bool))
    assert_close(by_name["depth"], torch.tensor(1.8))
    assert_close(by_name["free"], torch.tensor(0.3))  # t = 1 lies 1 m in front; 0.5 - 0.2
    assert_close(by_name["near"], torch.tensor(0.2))  # t = 2 lies on the surface; sdf should be 0
    # Three weights of 0.2, 1, 1 and 2 apart, each 1 long: 2 * 0.04 * 4 + 3 * 0.04 / 3.
    assert_close(by_name["distortion"], torch.tensor(0.36))
    assert_close(by_name["eikonal"], torch.tensor((0.2 * 3**0.5 - 1) ** 2))


def test_a_true_distance_has_no_surface_loss():
    """A wall 2 m ahead: sdf = 2 - t along the ray."""
    t = torch.linspace(0, 3, 31).expand(1, 1, 31)
    hit, depth = torch.ones(1, 1, dtype=torch.bool), torch.full((1, 1), 2.0)
    assert free_space(2 - t, t, depth, hit, truncation=0.3) == 0
    assert_close(near_surface_sdf(2 - t, t, depth, hit, truncation=0.3), torch.tensor(0.0), rtol=0, atol=1e-6)
    gradients = torch.nn.functional.normalize(torch.randn(1, 1, 31, 3), dim=-1)
    assert_close(
        eikonal(gradients, torch.ones(1, 1, 31, dtype=torch.bool)), torch.tensor(0.0), rtol=0, atol=1e-6
    )


def test_a_zero_gradient_has_a_finite_second_derivative():
    zero = torch.zeros(1, 2, 3, 3, requires_grad=True)
    eikonal(zero, torch.ones(1, 2, 3, dtype=torch.bool)).backward()
    assert torch.isfinite(zero.grad).all()
