"""A sphere's mesh, and PLY files read back by their definition."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.fields import FieldSamples, OccupancyField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.renderers import Rendered
from renderpretrain.viz import Mesh, extract_mesh, rendered_points, write_ply

GRID = VoxelGrid((-2.0, -1.5, -1.0, 2.0, 1.5, 2.0), voxel_size=(0.1, 0.125, 0.15))
CENTRE, RADIUS = torch.tensor([0.3, -0.2, 0.4]), 0.9


class Sphere:
    """Its colour is its normal's, by which direction it is looked at from shows."""

    grid = GRID

    def surface(self, volume, points):
        return (points - CENTRE).norm(dim=-1) - RADIUS

    def __call__(self, volume, rays, samples):
        return FieldSamples(samples.t_starts, {"rgb": (0.5 - 0.5 * rays.directions)[:, :, None]})


@pytest.fixture
def mesh():
    pytest.importorskip("skimage", reason="scikit-image is not installed", exc_type=Exception)
    return extract_mesh(Sphere(), torch.zeros(1, 1, *GRID.shape), refine=2)


def test_a_sphere_is_where_it_is_and_faces_outward(mesh):
    outward = mesh.vertices - CENTRE
    # Linear interpolation of a distance of curvature 1 / 0.9 over steps of at most 7.5 cm.
    assert_close(outward.norm(dim=-1), torch.full((len(outward),), RADIUS), atol=2e-3, rtol=0)
    a, b, c = (outward[mesh.faces[:, k]] for k in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert volume == pytest.approx(
        4 / 3 * math.pi * RADIUS**3, rel=0.01
    )  # chords lie inside; positive: outward
    # Normals of small triangles, whose slivers turn some.
    assert ((mesh.colors - (0.5 + 0.5 * outward / RADIUS)).norm(dim=-1) < 0.1).float().mean() > 0.99


def test_logits_have_their_surface_at_a_half(mesh):
    distances = Sphere().surface(None, GRID.centers())
    found = extract_mesh(OccupancyField(GRID), -4 * distances[None, None])
    assert_close(
        (found.vertices - CENTRE).norm(dim=-1), torch.full((len(found.vertices),), RADIUS), atol=8e-3, rtol=0
    )  # steps twice as long
    assert found.colors is None


def test_no_surface_is_one_line():
    for logit, kind in ((-1.0, "free"), (1.0, "solid")):
        with pytest.raises(ValueError, match=rf"mesh: expected a surface in .* found none: all is {kind}$"):
            extract_mesh(OccupancyField(GRID), torch.full((1, 1, *GRID.shape), logit))
    with pytest.raises(ValueError, match=r"refine: expected at least 1, got 0"):
        extract_mesh(Sphere(), torch.zeros(1, 1, *GRID.shape), refine=0)


def read(path):
    """Header lines and the bytes behind them."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    return header.decode().splitlines(), body


def test_a_file_holds_the_mesh(tmp_path):
    vertices = torch.tensor([[0.0, 1, 2], [3, 4, 5], [6, 7, 8.5]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2]]), torch.tensor([[0.0, 0.5, 1]] * 3))
    header, body = read(write_ply(tmp_path / "new" / "mesh.ply", mesh))
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    assert header[2:9] == ["element vertex 3", *(f"property float {n}" for n in "xyz"),
                           *(f"property uchar {n}" for n in ("red", "green", "blue"))]  # fmt: skip
    assert header[9:] == ["element face 1", "property list uchar int vertex_indices"]
    rows = np.frombuffer(body[:45], np.dtype([("p", "<f4", 3), ("c", "u1", 3)]))
    assert np.array_equal(rows["p"], vertices.numpy()) and rows["c"].tolist() == [[0, 128, 255]] * 3
    assert body[45] == 3 and np.frombuffer(body[46:], "<i4").tolist() == [0, 1, 2]


def test_rays_end_where_they_are_opaque(tmp_path):
    rays = Rays(torch.zeros(1, 3, 3), torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]]))
    depth, opacity = torch.tensor([[2.0, 3.0, 4.0]]), torch.tensor([[0.9, 0.1, 0.6]])
    colours = torch.tensor([[[1.0, 1, 1], [0, 1, 0], [0, 0, 1]]])

    def parts(rgb):
        """Two rays, then the third."""
        return [
            Rendered(depth[:, own], opacity[:, own], {} if rgb is None else {"rgb": rgb[:, own]})
            for own in (slice(2), slice(2, 3))
        ]

    points = rendered_points(parts(colours), rays)
    assert points.vertices.tolist() == [[2.0, 0, 0], [0, 0, 4.0]]
    assert points.colors.tolist() == [[1.0, 1, 1], [0, 0, 1]]
    assert rendered_points(parts(None), rays).colors is None
    header, body = read(write_ply(tmp_path / "points.ply", points))
    assert "element vertex 2" in header and not any("face" in line for line in header) and len(body) == 30
    opacity.zero_()
    with pytest.raises(ValueError, match=r"^points: expected rays that meet something, none of the 3 does$"):
        rendered_points(parts(colours), rays)
