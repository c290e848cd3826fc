"""Mistakes in poses, axes, intrinsics and units that read without a fault, told by what was measured."""

import json

import numpy as np
import pytest

from renderpretrain.data import SyntheticRoom, SyntheticStreet, validate_scene_folder, write_scene_folder
from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency import STRETCH, STRETCHES, _excerpt, geometry_findings
from renderpretrain.data.folder.consistency.findings import fitting_best
from renderpretrain.data.folder.consistency.mistakes import (
    BODY,
    OPENGL,
    inverted,
    reordered,
    scaled,
    transposed,
    turned,
)
from renderpretrain.data.folder.index import read_index

NAMES = {
    "inverted": "poses inverted",
    "transposed": "rotations transposed",
    "OpenGL": "axes changed from OpenGL's",
    "body": "axes changed from x forward, y left, z up to",
    "millimetres": "translations a thousandth",
    "kilometres": "translations a thousand times",
    "turned": "LiDAR axes turned by -90 degrees",
    "of a camera": "LiDAR poses, where these are a camera's",
    "x, y, z, w": "quaternions read as x, y, z, w, where w, x, y, z was read",
    "w, x, y, z": "quaternions read as w, x, y, z, where x, y, z, w was read",
    "half": "intrinsics doubled",
    "double": "intrinsics halved",
}

QUATERNIONS = {"x, y, z, w": reordered(1, 2, 3, 0), "w, x, y, z": reordered(3, 0, 1, 2)}
"""Quaternions that are stored so, read in the other order."""

TO_CAMERA = {
    **QUATERNIONS,
    "inverted": inverted,
    "transposed": transposed,
    "OpenGL": lambda pose: OPENGL @ pose,
    "body": lambda pose: np.linalg.inv(BODY) @ pose,
    "millimetres": scaled(1000),
    "turned": lambda pose: pose @ turned(90),
}
"""What people write for ``lidar_to_camera``."""

TO_GLOBAL = {
    **QUATERNIONS,
    "inverted": inverted,
    "turned": lambda pose: pose @ turned(90),
    "of a camera": lambda pose: pose @ np.linalg.inv(BODY),
    "millimetres": scaled(1000),
    "kilometres": scaled(1e-3),
}
"""What people write for ``ego_to_global``."""

TO_WORLD = {
    **QUATERNIONS,
    "inverted": inverted,
    "transposed": transposed,
    "OpenGL": lambda pose: pose @ OPENGL,
    "body": lambda pose: pose @ BODY,
}
"""What people write for ``camera_to_world``."""

