"""What every loss keeps to, and each loss against a slow loop or a public formula."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from renderpretrain import losses

B, R, S = 3, 7, 5
T_STARTS = torch.arange(float(S)).expand(B, R, S)
HALF = {"truncation": 0.5}

# Every loss: the shapes of its floating inputs, the shape of valid, and how it is called with them. Inputs
# with their channels behind the batch instead of at the end are images and classes.
CASES = {
    "depth_l1": ([(B, R), (B, R)], (B, R), losses.depth_l1),
    "depth_l1_of_maps": ([(B, 2, 4, 5), (B, 2, 4, 5)], (B, 2, 4, 5), losses.depth_l1),
    "depth_l2": ([(B, R), (B, R)], (B, R), losses.depth_l2),
    "depth_silog": ([(B, R), (B, R)], (B, R), losses.depth_silog),
    "depth_kl": (
        [(B, R, S), (B, R)],
        (B, R),
        lambda w, d, v: losses.depth_kl(w, T_STARTS, T_STARTS + 1, 4 * d, v, sigma=0.3),
    ),
    "distortion": ([(B, R, S)], (B, R), lambda w, v: losses.distortion(w, T_STARTS, T_STARTS + 1, v)),
    "opacity_entropy": ([(B, R)], (B, R), losses.opacity_entropy),
    "rgb_l1": ([(B, R, 3), (B, R, 3)], (B, R), losses.rgb_l1),
    "rgb_mse": ([(B, R, 3), (B, R, 3)], (B, R), losses.rgb_mse),
    "rgb_ssim": (
        [(B, 3, 8, 9), (B, 3, 8, 9)],
        (B, 8, 9),
        lambda x, y, v: losses.rgb_ssim(x, y, v, window=3),
    ),
    "free_space": (
        [(B, R, S), (B, R)],
        (B, R),
        lambda f, d, v: losses.free_space(f, T_STARTS, 4 * d, v, **HALF),
    ),
    "near_surface_sdf": (
        [(B, R, S), (B, R)],
        (B, R),
        lambda f, d, v: losses.near_surface_sdf(f, T_STARTS, 4 * d, v, **HALF),
    ),
    "eikonal": ([(B, R, S, 3)], (B, R, S), losses.eikonal),
    "intensity_smooth_l1": ([(B, R), (B, R)], (B, R), losses.intensity_smooth_l1),
    "normal_error": ([(B, R, 3), (B, R, 3)], (B, R), losses.normal_error),
    "surface_sdf": ([(B, R)], (B, R), losses.surface_sdf),
    "empty_rays": ([(B, R)], (B, R), losses.empty_rays),
    "sdf_sparsity": ([(B, R, S)], (B, R, S), lambda f, v: losses.sdf_sparsity(f, v, sharpness=3)),
    "semantic_info_nce": (
        [(B, R, 6), (B, R, 6)],
        (B, R),
        lambda f, y, v: losses.semantic_info_nce(f, y, v, temperature=0.1),
    ),
    "semantic_cosine": ([(B, R, 6), (B, R, 6)], (B, R), losses.semantic_cosine),
    "variance_hinge": ([(B, R, 6)], (B, R), losses.variance_hinge),
    "covariance_penalty": ([(B, R, 6)], (B, R), losses.covariance_penalty),
    "sigreg": (
        [(B, R, 6)],
        (B, R),
        lambda f, v: losses.sigreg(f, v, torch.full((len(f),), 5), slices=16),
    ),
    "swapped_prediction": (
        [(B, R, 6), (B, R, 6)],
        (B, R),
        lambda f, y, v: losses.swapped_prediction(f, y, torch.eye(6)[:4], v, temperature=0.1),
    ),
    "occupancy_bce": (
        [(B, 2, 3, 4)],
        (B, 2, 3, 4),
        lambda z, v: losses.occupancy_bce(z, labels(v, 2) > 0, v),
    ),
    "occupancy_focal": (
        [(B, 2, 3, 4)],
        (B, 2, 3, 4),
        lambda z, v: losses.occupancy_focal(z, labels(v, 2) > 0, v),
    ),
    "lovasz_softmax": ([(B, 4, R)], (B, R), lambda p, v: losses.lovasz_softmax(p, labels(v, 4), v)),
}
CHANNELS_FIRST = {"rgb_ssim", "lovasz_softmax"}


def labels(valid, classes):
    """Classes that count upwards, and nonsense where they do not count."""
    counting = torch.arange(valid[0].numel()).view(valid.shape[1:]) % classes
    return torch.where(valid, counting, 255)


def spread(valid, tensor, name):
    """valid in the shape of a tensor that it covers."""
    if name in CHANNELS_FIRST:
        return valid[:, None].expand_as(tensor)
    return valid.view(*valid.shape, *(1,) * (tensor.dim() - valid.dim())).expand_as(tensor)


def evaluate(name, inputs, valid):
    """The loss and its gradients, zeros for an input without any."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    loss = CASES[name][2](*inputs, valid)
    grads = torch.autograd.grad(loss, inputs, allow_unused=True)
    return loss.detach(), [
        torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=True)
    ]


