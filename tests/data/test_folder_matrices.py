"""Which matrices a scene folder may have: what is told quickly is what numpy tells."""

import gc

import numpy as np
import pytest
from pydantic import ValidationError

from renderpretrain.data import SceneFolder, SceneFolderError
from renderpretrain.data.folder.fields import FARTHEST, ROTATION_TOLERANCE
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.schema import CameraEntry

POSE = np.eye(4).tolist()
PLAIN = [[9.0, 0, 1], [0, 9.0, 1], [0, 0, 1]]


def accepts(pose=POSE, intrinsics=PLAIN, file="a.png"):
    """Whether an index may have a camera with these."""
    camera = {"file": file, "width": 9, "height": 9, "intrinsics": intrinsics, "lidar_to_camera": pose}
    try:
        CameraEntry.model_validate(camera)
    except ValidationError:
        return False
    return True


def is_rigid(pose):
    """As the documentation has it."""
    turn = pose[:3, :3]
    off = np.abs(turn @ turn.T - np.eye(3)).max()
    near = np.abs(pose).max() <= FARTHEST
    return bool(off <= ROTATION_TOLERANCE and np.linalg.det(turn) > 0 and near)


def test_poses_are_rigid_as_numpy_tells():
    random, told = np.random.default_rng(0), []
    for _ in range(400):
        pose = np.eye(4)
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        pose[:3, :3] = turn + random.normal(size=(3, 3)) * random.choice([1e-9, 1e-3, 3e-3, 1e-2])
        pose[:3, 3] = random.normal(size=3) * random.choice([1, 3e7])
        told.append(is_rigid(pose))
        assert accepts(pose.tolist()) == told[-1], pose
    assert 50 < sum(told) < 350


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_no_entry_of_a_matrix_may_be_beyond_all_measure(value):
    for row in range(4):
        for column in range(4):
            pose = np.eye(4)
            pose[row, column] = value
            assert not accepts(pose.tolist())
    for row in range(3):
        for column in range(3):
            matrix = np.array(PLAIN)
            matrix[row, column] = value
            assert not accepts(intrinsics=matrix.tolist())


@pytest.mark.parametrize(
    ("matrix", "right"),
    [
        (PLAIN, True),
        ([[9, 0.5, 1], [0, 8, -3], [0, 0, 1]], True),
        ([[9, 0, 1], [1e-10, 9, 1], [0, 0, 1]], True),
        ([[9, 0, 1], [1e-3, 9, 1], [0, 0, 1]], False),
        ([[0.05, 0, 1], [0, 9, 1], [0, 0, 1]], False),
        ([[9, 0, 1], [0, -9, 1], [0, 0, 1]], False),
        ([[9, 0, 1], [0, 9, 1], [0, 0, 2]], False),
        ([[9, 0, 1], [0, 9, 1]], False),
        ([[9, 0], [0, 9], [0, 0]], False),
    ],
)
def test_intrinsics_are_upper_triangular_and_mirror_nothing(matrix, right):
    assert accepts(intrinsics=matrix) == right


@pytest.mark.parametrize("file", ["../a.png", "a/../../b.png", "/a.png", "..", "a/b/../../..", "", "a\0b"])
def test_paths_stay_in_the_folder(file):
    assert not accepts(file=file)
    assert accepts(file="a/../b.png") and accepts(file="a/b+c--2018__1.png") and accepts(file="ü/a b.png")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_while_an_index_is_read_and_is_then_as_before(enabled, tmp_path):
    seen = []

    def read(access):
        seen.append(gc.isenabled())
        raise SceneFolderError("broken")

    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(SceneFolderError, match="broken"):
            SceneFolder(tmp_path, reader=Reader("odd", read, ""))
        after = gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False] and after == enabled