SIZES = {"half": 0.5, "double": 2.0}
"""Intrinsics of an image of another size."""


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Three moments on one street, six cameras."""
    path = tmp_path_factory.mktemp("street")
    moments = SyntheticStreet(3, image_size=(96, 160), frames_per_street=3, with_truth=False)
    write_scene_folder(path / "data", [moments[k] for k in range(3)], one_recording=True)
    return path / "data"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    path = tmp_path_factory.mktemp("room")
    rooms = SyntheticRoom(3, with_truth=False)
    write_scene_folder(path / "data", [rooms[k] for k in range(3)])
    return path / "data"


def entries(frame, field):
    """What in a frame has the field."""
    held = [frame, getattr(frame, "lidar", None), *getattr(frame, "cameras", {}).values()]
    return [entry for entry in held if getattr(entry, field, None) is not None]


def changed(path, field, change):
    """The parsed recording with a matrix changed everywhere."""
    index = read_index(path)
    held = [index, *(entry for frame in index.frames for entry in entries(frame, field))]
    for entry in held:
        if getattr(entry, field, None) is not None:
            setattr(entry, field, change(np.array(getattr(entry, field), dtype=np.float64)).tolist())
    return index


def resized(factor):
    def change(matrix):
        return np.diag([factor, factor, 1.0]) @ matrix

    return change


def problems(path, index=None):
    access, index = FolderAccess(path), read_index(path) if index is None else index
    return [found.line for found in geometry_findings(access, index) if found.is_problem]


def tells(path, index, name):
    """Exactly the right mistake is told."""
    (problem,) = problems(path, index)
    assert f"expected {name}" in problem and "with what is given" in problem


def test_synthetic_recordings_are_consistent(street, room):
    assert problems(street) == [] and problems(room) == []


@pytest.mark.parametrize("mistake", TO_CAMERA)
def test_cameras_beside_a_lidar(street, mistake):
    tells(street, changed(street, "lidar_to_camera", TO_CAMERA[mistake]), NAMES[mistake])


@pytest.mark.parametrize("size", SIZES)
def test_intrinsics_beside_a_lidar(street, size):
    tells(street, changed(street, "intrinsics", resized(SIZES[size])), NAMES[size])


@pytest.mark.parametrize("mistake", TO_GLOBAL)
def test_poses_of_sweeps(street, mistake):
    tells(street, changed(street, "ego_to_global", TO_GLOBAL[mistake]), NAMES[mistake])


@pytest.mark.parametrize("mistake", TO_WORLD)
def test_poses_of_depth_images(room, mistake):
    tells(room, changed(room, "camera_to_world", TO_WORLD[mistake]), NAMES[mistake])


@pytest.mark.parametrize("size", SIZES)
def test_intrinsics_of_depth_images(room, size):
    tells(room, changed(room, "intrinsics", resized(SIZES[size])), NAMES[size])


@pytest.mark.parametrize("factor", [1000, 5, 0.2, 0.001])
def test_units_of_depth_images(room, factor):
    index = read_index(room)
    index.depth_scale *= factor
    tells(room, index, f"depths times {factor:g} ")


def untested(path, index):
    findings = geometry_findings(FolderAccess(path), index)
    return [found.line for found in findings if not found.is_problem]


def test_what_a_car_that_stands_still_cannot_tell_is_said(street):
    """Its sweeps lie on each other whatever the poses are; those of one that drives do not."""
    assert untested(street, read_index(street)) == []
    index = read_index(street)
    for number, frame in enumerate(index.frames):
        pose = np.array(index.frames[0].lidar.ego_to_global)
        pose[0, 3] += 0.05 * number
        frame.lidar.ego_to_global = pose.tolist()
    assert problems(street, index) == []
    assert untested(street, index)[0].startswith("poses: not tested: the sensor moves 0.1 m")


def test_one_frame_tells_nothing_of_poses(street):
    index = read_index(street)
    index.frames = index.frames[:1]
    assert untested(street, index)[-1] == "poses: not tested: no two frames of one scene have ego_to_global"


def test_cameras_that_see_no_edges_are_said(street):
    """Turned to where nothing is measured."""
    index = read_index(street)
    for frame in index.frames:
        frame.cameras["front"].lidar_to_camera = (
            np.linalg.inv(BODY) @ frame.cameras["front"].lidar_to_camera
        ).tolist()
    told = untested(street, index)
    assert len(told) == 1 and told[0].startswith("cameras front: not tested: fewer than 40 points")


def test_a_bounded_look_ends(street):
    """Of the first frame or pair of each look, whatever the time."""
    assert len(list(geometry_findings(FolderAccess(street), read_index(street), seconds=0))) <= 1


def test_stretches_of_a_long_recording_are_looked_at(street):
    index = read_index(street)
    long = index.model_copy(update={"frames": [index.frames[0]] * 500 + index.frames})
    excerpt = _excerpt(long)
    assert len(excerpt.frames) == STRETCHES * STRETCH
    assert [f.frame_id for f in excerpt.frames[-3:]] == [f.frame_id for f in index.frames]
    # Frames of two stretches are none that follow each other.
    assert len({frame.scene for frame in excerpt.frames}) == STRETCHES and _excerpt(index) is index


def test_mistakes_that_fit_alike_are_named_together():
    scores = {"what is given": 0.1, "inverted": 0.62, "transposed": 0.63, "turned": 0.5}
    assert (
        fitting_best(scores, 0.02) == "transposed or inverted" and fitting_best(scores, 0.0) == "transposed"
    )


def test_one_camera_of_several(street):
    index = read_index(street)
    for frame in index.frames:
        one = frame.cameras["front_left"]
        one.intrinsics = (np.diag([0.5, 0.5, 1.0]) @ np.array(one.intrinsics)).tolist()
    tells(street, index, "intrinsics doubled")
    assert "cameras.front_left: " in problems(street, index)[0]


def test_the_pose_that_is_read_is_the_one_that_is_told(street):
    """``camera_to_global`` counts where ``lidar_to_camera`` is absent."""
    index = read_index(street)
    for frame in index.frames:
        for camera in frame.cameras.values():
            lidar = np.array(frame.lidar.ego_to_global)
            camera.camera_to_global = np.linalg.inv(lidar @ np.linalg.inv(camera.lidar_to_camera)).tolist()
            camera.lidar_to_camera = None
    tells(street, index, "poses inverted")


def test_depths_that_no_mistake_explains_are_wrong(room):
    """Turned about a level axis: about the upright one, floors and ceilings would still agree."""
    swap = np.eye(4)[[1, 2, 0, 3]]  # from x, y, z to y, z, x
    index = read_index(room)
    for number, frame in enumerate(index.frames):
        about_x = swap.T @ turned(50.0 * number) @ swap
        frame.camera_to_world = (about_x @ np.array(frame.camera_to_world)).tolist()
    (problem,) = problems(room, index)
    assert "expected depth images of neighbouring views that agree, got " in problem


def test_the_validator_tells_it(street):
    content = json.loads((street / "frames.json").read_text())
    for frame in content["frames"]:
        for camera in frame["cameras"].values():
            camera["lidar_to_camera"] = np.linalg.inv(camera["lidar_to_camera"]).tolist()
    whole = (street / "frames.json").read_text()
    try:
        (street / "frames.json").write_text(json.dumps(content))
        (problem,) = (p for p in validate_scene_folder(street) if "what is given" in p)
        assert problem.startswith(f"{street}: cameras: expected poses inverted: ")
    finally:
        (street / "frames.json").write_text(whole)
    assert validate_scene_folder(street) == []


REAL = (
    "argoverse2_7fab2350",
    "fox",
    "kitti_000001",
    "kitti_000008",
    "kitti_native",
    "kitti_raw_native",
    "kitti_sequence",
    "kitti_streets",
    "lidar_street_b",
    "nuscenes_keyframe",
    pytest.param("pandaset_002", marks=pytest.mark.slow),
    pytest.param("pandaset_002_sequence", marks=pytest.mark.slow),
    "rgbd_room",
    "semantickitti_native",
    "sunrgbd_000001",
)


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_consistent(realdata, name):
    assert problems(realdata / name) == []


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["nuscenes_keyframe", "kitti_000001"])
@pytest.mark.parametrize("mistake", [*TO_CAMERA, *SIZES])
def test_mistakes_in_real_cameras(realdata, name, mistake):
    field, change = ("lidar_to_camera", TO_CAMERA.get(mistake))
    if change is None:
        field, change = "intrinsics", resized(SIZES[mistake])
    tells(realdata / name, changed(realdata / name, field, change), NAMES[mistake])


@pytest.mark.realdata
@pytest.mark.parametrize("mistake", TO_WORLD)
def test_mistakes_in_a_real_room(realdata, mistake):
    room = realdata / "rgbd_room"
    tells(room, changed(room, "camera_to_world", TO_WORLD[mistake]), NAMES[mistake])


@pytest.mark.realdata
@pytest.mark.parametrize("mistake", [name for name in TO_GLOBAL if name != "w, x, y, z"])
def test_mistakes_in_real_poses(realdata, mistake):
    """The car drives straight ahead: quaternions stored as w, x, y, z leave its sweeps where they are."""
    street = realdata / "lidar_street_b"
    tells(street, changed(street, "ego_to_global", TO_GLOBAL[mistake]), NAMES[mistake])
