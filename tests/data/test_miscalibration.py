"""A camera that is not where it says."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import Miscalibrated, SceneWindows, SyntheticStreet
from renderpretrain.geometry import VoxelGrid, invert_pose

STREET = SyntheticStreet(
    3, image_size=(8, 16), num_beams=4, points_per_beam=30, frames_per_street=3, with_truth=False
)


def test_one_camera_is_off_by_what_was_asked_in_all_scenes():
    wrong = Miscalibrated(STREET, camera=2, rotation_deg=1.0, translation_m=0.2, seed=5)
    assert len(wrong) == 3
    for index in range(3):
        given, true = wrong[index], STREET[index]
        local = invert_pose(true.cameras.camera_to_world) @ given.cameras.camera_to_world
        others = [0, 1, 3, 4, 5]
        assert torch.equal(given.cameras.camera_to_world[others], true.cameras.camera_to_world[others])
        assert_close(local[2], wrong.error, rtol=0, atol=1e-5)
        assert torch.equal(given.images, true.images) and torch.equal(given.points, true.points)
    angle = ((wrong.error[:3, :3].trace() - 1) / 2).acos()
    # The cosine of a degree leaves four digits of float32.
    assert math.degrees(angle) == pytest.approx(1.0, rel=1e-3)
    assert wrong.error[:3, 3].norm().item() == pytest.approx(0.2, rel=1e-6)


def test_the_seed_says_where_to():
    first, again, other = (Miscalibrated(STREET, seed=s).error for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


def test_remembered_scenes_are_off_too():
    windows = SceneWindows(
        STREET, VoxelGrid((-8.0, -8.0, -2.0, 8.0, 8.0, 2.0), (2.0, 2.0, 2.0)), reach=0, history=1
    )
    wrong = Miscalibrated(windows, camera=1)
    (before,) = wrong[2].previous
    assert torch.equal(before.cameras.camera_to_world, wrong[1].cameras.camera_to_world)


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(
        ValueError, match="camera: expected one of the 6 cameras of scene 'street-0-0', got 6"
    ):
        Miscalibrated(STREET, camera=6)[0]
