"""``renderpretrain render`` of a run: the PLY files are read by a reader of their own."""

import itertools
import struct

import numpy as np
import pytest
from PIL import Image

BOX = {"x": (-13.0, 12.6), "y": (-13.0, 12.6), "z": (-4.2, 4.6)}
"""The recipe's grid: where the encoder's outputs are centred, half of a 0.4 m voxel below the range."""

KINDS = {"float": "<f", "uchar": "B", "int": "<i"}


def read_ply(path):
    """Elements of a binary PLY file, value by value as its header says; nothing may be left over."""
    elements, names = {}, []
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline().split(), [b"end_header"]):
            words = [word.decode() for word in line]
            if words[0] == "element":
                names.append((words[1], int(words[2]), []))
            elif words[0] == "property":
                names[-1][2].append(words[1:])

        def number(kind):
            return struct.unpack(KINDS[kind], file.read(struct.calcsize(KINDS[kind])))[0]

        for name, count, properties in names:
            elements[name] = [
                {
                    p[-1]: [number(p[2]) for _ in range(number(p[1]))] if p[0] == "list" else number(p[0])
                    for p in properties
                }
                for _ in range(count)
            ]
        assert file.read() == b""
    return elements


def test_the_files_hold_a_surface_and_points(trained, end, tmp_path, capsys):
    pytest.importorskip("skimage", reason="scikit-image is not installed", exc_type=Exception)
    mesh, points = tmp_path / "new" / "mesh.ply", tmp_path / "points.ply"
    capsys.readouterr()
    code = end("render", trained, "--mesh", mesh, "--points", points, "--refine", 1, "--device", "cpu")
    said = capsys.readouterr()
    assert str(points) in said.out.splitlines()
    seen = read_ply(points)
    assert list(seen) == ["vertex"] and len(seen["vertex"]) > 100
    for vertex in seen["vertex"]:
        # A millimetre for float32 along rays of up to 20 m.
        assert all(low - 1e-3 <= vertex[axis] <= high + 1e-3 for axis, (low, high) in BOX.items())
    assert code == 0 and not said.err
    surface = read_ply(mesh)
    vertices, faces = surface["vertex"], surface["face"]
    for axis, (low, high) in BOX.items():
        # A millimetre for float32 coordinates.
        assert all(low - 1e-3 <= vertex[axis] <= high + 1e-3 for vertex in vertices)
    corners = {corner for face in faces for corner in face["vertex_indices"]}
    assert corners == set(range(len(vertices)))
    assert all(len(set(face["vertex_indices"])) == 3 for face in faces)
    assert len({(v["red"], v["green"], v["blue"]) for v in vertices}) > 10


@pytest.mark.parametrize("flag", ["--mesh", "--points"])
def test_what_cannot_be_written_is_found_before_anything_is_drawn(trained, end, tmp_path, capsys, flag):
    before = sorted(path for path in trained.rglob("*"))
    capsys.readouterr()
    assert end("render", trained, "--frame", 0, flag, tmp_path) == 1
    said = capsys.readouterr()
    assert said.err == f"error: {flag[2:]}: expected a file to write, got the folder {tmp_path}\n"
    assert said.out == "" and sorted(path for path in trained.rglob("*")) == before


def test_one_file_is_not_written_twice(trained, end, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert end("render", trained, "--mesh", tmp_path / "x.ply", "--points", "x.ply") == 1
    assert capsys.readouterr().err == "error: points: expected another file than the mesh's, got x.ply\n"
    assert list(tmp_path.iterdir()) == []


def test_features_and_a_turntable_are_drawn_of_points_and_of_the_field(
    trained, end, tmp_path, capsys, monkeypatch
):
    """Four frames of a small size: each shows something, and not the same as the one before."""
    monkeypatch.setattr("renderpretrain.training.turntable.FRAMES", 4)
    features, turntable = tmp_path / "new" / "features.png", tmp_path / "street.gif"
    given = ("--features", features, "--turntable", turntable, "--device", "cpu")
    one = tmp_path / "one.png"
    assert end("render", trained, *given, "--out", one, "--camera", "front") == 0
    said = capsys.readouterr().out.splitlines()
    assert {str(features), str(turntable), str(one)} <= set(said)
    with Image.open(one) as alone, Image.open(trained / "pictures" / "step_000003.png") as all_views:
        assert 100 < alone.height < 0.7 * all_views.height
    with Image.open(features) as sheet:  # height, before, after: LiDAR alone has no features of pictures
        above = np.asarray(sheet.convert("RGB"))
    panels = [above[40:-20, 20 + 446 * n : 430 + 446 * n] for n in range(3)]
    assert all(len(np.unique(panel.reshape(-1, 3), axis=0)) > 100 for panel in panels)
    assert (panels[1] != panels[2]).any() and (panels[0] != panels[1]).any()
    with Image.open(turntable) as movie:
        assert movie.n_frames == 4 and movie.info["loop"] == 0
        shown = []
        for number in range(4):
            movie.seek(number)
            shown.append(np.asarray(movie.convert("L"), dtype=int))
    assert all((one != other).mean() > 0.01 for one, other in itertools.pairwise(shown))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--features", "x.jpg"), "features: expected a file that ends in .png, got x.jpg"),
        (("--out", "x.jpg"), "out: expected a file that ends in .png, got x.jpg"),
        (("--turntable", "x.webm"), "turntable: expected a file that ends in .gif or .mp4, got x.webm"),
        (
            ("--features", "x.png", "--mesh", "x.png"),
            "features: expected another file than the mesh's, got x.png",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_before_anything_is_drawn(trained, end, capsys, flags, error):
    assert end("render", trained, *flags) == 1
    said = capsys.readouterr()
    assert said.err == f"error: {error}\n" and not said.out


def test_a_camera_that_the_scene_has_not_is_refused(trained, end, capsys):
    assert end("render", trained, "--camera", "above", "--device", "cpu") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: camera: expected one of front") and error.endswith(", got above\n")


def test_a_video_without_ffmpeg_is_refused_and_says_what_does_without(trained, end, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert end("render", trained, "--turntable", "street.mp4") == 1
    assert capsys.readouterr().err == (
        "error: turntable: street.mp4 needs ffmpeg, which is not there; a file that ends in .gif does not\n"
    )
