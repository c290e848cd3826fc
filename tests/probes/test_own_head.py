"""A task's own head on features that do not change."""

import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.probes import ProbeSamples, Task
from renderpretrain.probes.own_head import kept, restored, train_own_head


def task():
    """The sum of a map, which one linear layer on its mean knows."""

    def head(features, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))

    return Task(
        "sum", "error", True, 1, read=lambda recipe, scene, limit: None,
        loss=lambda outputs, answers: (outputs[:, 0] - answers).square().mean(),
        sums=torch.add, scores=lambda rows: {}, by_place=False, make_head=head,
    )  # fmt: skip


def samples(count):
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 2, 1, 1, generator=draw).expand(1, 2, 4, 4) for _ in range(count)]
    return [kept(ProbeSamples(m, m[:, 0, 0, 0] - 2 * m[:, 1, 0, 0])) for m in maps]


def test_a_head_learns_from_what_was_kept_the_same_for_the_same_seed():
    read, torch_state = samples(8), torch.get_rng_state()
    fresh, trained = (train_own_head(task(), read, steps, 3) for steps in (0, 150))
    with torch.no_grad():
        said = [[h(restored(s).features)[:, 0] - s.answers for s in read] for h in (fresh, trained)]
    errors = [float(torch.cat(rows).abs().mean()) for rows in said]
    assert errors[1] < 0.7 * errors[0] and not trained.training
    again = train_own_head(task(), read, 150, 3)
    assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)
    assert torch.equal(torch_state, torch.get_rng_state())


def test_what_is_kept_takes_half_the_memory_and_stays_finite():
    one = kept(ProbeSamples(torch.tensor([[1.5, 1e9]]), torch.zeros(1)))
    assert one.features.dtype == torch.float16 and one.features.isfinite().all()
    assert float(one.features[0, 0]) == 1.5
