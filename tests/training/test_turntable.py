"""Where a turntable's camera stands, and what its pictures have in common."""

import math

import torch
from torch.testing import assert_close

from renderpretrain.geometry import VoxelGrid
from renderpretrain.training.turntable import DISTANCE, ELEVATION, Look, circling, panels

GRID = VoxelGrid((-20.0, -10.0, -2.0, 20.0, 10.0, 2.0), (1.0, 1.0, 1.0))


def test_cameras_circle_above_the_ground_and_see_its_middle_in_the_middle():
    cameras = circling(GRID, -1.0, 4, (60, 100))
    middle = torch.tensor([0.0, 0.0, -1.0])
    away = cameras.centers - middle
    assert_close(away.norm(dim=-1), torch.full((4,), DISTANCE * 10.0))
    assert_close(away[:, 2], torch.full((4,), DISTANCE * 10.0 * math.sin(math.radians(ELEVATION))))
    assert_close(away[0, :2], -away[2, :2])
    pixels, _, visible = cameras.project(middle.expand(4, 1, 3))
    assert visible.all()
    assert_close(pixels[:, 0], torch.tensor([[50.0, 30.0]]).expand(4, 2), atol=1e-3, rtol=0)
    above, _, _ = cameras.project((middle + torch.tensor([0.0, 0, 1])).expand(4, 1, 3))
    assert (above[:, 0, 1] < 30).all()  # up is up in the pictures
    assert_close(torch.linalg.det(cameras.camera_to_world), torch.ones(4))  # no mirror


def look(depth, opaque, rgb=None):
    values = torch.full((2, 3), depth)
    return Look(values, torch.full((2, 3), opaque), values / 10, rgb, None)


def test_scales_are_common_to_all_frames_and_nothing_is_black():
    frames = panels([look(5.0, True), look(50.0, True), look(20.0, False)])
    assert [[caption for caption, _ in frame] for frame in frames] == 3 * [
        ["rendered depth, 5 to 50 m", "height, +0.5 to +5.0 m"]
    ]
    near, far, nothing = (frame[0][1] for frame in frames)
    assert near.sum() > far.sum() > 0 and not nothing.any()


def test_colours_are_brightened_alike_and_the_caption_says_so():
    dark, darker = torch.full((3, 2, 3), 0.5), torch.full((3, 2, 3), 0.25)
    frames = panels([look(5.0, True, dark), look(5.0, True, darker)])
    assert frames[0][0][0] == frames[1][0][0] == "rendered colour, 2.0 times as bright"
    assert_close(frames[0][0][1], torch.ones(3, 2, 3))
    assert_close(frames[1][0][1], torch.full((3, 2, 3), 0.5))
