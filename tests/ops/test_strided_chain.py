"""Strided kernels that read each other's outputs: the tables of one after the other, found together."""

import importlib

import pytest
import torch

from renderpretrain import ops
from renderpretrain.ops.neighbor_search import strided_shape

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
SHAPE = (2, 13, 10, 11)
ONE, TWO, THREE = (1, 1, 1), (2, 2, 2), (3, 3, 3)
CHAINS = [
    [(THREE, TWO, ONE)],
    [(THREE, TWO, ONE), (THREE, TWO, (0, 1, 1)), ((3, 1, 1), (2, 1, 1), (0, 0, 0))],  # SECOND's
    [(TWO, TWO, (0, 0, 0))] * 3,  # a sparse U-Net's: never more outputs than inputs
    [((2, 2, 2), THREE, (0, 0, 0)), (THREE, ONE, (2, 2, 2))],  # cells read by none, then more than before
    [((9, 9, 1), (2, 2, 1), (4, 4, 0)), (THREE, TWO, ONE)],  # more rows than the compiled search takes
]


def occupied(fill, device, shape=SHAPE):
    """Random voxels in random order."""
    coords = (torch.rand(shape) < fill).nonzero()
    return coords[torch.randperm(len(coords))].int().to(device)


def one_by_one(coords, shape, convs):
    found = []
    for conv in convs:
        found.append(ops.strided_neighbors(coords, shape, *conv))
        coords, shape = found[-1].coords, (shape[0], *strided_shape(shape[1:], *conv))
    return found


@pytest.mark.parametrize("function", [ops.strided_chain, ops.strided_chain_reference])
@pytest.mark.parametrize("convs", CHAINS, ids=str)
@pytest.mark.parametrize("fill", [0.0, 0.02, 0.3])
def test_tables_are_those_of_one_after_the_other(function, convs, fill, device):
    coords = occupied(fill, device)
    found, expected = function(coords, SHAPE, convs), one_by_one(coords, SHAPE, convs)
    assert len(found) == len(convs)
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@needs_kernels
@pytest.mark.parametrize("most", [0, 100, 2000])
def test_where_there_could_be_too_many_they_are_counted_first(most, monkeypatch, device):
    coords = occupied(0.1, device)
    expected = ops.strided_chain(coords, SHAPE, CHAINS[1])
    module = importlib.import_module("renderpretrain.ops.strided_chain")  # also the name of its function
    monkeypatch.setattr(module, "MOST_UNCOUNTED", most)
    for ours, theirs in zip(ops.strided_chain(coords, SHAPE, CHAINS[1]), expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@needs_kernels
def test_the_memory_of_voxels_that_are_not_there_is_given_back(device):
    for tables in ops.strided_chain(occupied(0.02, device), SHAPE, CHAINS[1]):
        assert tables.coords.untyped_storage().nbytes() == 16 * len(tables.coords)


@needs_kernels
def test_the_operator_holds_together(check_operator, device):
    flat = [size for conv in CHAINS[1] for sizes in conv for size in sizes]
    check_operator("strided_chain", (occupied(0.3, device), SHAPE, flat), differentiable=False)


@pytest.mark.untyped
def test_errors_name_the_argument():
    coords = occupied(0.3, "cpu")
    with pytest.raises(ValueError, match=r"convs: expected nine sizes for each of one .*, got \[\]"):
        ops.strided_chain(coords, SHAPE, [])
    with pytest.raises(ValueError, match=r"stride: expected three sizes .* at least 1, got \[1, 0, 1\]"):
        ops.strided_chain(coords, SHAPE, [CHAINS[0][0], (THREE, (1, 0, 1), ONE)])
    with pytest.raises(ValueError, match=r"spatial_shape: expected at least one output cell"):
        ops.strided_chain(coords, SHAPE, [CHAINS[0][0], ((9, 9, 9), ONE, (0, 0, 0))])
    with pytest.raises(ValueError, match=r"coords: expected voxels inside \(2, 5, 10, 11\), got \["):
        ops.strided_chain(coords, (2, 5, 10, 11), CHAINS[0])
