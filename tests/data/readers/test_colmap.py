"""COLMAP's models: a real one by its own points, the binary form by the text, damage by one line."""

import shutil
import struct

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, open_data
from renderpretrain.data.formats.colmap import read_cameras, read_images, read_points
from renderpretrain.data.readers import READERS
from tests.data.readers.posed import picture, same_loss, write_json

COLMAP = READERS["colmap"]
SIZE = (96, 160)

CAMERAS = {1: ("PINHOLE", 16, 12, (20, 21, 8, 6)), 5: ("SIMPLE_RADIAL", 16, 12, (20, 8, 6, 0.1))}
IMAGES = {7: (1, "b.png"), 3: (5, "a.png")}


def write(path, end=".txt", cameras=CAMERAS, images=IMAGES, points=0):
    """A model of two photographs; numbers of images do not follow the order of their names."""
    model = path / "sparse/0"
    model.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        picture(path / "images" / name)
    pose = (1, 0, 0, 0, 0.5, 0.25, 0.125)
    places = np.random.default_rng(0).uniform(-2, 2, (points, 3))
    if end == ".txt":
        rows = [f"{k} {m} {w} {h} {' '.join(map(str, p))}" for k, (m, w, h, p) in cameras.items()]
        (model / "cameras.txt").write_text("# cameras\n" + "\n".join(rows))
        rows = [f"{k} {' '.join(map(str, pose))} {c} {name}\n1 2 -1" for k, (c, name) in images.items()]
        (model / "images.txt").write_text("# images\n" + "\n".join(rows))
        rows = [f"{k} {x!r} {y!r} {z!r} 1 2 3 0.5" for k, (x, y, z) in enumerate(places.tolist())]
        (model / "points3D.txt").write_text("\n".join(rows))
        return
    numbers = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2}
    raw = struct.pack("<Q", len(cameras))
    for k, (m, w, h, p) in cameras.items():
        raw += struct.pack(f"<iiQQ{len(p)}d", k, numbers[m], w, h, *p)
    (model / "cameras.bin").write_bytes(raw)
    raw = struct.pack("<Q", len(images))
    for k, (c, name) in images.items():
        raw += struct.pack("<i7di", k, *pose, c) + name.encode() + b"\0" + struct.pack("<Qddq", 1, 1, 2, -1)
    (model / "images.bin").write_bytes(raw)
    raw = struct.pack("<Q", points)
    for k, place in enumerate(places):
        raw += struct.pack("<q3d3BdQ", k, *place, 1, 2, 3, 0.5, 0)
    (model / "points3D.bin").write_bytes(raw)


def test_points_of_a_real_model_are_where_its_photographs_show_them(realdata):
    """Keypoints were found in the pictures: cameras that are half a pixel off would miss them by as much."""
    path = realdata / "native" / "colmap_maupertuis"
    folder = open_data(f"colmap:{path}?fit=stretch", image_size=SIZE)
    names = ["00.jpg", "01.jpg", "02.jpg", "03.jpg"]
    assert [frame.frame_id for frame in folder.index.frames] == names
    points = read_points((path / "sparse/points3D.txt").read_bytes(), binary=False)
    place = dict(zip(points.ids.tolist(), points.positions, strict=True))
    images = read_images((path / "sparse/images.txt").read_bytes(), binary=False)
    cameras = folder[0].cameras
    for image in images.values():
        seen = image.point_ids >= 0
        world = np.stack([place[i] for i in image.point_ids[seen].tolist()])
        pixels, _, inside = cameras[names.index(image.name)].project(torch.from_numpy(world).float())
        offsets = pixels.numpy() * [1919 / SIZE[1], 1079 / SIZE[0]] - image.keypoints[seen]
        assert (
            inside.all() and 0.1 < np.median(np.linalg.norm(offsets, axis=1)) < 0.32
        )  # recorded: 0.23 to 0.29
        assert np.abs(np.median(offsets, axis=0)).max() < 0.1
    low, high = np.array(folder.index.extent).reshape(2, 3)
    share = ((points.positions >= low) & (points.positions <= high)).all(1).mean()
    assert 0.88 <= share < 1  # at most 2 % are beyond each of six sides


