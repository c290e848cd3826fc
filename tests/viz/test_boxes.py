"""Boxes from above."""

import math

import torch
from torch.testing import assert_close

from renderpretrain.viz import boxes_from_above
from renderpretrain.viz.boxes import box_outline

RED = (1.0, 0.0, 0.0)


def test_a_box_has_its_corners_and_a_line_ahead():
    """A box of 4 x 2 m that looks along +y: its sides are exchanged."""
    outline = box_outline(torch.tensor([1.0, 2.0, 4.0, 2.0, math.pi / 2]))
    assert_close(outline[:4], torch.tensor([[0.0, 4.0], [2.0, 4.0], [2.0, 0.0], [0.0, 0.0]]))
    assert_close(outline[4:], torch.tensor([[1.0, 2.0], [1.0, 4.0]]))


def test_points_and_boxes_are_where_they_are():
    """Ten pixels a metre, y up: the box around (2, 5) spans rows 20 to 40 from above and columns 10 to 30."""
    points = torch.tensor([[7.05, 1.05, 0.0], [8.05, 1.05, 2.0], [50.0, 1.0, 0.0]])
    box = torch.tensor([[2.0, 5.0, 0.0, 2.0, 2.0, 1.0, 0.0]])
    picture = boxes_from_above(points, (0.0, 0.0, 10.0, 8.0), [(box, RED)], side=100)
    assert picture.shape == (3, 80, 100)
    red = (picture == torch.tensor(RED).view(3, 1, 1)).all(0)
    rows, columns = red.nonzero().T
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (20, 40, 10, 30)
    assert red[30, 20:31].all() and not red[30, 11:20].any()  # the line ahead, to the right
    grey = ((picture > 0).any(0) & ~red).nonzero().tolist()
    assert grey == [[69, 70], [69, 80]]
    assert picture[:, 69, 80].sum() > picture[:, 69, 70].sum()  # the higher one is lighter


def test_without_points_and_boxes_it_is_black():
    assert not boxes_from_above(torch.zeros(0, 3), (0.0, 0.0, 4.0, 4.0), [(torch.zeros(0, 7), RED)]).any()
