"""Scenes whose depth is known, for every field and renderer."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain import Rays, VoxelGrid
from renderpretrain.fields import DensityField, NeuSOpacity, OccupancyField, SDFField, VolSDFOpacity
from renderpretrain.ops import FieldValues
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import Even, NeuSImportance

GRID = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (0.5, 0.5, 0.5))
RADIUS = 1.5
ORIGINS = torch.tensor([[[-3.5, 0.0, 0.0], [0.0, 3.0, 0.3], [0.0, 0.0, 3.5], [-3.9, 0.1, 0.2]]])
TARGETS = torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.0, 0.3], [0.3, 0.0, 0.0], [0.0, 0.5, 0.5]]])


class Ball(SDFField):
    """The exact distance to a ball at the origin, whose embedding is the position."""

    def sdf(self, volume, points):
        return points.norm(dim=-1) - RADIUS

    def _values(self, volume, points, rays, valid):
        normals = nn.functional.normalize(points, dim=-1)
        heads = (torch.zeros_like(points), points)[: len(self.heads.names)]
        return FieldValues(self.sdf(volume, points), normals, None, None, heads)


class Stored(nn.Module):
    """A stand-in for the density network: the volume's first channel."""

    def forward(self, points, features):
        return features


def rays_to_the_ball():
    """Rays, and where they meet the ball."""
    rays = Rays.through(ORIGINS, TARGETS)
    along = -(rays.origins * rays.directions).sum(-1)
    return rays, along - (along**2 - rays.origins.square().sum(-1) + RADIUS**2).sqrt()


@pytest.mark.parametrize(
    ("opacity", "tolerance"),
    # Width of the law 0.01 m, fine step about 0.05 m; VolSDF's mean free path at the surface is 0.02 m more.
    [(NeuSOpacity(4.0, 400.0), 0.04), (VolSDFOpacity(4.0, 0.0025), 0.06)],
    ids=["neus", "volsdf"],
)
def test_a_ball_is_rendered_where_it_is_in_two_passes(opacity, tolerance):
    field = Ball(GRID, 9, extent=4.0, opacity=opacity, semantic_channels=3)
    rays, exact = rays_to_the_ball()
    with torch.no_grad():
        rendered = VolumeRenderer(field, NeuSImportance(field, 32, 32, near=0.1))(
            torch.zeros(1, 9, *GRID.shape), rays
        )
    assert (rendered.opacity > 0.99).all()
    assert_close(rendered.depth, exact, rtol=0, atol=tolerance)
    assert rendered.rgb.shape == rendered.channels["semantic"].shape == (1, 4, 3)


@pytest.mark.parametrize("law", [NeuSOpacity(4.0, 100.0), VolSDFOpacity(4.0, 0.01)], ids=["neus", "volsdf"])
def test_a_ball_is_rendered_where_it_is_in_one_pass(law):
    field = Ball(GRID, 9, extent=4.0, opacity=law, color=False)
    rays, exact = rays_to_the_ball()
    with torch.no_grad():
        rendered = VolumeRenderer(field, Even(GRID, 400, near=0.1))(torch.zeros(1, 9, *GRID.shape), rays)
    # Width 0.04 m: the mean of VolSDF's law lies within it of the surface, and the step is 0.02 m.
    assert_close(rendered.depth, exact, rtol=0, atol=0.04 + 0.02)
    assert rendered.rgb is None


def test_volsdf_sees_a_plane_at_its_expected_depth():
    """The depth by direct integration of the density 1/b Psi_b(-f) squarely through a plane."""

    class Plane(Ball):
        def sdf(self, volume, points):
            return 1.0 - points[..., 0]

    beta = 0.2
    field = Plane(GRID, 9, extent=1.0, opacity=VolSDFOpacity(1.0, beta), color=False)
    rays = Rays.through(torch.tensor([[[-3.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.0]]]))
    with torch.no_grad():
        rendered = VolumeRenderer(field, Even(GRID, 500, near=0.0))(torch.zeros(1, 9, *GRID.shape), rays)
    light, depth, hit, step = 1.0, 0.0, 0.0, 7.0 / 20000
    for k in range(20000):
        t = (k + 0.5) * step
        s = (-3.0 + t) - 1.0
        density = (0.5 * math.exp(s / beta) if s <= 0 else 1 - 0.5 * math.exp(-s / beta)) / beta
        share = light * (1 - math.exp(-density * step))
        light, depth, hit = light - share, depth + share * t, hit + share
    # 500 steps of 14 mm, a midpoint rule.
    assert rendered.depth.item() == pytest.approx(depth / hit, abs=2e-3)
    assert rendered.opacity.item() == pytest.approx(hit, abs=1e-4)


def test_a_density_field_sees_fog_at_its_expected_depth():
    """Constant density from x = -4 to 4: the mean of an exponential cut where the grid ends."""
    field = DensityField(GRID, 1, extent=1.0, activation=torch.relu, color=False)
    field.density = Stored()
    rays = Rays.through(torch.tensor([[[-3.0, 0.2, 0.1]]]), torch.tensor([[[0.0, 0.2, 0.1]]]))
    volume = torch.full((1, 1, *GRID.shape), 0.5)
    rendered = VolumeRenderer(field, Even(GRID, 200, near=0.0))(volume, rays)
    s, length = 0.5, 7.0
    exact = 1 / s - length * math.exp(-s * length) / (1 - math.exp(-s * length))
    # The last quarter of a metre is read falling to half of its density, behind 0.97 of the opacity.
    assert rendered.depth.item() == pytest.approx(exact, abs=0.03)
    assert rendered.opacity.item() == pytest.approx(1 - math.exp(-s * length), abs=5e-3)


