"""ScanNet in its three layouts: real posed images by the points of their scan, the others by each other."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from numpy.lib.recfunctions import repack_fields
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
from tests.data.readers.posed import depth_image, picture, same_loss, warp_error

SCANNET = READERS["scannet"]
SIZE = (96, 128)

COLOR = [[117.0, 0, 64.775], [0, 117.0, 48.375], [0, 0, 1]]
DEPTH = [[57.8, 0, 31.95], [0, 57.8, 23.95], [0, 0, 1]]
"""A tenth of ScanNet's: pictures of 129 x 96 pixels, depth images of 64 x 48."""

LOST = np.full((4, 4), -np.inf)


def four(matrix):
    """3x3 as 4x4."""
    return np.block([[np.array(matrix), np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])


def pose_of(k):
    """A camera half a metre above a sloped floor's origin, moved a little by every view."""
    pose = np.eye(4)
    pose[:3, 3] = [0.05 * k, 0.02 * k, -0.03 * k]
    return pose


def seen_depth(pose):
    """Millimetres of the plane z = 2 + x / 4 from a depth camera; a strip was not measured."""
    v, u = np.mgrid[:48, :64]
    rays = np.stack([(u - DEPTH[0][2]) / DEPTH[0][0], (v - DEPTH[1][2]) / DEPTH[1][1], np.ones_like(u)])
    x, _, z = pose[:3, 3]
    depth = (2 + x / 4 - z) / (rays[2] - rays[0] / 4)
    depth[:, :3] = 0
    return (1000 * depth).round().astype(np.uint16)


def jpeg(k):
    values = np.random.default_rng(k).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).resize((129, 96)).save(stream, "JPEG")
    return stream.getvalue()


def write_exported(path, name="scene0000_00", frames=4, lost=()):
    """A room as SensReader exports it."""
    room = path / name
    for folder in ("color", "depth", "pose", "intrinsic"):
        (room / folder).mkdir(parents=True)
    for k in range(frames):
        (room / f"color/{k}.jpg").write_bytes(jpeg(k))
        depth_image(room / f"depth/{k}.png", seen_depth(pose_of(k)))
        np.savetxt(room / f"pose/{k}.txt", LOST if k in lost else pose_of(k))
    np.savetxt(room / "intrinsic/intrinsic_color.txt", four(COLOR))
    np.savetxt(room / "intrinsic/intrinsic_depth.txt", four(DEPTH))
    return room


def write_sens(path, name="scene0000_00", frames=4, lost=(), shift=1000.0, form=2):
    """The same as one recording of version 4."""
    (path / name).mkdir(parents=True)
    raw = struct.pack("<IQ", 4, 4) + b"test"
    for matrix in (four(COLOR), np.eye(4), four(DEPTH), np.eye(4)):
        raw += matrix.astype("<f4").tobytes()
    raw += struct.pack("<iiIIIIfQ", form, 1, 129, 96, 64, 48, shift, frames)
    for k in range(frames):
        packed, color = zlib.compress(seen_depth(pose_of(k)).tobytes()), jpeg(k)
        raw += (LOST if k in lost else pose_of(k)).astype("<f4").tobytes()
        raw += struct.pack("<QQQQ", 0, 0, len(color), len(packed)) + color + packed
    (path / name / f"{name}.sens").write_bytes(raw + struct.pack("<Q", 0))


def test_points_of_a_real_scan_are_as_bright_as_the_pixels_they_fall_on(realdata):
    """Recorded: correlations from 0.43 to 0.68; -0.05 with poses of another frame."""
    path = realdata / "native" / "scannet_mmdet3d"
    folder = open_data(f"scannet:{path}")
    points = np.fromfile(path / "points/scene0000_00.bin", np.float32).reshape(-1, 6)
    scene = folder[0]
    assert scene.camera_names == tuple(f"scene0000_00/{k}" for k in ("00000", "00011", "00102"))
    for k in range(3):
        pixels, _, inside = scene.cameras[k].project(torch.from_numpy(points[:, :3]))
        u, v = pixels[inside].long().unbind(-1)
        brightness = scene.images[k][:, v, u].mean(0).numpy()
        assert np.corrcoef(brightness, points[inside.numpy(), 3:].mean(1))[0, 1] > 0.4


