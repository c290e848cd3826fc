import pytest
import torch
from stand_in import StandIn, optimization

from renderpretrain.training.schedule import build_optimizer, first_beta, lr_factor, set_step


def near(value):
    """Sums of a few cosines in double precision."""
    return pytest.approx(value, abs=1e-12)


def test_cosine_by_hand():
    cosine = optimization(steps=100, schedule="cosine", min_lr_ratio=0.1)
    assert [lr_factor(cosine, s) for s in (0, 50, 100)] == [near(1.0), near(0.55), near(0.1)]


def test_warm_up_starts_at_its_ratio_and_joins_the_schedule():
    constant = optimization(steps=100, schedule="constant", warmup_steps=10, warmup_ratio=0.2)
    assert [lr_factor(constant, s) for s in (0, 5, 10, 99)] == [near(0.2), near(0.6), near(1.0), near(1.0)]
    cosine = optimization(steps=100, schedule="cosine", warmup_steps=10, warmup_ratio=0.2)
    plain = optimization(steps=100, schedule="cosine")
    assert lr_factor(cosine, 5) == near(0.6 * lr_factor(plain, 5))
    assert lr_factor(cosine, 10) == near(lr_factor(plain, 10))


def test_cyclic_by_hand():
    cyclic = optimization(steps=100, schedule="cyclic", cyclic_peak=10, cyclic_end=1e-4, cyclic_up=0.4)
    factors = [lr_factor(cyclic, s) for s in (0, 20, 40, 70, 100)]
    assert factors == [near(1.0), near(5.5), near(10.0), near((10 + 1e-4) / 2), near(1e-4)]


def test_momentum_mirrors_the_cycle_and_stays_elsewhere():
    cyclic = optimization(steps=100, schedule="cyclic", cyclic_up=0.4, cyclic_momentum=(0.95, 0.85))
    assert [first_beta(cyclic, s) for s in (0, 20, 40, 100)] == [
        near(0.95),
        near(0.9),
        near(0.85),
        near(0.95),
    ]
    assert first_beta(optimization(betas=(0.7, 0.99)), 3) == 0.7
    assert first_beta(optimization(schedule="cyclic", cyclic_momentum=None, betas=(0.7, 0.99)), 3) == 0.7


def test_the_longest_prefix_gives_the_learning_rate():
    settings = optimization(schedule="constant", lr=0.1, lr_multipliers={"head": 0.5, "head.bias": 0.0})
    model = StandIn()
    model.norm.requires_grad_(False)
    optimizer = build_optimizer(model, settings)
    assert set_step(optimizer, settings, 0) == 0.1
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates.get(id(p)) for name, p in model.named_parameters()}
    assert found["encoder.weight"] == 0.1
    assert found["head.weight"] == 0.05
    assert found["head.bias"] == 0.0
    assert found["norm.weight"] is None


def test_a_prefix_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"lr_multipliers: .*encoder, head, norm; got image"):
        build_optimizer(StandIn(), optimization(lr_multipliers={"image": 0.1}))


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="at least one trainable parameter"):
        build_optimizer(StandIn().requires_grad_(False), optimization())


def test_adamw_is_torchs():
    settings = optimization(weight_decay=0.3, betas=(0.8, 0.9))
    (group,) = build_optimizer(StandIn(), settings).param_groups
    assert isinstance(build_optimizer(StandIn(), settings), torch.optim.AdamW)
    assert (group["weight_decay"], group["betas"]) == (0.3, (0.8, 0.9))


def test_sgd_is_nesterovs_and_its_momentum_follows_the_cycle():
    settings = optimization(
        optimizer="sgd", steps=10, schedule="cyclic", cyclic_up=0.4, lr=0.01, weight_decay=0.1
    )
    torch.manual_seed(0)
    model, want = StandIn(), [p.detach().clone() for p in StandIn().parameters()]
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, torch.optim.SGD)
    velocities = [torch.zeros_like(p) for p in want]
    for step in range(6):
        lr = set_step(optimizer, settings, step)
        momentum = first_beta(settings, step)
        assert optimizer.param_groups[0]["momentum"] == momentum
        for p, slow, velocity in zip(model.parameters(), want, velocities, strict=True):
            p.grad = torch.randn_like(p)
            pull = p.grad + 0.1 * slow
            velocity.mul_(momentum if step else 0).add_(pull)
            slow.sub_(lr * (pull + momentum * velocity))
        optimizer.step()
    for p, slow in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(p.detach(), slow)
    # The cycle's middle, where the momentum is lowest.
    assert min(first_beta(settings, step) for step in range(6)) == near(0.85)