def test_the_loss_of_a_model_is_that_of_the_same_frames_json(realdata, tmp_path):
    path = realdata / "native" / "colmap_maupertuis"
    (camera,) = read_cameras((path / "sparse/cameras.txt").read_bytes(), binary=False).values()
    f, cx, cy = camera.parameters
    frames = []
    for image in read_images((path / "sparse/images.txt").read_bytes(), binary=False).values():
        shutil.copy(path / "images" / image.name, tmp_path)
        pose = np.linalg.inv(image.world_to_camera).tolist()
        frames.append({"color": image.name, "width": 1919, "height": 1079, "camera_to_world": pose})
    frames.sort(key=lambda frame: frame["color"])
    intrinsics = [[f, 0, cx - 0.5], [0, f, cy - 0.5], [0, 0, 1]]
    write_json(tmp_path / "frames.json", {"format": "posed_rgb", "intrinsics": intrinsics, "frames": frames})
    one, other = same_loss(f"colmap:{path}", f"folder:{tmp_path}", SIZE, (-8.0, -8.0, 4.0, 8.0, 8.0, 20.0))
    assert one["rgb"] > 0 and one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("end", [".txt", ".bin"])
def test_text_and_binary_say_the_same(tmp_path, end):
    write(tmp_path, end, points=200)
    scene = SceneFolder(tmp_path, reader=COLMAP)[0]
    assert scene.camera_names == ("a.png", "b.png")
    assert_close(scene.cameras.intrinsics[:, 0, 0], torch.tensor([20.0, 20]))
    assert_close(scene.cameras.intrinsics[:, 1, 2], torch.tensor([6.0, 6]))
    assert_close(scene.cameras.distortion[:, 0], torch.tensor([0.1, 0]))
    assert_close(scene.cameras.camera_to_world[:, :3, 3], torch.tensor([[-0.5, -0.25, -0.125]] * 2))
    extent = SceneFolder(tmp_path, reader=COLMAP).index.extent
    assert np.allclose(extent, [-2, -2, -2, 2, 2, 2], atol=0.2) and max(map(abs, extent)) < 2


def test_a_fisheye_without_distortion_is_one(tmp_path):
    """Its rays are not a pinhole's: 8 pixels of 20 off the middle are 0.4 radians."""
    write(tmp_path, cameras={1: CAMERAS[1], 5: ("OPENCV_FISHEYE", 16, 12, (20, 20, 8, 6, 0, 0, 0, 0))})
    cameras = SceneFolder(tmp_path, reader=COLMAP)[0].cameras
    assert cameras.fisheye.tolist() == [True, False]
    ray = cameras[0].rays(torch.tensor([[16.0, 6.0]])).directions[0]
    assert_close(ray, torch.tensor([np.sin(0.4), 0, np.cos(0.4)]).float())


def test_photographs_and_models_may_lie_elsewhere(tmp_path, caplog):
    write(tmp_path)
    (tmp_path / "sparse/0").rename(tmp_path / "aligned")
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "photos/b.png").unlink()
    with pytest.raises(
        SceneFolderError, match=r"expected cameras.bin or cameras.txt in sparse/0, .*got neither$"
    ):
        open_data(f"colmap:{tmp_path}")
    folder = open_data(f"colmap:{tmp_path}?model=aligned&images=photos")
    assert [frame.frame_id for frame in folder.index.frames] == ["a.png"]
    (line,) = [record.message for record in caplog.records]
    assert "expected the files of 2 pictures, got none for 1, which are left out" in line
    for text in ("../x", "/x", ""):
        with pytest.raises(ValueError, match="data: images: expected a folder within this one"):
            open_data(f"colmap:{tmp_path}?images={text}")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"cameras": {1: ("FOV", 16, 12, (1, 1, 1, 1, 1))}},
            r"cameras.txt: camera 1: .*got FOV: undistort first",
        ),
        ({"cameras": {1: ("PINHOLE", 16, 12, (1, 1))}}, r"cameras.txt: camera 1: expected 4 numbers"),
        (
            {"images": {7: (2, "b.png"), 3: (5, "a.png")}},
            r"images.txt: image b.png: camera: expected one of 2",
        ),
        ({"images": {7: (1, "../../b.png"), 3: (5, "a.png")}}, r"color: expected a path within the folder"),
        (
            {"cameras": {1: ("PINHOLE", 16, 12, (0, 21, 8, 6)), 5: CAMERAS[5]}},
            r"frame 1 \(b.png\): intrinsics: expected an invertible matrix",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, change, line):
    write(tmp_path, **change)
    with pytest.raises(SceneFolderError, match=line):
        open_data(f"colmap:{tmp_path}")


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("end", [".txt", ".bin"])
def test_a_cut_table_is_one_line(tmp_path, name, end):
    write(tmp_path, end, points=2)
    file = tmp_path / f"sparse/0/{name}{end}"
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) - 9] if end == ".bin" else raw[:12] + b"\n1 2")
    with pytest.raises(SceneFolderError, match=f"{name}{end}: .*expected"):
        open_data(f"colmap:{tmp_path}")
