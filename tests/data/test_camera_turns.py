"""How far a camera is turned is measured from what it and the LiDAR saw."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import Miscalibrated, SyntheticStreet
from renderpretrain.data.camera_turns import camera_turns
from renderpretrain.data.scan_marks import BRIGHT, LEVEL, UPRIGHT, scan_marks
from renderpretrain.data.scene import Scene
from renderpretrain.geometry import pose_from_vectors

SIZE = (192, 320)
"""Pictures on which half a degree is two pixels."""

DEGREES = (0.0, 0.5, 1.0, 2.0)


def of_one_camera(scene, place):
    """The scene with this camera alone: the others need not be measured."""
    names = (scene.camera_names[place],)
    chosen = slice(place, place + 1)
    return replace(scene, images=scene.images[chosen], cameras=scene.cameras[chosen], camera_names=names)


def measured(scene, degrees, seed):
    """The turn that is found where a camera is turned by degrees about an axis of the seed's."""
    wrong = Miscalibrated([scene], rotation_deg=degrees, translation_m=0.0, seed=seed)
    (turn,) = camera_turns([wrong[0]]).values()
    return turn, wrong.error


@pytest.fixture(scope="module")
def street():
    """One whose first camera sees many edges: of seeds 0 to 20 twelve tell its turn to half a degree, this
    one to a tenth, from twice the evidence that counts."""
    return SyntheticStreet(1, seed=3, image_size=SIZE, with_truth=False)[0]


def test_the_worse_calibration_measures_worse_and_about_its_own_axis(street):
    scene = of_one_camera(street, 0)
    turns = [measured(scene, degrees, 0)[0] for degrees in DEGREES]
    angles = [turn.angle for turn in turns]
    assert angles == sorted(angles)
    # Half a degree is what one moment of one camera tells: some twenty edges between beams 1.3 degrees apart.
    assert max(abs(angle - degrees) for angle, degrees in zip(angles, DEGREES, strict=True)) < 0.5
    assert [turn.suspicious for turn in turns] == [False, False, True, True]
    _, error = measured(scene, 2.0, 0)
    found = pose_from_vectors(torch.tensor(turns[-1].degrees).deg2rad(), torch.zeros(3))
    assert_close(found[:3, :3], error[:3, :3], rtol=0, atol=torch.tensor(0.5).deg2rad().item())


def test_the_camera_that_is_turned_is_named(street):
    wrong = Miscalibrated([street], camera=3, rotation_deg=2.0, translation_m=0.0, seed=1)
    turns = camera_turns([wrong[0]])
    assert set(turns) == set(street.camera_names)
    assert max(turns, key=lambda name: turns[name].angle) == "back" and turns["back"].suspicious


@pytest.mark.long
def test_ten_streets_rank_their_calibrations():
    streets = SyntheticStreet(10, image_size=SIZE, with_truth=False)
    right = 0
    for index in range(10):
        scene = of_one_camera(streets[index], index % 6)
        angles = [measured(scene, degrees, index)[0].angle for degrees in DEGREES]
        right += angles == sorted(angles)
    assert right >= 9


def test_where_nothing_is_seen_nothing_is_measured(street):
    scene = of_one_camera(street, 0)
    (black,) = camera_turns([replace(scene, images=torch.zeros_like(scene.images))]).values()
    assert not black.reliable and not black.suspicious
    assert camera_turns([replace(scene, points=torch.zeros(0, 5), point_labels=None)]) == {}
    assert camera_turns([]) == {}
    absent = replace(street, camera_valid=torch.tensor([True, False, False, False, False, False]))
    assert list(camera_turns([absent])) == ["front"]


def test_edges_lie_halfway_between_beams_at_the_nearer_distance():
    """A pole 5 m away before a wall 20 m away, seen a degree apart, with beams two degrees apart."""
    azimuth, elevation = torch.meshgrid(
        torch.arange(70.1, 110).deg2rad(), torch.tensor([-1.1, 0.9]).deg2rad(), indexing="ij"
    )
    pole = (azimuth - torch.pi / 2).abs() < torch.tensor(5.0).deg2rad()
    top = pole & (elevation < 0)
    distance = torch.where(top, 5.0, 20.0)
    ahead = [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()]
    xyz = (torch.stack(ahead, -1) * distance[..., None]).reshape(-1, 3)
    origin = torch.tensor([3.0, -2.0, 1.0])
    points = torch.cat([xyz + origin, torch.rand(len(xyz), 1), torch.zeros(len(xyz), 1)], -1)
    marks = scan_marks(Scene("pole", points, origin))
    seen = marks.xyz - origin
    upright, level = seen[marks.kinds == UPRIGHT], seen[marks.kinds == LEVEL]
    sides = torch.atan2(upright[:, 1], upright[:, 0]).rad2deg().sort().values
    # The first direction on the pole is 85.1 degrees, the last 94.1, each half a degree inside of its edge.
    assert_close(sides, torch.tensor([84.6, 94.6]), rtol=0, atol=1e-3)
    assert_close(upright.norm(dim=-1), torch.full((2,), 5.0))
    assert len(level) == 10
    assert_close(level[:, 2], torch.full((10,), -0.1).deg2rad().sin() * 5, rtol=0, atol=1e-5)
    assert_close(torch.tensor(marks.gaps), torch.tensor([1.0, 2.0]), rtol=0, atol=1e-3)
    assert not (marks.kinds == BRIGHT).any()  # sixteen points in eight degrees are too few to compare


def test_real_streets_tell_a_degree(realdata):
    """KITTI's own calibration, on four places, against the same turned by a degree."""
    from renderpretrain.data import SceneFolder

    folder = SceneFolder(realdata / "kitti_streets", image_size=(187, 612))
    scenes = [folder[index] for index in range(4)]
    (given,) = camera_turns(scenes).values()
    wrong = Miscalibrated(scenes, rotation_deg=1.0, translation_m=0.0, seed=1)
    (turned,) = camera_turns([wrong[index] for index in range(4)]).values()
    assert given.reliable and not given.suspicious
    assert turned.suspicious and turned.angle - given.angle > 0.5
