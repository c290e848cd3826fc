"""Files of other formats give the columns that were written, by code that knows nothing of the readers."""

import builtins
import io
import struct

import numpy as np
import pytest
from format_files import (
    CAMERAS,
    IMAGES,
    MARKS,
    POINTS,
    colmap,
    columns,
    feather,
    las,
    lzf_of,
    npy,
    npz,
    parquet,
    pcd,
    ply,
    rows_of,
    sens,
    zip_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from renderpretrain.data.formats import feather as feather_format
from renderpretrain.data.formats.arrays import read_npy, read_npz, read_rows
from renderpretrain.data.formats.colmap import read_cameras, read_images, read_points
from renderpretrain.data.formats.feather import read_feather, read_parquet
from renderpretrain.data.formats.las import read_las
from renderpretrain.data.formats.lzf import lzf_bytes
from renderpretrain.data.formats.pcd import read_pcd
from renderpretrain.data.formats.ply import read_ply
from renderpretrain.data.formats.sens import index_sens
from renderpretrain.data.formats.unpacking import gunzip, inflate


def check_same(found, table):
    """Same names in the same order, same values of the same types."""
    assert list(found) == list(table)
    for name, values in table.items():
        assert found[name].dtype.newbyteorder("=") == np.asarray(values).dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
def test_pcd_of_every_form(form):
    check_same(read_pcd(pcd(form)), columns())


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
def test_pcd_with_packed_colors_and_several_numbers_a_field(form):
    table = columns()
    shades = np.arange(POINTS, dtype=np.uint32)
    packed = (200 << 16) | (shades << 8) | 3
    table = {"x": table["x"], "rgb": packed.view(np.float32) if form != "ascii" else packed, "f": table["z"]}
    found = read_pcd(pcd(form, table, "COUNT 1 1 1\n"))
    assert found["r"].dtype == np.uint8 and set(found["r"]) == {200} and set(found["b"]) == {3}
    np.testing.assert_array_equal(found["g"], shades)
    lines = pcd(form, table, "COUNT 1 1 1\n").replace(b"FIELDS x rgb f", b"FIELDS x _ f")
    assert list(read_pcd(lines)) == ["x", "f"]


def test_pcd_with_several_numbers_a_field():
    numbers = np.arange(3 * POINTS, dtype=np.float32).reshape(POINTS, 3)
    one = {"a": numbers[:, 0], "b": numbers[:, 1], "c": numbers[:, 2]}
    for form in ("ascii", "binary"):
        header, body = pcd(form, one).split(f"DATA {form}\n".encode())
        header = header.replace(b"FIELDS a b c", b"FIELDS v").replace(b"SIZE 4 4 4", b"SIZE 4")
        raw = header.replace(b"TYPE F F F", b"TYPE F\nCOUNT 3") + f"DATA {form}\n".encode() + body
        check_same(read_pcd(raw), {f"v_{k}": numbers[:, k] for k in range(3)})


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.lists(st.binary(min_size=1, max_size=9), max_size=6), st.integers(1, 90))
def test_lzf_gives_back_what_was_compressed(parts, times):
    raw = b"".join(part * times for part in parts)
    assert lzf_bytes(lzf_of(raw), len(raw)) == raw


@pytest.mark.parametrize("faces_first", [False, True])
@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_every_form_with_faces_before_and_behind(form, faces_first):
    check_same(read_ply(ply(form, faces_first=faces_first)), columns())
    triangles = [(k, k + 1, k + 2) for k in range(20)]
    check_same(read_ply(ply(form, faces_first=faces_first, lists=triangles)), columns())
    check_same(read_ply(ply(form, faces_first=faces_first, lists=())), columns())


