"""Plans that are put together by hand, or of something else: refused, whatever is wrong with them."""

import copy
import dataclasses
import pickle

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

pytestmark = pytest.mark.untyped  # wrong plans are what this is about

FAR = 10**8  # rows; memory that is not ours


def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


INDEX = torch.tensor([0, 1, 1, 2])
SCATTER = {
    "order past the points": (i32(0, 1, 2, FAR), i32(0, 1, 3, 4)),
    "order past by one": (i32(0, 1, 2, 4), i32(0, 1, 3, 4)),
    "order below zero": (i32(-1, 1, 2, 3), i32(0, 1, 3, 4)),
    "a point twice": (i32(0, 1, 1, 3), i32(0, 1, 3, 4)),
    "points of a cell out of order": (i32(0, 2, 1, 3), i32(0, 1, 3, 4)),
    "offsets past the points": (i32(0, 1, 2, 3), i32(0, 1, 3, FAR)),
    "offsets that fall": (i32(0, 1, 2, 3), i32(0, 3, 1, 4)),
    "offsets from one on": (i32(0, 1, 2, 3), i32(1, 1, 3, 4)),
    "no offsets": (i32(0, 1, 2, 3), i32()),
    "too few points": (i32(0, 1, 2), i32(0, 1, 3, 4)),
    "expanded offsets": (i32(0, 1, 2, 3), i32(FAR).expand(4)),
    "another index": (i32(1, 0, 2, 3), i32(0, 1, 3, 4)),
}


@pytest.mark.parametrize("fault", SCATTER)
def test_a_scatter_plan_by_hand_is_looked_at(fault):
    with pytest.raises(ValueError, match=r"(order|offsets|plan): expected"):
        ops.voxel_scatter(torch.ones(4, 8), INDEX, 3, plan=ops.ScatterPlan(*SCATTER[fault]))


def test_right_numbers_that_lie_apart_in_memory_are_read_as_what_they_are():
    values, expected = torch.rand(4, 8), ops.scatter_plan(INDEX, 3)
    apart = (torch.stack([x, x * 0 + FAR], 1)[:, 0] for x in (expected.order, expected.offsets))
    plan = ops.ScatterPlan(*apart)
    for reduce in ("sum", "mean", "max"):
        grads = []
        for chosen in (plan, expected):
            leaf = values.clone().requires_grad_()
            found = ops.voxel_scatter(leaf, INDEX, 3, reduce=reduce, plan=chosen)
            grads.append((found, *torch.autograd.grad(found.square().sum(), leaf)))
        assert_close(*grads, rtol=0, atol=0)


def test_a_plan_of_another_index_of_the_same_sizes_is_refused():
    plan, values = ops.scatter_plan(INDEX, 3), torch.rand(4, 2)
    ops.voxel_scatter(values, INDEX.clone(), 3, plan=plan)  # the same numbers elsewhere in memory
    with pytest.raises(ValueError, match="plan: expected one that was made of this index"):
        ops.voxel_scatter(values, torch.tensor([2, 1, 1, 0]), 3, plan=plan)
    written = INDEX.clone()
    plan = ops.scatter_plan(written, 3)
    written[0] = 2
    with pytest.raises(ValueError, match="plan: expected one that was made of this index"):
        ops.voxel_scatter(values, written, 3, plan=plan)


def test_a_plan_is_looked_at_once(monkeypatch):
    looks = []
    whole = ops.scatter_plan.__globals__["_check_index_of"]
    monkeypatch.setitem(
        ops.scatter_plan.__globals__, "_check_index_of", lambda *given: (looks.append(1), whole(*given))
    )
    values, other = torch.rand(4, 2), INDEX.clone()
    plan = ops.scatter_plan(INDEX, 3)
    for index in (INDEX, INDEX, other, other):
        ops.voxel_scatter(values, index, 3, plan=plan)
    assert len(looks) == 1


def test_what_is_no_plan_is_named():
    plan, values = ops.scatter_plan(INDEX, 3), torch.ones(4, 2)
    for other in ((plan.order, plan.offsets), dataclasses.asdict(plan)):
        with pytest.raises(ValueError, match=r"plan: expected one from scatter_plan, got (tuple|dict)"):
            ops.voxel_scatter(values, INDEX, 3, plan=other)
    with pytest.raises(ValueError, match="order: expected a tensor"):
        ops.ScatterPlan([0, 1, 2, 3], [0, 1, 3, 4])
    with pytest.raises(ValueError, match="plan: expected one from lss_plan, got list"):
        ops.lss_pool(torch.ones(1, 2, 2, 2), torch.ones(1, 4, 2, 2), [1])


