"""Neighbour tables: against a dictionary of voxels, at the edges of volumes, in any order."""

from itertools import product

import pytest
import torch

from renderpretrain import ops

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
SHAPE = (2, 5, 6, 7)
ONE = (1, 1, 1)
GEOMETRIES = [
    ((3, 3, 3), ONE, ONE),
    ((3, 3, 3), (2, 2, 2), ONE),
    ((3, 3, 3), (2, 2, 2), (0, 0, 0)),
    ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
    ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
    (ONE, ONE, (0, 0, 0)),
    (ONE, (2, 2, 2), (0, 0, 0)),
    ((2, 2, 2), (3, 3, 3), (0, 0, 0)),  # cells between the kernels are read by none
    ((1, 2, 4), (1, 3, 1), (0, 1, 3)),
    ((3, 3, 3), ONE, (4, 4, 4)),  # wider than the kernel: the outermost outputs reach nothing
    ((3, 5, 2), (1, 2, 1), (0, 1, 0)),  # 15 rows; 9, 25 and 64 are kept in memory of their own sizes
    ((5, 6, 7), ONE, (0, 0, 0)),  # one output, 30 rows
]


def occupied(fill, device="cpu", shape=SHAPE):
    """Random voxels in random order."""
    coords = (torch.rand(shape) < fill).nonzero()
    return coords[torch.randperm(len(coords))].int().to(device)


def slow_tables(coords, out_coords, geometry):
    """Who reads whom, one voxel and one cell at a time."""
    kernel, stride, padding = geometry
    row = {tuple(voxel): i for i, voxel in enumerate(coords.tolist())}
    cells = list(product(*map(range, kernel)))
    inputs = torch.full((len(cells), len(out_coords)), -1, dtype=torch.int32)
    outputs = torch.full((len(cells), len(coords)), -1, dtype=torch.int32)
    for n, (b, *place) in enumerate(out_coords.tolist()):
        for k, cell in enumerate(cells):
            read = [j * s - p + c for j, s, p, c in zip(place, stride, padding, cell, strict=True)]
            i = row.get((b, *read), -1)
            inputs[k, n] = i
            if i >= 0:
                outputs[k, i] = n
    return inputs, outputs


def slow_outputs(coords, geometry, shape):
    """Every output of the volume whose kernel reaches a voxel, in order."""
    kernel, stride, padding = geometry
    sizes = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True)]
    everywhere = torch.tensor(list(product(range(shape[0]), *map(range, sizes))), dtype=torch.int32)
    inputs, _ = slow_tables(coords, everywhere, geometry)
    return everywhere[(inputs >= 0).any(0)]