@pytest.mark.parametrize(
    ("form", "minor"),
    [(0, 2), (1, 2), (2, 2), (3, 3), (4, 3), (5, 4), (6, 4), (7, 4), (8, 4), (9, 4), (10, 4)],
)
def test_las_of_every_point_format(form, minor):
    raw, expected = las(form, minor)
    found = read_las(raw)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert found["x"].dtype == np.float64 and found["intensity"].dtype == np.uint16


def test_las_that_is_compressed_is_refused_by_name():
    raw = bytearray(las(3)[0])
    raw[104] |= 128
    with pytest.raises(ValueError, match=r"expected LAS points, got compressed ones \(LAZ\)"):
        read_las(bytes(raw))


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_feather_and_parquet(compression):
    pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    table = columns() | {"h": np.arange(POINTS, dtype=np.float16), "name": np.array(["a"] * POINTS, object)}
    check_same(read_feather(feather(table, compression)), table)
    check_same(read_feather(feather(table, compression), ["ring", "x"]), {n: table[n] for n in ("ring", "x")})
    check_same(read_parquet(parquet(table), ["name", "y"]), {n: table[n] for n in ("name", "y")})
    check_same(read_parquet(parquet(table)), table)
    with pytest.raises(ValueError, match="expected a column w, got x, y"):
        read_feather(feather(table), ["w"])


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_feather_bomb_is_refused_before_it_is_unpacked(compression, monkeypatch):
    pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    raw = feather({"x": np.zeros(10**6)}, compression)
    assert len(raw) < 10**5
    monkeypatch.setattr(feather_format, "MOST_BYTES", 4 * 10**6)
    with pytest.raises(ValueError, match="expected at most 4000000 bytes when decompressed, got more"):
        read_feather(raw, ["x"])
    monkeypatch.setattr(feather_format, "MOST_BYTES", 10**7)
    assert len(read_feather(raw, ["x"])["x"]) == 10**6


def test_parquet_with_lists_and_pictures():
    pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    found = read_parquet(
        parquet({"values": [[1.5, 2.5], [3.5]], "shape": [[1, 2], [1, 1]], "jpg": [b"a", b""]})
    )
    assert found["jpg"].tolist() == [b"a", b""]
    assert [list(v) for v in found["values"]] == [[1.5, 2.5], [3.5]]


def test_feather_without_pyarrow_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *more, **others):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"got none: pip install .renderpretrain\[av2\]."):
        read_feather(b"ARROW1")


def test_rows_and_arrays_of_numpy():
    table = columns()
    same = {name: values.astype(np.float32) for name, values in table.items()}
    check_same(read_rows(rows_of(same), list(same)), same)
    stacked = np.stack(list(same.values()), -1)
    check_same(read_npy(npy(stacked), list(same)), same)
    check_same(read_npy(npy(np.asfortranarray(stacked)), list(same)), same)
    kinds = [(name, values.dtype) for name, values in table.items()]
    check_same(read_npy(npy(np.array(list(zip(*table.values(), strict=True)), kinds))), table)
    check_same(read_npz(npz(**table)), table)
    check_same(read_npz(npz(p=stacked)), {f"p_{k}": stacked[:, k] for k in range(stacked.shape[1])})


