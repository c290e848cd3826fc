import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from renderpretrain import VoxelGrid
from renderpretrain.data import SyntheticStreet, validate_scene_folder, write_scene_folder
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.lidar_origin import doubtful_origin, fit_lidar_origin
from renderpretrain.data.occupancy import label_occupancy


def spin(origin, tilt=0.0, seed=0, noise=0.01):
    """Points of 24 beams in a box-shaped yard with two walls inside, seen from ``origin``."""
    random = np.random.default_rng(seed)
    elevation = np.deg2rad(np.linspace(-24, 6, 24))[:, None]
    azimuth = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    directions = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
        ),
        -1,
    ).reshape(-1, 3)
    c, s = np.cos(tilt), np.sin(tilt)
    directions = directions @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    with np.errstate(divide="ignore"):
        ahead = [
            (side - origin[axis]) / directions[:, axis]
            for axis, side in ((0, 14), (0, -9), (1, 11), (1, -17), (2, -1.7), (2, 8))
        ]
    t = np.min([np.where(a > 0, a, np.inf) for a in ahead], 0)
    t = np.where(random.random(len(t)) < 0.3, t * 0.6, t)  # things in front of the walls
    points = origin + (t + noise * random.standard_normal(len(t)))[:, None] * directions
    return points, np.repeat(np.arange(24), 300)


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (1.3, 0.0, 1.6), (-0.8, 1.1, 0.4)])
def test_the_apex_of_the_cones_is_found(origin):
    points, rings = spin(np.array(origin))
    # 1 cm of range noise does not move a point off its cone; what is left is rounding.
    np.testing.assert_allclose(fit_lidar_origin(points, rings), origin, atol=1e-3)


def test_a_tilted_sensor_is_found_as_well():
    points, rings = spin(np.array([0.5, -0.4, 1.2]), tilt=0.03)
    np.testing.assert_allclose(fit_lidar_origin(points, rings), [0.5, -0.4, 1.2], atol=1e-3)


def test_a_tenth_of_wrong_points_does_not_matter():
    points, rings = spin(np.array([0.5, -0.4, 1.2]))
    random = np.random.default_rng(1)
    wrong = random.random(len(points)) < 0.1
    points[wrong] += random.normal(0, 1, (wrong.sum(), 3))
    np.testing.assert_allclose(fit_lidar_origin(points, rings), [0.5, -0.4, 1.2], atol=0.02)


def test_rings_that_are_no_cones_have_no_apex():
    points, rings = spin(np.zeros(3))
    assert fit_lidar_origin(points, np.random.default_rng(0).permutation(rings)) is None
    assert fit_lidar_origin(points[:50], rings[:50]) is None


@pytest.fixture
def street():
    """A sweep whose sensor stands about 1.8 m above the ground around, at the origin, and leans by
    less than a degree: of seeds 0 to 20 the one whose origin is doubted up to 0.45 m, well beyond 0.35."""
    return SyntheticStreet(1, seed=5, image_size=(32, 64), with_truth=False)[0]


@pytest.mark.parametrize(
    ("height", "doubted"), [(0.0, True), (0.35, True), (-0.5, True), (1.0, False), (1.8, False), (3.0, False)]
)
def test_an_origin_on_the_ground_is_doubted(street, height, doubted):
    """Frames that lie on the ground, or at the rear axle; rows of numbers do not say where the sensor is."""
    above = np.array([0.0, 0.0, 1.8 - height])
    words = doubtful_origin(street.points[:, :3].numpy() + above, np.zeros(3))
    assert (words is not None) == doubted
    if doubted:
        x, y, z = map(float, re.search(r"about (\S+),(\S+),(\S+) by", words).groups())
        # Beams are 0.2 m apart in height at 10 m for one degree; the search goes in steps of 0.1 m.
        assert (x, y) == (0, 0) and abs(z - above[2]) < 0.25
        # The street rises and falls by some centimetres around the sensor.
        assert abs(float(re.search(r"(\S+) m above the ground", words)[1]) - height) < 0.15


def test_few_points_and_a_low_sensor_are_no_reason_for_doubt(street):
    points = street.points[:, :3].numpy()
    assert doubtful_origin(points[:200], np.array([0.0, 0.0, -1.8])) is None
    # A robot's sensor at 0.4 m: all is as much smaller.
    assert doubtful_origin(points * (0.4 / 1.8), np.zeros(3)) is None


