"""Recipes learn the same whether a field is one operator or composed of PyTorch's."""

import pytest
import torch
from torch.testing import assert_close
from variants import batch_of, build, scenes_for

from renderpretrain import ops

STEPS = 40


def trained(variant, seed, monkeypatch, *, fused):
    """The depth term of the first of forty steps, and its mean over the last ten."""
    batch, recipe = batch_of(scenes_for(variant)), build(variant)
    optimizer, errors = torch.optim.AdamW(recipe.parameters(), lr=1e-3), []
    with monkeypatch.context() as patch:
        if not fused:
            patch.setattr(ops, "sdf_field", ops.sdf_field_reference)
        for step in range(STEPS):
            batch.seeds.copy_(torch.arange(len(batch.seeds)) + 1000 * seed + 2 * step)
            terms = recipe(batch)
            errors.append(terms["depth"].item())
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
    return errors[0], sum(errors[-10:]) / 10


@pytest.mark.long
@pytest.mark.parametrize("variant", ["unipad-lidar", "ponder-indoor"])
def test_a_run_ends_within_the_noise_of_its_seeds(variant, monkeypatch):
    fused, composed = (
        torch.tensor([trained(variant, seed, monkeypatch, fused=kind) for seed in range(4)])
        for kind in (True, False)
    )
    assert_close(fused[:, 0], composed[:, 0], rtol=1e-4, atol=0)
    noise = (fused[:, 1].std() + composed[:, 1].std()) / 2
    assert abs(fused[:, 1].mean() - composed[:, 1].mean()) < noise
    assert (fused[:, 1] < 0.8 * fused[:, 0]).all()