@pytest.mark.parametrize("form", [0, 1])
def test_sens_is_indexed_and_its_depth_read(form):
    raw, depth, poses = sens(form=form)
    found = index_sens(io.BytesIO(raw))
    assert len(found) == 3 and found.color_size == (8, 12) and found.depth_size == (4, 6)
    assert found.color_form == "jpeg" and found.depth_shift == 1000
    np.testing.assert_array_equal(found.camera_to_world, poses)
    np.testing.assert_array_equal(found.depth_intrinsics, [[10, 0, 6], [0, 12, 4], [0, 0, 2]])
    assert found.color_times.tolist() == [0, 10, 20] and found.depth_times.tolist() == [1, 11, 21]
    for k in range(3):
        start, length = found.color_spans[k]
        assert raw[start : start + length] == f"picture {k}".encode()
        start, length = found.depth_spans[k]
        np.testing.assert_array_equal(found.depth_image(raw[start : start + length]), depth[k])
        with pytest.raises(ValueError, match="expected"):
            found.depth_image(raw[start : start + length - 1])


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_as_text_and_binary(binary):
    cameras, images, points = colmap(binary)
    found = read_cameras(cameras, binary=binary)
    assert {k: (c.model, c.width, c.height, c.parameters) for k, c in found.items()} == CAMERAS
    assert found[1].distortion == () and found[7].distortion == (0.1, 0.2, 0.3, 0.4, 0)
    assert found[9].is_fisheye and found[9].distortion == (0.1, 0.2, 0.3, 0.4)
    assert found[7].intrinsics.tolist() == [[50, 0, 32], [0, 51, 24], [0, 0, 1]]
    pictures = read_images(images, binary=binary)
    for k, (_, camera, name, seen) in IMAGES.items():
        assert (pictures[k].camera, pictures[k].name) == (camera, name)
        assert pictures[k].keypoints.tolist() == [[u, v] for u, v, _ in seen]
        assert pictures[k].point_ids.tolist() == [n for _, _, n in seen]
    # Half a turn about (1, -1, 1) / sqrt(3) less a third: x to -y, y to -z, z to x.
    expected = [[0, -1, 0, 1], [0, 0, -1, 2], [1, 0, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(pictures[4].world_to_camera, expected, atol=1e-15)
    marks = read_points(points, binary=binary)
    rows = np.concatenate([marks.positions, marks.colors, marks.errors[:, None]], -1)
    assert marks.ids.tolist() == list(MARKS) and rows.tolist() == [list(m) for m in MARKS.values()]


def test_colmap_models_have_their_focal_lengths_and_lenses():
    def camera(line):
        return read_cameras(line.encode(), binary=False)[1]

    assert camera("1 SIMPLE_RADIAL 8 6 5 4 3 0.1").distortion == (0.1, 0, 0, 0, 0)
    assert camera("1 RADIAL 8 6 5 4 3 0.1 0.2").distortion == (0.1, 0.2, 0, 0, 0)
    assert camera("1 RADIAL 8 6 5 4 3 0.1 0.2").intrinsics.tolist() == [[5, 0, 4], [0, 5, 3], [0, 0, 1]]
    assert camera("1 FULL_OPENCV 8 6 5 5 4 3 1 2 3 4 5 0 0 0").distortion == (1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match="camera 1: expected k4, k5, k6 of 0"):
        camera("1 FULL_OPENCV 8 6 5 5 4 3 1 2 3 4 5 0 0 1")
    with pytest.raises(ValueError, match=r"camera 1: expected a model of .*, got FOV: undistort first"):
        camera("1 FOV 8 6 5 5 4 3 1")
    with pytest.raises(ValueError, match="got THIN_PRISM_FISHEYE"):
        read_cameras(struct.pack("<QiiQQ12d", 1, 3, 10, 8, 6, *range(12)), binary=True)


REFUSED = [
    (read_pcd, b"", "a PCD header"),
    (read_pcd, pcd().replace(b"POINTS 50", b"POINTS 99999999999"), "bytes of points"),
    (read_pcd, pcd("ascii").replace(b"POINTS 50", b"POINTS 99999999999"), "rows of 5 numbers"),
    (read_pcd, pcd("ascii").replace(b"POINTS 50", b"POINTS 51"), "expected 51 rows of numbers, got 50"),
    (read_pcd, pcd("ascii")[:-1] + b" 1\n", "expected 5 numbers in row 49, got 6"),
    (read_pcd, pcd("ascii", {"d": np.arange(POINTS)}).replace(b"I\nW", b"I\nCOUNT 2\nW"), "2 numbers in row"),
    (
        read_pcd,
        pcd("ascii", {"d": np.arange(POINTS)})
        .replace(b"SIZE 8\nTYPE I", b"SIZE 1\nTYPE U\n\n")
        .replace(b"\n7\n", b"\n300\n"),
        "uint8 numbers, got 0 to 300",
    ),
    (read_pcd, pcd(more="COUNT 1 1 nan 1 1\n"), "whole numbers after COUNT, got nan"),
    (read_pcd, pcd().replace(b"SIZE 4", b"SIZE 3"), "expected TYPE and SIZE"),
    (read_pcd, pcd().replace(b"FIELDS x y", b"FIELDS x x"), "different names"),
    (read_ply, b"", "a PLY header"),
    (read_ply, ply().replace(b"vertex 50", b"vertex 5000000000000"), "bytes of vertex"),
    (read_ply, ply("ascii").replace(b"vertex 50", b"vertex 5000000000000"), "rows of 5 numbers"),
    (read_ply, ply(faces_first=True).replace(b"face 2", b"face 90000000"), "rows of face"),
    (read_ply, ply("ascii", faces_first=True).replace(b"face 2", b"face 90000000"), "rows of face"),
    (read_ply, ply().replace(b"element vertex", b"element points"), "an element vertex"),
    (read_ply, ply().replace(b"property float x", b"property"), "property TYPE NAME"),
    (read_ply, ply().replace(b"property float x", b"property list float int x"), "whole number"),
    (read_las, b"", "a LAS header"),
    (read_las, las(3)[0][:-1], "expected 50 points of 34 bytes"),
    (read_las, las(3)[0].replace(struct.pack("<d", 0.01), struct.pack("<d", np.nan)), "finite scales"),
    (read_npy, b"", "a header of numpy's"),
    (read_npy, npy(np.array([{}], object)), "an array of numbers"),
    (read_npy, npy(np.zeros((2, 3))).replace(b"(2, 3)", b"(9, 9)"), "expected 648 bytes, got 48"),
    (read_npy, npy(np.zeros((2, 3))).replace(b"(2, 3)", b"(0,-3)"), "expected a shape"),
    (read_npy, npy(np.zeros((2, 3))).replace(b"(2, 3)", b"((((("), "a header of numpy's"),
    (read_npz, npz(a=np.zeros(3), b=np.zeros(4)), "arrays of one length"),
    (read_npz, b"PK\3\4", "a zip archive"),
    (read_npz, zip_of(a=b"no"), "a: expected a header"),
    (lambda raw: read_npz(raw, 10**6), npz(a=np.zeros(10**6)), "a smaller archive"),
    (lambda raw: read_rows(raw, ["x", "y"]), bytes(9), "a multiple of 8 bytes"),
    (lambda raw: lzf_bytes(raw, 4), b"\x20\x00", "copies of what was there"),
    (lambda raw: lzf_bytes(raw, 4), b"\x00", "expected whole runs"),
    (lambda raw: lzf_bytes(raw, 10**12), b"\x00a" * 9, "which cannot"),
    (lambda raw: lzf_bytes(raw, 2), b"\x00a", "expected 2 bytes"),
    (lambda raw: gunzip(raw, 9), b"\x1f\x8b", "too early|gzip"),
    (lambda raw: inflate(raw, 9), b"x", "zlib"),
    (lambda raw: read_images(raw, binary=True), struct.pack("<Q", 2**60), "more bytes"),
    (lambda raw: read_points(raw, binary=True), struct.pack("<Q", 2**60), "more bytes"),
    (lambda raw: read_cameras(raw, binary=False), b"1 PINHOLE 8 6 5", "expected 4 numbers"),
    (lambda raw: read_cameras(raw, binary=False), b"1 PINHOLE", "expected number, model"),
    (lambda raw: read_images(raw, binary=False), b"1 0 0 0 0 0 0 0 1 a.jpg", "a unit quaternion"),
    (lambda raw: read_points(raw, binary=False), b"1 nan 0 0 0 0 0 0", "finite places"),
    (lambda raw: index_sens(io.BytesIO(raw)), b"\5\0\0\0", "version 4, got 5"),
    (lambda raw: index_sens(io.BytesIO(raw)), sens()[0][:300], "more bytes|frames"),
]


@pytest.mark.parametrize(("read", "raw", "words"), REFUSED)
def test_what_is_no_such_file_is_refused_in_one_line(read, raw, words):
    with pytest.raises(ValueError, match=words) as found:
        read(raw)
    assert "\n" not in str(found.value) and "expected" in str(found.value)


def test_pcd_leaves_alone_what_stands_behind_the_declared_points():
    check_same(read_pcd(pcd() + b"left behind"), columns())


def test_a_recorded_pcd_is_the_sweep_beside_it(realdata):
    found = read_pcd((realdata / "lidar_street_b" / "0000000010.pcd").read_bytes())
    rows = np.fromfile(realdata / "lidar_street_b" / "010_lidar.bin", np.float32).reshape(-1, 4)
    assert list(found) == ["x", "y", "z", "intensity"]
    np.testing.assert_array_equal(np.stack(list(found.values()), -1)[::2], rows)


def test_a_recorded_feather_is_the_sweep_beside_it(realdata):
    pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    (file,) = (realdata / "argoverse2_7fab2350").rglob("lidar/*.feather")
    found = read_feather(file.read_bytes())
    rows = np.fromfile(realdata / "argoverse2_7fab2350" / f"{file.stem}.bin", np.float32).reshape(-1, 6)
    found["offset_ns"] = found["offset_ns"] * 1e-9
    for k, name in enumerate(("x", "y", "z", "intensity", "laser_number", "offset_ns")):
        np.testing.assert_array_equal(found[name].astype(np.float32), rows[:, k], err_msg=name)


def test_points_of_a_published_model_lie_where_its_pictures_show_them(realdata):
    folder = realdata / "native" / "colmap_maupertuis" / "sparse"
    read = {name: (folder / f"{name}.txt").read_bytes() for name in ("cameras", "images", "points3D")}
    cameras, images = read_cameras(read["cameras"], binary=False), read_images(read["images"], binary=False)
    points = read_points(read["points3D"], binary=False)
    place = dict(zip(points.ids.tolist(), points.positions, strict=True))
    assert len(images) == 4 and len(place) == 1039
    for image in images.values():
        seen = image.point_ids >= 0
        world = np.stack([place[number] for number in image.point_ids[seen]])
        lens = cameras[image.camera].intrinsics
        pixels = (world @ image.world_to_camera[:3, :3].T + image.world_to_camera[:3, 3]) @ lens.T
        off = np.linalg.norm(pixels[:, :2] / pixels[:, 2:] - image.keypoints[seen], axis=-1)
        assert np.median(off) < 0.3  # the publisher measured 0.23 to 0.29 pixels


def test_a_text_of_all_rows_of_a_parquet_file_is_in_memory_once():
    """A megabyte that 20,000 rows have in common takes a megabyte of the file, and 20 gigabytes as rows."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    parquet, stream = pytest.importorskip("pyarrow.parquet"), io.BytesIO()
    texts = pyarrow.array(["a" * 2**20, "b"])
    rows = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1] * 10_000, "int32"), texts)
    table = pyarrow.table({"name": rows, "n": range(20_000)})
    parquet.write_table(table, stream, store_schema=False, dictionary_pagesize_limit=2**24)
    assert len(stream.getvalue()) < 2**22
    before = pyarrow.default_memory_pool().max_memory()
    read = read_parquet(stream.getvalue())
    assert pyarrow.default_memory_pool().max_memory() < max(before, 2**28)
    assert read["name"][[0, 1, -1]].tolist() == ["a" * 2**20, "b", "b"] and read["n"][-1] == 19_999
    assert read["name"][0] is read["name"][2]
