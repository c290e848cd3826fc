"""Balancing terms: who learns, what the weights become, and who pulls how strongly at what."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.losses import GradNorm, UncertaintyWeights, gradient_norms, weigh


def test_fixed_weights_leave_out_what_counts_nothing():
    terms = {"depth": torch.tensor(2.0), "rgb": torch.tensor(3.0), "sdf": torch.tensor(torch.nan)}
    balanced = weigh(terms, {"depth": 10.0, "rgb": 0.5, "sdf": 0.0})
    assert balanced == {"depth": 20.0, "rgb": 1.5}


def test_uncertainty_weights_find_the_noise():
    """Squared errors of noise with standard deviation s: the likelihood is greatest at sigma = s."""
    deviations = {"depth": 0.1, "rgb": 3.0}
    balance = UncertaintyWeights(list(deviations))
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.1)
    terms = {name: torch.tensor(s**2) for name, s in deviations.items()}
    for _ in range(400):
        loss = sum(balance(terms).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = torch.tensor([1 / (2 * s**2) for s in deviations.values()])
    assert_close(balance.weights().detach(), expected, rtol=1e-3, atol=0)  # how far 400 steps go


def test_uncertainty_by_hand():
    balance = UncertaintyWeights(["a", "b"])
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([0.0, 2.0]))
    terms = balance({"a": torch.tensor(3.0), "b": torch.tensor(4.0)})
    assert_close(terms["a"], torch.tensor(1.5))
    assert_close(terms["b"], torch.tensor(2 * torch.e**-2 + 1))


class TwoTasks(nn.Module):
    """Two regressions on a shared layer, one a thousand times larger than the other."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(8, 16)
        self.heads = nn.ModuleDict({"small": nn.Linear(16, 4), "large": nn.Linear(16, 4)})
        self.inputs = torch.randn(64, 8)
        self.targets = {name: torch.randn(64, 4) for name in self.heads}

    def forward(self):
        hidden = torch.tanh(self.shared(self.inputs))
        errors = {n: (head(hidden) - self.targets[n]).square().mean() for n, head in self.heads.items()}
        return {"small": errors["small"], "large": 1000 * errors["large"]}


def norms_of(terms, model):
    return [v.item() for v in gradient_norms(terms, {"shared": model.shared.parameters()}).values()]


def test_gradnorm_balances_terms_of_scale_one_to_a_thousand():
    model = TwoTasks()
    balance = GradNorm(["small", "large"], alpha=0)
    optimizer = torch.optim.Adam(
        [{"params": model.parameters()}, {"params": balance.parameters(), "lr": 0.1}], 1e-3
    )
    small, large = norms_of(model(), model)
    assert large / small > 300
    for _ in range(300):
        terms = balance(model(), model.shared.parameters())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    terms = balance(model(), model.shared.parameters())
    small, large = norms_of({n: terms[n] for n in ("small", "large")}, model)
    # A step of 0.1 moves the ratio of the weights by 0.2 at most; around the balance it keeps moving.
    assert 0.8 < large / small < 1.25
    assert_close(balance.weights().sum().detach(), torch.tensor(2.0))


def test_gradnorm_prefers_the_term_that_lags_behind():
    """With norms 1 and 1, losses at 1/4 and 3/4 of their start and alpha = 1: targets 0.5 and 1.5."""
    w = nn.Parameter(torch.tensor(1.0))
    balance = GradNorm(["fast", "slow"], alpha=1)
    balance({"fast": 0 * w + 4.0, "slow": 0 * w + 4.0}, [w])
    terms = balance({"fast": w + 0.0, "slow": w + 2.0}, [w])
    assert_close(terms["gradnorm"], torch.tensor(0.5 + 0.5))
    terms["gradnorm"].backward()
    assert w.grad is None  # it moves the weights alone
    fast, slow = balance.log_weights.grad
    assert fast > 0 and slow < 0  # descent lowers the weight of the fast term
    assert torch.equal(balance.initial, torch.tensor([4.0, 4.0]))


def test_gradnorms_weights_do_not_learn_from_the_loss():
    w = nn.Parameter(torch.tensor(1.0))
    balance = GradNorm(["a", "b"])
    terms = balance({"a": w * 2, "b": w * 3}, [w])
    (terms["a"] + terms["b"]).backward()
    assert w.grad == 5.0 and balance.log_weights.grad is None


def test_a_term_without_anything_valid_does_not_disturb_gradnorm():
    w = nn.Parameter(torch.tensor(1.0))
    balance = GradNorm(["a", "b"])
    for terms in ({"a": w * 2, "b": w * 0}, {"a": w * 0, "b": w * 0}):
        balanced = balance(terms, [w])
        sum(balanced.values()).backward()
        assert torch.isfinite(balance.log_weights.grad).all() and torch.isfinite(w.grad)
    assert balance.initial.tolist() == [2.0, 0.0]  # b starts when it first has a value


def test_the_first_losses_survive_a_checkpoint():
    w = nn.Parameter(torch.tensor(1.0))
    balance, resumed = GradNorm(["a"]), GradNorm(["a"])
    balance({"a": w * 5}, [w])
    resumed.load_state_dict(balance.state_dict())
    resumed({"a": w * 2}, [w])
    assert resumed.initial.tolist() == [5.0]


def test_gradient_norms_per_term_and_modality():
    """Two encoders whose features are summed: the camera starves by what its feature is multiplied with."""
    lidar, camera = nn.Linear(3, 5), nn.Linear(4, 5)
    frozen = nn.Linear(2, 2).requires_grad_(False)
    fused = lidar(torch.randn(6, 3)) + 0.01 * camera(torch.randn(6, 4))
    terms = {
        "depth": fused.square().mean(),
        "camera_only": camera.weight.sum(),
        "constant": torch.tensor(1.0),
    }
    groups = {"lidar": lidar, "camera": camera, "frozen": frozen}
    norms = gradient_norms(terms, {name: part.parameters() for name, part in groups.items()})
    assert set(norms) == {f"{t}/{g}" for t in terms for g in groups}
    assert lidar.weight.grad is None and camera.weight.grad is None
    for term, loss in terms.items():
        for group, part in groups.items():
            for p in part.parameters():
                p.grad = None
            if loss.requires_grad:
                loss.backward(retain_graph=True)
            every = [p.grad.flatten() for p in part.parameters() if p.grad is not None]
            expected = torch.cat(every).norm() if every else torch.tensor(0.0)
            assert_close(norms[f"{term}/{group}"], expected)
    assert norms["depth/camera"] < 0.1 * norms["depth/lidar"]
    assert norms["camera_only/lidar"] == 0 and norms["camera_only/camera"] == pytest.approx(20**0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: weigh({"a": w}, {"b": 1.0}), r"terms: expected \['b'\], got \['a'\]"),
        (lambda w: UncertaintyWeights(["a", "b"])({"a": w}), r"terms: expected \['a', 'b'\], got \['a'\]"),
        (lambda w: GradNorm(["a"])({"b": w}, [w]), r"terms: expected \['a'\], got \['b'\]"),
        (lambda w: GradNorm(["a"])({"a": w}, []), r"shared: expected at least one parameter"),
    ],
)
def test_wrong_names_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(nn.Parameter(torch.tensor(1.0)))