def on_the_ground(path, street, **said):
    """A recording of the street in a frame that lies on the ground, which says so or not."""
    write_scene_folder(path, [street])
    content = json.loads((path / "frames.json").read_text())
    lidar = content["frames"][0]["lidar"]
    points = np.fromfile(path / lidar["file"], np.float32).reshape(-1, 4)
    points[:, 2] += 1.8
    points.tofile(path / lidar["file"])
    for camera in content["frames"][0]["cameras"].values():
        pose = np.array(camera["lidar_to_camera"])
        pose[:3, 3] -= pose[:3, 2] * 1.8
        camera["lidar_to_camera"] = pose.tolist()
    del lidar["sensor_origin"]
    lidar.update(said)
    (path / "frames.json").write_text(json.dumps(content))
    return path


def test_the_reader_and_the_validator_say_what_to_set(tmp_path, street, caplog):
    path = on_the_ground(tmp_path / "silent", street)
    SceneFolder(path)[0]
    (line,) = caplog.messages
    assert (
        f"frame 0 ({street.name}): lidar.sensor_origin: expected rays that start where the sensor is" in line
    )
    assert "?sensor_origin=x,y,z" in line and line in validate_scene_folder(path)
    caplog.clear()
    told = on_the_ground(tmp_path / "told", street, sensor_origin=[0.0, 0.0, 1.8])
    assert SceneFolder(path, sensor_origin=(0.0, 0.0, 1.8))[0].lidar_origin[2] == pytest.approx(1.8)
    assert validate_scene_folder(told) == [] and caplog.messages == []


def test_labels_are_refused_where_the_points_contradict_the_origin(tmp_path, street):
    scene = SceneFolder(on_the_ground(tmp_path / "data", street))[0]
    grid = VoxelGrid((-12.8, -12.8, -1.0, 12.8, 12.8, 5.4), (0.8, 0.8, 0.8))
    with pytest.raises(ValueError, match=f"{scene.name}: lidar_origin: expected rays that start where the"):
        label_occupancy([scene], 0, grid)
    label_occupancy([replace(scene, lidar_origin=torch.tensor([0.0, 0.0, 1.8]))], 0, grid)


@pytest.mark.slow
@pytest.mark.realdata
def test_pandaset_lies_on_the_ground_and_argoverse_at_the_rear_axle(realdata):
    (line,) = (p for p in validate_scene_folder(realdata / "pandaset_002") if "sensor_origin" in p)
    assert "0.38 m above the ground" in line
    z = float(re.search(r"about 0.0,0.0,(\S+) by", line)[1])
    assert abs(z - 1.8) < 0.2  # the recordings' own notes say 1.8
    two = SceneFolder(realdata / "argoverse2_7fab2350")[0]
    points = two.points[:, :3].numpy()
    assert doubtful_origin(points, two.lidar_origin.numpy()) is None
    assert "lowest returns 4.3 degrees" in doubtful_origin(points, np.zeros(3))


@pytest.mark.realdata
def test_nuscenes_rays_start_near_the_origin_of_the_lidar_frame(realdata):
    origin = SceneFolder(realdata / "nuscenes_keyframe", image_size=(90, 160))[0].lidar_origin.numpy()
    # The sweep is compensated to its end while the car drives 9 m/s for 0.05 s: on average 0.23 m along y.
    np.testing.assert_allclose(origin, [0.0, 0.0, 0.0], atol=0.3)
    np.testing.assert_allclose(origin[[0, 2]], [0.0, 0.0], atol=0.08)


@pytest.mark.realdata
def test_argoverse_rays_start_at_the_calibrated_sensors(realdata):
    feather = pytest.importorskip("pyarrow.feather", reason="reads Argoverse 2's own calibration")
    folder = realdata / "argoverse2_7fab2350"
    table = feather.read_table(
        next(folder.glob("native/*/calibration/egovehicle_SE3_sensor.feather"))
    ).to_pydict()
    sensors = [
        [table[axis][row] for axis in ("tx_m", "ty_m", "tz_m")]
        for row, name in enumerate(table["sensor_name"])
        if "lidar" in name
    ]
    # Two sensors 11 cm above each other share the file; float16 coordinates, compensated for ego motion.
    np.testing.assert_allclose(SceneFolder(folder)[0].lidar_origin.numpy(), np.mean(sensors, 0), atol=0.1)