@pytest.mark.parametrize("function", [ops.submanifold_neighbors, ops.submanifold_neighbors_reference])
@pytest.mark.parametrize("kernel", [ONE, (3, 3, 3), (3, 1, 1), (1, 5, 3), (5, 7, 9)])
@pytest.mark.parametrize("fill", [0.0, 0.02, 0.3, 1.0])
def test_submanifold_table_is_the_one_found_voxel_by_voxel(function, kernel, fill, device):
    coords = occupied(fill, device)
    expected, _ = slow_tables(coords, coords, (kernel, ONE, [k // 2 for k in kernel]))
    table = function(coords, SHAPE, kernel)
    assert table.dtype == torch.int32
    assert torch.equal(table.cpu(), expected)


@pytest.mark.parametrize("function", [ops.strided_neighbors, ops.strided_neighbors_reference])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("fill", [0.0, 0.02, 0.3, 1.0])
def test_strided_tables_are_those_found_voxel_by_voxel(function, geometry, fill, device):
    coords = occupied(fill, device)
    out_coords, inputs, outputs = function(coords, SHAPE, *geometry)
    assert torch.equal(out_coords.cpu(), slow_outputs(coords, geometry, SHAPE))
    expected_inputs, expected_outputs = slow_tables(coords, out_coords, geometry)
    assert torch.equal(inputs.cpu(), expected_inputs)
    assert torch.equal(outputs.cpu(), expected_outputs)


def test_a_submanifold_table_is_its_own_converse_with_the_cells_mirrored(device):
    coords = occupied(0.3, device)
    table = ops.submanifold_neighbors(coords, SHAPE, (3, 3, 3))
    _, _, converse = ops.strided_neighbors(coords, SHAPE, (3, 3, 3), ONE, ONE)
    order = torch.argsort(((coords[:, 0] * 5 + coords[:, 1]) * 6 + coords[:, 2]) * 7 + coords[:, 3])
    exists = table.flip(0)[:, order] >= 0
    # The strided convolution has more outputs; at the voxels themselves it connects the same.
    assert exists.sum() == (table >= 0).sum()
    assert torch.equal((converse >= 0)[:, order] & exists, exists)


@pytest.mark.parametrize("function", [ops.submanifold_neighbors, ops.submanifold_neighbors_reference])
def test_voxels_at_opposite_faces_and_of_different_samples_are_no_neighbours(function, device):
    """In memory the last voxel of a row, slice or sample lies beside the first of the next."""
    rows = [[0, 0, 0, 6], [0, 0, 1, 0], [0, 2, 5, 6], [0, 3, 0, 0], [0, 4, 5, 6], [1, 0, 0, 0]]
    table = function(torch.tensor(rows, device=device), SHAPE, (3, 3, 3))
    assert (table >= 0).sum(1).tolist() == [0] * 13 + [6] + [0] * 13


def test_coordinates_may_be_int64_and_columns_of_another_tensor(device):
    coords = occupied(0.3, device)
    expected = ops.submanifold_neighbors(coords, SHAPE, (3, 3, 3))
    wide = torch.cat([coords, coords], 1).long()[:, 4:]
    assert torch.equal(ops.submanifold_neighbors(wide, SHAPE, (3, 3, 3)), expected)
    tables = ops.strided_neighbors(wide, SHAPE, *GEOMETRIES[1])
    assert all(
        torch.equal(a, b)
        for a, b in zip(tables, ops.strided_neighbors(coords, SHAPE, *GEOMETRIES[1]), strict=True)
    )


def test_a_kernel_with_more_rows_than_the_compiled_search_takes(device):
    shape = (1, 12, 12, 3)
    coords, geometry = occupied(0.2, device, shape), ((9, 9, 1), (2, 2, 1), (4, 4, 0))
    found = ops.strided_neighbors(coords, shape, *geometry)
    expected = slow_tables(coords, found[0], geometry)
    assert torch.equal(found[0].cpu(), slow_outputs(coords, geometry, shape))
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found[1:], expected, strict=True))


@needs_kernels
def test_the_number_of_threads_does_not_matter(threads):
    shape = (2, 20, 70, 60)
    coords, results = occupied(0.1, shape=shape), []
    for count in (1, 2, 4):
        threads(count)
        tables = ops.strided_neighbors(coords, shape, *GEOMETRIES[1])
        results.append((ops.submanifold_neighbors(coords, shape, (3, 3, 3)), *tables))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@needs_kernels
def test_the_operators_hold_together(check_operator, device):
    coords = occupied(0.3, device)
    check_operator("submanifold_neighbors", (coords, SHAPE, (3, 3, 3)), differentiable=False)
    check_operator("strided_neighbors", (coords, SHAPE, *GEOMETRIES[1]), differentiable=False)


@pytest.mark.untyped
def test_errors_name_the_argument():
    coords = occupied(0.3)
    with pytest.raises(ValueError, match=r"coords: expected \(M 4\), got \(3, 3\)"):
        ops.submanifold_neighbors(torch.zeros(3, 3, dtype=torch.int32), SHAPE, ONE)
    with pytest.raises(ValueError, match=r"coords: expected integers, got torch\.float32"):
        ops.submanifold_neighbors(coords.float(), SHAPE, ONE)
    with pytest.raises(ValueError, match=r"kernel_size: expected odd sizes .* got \(3, 2, 3\)"):
        ops.submanifold_neighbors(coords, SHAPE, (3, 2, 3))
    with pytest.raises(ValueError, match=r"spatial_shape: expected at least one output cell .* \(5, 6, 7\)"):
        ops.strided_neighbors(coords, SHAPE, (6, 1, 1), ONE, (0, 0, 0))
    with pytest.raises(ValueError, match=r"coords: expected integers, got torch\.bool"):
        ops.submanifold_neighbors(coords > 0, SHAPE, ONE)
    with pytest.raises(ValueError, match=r"shape: expected four sizes \(B, Z, Y, X\), got \(5, 6, 7\)"):
        ops.submanifold_neighbors(coords, SHAPE[1:], ONE)
    with pytest.raises(ValueError, match=r"kernel_size: expected three sizes .* at least 1, got \(1, 1\)"):
        ops.submanifold_neighbors(coords, SHAPE, ONE[:2])
    with pytest.raises(ValueError, match=r"stride: expected three sizes .* at least 1, got \(1, 0, 1\)"):
        ops.strided_neighbors(coords, SHAPE, ONE, (1, 0, 1), (0, 0, 0))
    with pytest.raises(ValueError, match=r"padding: expected three sizes .* at least 0, got \(0, 0, -1\)"):
        ops.strided_neighbors(coords, SHAPE, ONE, ONE, (0, 0, -1))


@pytest.mark.parametrize("outside", [(0, 0, 0, -1), (0, 0, 0, 7), (0, 0, 6, 0), (0, 5, 0, 0), (2, 0, 0, 0)])
def test_a_voxel_outside_is_refused_even_where_the_volume_goes_on(outside, device):
    coords = torch.tensor([[0, 0, 0, 0], outside], device=device)
    suffixes = "", "_reference"
    for submanifold in (getattr(ops, f"submanifold_neighbors{suffix}") for suffix in suffixes):
        with pytest.raises(ValueError, match=r"coords: expected voxels inside \(2, 5, 6, 7\), got \["):
            submanifold(coords, SHAPE, ONE)
    for strided in (getattr(ops, f"strided_neighbors{suffix}") for suffix in suffixes):
        with pytest.raises(ValueError, match=r"coords: expected voxels inside \(2, 5, 6, 7\), got \["):
            strided(coords, SHAPE, ONE, ONE, (0, 0, 0))
