"""What an index may say of files of others: points in another frame, labels of other types and numbers."""

import numpy as np
import pytest
import torch
from scene_folders import fails, load, save
from torch.testing import assert_close

from renderpretrain.data import inspect_folder

MAP_TO_LIDAR = [[0.0, -1.0, 0.0, 5e6], [1.0, 0.0, 0.0, 3e6], [0.0, 0.0, 1.0, -7.0], [0.0, 0.0, 0.0, 1.0]]


def test_points_of_a_map_come_into_the_lidar_frame_exactly(street):
    path, content = street
    expected = load(path)[0].points
    back = np.linalg.inv(np.array(MAP_TO_LIDAR))
    points = np.fromfile(path / "0.bin", np.float32).reshape(-1, 4).astype(np.float64)
    points[:, :3] = points[:, :3] @ back[:3, :3].T + back[:3, 3]
    points.tofile(path / "0.bin")
    content["frames"][0]["lidar"] |= {"dtype": "float64", "file_to_lidar": MAP_TO_LIDAR}
    save(path, content)
    found = load(path)[0].points
    # A nanometre is what float64 keeps of five million metres; the result is rounded to float32.
    assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("told", "stored", "kind"),
    [
        ({}, [1, 2, 255, 9], "uint8"),
        ({"semseg_dtype": "uint16", "semseg_divisor": 1000}, [1007, 2999, 65535, 9000], "uint16"),
        ({"semseg_dtype": "uint32", "semseg_bits": 16}, [65537, 2, 2**32 - 1, 9 + 7 * 65536], "uint32"),
    ],
)
def test_labels_are_read_as_the_index_says(street, told, stored, kind):
    path, content = street
    np.array(stored * 5, kind).tofile(path / "0.label")
    content["semseg_classes"] = {"1": "road", "2": "car"}
    content["frames"][0]["lidar"] |= {"semseg_file": "0.label", **told}
    save(path, content)
    assert load(path)[0].point_labels.tolist() == [1, 2, -1, -1] * 5


def test_stored_numbers_are_mapped_to_classes(street, caplog):
    path, content = street
    np.array([40, 252, 0, 77] * 5, "uint16").tofile(path / "0.label")
    content["semseg_classes"] = {"1": "road", "2": "car"}
    content["semseg_map"] = {"40": 1, "252": 2, "0": -1}
    content["frames"][0]["lidar"] |= {"semseg_file": "0.label", "semseg_dtype": "uint16"}
    save(path, content)
    scene = load(path)[0]
    assert scene.point_labels.tolist() == [1, 2, -1, -1] * 5 and scene.class_names == ("free", "road", "car")
    assert "expected class numbers that semseg_map names, got 77" in caplog.text


def test_faults_of_what_is_stored_are_one_line(street):
    path, content = street
    lidar = content["frames"][0]["lidar"]
    lidar |= {"semseg_file": "0.bin", "semseg_dtype": "uint16"}
    save(path, content)
    fails(path, "0.bin: frame 0 (f0): lidar.semseg_file: expected 40 bytes, 2 per point, got 320")
    lidar |= {"semseg_dtype": "uint8", "semseg_file": None, "fields": ["x"]}
    save(path, content)
    fails(path, "frame 0 (f0): lidar: expected fields: one per column (4), got 1")
    content["semseg_map"] = {"5": 10**6}
    save(path, content)
    fails(
        path, "frames.json: semseg_map: expected stored numbers from 0 on and class numbers from -1 to 32767"
    )


def test_nothing_changes_where_points_are_in_the_lidar_frame(street):
    path, content = street
    expected = load(path)[0].points
    content["frames"][0]["lidar"]["file_to_lidar"] = np.eye(4).tolist()
    save(path, content)
    assert torch.equal(load(path)[0].points, expected)


def test_parts_of_a_file_are_files(street):
    path, content = street
    expected = load(path)[1]
    parts = [(path / name).read_bytes() for name in ("1.bin", "1.png")]
    (path / "all.tar").write_bytes(b"head" + parts[0] + parts[1])
    content["frames"][1]["lidar"]["file"] = f"all.tar#4+{len(parts[0])}"
    content["frames"][1]["cameras"]["front"]["file"] = f"all.tar#{4 + len(parts[0])}+{len(parts[1])}"
    save(path, content)
    found = load(path)[1]
    assert torch.equal(found.points, expected.points) and torch.equal(found.images, expected.images)
    assert inspect_folder(path)[1].faults == []
    content["frames"][1]["lidar"]["file"] = "all.tar#4+9999"
    save(path, content)
    fails(
        path,
        "all.tar: frame 1 (f1): lidar.file: expected 9999 bytes from byte 4 on, got the file's end after",
    )
    content["frames"][1]["lidar"]["file"] = f"all.tar#0+{2**31}"
    save(path, content)
    fails(path, f"all.tar: frame 1 (f1): lidar.file: expected at most {2**30} bytes, got {2**31}")
