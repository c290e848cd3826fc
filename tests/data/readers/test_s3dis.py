"""S3DIS in its own files, written from a room whose depths, points and classes are known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    inspect_folder,
    open_data,
    validate_scene_folder,
)
from renderpretrain.data.readers import READERS
from renderpretrain.geometry import Cameras
from tests.data.readers.posed import depth_image, same_loss, warp_error
from tests.data.readers.rooms import (
    CEILING,
    COLUMN,
    FLOOR,
    MATRIX,
    PILLAR,
    POSES,
    SIZE,
    WALL,
    seen_along,
    surface,
)

S3DIS = READERS["s3dis"]
NAMES = {FLOOR: "floor", CEILING: "ceiling", WALL: "wall", COLUMN: "column"}
CAMERA = "0ad6b0ab4e5c4ac8a8e8a0ac01e2e2a2"
LENS = [0.02, -0.01, 0.001, 0.0005, 0.0]
"""OpenCV's k1, k2, p1, p2, k3."""

FROM_B = np.array([[0.0, -1, 0, 6.22617759], [1, 0, 0, 4.09703582], [0, 0, 1, 0], [0, 0, 0, 1]])
"""From the frame of area 5a to that of 5b: a quarter turn, and what PonderV2's code undoes."""


def write_points(folder, step=0.04):
    """The room's points as text, an object a file; the pillar is stairs, which S3DIS has and no class is."""
    (folder / "Annotations").mkdir(parents=True)
    points, kinds = surface(step)
    for kind, name in NAMES.items():
        rows = np.concatenate([points[kinds == kind], np.full((np.sum(kinds == kind), 3), 50 * kind)], 1)
        name = "stairs" if kind == COLUMN else name
        np.savetxt(folder / "Annotations" / f"{name}_1.txt", rows, fmt="%.3f %.3f %.3f %d %d %d")


def write_arrays(folder, step=0.04):
    """The same as Pointcept keeps it: S3DIS's number 12 is clutter."""
    folder.mkdir(parents=True)
    points, kinds = surface(step)
    np.save(folder / "coord.npy", points.astype(np.float32))
    np.save(folder / "color.npy", (50 * kinds[:, None]).repeat(3, 1).astype(np.uint8))
    numbers = {FLOOR: 1, CEILING: 0, WALL: 2, COLUMN: 12}
    np.save(folder / "segment.npy", np.vectorize(numbers.get)(kinds).astype(np.int16)[:, None])
    np.save(folder / "instance.npy", kinds.astype(np.int16)[:, None])


def bent(pose):
    """Depth in millimetres through the bent lens: the plain camera's, where each bent pixel's ray goes."""
    matrix = torch.from_numpy(MATRIX).float() + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    lens = Cameras(matrix, torch.eye(4), (60, 80), torch.tensor(LENS))
    v, u = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    rays = lens.rays(torch.stack([u, v], -1).view(-1, 2)).directions.double().numpy()
    return seen_along(pose, rays / rays[:, 2:], (60, 80))[0]


def write_photographs(area, room, to_area=None, views=4):
    """Photographs as they are in Stanford2d3dDataset_noXYZ/area_N/raw."""
    raw = area / "raw"
    raw.mkdir(parents=True)
    (area / "3d").mkdir()
    (area / "3d/camera_to_room.json").write_text(json.dumps({CAMERA: room, "ffff": "elsewhere_1_1"}))
    for k, pose in enumerate(POSES[:views]):
        values = np.random.default_rng(k).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(values).resize((80, 60)).save(raw / f"{CAMERA}_i0_{k}.jpg")
        depth = (4000 * bent(pose)).round()
        depth[:, 0] = 65535
        depth_image(raw / f"{CAMERA}_d0_{k}.png", depth)
        np.savetxt(raw / f"{CAMERA}_pose_0_{k}.txt", pose if to_area is None else to_area @ pose)
    numbers = [80, 60, MATRIX[0, 0], MATRIX[1, 1], MATRIX[0, 2], MATRIX[1, 2], *LENS]
    (raw / f"{CAMERA}_intrinsics_0.txt").write_text(" ".join(map(str, numbers)))


@pytest.mark.parametrize("write", [write_points, write_arrays])
def test_views_see_the_points_of_their_room_and_its_classes(tmp_path, write):
    write(tmp_path / "Area_1/office_1")
    write(tmp_path / "Area_1/office_2")
    write_photographs(tmp_path / "area_1", "office_1_1")
    folder = open_data(f"s3dis:{tmp_path}")
    scene = folder[0]
    assert len(folder) == 1 and scene.class_names == ("free", *(folder.index.semseg_classes.values()))
    assert scene.class_names[1] == "ceiling" and scene.class_names[13] == "clutter"
    assert max(warp_error(scene, k, j) for k in range(4) for j in range(4) if k != j) < 0.02
    told = {name: scene.class_names.index(name) for name in ("floor", "ceiling", "wall", "clutter")}
    labels, (x, y, z) = scene.point_labels, scene.points[:, :3].T
    assert (z[labels == told["floor"]] == 0).all() and (z[labels == told["ceiling"]] == SIZE[2]).all()
    on_pillar = (x > PILLAR[0, 0] - 0.01) & (x < PILLAR[1, 0] + 0.01) & (y > PILLAR[0, 1] - 0.01)
    assert (labels[labels == told["clutter"]] > 0).sum() > 500 and on_pillar[labels == told["clutter"]].all()
    assert_close(scene.colors[labels == told["wall"]], torch.full((int((labels == 3).sum()), 3), 100 / 255))
    right = [(scene.pixel_labels[k][scene.z_depth_valid[k]] > 0).float().mean() for k in range(4)]
    assert min(right) > 0.98 and not (scene.pixel_labels[:, :, 0] > 0).any()
    assert validate_scene_folder(tmp_path, reader=S3DIS) == []
    assert not any(frame.faults for frame in inspect_folder(tmp_path, reader=S3DIS))


