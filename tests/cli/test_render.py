"""``renderpretrain render`` of a run: the PLY files are read by a reader of their own."""

import struct

import pytest

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
