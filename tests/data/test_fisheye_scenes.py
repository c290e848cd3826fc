"""Fisheye cameras from disk to rays, depths and lifted volumes, beside pinholes in one rig."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scene_folders import load, save, write_room, write_street
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, collate, validate_scene_folder, write_scene_folder
from renderpretrain.lifters import frustum_points, view_coordinates
from renderpretrain.samplers import LidarGuidedRays, PixelRays, depth_pictures

LENS = [-0.02, 0.004, -0.001, 0.0001]
WIDE = [[4.0, 0, 7.5], [0, 4.0, 5.5], [0, 0, 1]]
"""Intrinsics with which 16 pixels see 115 degrees off the axis."""


@pytest.fixture
def rig(tmp_path):
    """A street whose first camera is a pinhole and whose second a fisheye, in one place."""
    content = write_street(tmp_path)
    for frame in content["frames"]:
        side = {**frame["cameras"]["front"], "intrinsics": WIDE, "distortion_k1k2k3k4": LENS}
        frame["cameras"]["side"] = side
    save(tmp_path, content)
    return tmp_path


def test_a_rig_of_both_is_read_and_written(rig, tmp_path):
    scene = load(rig)[0]
    assert scene.cameras.fisheye.tolist() == [False, True]
    assert_close(scene.cameras.distortion, torch.tensor([[0.0] * 5, [*LENS, 0.0]]))
    assert validate_scene_folder(rig) == []
    write_scene_folder(tmp_path / "copy", [scene])
    again = load(tmp_path / "copy")[0].cameras
    assert torch.equal(again.fisheye, scene.cameras.fisheye)
    assert_close(again.distortion, scene.cameras.distortion)
    assert_close(again.intrinsics, scene.cameras.intrinsics)


def test_rigs_of_both_pinholes_and_fewer_cameras_share_a_batch(rig, tmp_path):
    scene = load(rig)[0]
    (tmp_path / "plain").mkdir()
    write_street(tmp_path / "plain")
    plain = load(tmp_path / "plain")[0]
    views = collate([plain, scene]).views
    assert views.cameras.fisheye.tolist() == [[False, False], [False, True]]
    assert_close(views.cameras[0, 0].intrinsics, plain.cameras[0].intrinsics)
    assert views.valid.tolist() == [[True, False], [True, True]]


def around(scene):
    """The scene with points at 3 and 4 m along rays that the fisheye sees, and one behind it."""
    angles = torch.tensor([0.2, 0.9, 1.3, 1.65, 1.9])
    rays = torch.stack([angles.cos(), -angles.sin(), torch.zeros(5)], -1)
    points = torch.cat([4 * rays, 3 * rays, torch.tensor([[-3.0, 0, 0]])])
    return replace(scene, points=torch.cat([points, torch.zeros(11, 2)], -1), point_labels=None)


def test_of_returns_beside_the_image_plane_the_nearer_one_is_seen(rig):
    batch = collate([around(load(rig)[0])], torch.tensor([0]))
    targets = LidarGuidedRays(num_rays=16, nearest=True)(batch)
    seen = targets.hit & (targets.camera == 1)
    assert sorted(targets.returns[seen].tolist()) == [5, 6, 7, 8, 9]
    assert_close(targets.depth[seen], torch.full((5,), 3.0))
    assert_close(targets.ends[seen], batch.points.xyz[0][targets.returns[seen]])
    pictures = depth_pictures(batch.points.xyz, batch.points.key, batch.views.cameras)
    assert_close(pictures[0, 1][pictures[0, 1] > 0], torch.full((5,), 3.0))


def test_lifters_measure_a_fisheyes_depth_along_the_ray(rig):
    cameras = load(rig)[0].cameras
    depths = torch.tensor([1.0, 5.0, 9.0])
    points = frustum_points(cameras, depths, (12, 16))[1]
    spots, inside = view_coordinates(cameras, points.reshape(-1, 3), (0.0, 10.0))
    known = cameras[1].in_lens(cameras[1].project(points.reshape(-1, 3))[0])
    assert inside[1].sum() > 300 and bool((inside[1] == known)[:150].all())
    wanted = (2 * depths / 10 - 1)[:, None].expand(3, 192).flatten()
    assert_close(spots[1, :, 2], wanted, rtol=0, atol=1e-5)
    assert_close(points.norm(dim=-1), depths[:, None, None].expand(3, 12, 16), rtol=0, atol=1e-5)


def test_views_of_a_room_may_have_lenses_of_both_kinds(tmp_path):
    content = write_room(tmp_path)
    (view,) = content["frames"]
    lenses = ({"distortion_k1k2k3k4": LENS, "intrinsics": WIDE}, {"distortion": [0.1, 0, 0, 0, 0]}, {})
    content["frames"] = [{**view, "frame_id": n, **lens} for n, lens in enumerate(lenses)]
    save(tmp_path, content)
    scene = load(tmp_path)[0]
    assert scene.cameras.fisheye.tolist() == [True, False, False]
    assert_close(scene.points[:, 2], torch.full((len(scene.points),), 1.5))
    write_scene_folder(tmp_path / "copy", [scene])
    again = load(tmp_path / "copy")[0].cameras
    assert torch.equal(again.fisheye, scene.cameras.fisheye)
    assert_close(again.distortion, scene.cameras.distortion)


def test_depth_images_of_a_fisheye_are_along_its_axis_on_disk_and_along_its_rays_in_memory(tmp_path):
    """A wall 1.5 m ahead: each pixel's ray ends on it, whichever way its depth is asked for."""
    content = write_room(tmp_path)
    content |= {"intrinsics": WIDE, "distortion_k1k2k3k4": LENS}
    save(tmp_path, content)
    scene = load(tmp_path)[0]
    assert_close(scene.points[:, 2], torch.full((len(scene.points),), 1.5))
    known = scene.z_depth_valid[0]
    assert 0 < known.sum() == len(scene.points) < known.numel()  # some pixels look beside the image plane
    targets = PixelRays(num_rays=192)(collate([scene], torch.tensor([0])))
    assert targets.hit.sum() == known.sum()
    assert_close(targets.ends[targets.hit][:, 2], torch.full((int(known.sum()),), 1.5))
    write_scene_folder(tmp_path / "copy", [scene])
    stored = np.asarray(Image.open(tmp_path / "copy" / "000000_0_depth.png"))[known.numpy()]
    scale = SceneFolder(tmp_path / "copy").index.depth_scale
    # The tallest depth of 75 m, a grazing ray's, leaves steps of 1.2 mm.
    assert_close(
        torch.from_numpy(stored / scale), torch.full((len(stored),), 1.5).double(), rtol=0, atol=1e-3
    )
    assert validate_scene_folder(tmp_path) == []