def test_depth_is_registered_to_the_pictures(tmp_path):
    """A sloped wall: what a pixel's line of sight meets, and what the next view sees there."""
    write_exported(tmp_path)
    scene = open_data(f"scannet:{tmp_path}")[0]
    v, u = np.mgrid[:96, :129]
    rays = np.stack([(u - COLOR[0][2]) / COLOR[0][0], (v - COLOR[1][2]) / COLOR[1][1], np.ones_like(u)])
    expected = 2 / (rays[2] - rays[0] / 4)
    depth = scene.z_depths[0].numpy()
    seen = depth > 0
    assert 0.85 < seen.mean() < 0.99 and not seen[:, :3].any()
    # A depth pixel of 1 / 57.8 is half a pixel off at most, on a slope of a quarter 2.3 m away: 9 mm.
    assert np.abs(depth - expected)[seen].max() < 0.015
    assert max(warp_error(scene, k, k + 1) for k in range(3)) < 0.01
    assert validate_scene_folder(tmp_path, reader=SCANNET) == []


def test_a_recording_is_what_was_exported_of_it(tmp_path):
    write_exported(tmp_path / "exported", lost=(1,))
    write_sens(tmp_path / "whole" / "scans", lost=(1,))
    one, other = (open_data(f"scannet:{tmp_path / name}") for name in ("exported", "whole"))
    assert len(one) == len(other) == 1 and len(one.index.tracked) == 3
    assert torch.equal(one[0].images, other[0].images) and torch.equal(one[0].z_depths, other[0].z_depths)
    assert_close(one[0].points, other[0].points, rtol=0, atol=1e-6)  # matrices of a .sens are float32
    assert sorted(path.name for path in (tmp_path / "whole/scans/scene0000_00").iterdir()) == [
        "scene0000_00.sens"
    ]
    assert validate_scene_folder(tmp_path / "whole", reader=SCANNET) != []  # the lost view is said
    assert not any(frame.faults for frame in inspect_folder(tmp_path / "whole", reader=SCANNET))


def test_the_loss_is_that_of_the_same_frames_json(tmp_path):
    write_exported(tmp_path)
    folder = open_data(f"scannet:{tmp_path}")
    (tmp_path / "frames.json").write_text(json.dumps(SCANNET.content(folder.access)))
    one, other = same_loss(f"scannet:{tmp_path}", f"folder:{tmp_path}", SIZE)
    assert one["depth"] > 0 and one == pytest.approx(other, rel=1e-6)


def test_rooms_and_strides_are_chosen(tmp_path, caplog):
    for name in ("scene0001_00", "scene0000_00"):
        write_exported(tmp_path, name, 11, lost=(4,))
    (tmp_path / "scene0001_00/depth/10.png").unlink()
    folder = open_data(f"scannet:{tmp_path}?stride=2&views_per_scene=2")
    names = [frame.frame_id for frame in folder.index.frames]
    assert names[:6] == [f"scene0000_00/{k}" for k in (0, 2, 4, 6, 8, 10)] and len(names) == 11
    assert "expected the files of 12 views, got none for 1" in caplog.text
    assert "got none for 2 of 11 views, which are left out" in caplog.text
    assert [len(folder[i].cameras_there) for i in range(len(folder))] == [2, 2, 1, 2, 2]
    assert len(open_data(f"scannet:{tmp_path}?scenes=scene0001_00").index.frames) == 10
    assert len(open_data(f"scannet:{tmp_path / 'scene0001_00'}").index.frames) == 10
    with pytest.raises(SceneFolderError, match=r"scenes: expected scene0000_00, scene0001_00, got scene9$"):
        open_data(f"scannet:{tmp_path}?scenes=scene9")
    with pytest.raises(ValueError, match="data: scenes: expected different names with commas"):
        open_data(f"scannet:{tmp_path}?scenes=../x")