def test_no_loss_is_forgotten():
    functions = {name for name in losses.__all__ if callable(getattr(losses, name))}
    helpers = {"GradNorm", "UncertaintyWeights", "gradient_norms", "masked_mean", "top_surface", "weigh"}
    helpers |= {"photometric_errors", "reprojection"}  # of several neighbors: see their term's tests
    helpers |= {"class_log_probabilities", "CameraViews", "error_sums"}
    helpers |= {"inlier_weights", "trimmed_weights"}
    helpers |= {"Prototypes", "gram_penalty", "sinkhorn", "standardize"}
    assert functions - helpers == set(CASES) - {"depth_l1_of_maps"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fill", [0.0, 1.0, math.inf, math.nan])
def test_with_nothing_valid_there_is_no_loss_and_no_gradient(name, fill):
    shapes, shape, _ = CASES[name]
    inputs = [torch.full(s, fill) for s in shapes]
    loss, grads = evaluate(name, inputs, torch.zeros(shape, dtype=torch.bool))
    assert loss == 0
    assert all(torch.equal(g, torch.zeros_like(g)) for g in grads)


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_valid_may_hold_anything(name):
    shapes, shape, _ = CASES[name]
    inputs, valid = [torch.rand(s) for s in shapes], torch.rand(shape) < 0.8
    valid[1] = False  # a sample with nothing
    seen = [spread(valid, x, name) for x in inputs]
    zeros, nans = (
        [torch.where(s, x, fill) for s, x in zip(seen, inputs, strict=True)] for fill in (0.0, math.nan)
    )
    expected, expected_grads = evaluate(name, zeros, valid)
    loss, grads = evaluate(name, nans, valid)
    assert loss > 0 and torch.equal(loss, expected)
    assert any(g.any() for g in grads)
    for g, e, s in zip(grads, expected_grads, seen, strict=True):
        assert torch.equal(g, e) and not g[~s].any()


@pytest.mark.parametrize("name", CASES)
def test_two_half_batches_average_to_the_whole(name, monkeypatch):
    shapes, shape, _ = CASES[name]
    monkeypatch.setitem(globals(), "T_STARTS", torch.arange(float(S)).expand(1, R, S))
    inputs, valid = [torch.rand(s) for s in shapes], torch.rand(shape) < 0.8
    ones = [evaluate(name, [x[b : b + 1] for x in inputs], valid[b : b + 1])[0] for b in range(B)]
    monkeypatch.setitem(globals(), "T_STARTS", torch.arange(float(S)).expand(B, R, S))
    assert_close(evaluate(name, inputs, valid)[0], torch.stack(ones).mean())


def case(*shape, share=0.7):
    """Two random tensors in (0, 1) and what is valid of them, per ray."""
    return torch.rand(shape), torch.rand(shape), torch.rand(shape[:2]) < share


def per_sample(valid, value):
    """Mean over samples of the mean of value(b, r) over valid rays."""
    means = [[value(b, r) for r in range(valid.shape[1]) if valid[b, r]] for b in range(len(valid))]
    return sum(sum(m) / max(len(m), 1) for m in means) / len(means)


def test_squared_errors_against_a_loop():
    x, y, valid = case(B, R)
    assert losses.depth_l2(x, y, valid).item() == pytest.approx(
        per_sample(valid, lambda b, r: (x[b, r] - y[b, r]).item() ** 2), rel=1e-5
    )
    x, y, valid = case(B, R, 3)
    assert losses.rgb_mse(x, y, valid).item() == pytest.approx(
        per_sample(valid, lambda b, r: functional.mse_loss(x[b, r], y[b, r]).item()), rel=1e-5
    )


@pytest.mark.parametrize("balance", [0, 0.5, 1])
def test_silog_against_a_loop(balance):
    x, y, valid = case(B, R)
    expected = 0.0
    for b in range(B):
        d = [math.log(x[b, r]) - math.log(y[b, r]) for r in range(R) if valid[b, r]]
        expected += sum(v * v for v in d) / len(d) - balance * sum(d) ** 2 / len(d) ** 2
    assert losses.depth_silog(x, y, valid, balance=balance, closest=1e-6).item() == pytest.approx(
        expected / B, rel=1e-5
    )


def test_silog_ignores_a_common_factor():
    y = 1 + torch.rand(2, 50)
    hit = torch.ones(2, 50, dtype=torch.bool)
    assert_close(losses.depth_silog(3 * y, y, hit, balance=1), torch.tensor(0.0), rtol=0, atol=1e-6)
    expected = torch.tensor(0.5 * math.log(3) ** 2)
    assert_close(losses.depth_silog(3 * y, y, hit), expected)


def test_depth_kl_against_a_loop():
    weights, depth, hit = torch.rand(B, R, S) / S, 5 * torch.rand(B, R), torch.rand(B, R) < 0.7
    depth[0, 0], hit[0, 0] = 50.0, True  # out of all intervals

    def phi(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    def divergence(b, r):
        mass = [
            phi((i + 1 - depth[b, r].item()) / 0.4) - phi((i - depth[b, r].item()) / 0.4) for i in range(S)
        ]
        q = [m / sum(mass) for m in mass]
        return sum(
            v * (math.log(v) - math.log(w + 1e-6))
            for v, w in zip(q, weights[b, r].tolist(), strict=True)
            if v
        )

    counted = hit.clone()
    counted[0, 0] = False
    loss = losses.depth_kl(weights, T_STARTS, T_STARTS + 1, depth, hit, sigma=0.4)
    assert loss.item() == pytest.approx(per_sample(counted, divergence), rel=1e-4)


def test_depth_kl_is_least_at_the_measurement():
    """Gradient descent on five bins ends at the normal distribution's masses."""
    logits = torch.zeros(1, 1, S, requires_grad=True)
    depth, hit = torch.tensor([[2.2]]), torch.ones(1, 1, dtype=torch.bool)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(200):
        loss = losses.depth_kl(
            logits.softmax(-1), T_STARTS[:1, :1], T_STARTS[:1, :1] + 1, depth, hit, sigma=0.5
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    edges = torch.special.ndtr((torch.arange(6.0) - 2.2) / 0.5)
    # 1e-3: how far 200 steps go.
    assert_close(logits.softmax(-1)[0, 0].detach(), edges.diff() / (edges[-1] - edges[0]), rtol=0, atol=1e-3)


def test_opacity_entropy_by_hand():
    opacity = torch.tensor([[0.0, 1.0, 0.5, 0.1]])
    loss = losses.opacity_entropy(opacity, torch.ones(1, 4, dtype=torch.bool))
    expected = (math.log(2) - 0.1 * math.log(0.1) - 0.9 * math.log(0.9)) / 4
    assert loss.item() == pytest.approx(expected, abs=1e-5)  # 1e-5: 0 and 1 count as 1e-6 away


def test_sparsity_against_a_loop():
    sdf, valid = torch.randn(B, R, S), torch.rand(B, R, S) < 0.7
    flat, seen = sdf.flatten(1), valid.flatten(1)
    expected = per_sample(seen, lambda b, r: math.exp(-3 * abs(flat[b, r].item())))
    assert losses.sdf_sparsity(sdf, valid, sharpness=3).item() == pytest.approx(expected, rel=1e-5)


def test_what_sweeps_say_against_a_loop():
    x, y, valid = case(B, R)
    huber = [
        [
            min((a - b) ** 2 / 0.2, abs(a - b) - 0.05) if abs(a - b) >= 0.1 else (a - b) ** 2 / 0.2
            for a, b in zip(p, q, strict=True)
        ]
        for p, q in zip(x.tolist(), y.tolist(), strict=True)
    ]
    assert losses.intensity_smooth_l1(x, y, valid).item() == pytest.approx(
        per_sample(valid, lambda b, r: huber[b][r]), rel=1e-5
    )
    assert losses.surface_sdf(x - y, valid).item() == pytest.approx(
        per_sample(valid, lambda b, r: abs(x[b, r] - y[b, r]).item()), rel=1e-5
    )
    # 2e-6: the floor under the logarithm, at opacities of up to 1.
    assert losses.empty_rays(0.9 * x, valid).item() == pytest.approx(
        per_sample(valid, lambda b, r: -math.log(1 - 0.9 * x[b, r].item())), rel=1e-4
    )
    x, y, valid = case(B, R, 3)
    x, y = x - 0.5, functional.normalize(y - 0.5, dim=-1)

    def apart(b, r):
        n, m = (x[b, r] / x[b, r].norm()).tolist(), y[b, r].tolist()
        return 1 + sum(abs(i - j) - i * j for i, j in zip(n, m, strict=True))

    assert losses.normal_error(x, y, valid).item() == pytest.approx(per_sample(valid, apart), rel=1e-5)


def test_a_ray_that_sees_nothing_has_a_normal_error_and_a_small_gradient():
    nothing = torch.zeros(1, 1, 3, requires_grad=True)
    loss = losses.normal_error(nothing, torch.tensor([[[0.0, 0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    # Straight ahead the cosine and one coordinate rise by 1 / 0.05 each.
    assert loss == 2 and assert_close(nothing.grad[0, 0, 2], torch.tensor(-40.0)) is None


def test_an_opaque_ray_that_met_nothing_still_learns():
    opacity = torch.ones(1, 1, requires_grad=True)
    losses.empty_rays(opacity, torch.ones(1, 1, dtype=torch.bool)).backward()
    assert 1e5 < opacity.grad.item() < 1e7  # one over the floor of 1e-6


def slow_ssim(x, y, window, sigma):
    """SSIM of one window of one channel."""
    places = [i - window // 2 for i in range(window)]
    weight = [[math.exp(-(a * a + b * b) / (2 * sigma**2)) for b in places] for a in places]
    total = sum(map(sum, weight))
    w = torch.tensor(weight) / total
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
    above = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
    return (above / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))).item()


def test_ssim_against_a_loop_over_windows():
    x, y, valid = torch.rand(2, 3, 9, 8), torch.rand(2, 3, 9, 8), torch.ones(2, 9, 8, dtype=torch.bool)
    valid[0, 1, 1] = valid[0, 7, 6] = valid[1, 0, 4] = False
    expected = 0.0
    for b in range(2):
        scores = [
            1 - slow_ssim(x[b, c, v : v + 5, u : u + 5], y[b, c, v : v + 5, u : u + 5], 5, 1.2)
            for c in range(3)
            for v in range(5)
            for u in range(4)
            if valid[b, v : v + 5, u : u + 5].all()
        ]
        assert 0 < len(scores) < 60
        expected += sum(scores) / len(scores) / 2
    loss = losses.rgb_ssim(x, y, valid, window=5, sigma=1.2)
    assert loss.item() == pytest.approx(expected, rel=1e-4)  # variances as differences, in float32


def test_equal_images_are_similar_and_inverted_ones_opposite():
    x, valid = torch.rand(1, 3, 20, 20), torch.ones(1, 20, 20, dtype=torch.bool)
    assert_close(losses.rgb_ssim(x, x, valid), torch.tensor(0.0), rtol=0, atol=1e-5)
    assert losses.rgb_ssim(1 - x, x, valid) > 1


def test_info_nce_is_cross_entropy_among_the_valid_rays():
    x, y, valid = case(B, R, 6)
    x, y = x - 0.5, 3 * (y - 0.5)
    expected = 0.0
    for b in range(B):
        mine, theirs = x[b][valid[b]], y[b][valid[b]]
        cosines = functional.cosine_similarity(mine[:, None], theirs[None], dim=-1)
        expected += functional.cross_entropy(cosines / 0.1, torch.arange(len(mine))).item() / B
    assert losses.semantic_info_nce(x, y, valid, temperature=0.1).item() == pytest.approx(expected, rel=1e-5)


def test_rays_that_share_a_target_cannot_be_told_apart():
    target = torch.eye(4)[[0, 0, 0, 1]][None]
    loss = losses.semantic_info_nce(target, target, torch.ones(1, 4, dtype=torch.bool), temperature=0.01)
    assert loss.item() == pytest.approx(3 / 4 * math.log(3), rel=1e-5)


def test_cosine_against_torch():
    x, y, valid = case(B, R, 6)
    expected = per_sample(
        valid, lambda b, r: 1 - functional.cosine_similarity(x[b, r], y[b, r], dim=0).item()
    )
    assert losses.semantic_cosine(x, y, valid).item() == pytest.approx(expected, rel=1e-4)


def test_occupancy_losses_against_the_formula():
    logits, occupied, valid = 4 * torch.randn(B, R), torch.rand(B, R) < 0.3, torch.rand(B, R) < 0.7

    def likelihood(b, r):
        p = 1 / (1 + math.exp(-logits[b, r].item()))
        return (p, 0.25) if occupied[b, r] else (1 - p, 0.75)

    def focal(b, r):
        p, alpha = likelihood(b, r)
        return -alpha * (1 - p) ** 2 * math.log(p)

    bce = per_sample(valid, lambda b, r: -math.log(likelihood(b, r)[0]))
    assert losses.occupancy_bce(logits, occupied, valid).item() == pytest.approx(bce, rel=1e-4)
    by_formula = losses.occupancy_focal(logits, occupied, valid).item()
    assert by_formula == pytest.approx(per_sample(valid, focal), rel=1e-4)
    plain = losses.occupancy_focal(logits, occupied, valid, gamma=0, alpha=0.5)
    assert_close(plain, 0.5 * losses.occupancy_bce(logits, occupied, valid))


def test_confident_voxels_have_finite_losses():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    occupied, valid = torch.tensor([[False, False]]), torch.ones(1, 2, dtype=torch.bool)
    losses.occupancy_focal(logits, occupied, valid).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[0, 0] > 0


def jaccard_loss(truth, wrong):
    """One minus the IoU of a class whose prediction is wrong in a set of cells."""
    missed, invented = (wrong & truth).sum().item(), (wrong & ~truth).sum().item()
    return 1 - (truth.sum().item() - missed) / (truth.sum().item() + invented)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou():
    truth, guess, valid = torch.randint(4, (B, 50)), torch.randint(4, (B, 50)), torch.rand(B, 50) < 0.7
    truth[0][truth[0] == 2] = 1  # absent classes do not count
    hard = functional.one_hot(guess, 4).mT.float()
    expected = []
    for b in range(B):
        t, g = truth[b][valid[b]], guess[b][valid[b]]
        ious = [((t == k) & (g == k)).sum() / ((t == k) | (g == k)).sum() for k in t.unique()]
        expected.append(1 - torch.stack(ious).mean())
    assert_close(losses.lovasz_softmax(hard, truth, valid), torch.stack(expected).mean())


def test_lovasz_is_the_mean_jaccard_loss_over_thresholds():
    """The Lovász extension of a set function is its mean over the sets of errors above a threshold."""
    likely, truth = torch.rand(1, 3, 20).softmax(1), torch.randint(3, (1, 20))
    per_class = []
    for k in range(3):
        is_k = truth[0] == k
        errors = (is_k.float() - likely[0, k]).abs()
        steps = torch.cat([torch.zeros(1), errors.sort().values])
        per_class.append(
            sum((high - low).item() * jaccard_loss(is_k, errors > low) for low, high in pairwise(steps))
        )
    loss = losses.lovasz_softmax(likely, truth, torch.ones(1, 20, dtype=torch.bool))
    assert loss.item() == pytest.approx(sum(per_class) / 3, rel=1e-5)


def test_the_top_surface_against_a_loop():
    occupied = torch.rand(2, 5, 4, 3) < 0.2
    depth, seen = losses.top_surface(occupied, 0.4)
    for b in range(2):
        for y in range(4):
            for x in range(3):
                from_top = [4 - z for z in range(5) if occupied[b, z, y, x]]
                assert seen[b, y, x] == bool(from_top)
                expected = (min(from_top) + 0.5) * 0.4 if from_top else 0.0
                assert depth[b, y, x].item() == pytest.approx(expected)


def test_class_log_probabilities_by_a_slow_loop():
    features, vectors = torch.randn(5, 4), torch.randn(3, 4)
    allowed = torch.tensor([[True, True, True], [True, False, True]])[torch.tensor([0, 1, 0, 1, 1])]
    found = losses.class_log_probabilities(features, vectors, allowed, temperature=0.1)
    for m in range(5):
        shares = {}
        for k in range(3):
            if allowed[m, k]:
                cosine = features[m] @ vectors[k] / features[m].norm() / vectors[k].norm()
                shares[k] = math.exp(cosine / 0.1)
        for k in range(3):
            if k in shares:
                expected = math.log(shares[k] / sum(shares.values()))
                assert found[m, k].item() == pytest.approx(expected, abs=1e-4)  # float32 at scale 10
            else:
                assert found[m, k] < -1e8
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        losses.class_log_probabilities(features, vectors, allowed, temperature=0)


@pytest.mark.parametrize(
    "name", ["semantic_info_nce", "rgb_ssim", "occupancy_focal", "lovasz_softmax", "variance_hinge"]
)
def test_losses_are_finite_under_mixed_precision(name):
    shapes, shape, loss = CASES[name]
    inputs, valid = [torch.rand(s).bfloat16() for s in shapes], torch.rand(shape) < 0.8
    exact = loss(*(x.float() for x in inputs), valid)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(*inputs, valid)
    # Half of bfloat16's 8 bits of precision, where the loss computes in the type of its inputs.
    assert_close(mixed.float(), exact, rtol=2**-7, atol=0)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: losses.rgb_ssim(x, x, x[:, 0] > 0, window=4),
            r"window: expected an odd number of pixels that fits into \(6, 6\), got 4",
        ),
        (lambda x: losses.rgb_ssim(x, x, x[:, 0] > 0), r"fits into \(6, 6\), got 11"),
        (
            lambda x: losses.semantic_info_nce(x[0], x[0], x[0, ..., 0] > 0, temperature=0),
            "temperature: expected a positive number, got 0",
        ),
        (
            lambda x: losses.depth_kl(x[0], x[0], x[0], x[0, 0], x[0, 0] > 0, sigma=0.0),
            "sigma: expected a positive number of metres, got 0.0",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(1, 3, 6, 6))


@pytest.mark.parametrize("name", ["intensity_smooth_l1", "normal_error", "surface_sdf", "empty_rays"])
def test_gradients_are_those_of_differences(name):
    shapes, shape, loss = CASES[name]
    inputs, valid = [torch.rand(s, dtype=torch.float64) for s in shapes], torch.rand(shape) < 0.8
    first = inputs[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *inputs[1:], valid), first)
