"""What a detector is to say beside loops and hand-computed numbers, and what it says read back."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.detection.head import CenterHead, said_boxes
from renderpretrain.probes.detection.targets import (
    CODES,
    box_codes,
    boxes_from_codes,
    detection_loss,
    heat_loss,
    heat_radius,
    heat_targets,
)

GRID = VoxelGrid((-8.0, -4.0, -3.0, 8.0, 4.0, 5.0), (0.5, 0.4, 8.0))


def boxes(count, seed=0):
    """Boxes of two classes over the map, one of them in its last cell."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(count, 8, generator=draw)
    rows[:, :3] = (rows[:, :3] - 0.5) * torch.tensor([16.0, 8.0, 4.0])
    rows[:, 3:6] = 0.3 + 4 * rows[:, 3:6]
    rows[:, 6] = (rows[:, 6] - 0.5) * 2 * math.pi
    rows[:, 7] = (rows[:, 7] > 0.5).float()
    rows[0, :2] = torch.tensor([7.999, 3.999])
    return rows


def slow_radius(height, width, overlap=0.1):
    """CornerNet's three cases as the released code writes them."""
    b1, c1 = height + width, width * height * (1 - overlap) / (1 + overlap)
    r1 = (b1 + math.sqrt(b1**2 - 4 * c1)) / 2
    b2, c2 = 2 * (height + width), (1 - overlap) * width * height
    r2 = (b2 + math.sqrt(b2**2 - 16 * c2)) / 2
    a3, b3, c3 = 4 * overlap, -2 * overlap * (height + width), (overlap - 1) * width * height
    return min(r1, r2, (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2)


def test_the_radius_is_the_least_of_three_cases():
    draw = torch.Generator().manual_seed(0)
    sides, overlaps = torch.rand(2, 200, generator=draw) * 20 + 0.5, torch.rand(200, generator=draw)
    found = [
        float(heat_radius(*pair.view(2, 1), o)) for pair, o in zip(sides.T, overlaps.tolist(), strict=True)
    ]
    expected = [slow_radius(*pair, o) for pair, o in zip(sides.T.tolist(), overlaps.tolist(), strict=True)]
    assert found == pytest.approx(expected, abs=1e-4)  # differences of numbers up to 40 in float32


def test_heat_like_loops():
    rows = boxes(7)
    _, height, width = GRID.shape
    expected = torch.zeros(2, height, width)
    for x, y, _, length, across, _, _, label in rows.tolist():
        column, row = int((x + 8) // 0.5), int((y + 4) // 0.4)
        radius = max(2, int(slow_radius(across / 0.4, length / 0.5)))
        sigma = (2 * radius + 1) / 6
        for v in range(max(0, row - radius), min(height, row + radius + 1)):
            for u in range(max(0, column - radius), min(width, column + radius + 1)):
                heat = math.exp(-((u - column) ** 2 + (v - row) ** 2) / (2 * sigma**2))
                expected[int(label), v, u] = max(expected[int(label), v, u], heat)
    # Exponentials in float32.
    assert_close(heat_targets(rows, 2, GRID), expected, atol=1e-6, rtol=0)
    assert expected[int(rows[0, 7]), -1, -1] == 1


def test_what_cells_say_is_read_back():
    rows = boxes(20)
    cells, codes = box_codes(rows, GRID)
    assert codes[:, :2].abs().max() <= 0.5 + 1e-4  # a cell in float32
    back = boxes_from_codes(cells, codes, GRID)
    # Logarithms and angles in float32, 8 m from the origin.
    assert_close(back, rows[:, :7], atol=1e-5, rtol=1e-5)


def test_the_heats_loss_by_hand():
    """One centre said with 0.8; beside it heat 0.5, said with 0.4; far from it nothing, said with 0.1."""
    logits = torch.logit(torch.tensor([0.8, 0.4, 0.1])).view(1, 1, 3)
    heat = torch.tensor([1.0, 0.5, 0.0]).view(1, 1, 3)
    cold = math.log(0.6) * 0.4**2 * 0.5**4 + math.log(0.9) * 0.1**2
    assert float(heat_loss(logits, heat)) == pytest.approx(-math.log(0.8) * 0.2**2 - cold, rel=1e-5)
    nothing = heat_loss(logits, torch.zeros(1, 1, 3))
    expected = -sum(math.log(1 - p) * p**2 for p in (0.8, 0.4, 0.1))
    assert float(nothing) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_boxes_is_a_quarter_of_the_difference_at_centers():
    rows = boxes(3)
    outputs = torch.full((1, 2 + CODES, *GRID.shape[1:]), -40.0)  # nothing is hot: 40 for each centre
    cells, codes = box_codes(rows, GRID)
    for (x, y), code in zip(cells.tolist(), codes, strict=True):
        outputs[0, 2:, y, x] = code + 0.3
    heat = float(detection_loss(outputs, rows, GRID)) - 0.25 * 8 * 0.3
    assert heat == pytest.approx(40, rel=1e-4)
    assert float(detection_loss(outputs, rows[:0], GRID)) == pytest.approx(0, abs=1e-6)


def test_the_loss_stays_finite_and_has_gradients():
    outputs = torch.full((1, 2 + CODES, *GRID.shape[1:]), 200.0, requires_grad=True)
    detection_loss(outputs, boxes(3), GRID).backward()
    assert outputs.grad.isfinite().all() and outputs.grad.abs().sum() > 0


def perfect(rows, sure=6.0):
    """Outputs that say the boxes and nothing else."""
    outputs = torch.zeros(1, 2 + CODES, *GRID.shape[1:])
    outputs[0, :2] = torch.logit(heat_targets(rows, 2, GRID).clamp(1e-3, 0.97))
    cells, codes = box_codes(rows, GRID)
    for (x, y), code, label in zip(cells.tolist(), codes, rows[:, 7].long().tolist(), strict=True):
        outputs[0, 2:, y, x] = code
        outputs[0, label, y, x] = sure - 0.01 * (x + y)
    return outputs


def test_perfect_outputs_give_the_boxes_the_surest_first():
    rows = boxes(4, seed=3)
    found = said_boxes(perfect(rows), GRID, most=4)
    assert (found[1:, 8] <= found[:-1, 8]).all() and found[-1, 8] > 0.99
    order = torch.cdist(found[:, :2], rows[:, :2]).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert_close(found[:, :8], rows[order], atol=1e-5, rtol=1e-5)


def test_of_hot_neighbours_one_is_a_box_and_none_lies_beside_the_map():
    outputs = torch.full((1, 1 + CODES, *GRID.shape[1:]), -20.0)
    outputs[0, 1:] = 0.0
    outputs[0, 0, 5, 5:8] = torch.tensor([1.0, 2.0, 1.5])
    outputs[0, 0, 9, 0] = 3.0
    outputs[0, 1, 9, 0] = -0.6  # of a cell at the border: its box lies outside
    found = said_boxes(outputs, GRID)
    hot = found[found[:, 8] > 0.5]
    assert hot.shape == (1, 9)
    assert_close(hot[0, :2], torch.tensor([-8 + 6.5 * 0.5, -4 + 5.5 * 0.4]))


def test_a_head_is_that_of_its_seed_and_expects_few_boxes():
    state = torch.get_rng_state()
    heads = [CenterHead(5, 3, seed).eval() for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    features = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    said = [head(features).detach() for head in heads]
    assert_close(said[0], said[1], rtol=0, atol=0)
    assert not torch.allclose(said[0], said[2])
    assert said[0].shape == (1, 3 + CODES, 8, 8)
    assert float(said[0][:, :3].sigmoid().mean()) == pytest.approx(0.1, abs=0.03)  # random weights around it