def test_an_occupied_wall_is_seen_at_its_face():
    """Voxels with x > 1 are certainly occupied, all others certainly free; the feature is the wall's."""
    centers = GRID.centers()
    logits = torch.where(centers[..., 0] > 1, 20.0, -20.0)
    volume = torch.stack([logits, centers[..., 1]])[None]
    rays = Rays.through(
        torch.tensor([[[-3.0, 0.2, 0.1], [-3.0, -2.0, 1.0]]]),
        torch.tensor([[[2.0, 0.2, 0.1], [2.0, -2.0, 1.0]]]),
    )
    field = OccupancyField(GRID, channel="y")
    rendered = VolumeRenderer(field, Even(GRID, 280, near=0.0))(volume, rays)
    # The density rises from the last free centre at 0.75 m to the first occupied one at 1.25 m.
    assert_close(rendered.depth, torch.full((1, 2), 4.0), rtol=0, atol=GRID.voxel_size[0] / 2)
    assert (rendered.opacity > 0.999).all()
    assert_close(rendered.channels["y"][..., 0], torch.tensor([[0.2, -2.0]]), rtol=0, atol=1e-2)


def test_a_ray_that_misses_renders_as_empty():
    rays = Rays.through(torch.tensor([[[10.0, 10.0, 10.0]]]), torch.tensor([[[20.0, 20.0, 20.0]]]))
    rendered = VolumeRenderer(OccupancyField(GRID), Even(GRID))(torch.full((1, 1, *GRID.shape), 9.0), rays)
    assert rendered.opacity.item() == 0 and rendered.depth.item() == 0


def test_jitter_moves_the_samples_of_a_ray_together():
    renderer = VolumeRenderer(OccupancyField(GRID), Even(GRID, 16))
    rays, _ = rays_to_the_ball()
    still, moved = (
        renderer(torch.zeros(1, 1, *GRID.shape), rays, seeds).along.samples
        for seeds in (None, torch.tensor([7]))
    )
    assert_close(moved.t_starts[..., 0], still.t_starts[..., 0])
    inner = moved.t_starts[..., 1:] - still.t_starts[..., 1:]
    assert_close(inner, inner[..., :1].expand_as(inner), rtol=0, atol=1e-5)
    assert (inner.abs() > 1e-4).any()


class Counted(nn.Module):
    """A field that remembers how many samples it was asked about."""

    def __init__(self, field):
        super().__init__()
        self.field, self.asked = field, 0

    def forward(self, volume, rays, samples):
        self.asked += int(samples.valid.sum())
        return self.field(volume, rays, samples)


@pytest.mark.parametrize("color", [True, False])
def test_a_picture_ends_where_nothing_is_seen_any_more(color):
    """Rays that meet the ball are asked about no further; what they see is the same to the light left out."""
    torch.manual_seed(0)
    sizes = {"hidden_channels": 8, "sdf_blocks": 1, "rgb_blocks": 0, "semantic_channels": 5}
    field = Ball(GRID, 8, extent=4.0, sharpness=400.0, color=color, **sizes)
    counted = Counted(field)
    renderer = VolumeRenderer(counted, Even(GRID, 128, near=0.1), background=(0.2, 0.4, 0.6))
    hits, _ = rays_to_the_ball()
    missed = Rays.through(torch.tensor([[[-3.5, 3.0, 0.0]]]), torch.tensor([[[3.5, 3.0, 0.0]]]))
    rays = Rays(
        *(torch.cat([a, b], 1) for a, b in zip(vars(hits).values(), vars(missed).values(), strict=True))
    )
    volume = torch.zeros(1, 8, *GRID.shape)
    with torch.no_grad():
        whole, of_whole = renderer(volume, rays), counted.asked
        counted.asked = 0
        stopped, of_stopped = renderer.picture(volume, rays), counted.asked
    assert of_stopped < 0.8 * of_whole  # four of five rays end within the ball, some in the last run
    near = {"rtol": 0, "atol": 2e-4}  # light below 1e-4, and 4 m of depth behind it
    assert_close(stopped.opacity, whole.opacity, **near)
    assert_close(stopped.depth, whole.depth, rtol=0, atol=1e-3)
    assert_close(stopped.along.weights, whole.along.weights, **near)
    assert_close(stopped.normals, whole.normals, **near)
    assert_close(stopped.channels, whole.channels, rtol=0, atol=1e-3)
    assert int(stopped.along.samples.valid.sum()) == of_stopped
    assert_close(renderer.picture(volume, rays).depth, whole.depth, rtol=0, atol=0)  # with gradients


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_ray_ends_at_a_share_of_its_light(share):
    field = Ball(GRID, 8, extent=4.0)
    rays, _ = rays_to_the_ball()
    with pytest.raises(ValueError, match=r"early_stop: expected a share in \[0, 1\), got"):
        VolumeRenderer(field, Even(GRID, 8))(torch.zeros(1, 8, *GRID.shape), rays, early_stop=share)
