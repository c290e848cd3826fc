import numpy as np
import pytest

from renderpretrain.data.lidar_origin import fit_lidar_origin
from renderpretrain.data.scene_folder import SceneFolder


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
