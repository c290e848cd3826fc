"""A time is worth nothing where the results differ: what counts as equal, and how often is measured."""

import math
from dataclasses import replace

import pytest
import torch


@pytest.fixture
def measure(benchmark_module):
    return benchmark_module("measure")


def case(measure, ours, theirs, **settings):
    return measure.Case(
        "op", "forward", "small", lambda: (ours,), {"peer": lambda: (theirs,)}, num_bytes=0, **settings
    )


def test_the_error_is_relative_to_the_largest_entry(measure):
    ours = torch.tensor([1.0, 102.0]), torch.zeros(0)
    theirs = torch.tensor([0.0, 100.0]), torch.zeros(0)
    assert measure.relative_error(ours, theirs) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1.0, math.nan], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, math.nan]),
        ([1.0, math.nan], [1.0, math.nan]),
        ([1.0, math.inf], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, math.inf]),
        ([1.0, math.inf], [1.0, -math.inf]),
    ],
)
def test_entries_that_are_not_finite_are_not_equal(measure, ours, theirs):
    with pytest.raises(measure.UnequalError, match="NaN, or an infinity"):
        measure.relative_error((torch.tensor(ours),), (torch.tensor(theirs),))


def test_equal_infinities_are_equal_and_no_scale(measure):
    ours, theirs = torch.tensor([math.inf, -math.inf, 3.0]), torch.tensor([math.inf, -math.inf, 2.0])
    assert measure.relative_error((theirs,), (theirs,)) == 0.0
    assert measure.relative_error((ours,), (theirs,)) == 0.5


def test_shapes_and_numbers_of_results_must_agree(measure):
    row = torch.ones(3)
    for ours, theirs in (((row[:, None],), (row,)), ((row[:1],), (row,)), ((row[:0],), (row,))):
        with pytest.raises(measure.UnequalError, match="shape"):
            measure.relative_error(ours, theirs)
    with pytest.raises(measure.UnequalError, match="1 results, ours are 2"):
        measure.relative_error((row, row), (row,))


def test_nothing_unequal_is_timed(measure):
    ones = torch.ones(3)
    for theirs in (ones + 1e-3, ones * math.nan, ones[:, None]):
        with pytest.raises(measure.UnequalError, match="op forward small"):
            measure.rows(case(measure, ones, theirs), "cpu", 0.0, 1)


def test_a_row_has_every_field_and_says_what_is_not_known(measure, monkeypatch):
    for rate in ("copy_rate", "product_rate"):
        monkeypatch.setattr(measure, rate, lambda device: 1e9)
    apart = case(measure, torch.ones(3), torch.zeros(3), not_compared=("peer",))
    (row,) = measure.rows(apart, "cpu", 0.0, 1)
    assert set(row) == {
        *("op", "pass", "shape", "device", "threads", "allocator", "ours_ms", "peer", "peer_ms", "ratio"),
        *("ours_peak_mb", "peer_peak_mb", "rel_err", "floor_share"),
    }
    assert row["rel_err"] is None and row["floor_share"] is None


def test_a_peer_that_cannot_be_compiled_is_left_out_and_named(measure, monkeypatch, capsys):
    def refuses():
        raise RuntimeError("torch.compile with aot_autograd does not currently support double backward")

    ones = torch.ones(3)
    plain = case(measure, ones, ones)
    assert measure.with_compiled(plain) is plain  # without a reference there is nothing to compile
    both = replace(plain, peers=plain.peers | {"compiled": refuses})
    assert set(measure._errors(both)) == {"peer"}
    assert "op forward: torch.compile: torch.compile with aot_autograd does not" in capsys.readouterr().err
    monkeypatch.setattr(torch, "compile", lambda run: run)  # whose import warns, which is an error in tests
    referenced = measure.with_compiled(replace(plain, peers={"reference": lambda: (ones,)}))
    assert list(referenced.peers) == ["reference", "compiled"]


def test_slow_calls_are_repeated_in_turns(measure):
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in ("", "peer")}
    measure.medians(sides, "cpu", 0.0, repeats=5)
    assert calls == ["", "peer"] * 5


def test_both_passes_give_values_and_gradients(measure):
    x = torch.randn(4, 3).requires_grad_()
    scale = torch.tensor(2.0)
    sides = {"": (torch.mul, (x, scale)), "peer": (lambda x, scale: x + x, (x, scale))}
    forward, both = measure.both_passes("double", "4x3", sides, (8, 16))
    assert [forward.stage, both.stage] == ["forward", "forward+backward"]
    (value,), (gradient,) = forward.ours(), both.ours()
    assert torch.equal(value, 2 * x) and not value.requires_grad
    assert torch.equal(gradient, 2 * measure.cotangents_of((x,))[0])
    assert measure.relative_error(both.ours(), both.peers["peer"]()) == 0.0


def test_the_first_number_of_a_cotangent_does_not_depend_on_the_layout(measure):
    x = torch.zeros(1, 2, 3, 4, 5)
    (plain,), (last,) = (
        measure.cotangents_of((x.contiguous(memory_format=layout),))
        for layout in (torch.contiguous_format, torch.channels_last_3d)
    )
    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