def test_raw_labels_become_the_classes_of_the_benchmark(tmp_path):
    room = write_exported(tmp_path)
    raw = np.full((96, 129), 7)
    raw[:, :60] = 1163
    raw[:, 120:] = 0
    for k in range(4):
        depth_image(room / f"label-filt/{k}.png", raw)
    with pytest.raises(
        SceneFolderError, match=r"scannetv2-labels.combined.tsv: table: expected a readable file"
    ):
        open_data(f"scannet:{tmp_path}")
    table = tmp_path / "scannetv2-labels.combined.tsv"
    table.write_text("id\tcategory\tnyu40id\n7\tshower\t28\n1163\tobject\t40\n")
    scene = open_data(f"scannet:{tmp_path}")[0]
    assert scene.class_names[16] == "shower curtain" and scene.class_names[1] == "wall"
    assert len(scene.class_names) == 21
    assert scene.pixel_labels[0, 5].tolist() == [-1] * 60 + [16] * 60 + [-1] * 9
    table.write_text("id\tcategory\tnyu40id\n7\tshower\n")
    with pytest.raises(
        SceneFolderError, match=r"combined.tsv: line 2: expected whole numbers id and nyu40id"
    ):
        open_data(f"scannet:{tmp_path}")


def write_mesh(room, labelled=True, step=0.01):
    """A mesh of the sloped floor, a vertex every so many metres, as the data set has it: NYU's numbers."""
    x, y = np.meshgrid(np.arange(-2, 2, step), np.arange(-2, 2, step))
    rows = np.zeros(x.size, [("p", "<f4", 3), ("c", "u1", 4), ("label", "<u2")])
    rows["p"] = np.stack([x, y, 2 + x / 4], -1).reshape(-1, 3)
    rows["c"] = [[10, 20, 30, 255]]
    rows["label"] = np.where(rows["p"][:, 0] < 0, 28, np.where(rows["p"][:, 1] < 0, 40, 1))
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {x.size}\n"
    head += "".join(f"property float {name}\n" for name in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue", "alpha"))
    faces = "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    end = struct.pack("<Biii", 3, 0, 1, 2)
    name = room / f"{room.name}_vh_clean_2"
    name.with_suffix(".ply").write_bytes(
        (head + faces).encode() + repack_fields(rows[["p", "c"]]).tobytes() + end
    )
    if labelled:
        labels = (head + "property ushort label\n" + faces).encode() + rows.tobytes() + end
        name.with_suffix(".labels.ply").write_bytes(labels)


@pytest.mark.parametrize("write", [write_exported, write_sens])
def test_vertices_of_the_mesh_have_their_classes_and_tell_those_of_pixels(tmp_path, write):
    write(tmp_path)
    write_mesh(tmp_path / "scene0000_00")
    scene = open_data(f"scannet:{tmp_path}?max_points=1000000")[0]
    x, _, z = scene.points[:, :3].T
    assert len(x) > 10000 and float((z - 2 - x / 4).abs().max()) < 1e-5
    assert_close(scene.colors, torch.tensor([[10.0, 20, 30]]).expand(len(x), 3) / 255)
    told = np.array(scene.class_names)[np.where(x < 0, 16, 1)]
    known = scene.point_labels.numpy()
    assert (np.array(scene.class_names)[known][known >= 0] == told[known >= 0]).all()
    assert set(np.unique(known)) == {-1, 1, 16}  # NYU's 40 is none of the twenty, 28 is the sixteenth
    u = np.arange(129)
    left = (u - COLOR[0][2]) / COLOR[0][0] * scene.z_depths[0, 48].numpy() < -0.02
    assert (scene.pixel_labels[0, 48][left & (scene.z_depths[0, 48] > 0).numpy()] == 16).all()
    assert not (scene.pixel_labels == 21).any() and validate_scene_folder(tmp_path, reader=SCANNET) == []
    plain = open_data(f"scannet:{tmp_path}?mesh=0")[0]
    assert plain.point_labels is None and len(plain.class_names) == 1


def test_a_mesh_without_labels_gives_points(tmp_path):
    write_mesh(write_exported(tmp_path), labelled=False)
    scene = open_data(f"scannet:{tmp_path}")[0]
    assert scene.point_labels is None and scene.pixel_labels is None and len(scene.points) > 10000
    assert float(scene.normals.norm(dim=-1).mean()) > 0.8  # of the depth around their pixels
    mesh = tmp_path / "scene0000_00/scene0000_00_vh_clean_2.ply"
    mesh.write_bytes(mesh.read_bytes()[:1000])
    with pytest.raises(SceneFolderError, match=r"vh_clean_2.ply: cloud scene0000_00: .* bytes of .*vertex"):
        open_data(f"scannet:{tmp_path}")[0]


def test_posed_images_of_mmdetection3d_with_files_of_their_own(tmp_path):
    room = tmp_path / "posed_images/scene0000_00"
    room.mkdir(parents=True)
    for k in range(2):
        picture(room / f"{k:05d}.jpg", (48, 64), seed=k)
        depth_image(room / f"{k:05d}.png", np.full((48, 64), 1500))
        np.savetxt(room / f"{k:05d}.txt", pose_of(k))
    np.savetxt(room / "intrinsic.txt", four(DEPTH))
    scene = open_data(f"scannet:{tmp_path}")[0]
    assert len(scene.cameras_there) == 2 and float(scene.z_depths.min()) == 1.5


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("pose/1.txt", "1 2 3", r"pose/1.txt: expected 4 rows of 4 numbers, got others"),
        ("pose/1.txt", "2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"camera_to_world: expected an orthonormal"),
        ("intrinsic/intrinsic_color.txt", "0 0 0 0\n" * 4, r"frame 0 .*: intrinsics: expected an invertible"),
        ("intrinsic/intrinsic_color.txt", "1 2", r"intrinsic_color.txt: line 1: expected 4 finite numbers"),
        ("color/0.jpg", "text", r"color/0.jpg: color: expected a readable image"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, file, text, line):
    (write_exported(tmp_path) / file).write_text(text)
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(tmp_path, reader=SCANNET)


def test_damaged_recordings_are_one_line(tmp_path):
    write_sens(tmp_path)
    file = tmp_path / "scene0000_00/scene0000_00.sens"
    raw = file.read_bytes()
    file.write_bytes(raw[:-300])
    with pytest.raises(SceneFolderError, match=r"scene0000_00.sens: expected \d+ bytes of frame 3, got"):
        open_data(f"scannet:{tmp_path}")
    spoiled = bytearray(raw)
    spoiled[-40:-20] = bytes(20)
    file.write_bytes(spoiled)
    with pytest.raises(SceneFolderError, match=r"depth: expected bytes that zlib compressed"):
        open_data(f"scannet:{tmp_path}")[0]
    for told, line in (
        ({"shift": 5000.0}, "expected 1000 units of depth"),
        ({"form": 0}, "jpeg or png, got raw"),
    ):
        write_sens(tmp_path / line[:8], **told)
        with pytest.raises(SceneFolderError, match=line):
            open_data(f"scannet:{tmp_path / line[:8]}")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        SceneFolderError, match=r"scenes: expected SCENE/color, SCENE/SCENE.sens or posed_images"
    ):
        open_data(f"scannet:{empty}")


def test_views_of_a_damaged_mesh_are_skipped_together(tmp_path):
    for name in ("scene0000_00", "scene0001_00"):
        write_mesh(write_exported(tmp_path, name, 2), step=0.2)
    mesh = tmp_path / "scene0000_00/scene0000_00_vh_clean_2.ply"
    mesh.write_bytes(mesh.read_bytes()[:-4000])
    facts = inspect_folder(tmp_path, reader=SCANNET)
    assert [len(frame.faults) for frame in facts] == [1, 1, 0, 0] and facts[0].faults == facts[1].faults
    folder = SceneFolder(tmp_path, reader=SCANNET, skip=[0, 1])
    assert len(folder) == 1 and len(folder[0].points) > 0