def test_both_forms_of_a_room_are_the_same_points(tmp_path):
    write_points(tmp_path / "text/Area_2/hall_1")
    write_arrays(tmp_path / "arrays/Area_2/hall_1")
    one, other = (open_data(f"s3dis:{tmp_path / name}")[0] for name in ("text", "arrays"))
    assert one.images is None and len(one.points) == len(other.points) > 10000
    rows = [
        torch.cat([scene.points[:, :3], scene.colors, scene.point_labels[:, None]], -1).numpy()
        for scene in (one, other)
    ]
    first, second = (table[np.lexsort(np.round(table, 3).T)] for table in rows)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_area_5b_comes_into_the_frame_of_5a(tmp_path):
    write_points(tmp_path / "Stanford3dDataset_v1.2/Area_5/office_1")
    for part, to_area in (("5a", None), ("5b", FROM_B)):
        area = tmp_path / f"Stanford2d3dDataset_noXYZ/area_{part}"
        write_photographs(area, "office_1_5", to_area, views=2)
    folder = open_data(f"s3dis:{tmp_path}?areas=5")
    poses = np.array([frame.camera_to_world for frame in folder.index.frames])
    np.testing.assert_allclose(poses[2:], poses[:2], atol=1e-9)
    assert len(open_data(f"s3dis:{tmp_path}?stride=3").index.frames) == 2
    with pytest.raises(SceneFolderError, match=r"areas: expected Area_1/ROOM with Annotations .* got none$"):
        open_data(f"s3dis:{tmp_path}?areas=1,2")
    with pytest.raises(ValueError, match="areas: expected different numbers from 1 to 6 with commas"):
        open_data(f"s3dis:{tmp_path}?areas=7")


def test_the_loss_is_that_of_the_same_frames_json(tmp_path):
    write_points(tmp_path / "Area_1/office_1")
    write_photographs(tmp_path / "area_1", "office_1_1")
    content = S3DIS.content(open_data(f"s3dis:{tmp_path}").access)
    (tmp_path / "frames.json").write_text(json.dumps(content))
    one, other = same_loss(f"s3dis:{tmp_path}", f"folder:{tmp_path}", (64, 96), (0, 0, 0, 6.4, 6.4, 6.4))
    assert one["depth"] > 0 and one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        (f"area_1/raw/{CAMERA}_pose_0_1.txt", "1 2", r"pose_0_1.txt: line 1: expected 4 finite numbers"),
        (
            f"area_1/raw/{CAMERA}_pose_0_1.txt",
            "1 2 3 4",
            r"0_1.txt: expected 4 rows of 4 numbers, got 1",
        ),
        (f"area_1/raw/{CAMERA}_intrinsics_0.txt", "nan " * 11, r"intrinsics_0.txt: expected 11 finite"),
        (f"area_1/raw/{CAMERA}_intrinsics_0.txt", "0 " * 11, r"intrinsics: expected an invertible"),
        ("area_1/3d/camera_to_room.json", "[1]", r"camera_to_room.json: expected rooms by the cameras'"),
        (
            "Area_1/office_1/Annotations/wall_1.txt",
            "1 2 3 4\n1 2",
            r"wall_1.txt: cloud Area_1/office_1",
        ),
        ("Area_1/office_1/Annotations/wall_1.txt", "1 2 3 4 5 185\x10187", r"wall_1.txt: cloud .* of 6"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, file, text, line):
    write_points(tmp_path / "Area_1/office_1")
    write_photographs(tmp_path / "area_1", "office_1_1", views=2)
    (tmp_path / file).write_text(text)
    with pytest.raises(SceneFolderError, match=line) as caught:
        SceneFolder(tmp_path, reader=S3DIS)[0]
    assert "\n" not in str(caught.value)


def test_views_without_depth_are_left_out_and_counted(tmp_path, caplog):
    write_points(tmp_path / "Area_1/office_1")
    write_photographs(tmp_path / "area_1", "office_1_1", views=3)
    (tmp_path / f"area_1/raw/{CAMERA}_d0_1.png").unlink()
    assert len(open_data(f"s3dis:{tmp_path}").index.frames) == 2
    assert "expected the files of 3 views, got none for 1" in caplog.text
