"""KITTI's object benchmark by the lists of infos that other libraries make of it."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, inspect_folder, open_data
from renderpretrain.data.formats.pickles import load_pickle
from renderpretrain.data.readers import READERS

SIZE = (96, 320)
INFOS = "kitti_infos_train.pkl"


def an_info():
    """A frame as OpenPCDet describes it, with one object."""
    calibration = {"P2": np.array([[16.0, 0, 7.5, 1], [0, 16, 5.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}
    calibration |= {"R0_rect": np.eye(4), "Tr_velo_to_cam": np.eye(4)[[1, 2, 0, 3]]}
    boxes = {"name": np.array(["Car", "DontCare"]), "rotation_y": np.array([0.1, -10])}
    boxes |= {"location": np.zeros((2, 3)), "dimensions": np.array([[4.0, 1.5, 1.7], [-1, -1, -1]])}
    image = {"image_idx": "000000", "image_shape": np.array([12, 16])}
    points = {"num_features": 4, "lidar_idx": "000000"}
    return {"point_cloud": points, "image": image, "calib": calibration, "annos": boxes}


def test_infos_say_what_the_files_say(realdata):
    path = realdata / "kitti_native"
    files, infos = (
        open_data(f"kitti:{path}{options}", image_size=SIZE) for options in ("", f"?infos={INFOS}")
    )
    for one, other in zip((files[0], files[1]), (infos[0], infos[1]), strict=True):
        assert one.name == other.name and torch.equal(one.points, other.points)
        # Matrices of infos are float32.
        assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=1e-6)
        assert_close(one.cameras.intrinsics, other.cameras.intrinsics, rtol=1e-6, atol=0)
        assert_close(one.boxes.centers, other.boxes.centers, rtol=0, atol=1e-5)
        assert torch.equal(one.boxes.labels, other.boxes.labels) and one.class_names == other.class_names


def test_labelled_boxes_hold_the_points_that_were_counted(realdata):
    path = realdata / "kitti_native"
    recorded = load_pickle((path / INFOS).read_bytes())
    folder = open_data(f"kitti:{path}", image_size=SIZE)
    for scene, info in zip((folder[0], folder[1]), recorded, strict=True):
        _, _, inside = scene.cameras[0].project(scene.points[:, :3])
        points, boxes = scene.points[inside, :3].numpy(), scene.boxes
        expected = [n for n in info["annos"]["num_points_in_gt"].tolist() if n >= 0]
        assert sum(expected) > 100 and len(expected) == len(boxes.yaws)
        for center, size, yaw, count in zip(boxes.centers, boxes.sizes, boxes.yaws, expected, strict=True):
            offset = points - center.numpy()
            along = offset[:, 0] * np.cos(yaw.item()) + offset[:, 1] * np.sin(yaw.item())
            across = offset[:, 1] * np.cos(yaw.item()) - offset[:, 0] * np.sin(yaw.item())
            seen = np.abs(np.stack([along, across, offset[:, 2]], -1)) <= size.numpy() / 2
            # OpenPCDet adds half of a box's height along another axis: 0.013 m to the side.
            assert abs(int(seen.all(-1).sum()) - count) <= 1 + 0.01 * count


def test_infos_of_mmdetection3d_are_read_alike(realdata, tmp_path):
    shutil.copy(realdata / "native/mmdet3d_infos/kitti_000008_v1.pkl", tmp_path / "infos.pkl")
    (tmp_path / "training").mkdir()
    (frame,) = open_data(f"kitti:{tmp_path}?infos=infos.pkl").index.frames
    (neutral,) = open_data(f"folder:{realdata / 'kitti_000008'}").index.frames
    (camera,) = neutral.cameras.values()
    ours = frame.cameras["image_2"]
    assert frame.lidar.file == "training/velodyne/000008.bin"
    assert (ours.width, ours.height) == (camera.width, camera.height)
    assert np.allclose(ours.intrinsics, camera.intrinsics) and len(frame.boxes_rectified_cam0) > 1
    # float32 in the infos
    assert np.allclose(ours.lidar_to_camera, camera.lidar_to_camera, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "key", "value", "line"),
    [
        ("calib", "P2", None, "info 0: expected P2, got nothing"),
        ("calib", "P2", np.zeros((4, 4)), "info 0: calib: P2: expected an invertible matrix"),
        ("calib", "R0_rect", np.full((3, 3), np.nan), "info 0: .* got: numbers that are not finite"),
        ("image", "image_shape", np.zeros(3), r"info 0: .* the shape \(3,\) where \(2,\)"),
        ("point_cloud", "lidar_idx", "../../x", "info 0: .* got: ../../x in the place of its number"),
        ("annos", "location", np.zeros((1, 3)), r"info 0: .* the shape \(1, 3\)"),
        ("annos", "rotation_y", np.array(["a", "b"]), "info 0: expected an info of OpenPCDet's"),
    ],
)
def test_a_broken_info_can_be_skipped(tmp_path, part, key, value, line):
    (tmp_path / "training/velodyne").mkdir(parents=True)
    np.ones((5, 4), np.float32).tofile(tmp_path / "training/velodyne/000000.bin")
    broken, whole = an_info(), an_info()
    broken[part] = {**broken[part], key: value} if value is not None else {}
    whole["image"]["image_shape"] = np.array([12, 16])
    (tmp_path / INFOS).write_bytes(pickle.dumps([broken, whole]))
    reader = READERS["kitti"].told(infos=INFOS)
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(tmp_path, reader=reader)
    assert len(inspect_folder(tmp_path, reader=reader)[0].faults) == 1
    (frame,) = SceneFolder(tmp_path, reader=reader, skip=[0]).index.frames
    assert [box.label for box in frame.boxes_rectified_cam0] == ["Car", "DontCare"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "kitti_infos_train.pkl: expected a list of infos, got .*system"),
        (pickle.dumps([1, 2])[:-3], "expected a list of infos, got a pickle that ends too early"),
        (pickle.dumps({"data_list": []}), "expected a list of infos, got dict"),
        (pickle.dumps([]), "expected a list of infos, got an empty one"),
        (pickle.dumps([3]), "info 0: expected an info of OpenPCDet's, got: 'int' object"),
    ],
)
def test_what_is_no_list_of_infos_is_one_line(tmp_path, content, line):
    (tmp_path / "training").mkdir()
    (tmp_path / INFOS).write_bytes(content)
    with pytest.raises(SceneFolderError, match=line):
        open_data(f"kitti:{tmp_path}?infos={INFOS}")
    with pytest.raises(SceneFolderError, match="expected a file within the folder"):
        open_data(f"kitti:{tmp_path}?infos=../{INFOS}")
