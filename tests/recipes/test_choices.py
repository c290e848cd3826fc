"""What a configuration chooses by name is what a step is made with: samplers, laws of opacity, balances."""

from functools import cache

import pytest
import torch
from variants import batch_of, build, scenes_for


@cache
def batch(variant):
    return batch_of(scenes_for(variant))


@cache
def terms_of(variant):
    return {name: term.detach() for name, term in build(variant)(batch(variant)).items()}


SAMPLERS = [
    *(("ponder-outdoor", kind) for kind in ("even", "stratified", "disparity", "near_surface", "occupied")),
    *(("ponder-indoor", kind) for kind in ("near_surface", "occupied")),
    *(("uniscene", kind) for kind in ("stratified", "disparity", "near_surface", "occupied")),
]


@pytest.mark.parametrize(("variant", "kind"), SAMPLERS)
def test_a_sampler_is_chosen_by_name(variant, kind):
    """It changes the depth that is rendered in a step, and trains."""
    recipe = build(variant, sampler={"kind": kind})
    terms = recipe(batch(variant))
    assert terms.keys() == terms_of(variant).keys()
    assert not torch.equal(terms["depth"], terms_of(variant)["depth"])
    sum(terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in recipe.parameters())


def test_logits_have_no_distances_to_sample_by():
    with pytest.raises(ValueError, match=r"^sampler\.kind: input should be 'even'.*got neus_importance$"):
        build("uniscene", sampler={"kind": "neus_importance"})
    with pytest.raises(ValueError, match=r"^field\.kind: input should be 'sdf', got density$"):
        build("ponder-outdoor", field={"kind": "density"})


@pytest.mark.parametrize("variant", ["ponder-outdoor", "ponder-indoor"])
def test_the_law_of_opacity_is_chosen_by_name(variant):
    other = build(variant, field={"opacity": "volsdf"})(batch(variant))
    assert not torch.equal(other["depth"], terms_of(variant)["depth"])


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("ponder-outdoor", {}),
        ("ponder-indoor", {}),
        ("ponder-indoor", {"embeddings": "hashed:8", "losses": {"semantic": 0.1, "alignment": 0.1}}),
        ("uniscene", {}),
    ],
)
def test_the_balance_of_the_terms_is_chosen_by_name_and_learned(variant, changes, kind):
    losses = {**changes.get("losses", {}), "balance": kind}
    recipe = build(variant, **{**changes, "losses": losses})
    weighed = recipe.balance.names
    terms = recipe(batch(variant))
    assert set(weighed) <= terms.keys() and len(weighed) >= 2
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in recipe.balance.parameters())
