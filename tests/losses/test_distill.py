"""What makes a teacher's features targets: standardised ones, prototypes with balanced assignments."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, one_hot
from torch.testing import assert_close

from renderpretrain import losses


def test_standardized_channels_have_mean_zero_and_variance_one_over_what_counts():
    x, valid = 3 + 2 * torch.randn(2, 50, 4), torch.rand(2, 50) < 0.6
    x[..., 3] = 7.0  # says nothing
    out = losses.standardize(torch.where(valid[..., None], x, math.nan), valid)
    for b in range(2):
        kept = x[b, valid[b]]
        expected = (kept - kept.mean(0)) / (kept.var(0, unbiased=False) + 1e-4).sqrt()
        assert_close(out[b, valid[b]], expected, rtol=1e-4, atol=1e-4)
        assert not out[b, ~valid[b]].any() and not out[b, :, 3].any()


def test_sinkhorn_against_a_loop():
    scores, valid = torch.rand(2, 9, 3), torch.rand(2, 9) < 0.8
    found = losses.sinkhorn(scores, valid, temperature=0.2, iterations=3)
    for b in range(2):
        q = [[math.exp(s / 0.2) for s in row] for row in scores[b, valid[b]].tolist()]
        for _ in range(3):
            sums = [sum(row[k] for row in q) for k in range(3)]
            q = [[v / sums[k] for k, v in enumerate(row)] for row in q]
            q = [[v / sum(row) for v in row] for row in q]
        assert_close(found[b, valid[b]], torch.tensor(q))
        assert not found[b, ~valid[b]].any()


def test_sinkhorn_gives_every_prototype_its_share():
    scores = torch.randn(1, 600, 8) + torch.arange(8.0)  # all rows prefer the last one
    valid = torch.ones(1, 600, dtype=torch.bool)
    shares = losses.sinkhorn(scores, valid, iterations=50)
    assert_close(shares.sum(1), torch.full((1, 8), 600 / 8), rtol=1e-2, atol=0)
    assert_close(shares.sum(2), torch.ones(1, 600))


def test_swapped_prediction_against_a_loop():
    a, b, valid = torch.randn(2, 7, 5), torch.randn(2, 7, 5), torch.rand(2, 7) < 0.8
    prototypes = torch.randn(3, 5)
    expected = 0.0
    for s in range(2):
        views = [cosine_similarity(v[s, :, None], prototypes[None], dim=-1) for v in (a, b)]
        told = [losses.sinkhorn(v[None], valid[s : s + 1], temperature=0.3)[0] for v in views]
        said = [(v / 0.3).softmax(-1) for v in views]
        for m in range(7):
            if valid[s, m]:
                entropy = sum(
                    -float(q[m, k]) * math.log(float(p[m, k]))
                    for q, p in zip(told, said[::-1], strict=True)
                    for k in range(3)
                )
                expected += entropy / 2 / int(valid[s].sum()) / 2
    assert losses.swapped_prediction(a, b, prototypes, valid, temperature=0.3).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_prototypes_learn_what_two_views_share():
    """Four clusters seen twice, with noise: views agree more and more, and no prototype is left over."""
    torch.manual_seed(0)
    truth = torch.arange(4).repeat(1, 50)
    prototypes = losses.Prototypes(6, 4, temperature=0.1)
    valid = torch.ones(1, 200, dtype=torch.bool)
    optimizer = torch.optim.Adam(prototypes.parameters(), lr=0.05)

    def view():
        return one_hot(truth, 6).float() + 0.1 * torch.randn(1, 200, 6)

    first = prototypes(view(), view(), valid).item()
    for _ in range(100):
        optimizer.zero_grad()
        prototypes(view(), view(), valid).backward()
        optimizer.step()
    assert prototypes(view(), view(), valid) < first - 0.1
    nearest = (view() @ prototypes.directions.T).argmax(-1)
    assert nearest.flatten().bincount(minlength=4).min() > 20  # a fair share would be 50


def test_gram_penalty_is_the_mean_cosine_of_two():
    prototypes = torch.randn(5, 3)
    pairs = [
        cosine_similarity(prototypes[i], prototypes[j], dim=0).item()
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert losses.gram_penalty(prototypes).item() == pytest.approx(sum(pairs) / 20, rel=1e-4)
    assert losses.gram_penalty(torch.ones(6, 3)).item() == pytest.approx(1, rel=1e-5)
    assert losses.gram_penalty(torch.eye(4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.untyped
def test_unfit_arguments_are_named():
    x, valid = torch.randn(1, 4, 3), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"^temperature, iterations: expected .* got 0 and 3"):
        losses.sinkhorn(x, valid, temperature=0)
    with pytest.raises(ValueError, match=r"^prototypes: expected at least two, got 1"):
        losses.gram_penalty(x[0, :1])
    with pytest.raises(ValueError, match=r"^prototypes: expected"):
        losses.swapped_prediction(x, x, torch.randn(5, 4), valid)
