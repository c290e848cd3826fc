"""Sweeps in files of other formats are the sweeps of raw rows."""

import numpy as np
import pytest
import torch
from format_files import columns, data_frame, feather, gzip_of, las, npy, npz, pcd, ply
from scene_folders import fails, load, save

NAMES = ["x", "y", "z", "ring"]


def table():
    """Columns around a sensor."""
    found = columns()
    return found | {"y": (found["y"] * 1e-5).astype(np.float32)}


def stacked():
    return np.stack([table()[name] for name in NAMES], -1).astype(np.float32)


FILES = {
    "a.pcd": pcd("binary_compressed", table()),
    "b.pcd": pcd("ascii", table()),
    "a.ply": ply(table=table()),
    "a.npz": npz(**table()),
    "a.npy": npy(stacked()),
    "a.feather": None,
    "a.pkl": data_frame(table()),
    "a.pkl.gz": gzip_of(data_frame(table())),
}


@pytest.mark.parametrize("name", FILES)
def test_a_sweep_of_every_layout_is_that_of_raw_rows(street, name):
    path, content = street
    if name == "a.feather":
        pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    (path / name).write_bytes(FILES[name] or feather(table()))
    stacked().tofile(path / "0.bin")
    content["frames"][0]["lidar"] |= {"columns": NAMES, "sensor_origin": [0, 0, 0]}
    save(path, content)
    expected = load(path)[0]
    content["frames"][0]["lidar"]["file"] = name
    save(path, content)
    assert torch.equal(load(path)[0].points, expected.points)
    if name != "a.npy":
        content["frames"][0]["lidar"] |= {"columns": ["x", "y", "z", "beam"], "fields": NAMES}
        save(path, content)
        assert torch.equal(load(path)[0].points, expected.points)
        content["frames"][0]["lidar"] |= {"columns": ["x", "y", "z", "w"], "fields": None}
        save(path, content)
        fails(path, f"{name}: frame 0 (f0): lidar.file: expected a column w, got ['x', 'y', 'z'")


def test_a_survey_in_map_coordinates_stays_exact(street):
    path, content = street
    raw, expected = las(3)
    (path / "a.las").write_bytes(raw)
    content["frames"][0]["lidar"] |= {"file": "a.las", "columns": ["x", "y", "z", "intensity_0_65535"]}
    content["frames"][0]["lidar"]["fields"] = ["x", "y", "z", "intensity"]
    content["frames"][0]["lidar"]["sensor_origin"] = [4e5, 5.8e6, 0]
    save(path, content)
    found = load(path)[0].points
    truth = np.stack([expected[name] for name in "xyz"], -1) - [4e5, 5.8e6, 0]
    # The middle in whole metres is subtracted in float64, and coordinates within 2 km are rounded to float32.
    np.testing.assert_allclose(found[:, :3], truth, atol=1e-3)
    np.testing.assert_allclose(found[:, 3], np.array(expected["intensity"]) / 65535, atol=1e-6)


def test_only_the_rows_of_one_sensor(street):
    path, content = street
    device = (np.arange(20) % 2).astype(np.float32)
    rows = np.fromfile(path / "0.bin", np.float32).reshape(-1, 4)
    np.concatenate([rows, device[:, None]], -1).tofile(path / "0.bin")
    np.arange(20, dtype=np.uint8).tofile(path / "0.u8")
    lidar = content["frames"][0]["lidar"]
    lidar |= {"columns": [*lidar["columns"], "device"], "only": {"device": 1}, "semseg_file": "0.u8"}
    content["semseg_classes"] = {str(k): f"c{k}" for k in range(1, 20)}
    save(path, content)
    scene = load(path)[0]
    np.testing.assert_array_equal(scene.points[:, :3], rows[1::2, :3])
    assert scene.point_labels.tolist() == list(range(1, 20, 2))
    lidar["only"] = {"device": 7}
    save(path, content)
    fails(path, "0.bin: frame 0 (f0): lidar.file: expected a finite point with device 7, got none in 20 rows")
    lidar["only"] = {"sensor": 7}
    save(path, content)
    fails(path, "frame 0 (f0): lidar: expected only: values of some of the columns, got sensor")


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.pcd", b"no", "expected a PCD header that ends with DATA, got none"),
        (
            "a.laz",
            las(3)[0][:104] + b"\x83" + las(3)[0][105:],
            "got compressed ones (LAZ): decompress the file",
        ),
        ("a.pkl", b"cos\nsystem\n(X\1\0\0\0atR.", "expected a table of numbers, got os.system"),
        ("a.pkl", b"\x80\2]q\0.", "expected a table of named columns, got a list that is none"),
        ("a.npy", npy(stacked()[:, :3]), "expected 4 columns, got 3"),
        (
            "a.npz",
            npz(**{name: np.array(["a"]) for name in NAMES}),
            "expected an array of numbers, got one of <U1",
        ),
    ],
)
def test_damaged_files_name_file_and_frame(street, name, raw, words):
    path, content = street
    (path / name).write_bytes(raw)
    content["frames"][0]["lidar"] |= {"columns": NAMES, "file": name}
    save(path, content)
    fails(path, f"{name}: frame 0 (f0): lidar.file: ", words)


def test_labels_in_a_data_frame(street):
    path, content = street
    numbers = np.array([1, 2] * 10)
    (path / "0.pkl.gz").write_bytes(gzip_of(data_frame({"class": numbers})))
    content["semseg_classes"] = {"1": "road", "2": "car"}
    content["frames"][0]["lidar"] |= {"semseg_file": "0.pkl.gz", "semseg_column": "class"}
    save(path, content)
    assert load(path)[0].point_labels.tolist() == numbers.tolist()
    content["frames"][0]["lidar"]["semseg_column"] = "kind"
    save(path, content)
    fails(path, "0.pkl.gz: frame 0 (f0): lidar.semseg_file: expected a column kind, got ['class']")
