"""What is shown of a scene, by hand and on a synthetic street; no server."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import Boxes, Scene, SceneFolder, SyntheticStreet, write_scene_folder
from renderpretrain.data.drive import driven_track, up_direction
from renderpretrain.geometry import Cameras
from renderpretrain.viewer import recording_contents
from renderpretrain.viewer.contents import pictured_camera, value_colors
from renderpretrain.viewer.recording import NOTHING, box_lines, label_colors, picture_colors
from renderpretrain.viewer.trained import outermost


@pytest.fixture(scope="module")
def street():
    return SyntheticStreet(2, image_size=(32, 48), num_beams=8, frames_per_street=2)


def named(contents):
    return {layer.name: layer for layer in contents.layers}


def test_a_damaged_sweep_is_left_out_of_the_drive(street, tmp_path):
    write_scene_folder(tmp_path, street, one_recording=True)
    whole = SceneFolder(tmp_path)
    assert len(driven_track(whole[0], whole, 0)) == 2
    sorted(tmp_path.glob("*.bin"))[1].write_bytes(b"?")
    damaged = SceneFolder(tmp_path)
    with pytest.raises(ValueError, match="multiple of"):
        damaged[1]
    assert_close(driven_track(damaged[0], damaged, 0), driven_track(whole[0], whole, 0)[:1])


def test_a_street_has_points_cameras_boxes_the_drive_and_its_true_occupancy(street):
    scene = street[0]
    contents = recording_contents(scene, driven_track(scene, street, 0), title="street")
    layers = named(contents)
    assert list(layers) == ["points", "cameras", "boxes", "drive", "true occupancy"]
    assert [layer.shown for layer in contents.layers] == [True] * 4 + [False]
    (cloud,) = layers["points"].things
    assert torch.equal(cloud.points, scene.points[:, :3])
    assert list(cloud.colors) == [
        "height",
        "intensity",
        "distance",
        "picture",
        *(["class"] if "class" in cloud.colors else []),
    ]
    assert all(colors.shape == cloud.points.shape for colors in cloud.colors.values())
    assert [camera.name for camera in layers["cameras"].things] == list(scene.camera_names)
    assert layers["cameras"].things[0].pictures["picture"].shape == (32, 48, 3)
    (boxes,) = layers["boxes"].things
    assert len(boxes.segments) == 13 * len(scene.boxes.labels)  # 12 edges and a line ahead
    (cells,) = layers["true occupancy"].things
    assert len(cells.centers) == int((scene.truth.occupancy > 0).sum())
    (line,) = layers["drive"].things
    assert_close(line.segments[0, 0], torch.zeros(3), atol=1e-3, rtol=0)  # of the first frame itself
    assert not contents.remarks


def test_one_looks_from_behind_and_above_to_where_the_first_camera_looks(street):
    contents = recording_contents(street[0], torch.zeros(0, 3), title="street")
    pose = street[0].cameras.camera_to_world[0]
    ahead, sight = pose[:3, 2], contents.target - contents.eye
    level = sight[:2] / sight[:2].norm()
    assert_close(level, ahead[:2] / ahead[:2].norm(), atol=1e-4, rtol=0)
    assert (contents.eye - pose[:3, 3]) @ ahead < -1 and contents.eye[2] > pose[2, 3] + 1
    assert (contents.target - pose[:3, 3]) @ ahead > 1


def test_without_cameras_one_looks_along_the_drive():
    """The sensor went along -y; where it stood still one looks along an axis."""
    scene = Scene("lidar", 20 * torch.rand(50, 5), torch.zeros(3))
    track = torch.tensor([[0.0, 9, 0], [0, 1, 0], [0, -1, 0], [9, -1, 0]])
    for driven, way in ((track, [0.0, -1.0]), (track[:1], [1.0, 0.0])):
        contents = recording_contents(scene, driven, title="lidar")
        sight = (contents.target - contents.eye)[:2]
        assert_close(sight / sight.norm(), torch.tensor(way))


def test_points_have_the_colours_of_the_nearest_camera_that_sees_them():
    """Two cameras look along +z, one 2 m behind the other; the nearer one shows green, the other one red."""
    intrinsics = torch.tensor([[4.0, 0, 4], [0, 4, 4], [0, 0, 1]]).repeat(2, 1, 1)
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[0, 2, 3] = -2.0
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0], images[1, 1] = 1.0, 1.0
    images[0, :, 4, 7] = 1.0  # one pixel, right of the middle, is white
    points = torch.zeros(4, 5)
    points[:, :3] = torch.tensor([[0.0, 0, 4], [1.875, 0.25, 0], [0, 0, -9], [9, 0, 0.5]])
    there = torch.ones(2, 8, 8, dtype=torch.bool)
    cameras = Cameras(intrinsics, poses, (8, 8))
    scene = Scene("two", points, torch.zeros(3), images, cameras, ("back", "front"), image_valid=there)
    grey = list(NOTHING)
    assert picture_colors(scene).tolist() == [[0, 255, 0], [255, 255, 255], grey, grey]
    there[1, 4, 4] = False  # padding of the nearer one
    assert picture_colors(scene).tolist()[0] == [255, 0, 0]


def test_a_scene_of_nothing_says_so():
    empty = Scene("nothing", torch.zeros(0, 5), torch.zeros(3))
    contents = recording_contents(empty, torch.zeros(0, 3), title="nothing")
    assert contents.layers == () and contents.remarks == ("the scene has no points, no cameras and no boxes",)


def test_the_edges_of_a_turned_box_by_hand():
    """Length 4, width 2, height 1, turned by 90 degrees around (10, 0, 0): long along y, looks along +y."""
    boxes = Boxes(
        torch.tensor([[10.0, 0, 0]]),
        torch.tensor([[4.0, 2, 1]]),
        torch.tensor([math.pi / 2]),
        torch.tensor([1]),
        torch.zeros(1, 3),
    )
    segments = box_lines(boxes).segments
    assert segments.shape == (13, 2, 3)
    low, high = segments[:12].flatten(0, 1).amin(0), segments[:12].flatten(0, 1).amax(0)
    assert_close(low, torch.tensor([9.0, -2, -0.5]))
    assert_close(high, torch.tensor([11.0, 2, 0.5]))
    lengths = (segments[:12, 0] - segments[:12, 1]).norm(dim=-1).sort().values
    assert_close(lengths, torch.tensor([1.0] * 4 + [2.0] * 4 + [4.0] * 4))
    assert_close(segments[12], torch.tensor([[10.0, 0, 0], [10.0, 3, 0]]))


def test_only_solid_voxels_that_touch_free_ones_are_outermost():
    solid = torch.ones(5, 5, 5, dtype=torch.bool)
    assert not outermost(solid).any()  # what is outside of the grid counts as solid
    solid[2, 2, 2] = False
    found = outermost(solid)
    assert int(found.sum()) == 6 and found[1, 2, 2] and found[2, 2, 3] and not found[1, 1, 2]


def test_higher_is_brighter_and_one_value_far_off_changes_nothing():
    values = torch.linspace(0, 1, 200)
    colors = value_colors(values).sum(-1)
    assert colors[-1] > colors[100] > colors[0]
    odd = value_colors(torch.cat([values, torch.tensor([1e6])]))
    # The quantile moves by a rank of 200, and colours are whole numbers.
    assert (odd[:200].int() - value_colors(values).int()).abs().max() <= 3
    assert value_colors(torch.zeros(0)).shape == (0, 3)


def test_a_camera_is_as_wide_as_its_lens():
    k = torch.tensor([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]])
    camera = pictured_camera(
        "front", Cameras(k, torch.eye(4), (100, 100)), {"picture": torch.zeros(3, 100, 100)}
    )
    assert camera.field_of_view == pytest.approx(math.pi / 2)


def test_points_without_a_class_are_grey():
    colors = label_colors(torch.tensor([-1, 0, 3]))
    assert colors[0].tolist() == colors[1].tolist() == [60, 60, 66] and colors[2].max() > 100


def test_up_is_where_pictures_have_their_tops_if_cameras_alone_tell(street):
    scene = street[0]
    assert up_direction(scene).tolist() == [0.0, 0.0, 1.0]
    turned = torch.eye(4)  # looks along z, x right, y down
    camera = Cameras(torch.eye(3)[None], turned[None], (8, 8))
    seen = Scene(
        "photo",
        torch.zeros(0, 5),
        torch.zeros(3),
        images=torch.zeros(1, 3, 8, 8),
        cameras=camera,
        camera_names=("a",),
    )
    assert_close(up_direction(seen), torch.tensor([0.0, -1.0, 0.0]))