def test_a_subclass_that_skips_the_look_is_looked_at_when_used():
    class Unseen(ops.ScatterPlan):
        def __post_init__(self, is_made):
            pass

    with pytest.raises(ValueError, match="order: expected points from 0 to 3"):
        ops.voxel_scatter(torch.ones(4, 8), INDEX, 3, plan=Unseen(i32(0, 1, 2, FAR), i32(0, 1, 3, 4)))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_copies_of_plans_are_plans(again):
    plan = again(ops.scatter_plan(INDEX, 3))
    assert_close(ops.voxel_scatter(torch.ones(4, 1), INDEX, 3, plan=plan), torch.tensor([[1.0], [2], [1]]))
    lift = again(ops.lss_plan(torch.zeros(1, 2, 2, 2, dtype=torch.int64), 3))
    assert ops.lss_pool(torch.ones(1, 2, 2, 2), torch.ones(1, 1, 2, 2), lift).flatten().tolist() == [8, 0, 0]


@pytest.mark.parametrize("field", ["cells", "order", "starts", "pixels", "bins"])
@pytest.mark.parametrize("fault", ["far", "past by one", "negative", "shorter", "another"])
def test_a_lift_plan_by_hand_is_compared_with_that_of_its_cells(field, fault):
    plan = ops.lss_plan(torch.arange(8).view(1, 2, 2, 2) % 3, 3)
    right = getattr(plan, field)
    wrong = {
        "far": torch.where(right == right.max(), FAR, right),
        "past by one": right + 1,
        "negative": right - 2,
        "shorter": right[:-1] if right.dim() == 1 else right[..., :-1],
        "another": right.flip(-1),
    }[fault]
    if wrong.shape == right.shape and torch.equal(wrong, right):
        pytest.skip("the same numbers")
    with pytest.raises(ValueError, match=r"expected"):
        ops.lss_pool(
            torch.ones(1, 2, 2, 2), torch.ones(1, 4, 2, 2), dataclasses.replace(plan, **{field: wrong.int()})
        )


def test_a_lift_plan_whose_right_numbers_lie_apart_in_memory_pools_the_same():
    plan = ops.lss_plan(torch.arange(8).view(1, 2, 2, 2) % 3, 3)
    apart = torch.stack([plan.pixels, plan.pixels * 0 + FAR], 1)[:, 0]
    depth, features = torch.rand(1, 2, 2, 2), torch.rand(1, 4, 2, 2)
    found = ops.lss_pool(depth, features, dataclasses.replace(plan, pixels=apart))
    assert torch.equal(found, ops.lss_pool(depth, features, plan))


@pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
def test_numbers_that_change_behind_the_plan_are_found():
    """Memory that is shared with NumPy can be written to without PyTorch knowing."""
    plan = ops.scatter_plan(INDEX, 3)
    plan.order.numpy()[0] = FAR
    with pytest.raises(ValueError, match="order: expected numbers from 0 to 3, got 1 to 100000000"):
        ops.voxel_scatter(torch.ones(4, 8), INDEX, 3, plan=plan)
    lift = ops.lss_plan(torch.zeros(1, 2, 2, 2, dtype=torch.int64), 3)
    for field, name in (("pixels", "pixels"), ("bins", "bins"), ("order", "order"), ("starts", "starts")):
        changed = copy.deepcopy(lift)
        getattr(changed, field).numpy()[-1] = FAR
        with pytest.raises(ValueError, match=f"{name}: expected"):
            ops.lss_pool(torch.ones(1, 2, 2, 2), torch.ones(1, 4, 2, 2), changed)


@pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
def test_a_row_that_is_named_twice_behind_the_plan_leaves_no_other_unwritten():
    lift = ops.lss_plan(torch.zeros(1, 2, 2, 2, dtype=torch.int64), 3)
    lift.order.numpy()[:] = 0
    with pytest.raises(ValueError, match="order: expected each number from 0 to 2 once"):
        ops.lss_pool(torch.ones(1, 2, 2, 2), torch.ones(1, 4, 2, 2), lift)
    plan, values = ops.scatter_plan(INDEX, 3), torch.ones(4, 8, requires_grad=True)
    summed = ops.voxel_scatter(values, INDEX, 3, plan=plan).sum()
    plan.order.numpy()[:] = 0
    with pytest.raises(ValueError, match="order: expected each number from 0 to 3 once"):
        summed.backward()
