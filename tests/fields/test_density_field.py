"""Density and occupancy fields: what they answer, where they are empty, and that everything learns."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, RaySamples, VoxelGrid
from renderpretrain.fields import (
    DensityField,
    InjectedMLP,
    LinearChannel,
    OccupancyField,
    SDFField,
    VolSDFOpacity,
)
from renderpretrain.ops.injected_mlp import injected_layers

GRID = VoxelGrid((-2.0, -2.0, -2.0, 2.0, 2.0, 2.0), (0.5, 0.5, 0.5))


def along_x(count=16, start=-4.0, length=8.0):
    """One ray along x through the middle of the voxels at y = z = 0.25, in two batch elements."""
    step = length / count
    t = torch.arange(count) * step
    rays = Rays(torch.tensor([[[start, 0.25, 0.25]]] * 2), torch.tensor([[[1.0, 0.0, 0.0]]] * 2))
    ones = torch.ones(2, 1, count, dtype=torch.bool)
    return rays, RaySamples(t.expand(2, 1, count), t.expand(2, 1, count) + step, ones)


@pytest.mark.parametrize("activation", [torch.nn.functional.softplus, torch.relu])
def test_a_density_field_is_empty_outside_its_grid_and_positive_inside(activation):
    field = DensityField(GRID, 4, extent=2.0, activation=activation, semantic_channels=5)
    rays, samples = along_x()
    answer = field(torch.randn(2, 4, *GRID.shape), rays, samples)
    inside = (rays.at(samples.t_mids)[..., 0].abs() < 2.0) & samples.valid
    assert not answer.alphas[~inside].any()
    if activation is not torch.relu:
        assert (answer.alphas[inside] > 0).all()
    assert answer.channels["rgb"].shape == (2, 1, 16, 3) and answer.channels["semantic"].shape == (
        2,
        1,
        16,
        5,
    )
    assert answer.sdf is None and answer.gradients is None


def test_a_density_is_per_metre_whatever_the_extent():
    """With all weights zero the density is softplus(0) / extent: over 4 m, 1 - exp(-4 ln 2 / extent)."""
    rays, samples = along_x()
    for extent in (2.0, 50.0):
        field = DensityField(GRID, 4, extent=extent)
        with torch.no_grad():
            for parameter in field.parameters():
                parameter.zero_()
        answer = field(torch.randn(2, 4, *GRID.shape), rays, samples)
        passed = (1 - answer.alphas).prod(-1)
        assert_close(passed, torch.full((2, 1), 2.0 ** (-4 / extent)))


@pytest.mark.parametrize("frequencies", [0, 3])
def test_every_parameter_of_a_density_field_learns(frequencies):
    field = DensityField(
        GRID,
        4,
        extent=2.0,
        semantic_channels=5,
        position_frequencies=frequencies,
        direction_frequencies=frequencies,
    )
    volume = torch.randn(2, 4, *GRID.shape, requires_grad=True)
    answer = field(volume, *along_x())
    (answer.alphas.sum() + sum(v.square().sum() for v in answer.channels.values())).backward()
    assert volume.grad.any() and all(p.grad.any() for p in field.parameters())


def indoor_field(**options):
    """PonderV2's indoor field, small."""
    sizes = {"hidden_channels": 16, "geometry_channels": 6, "sdf_blocks": 1, "rgb_blocks": 0}
    return SDFField(GRID, 8, extent=2.0, semantic_channels=5, split=True, positions=False, **sizes, **options)


@pytest.mark.parametrize("law", ["neus", "volsdf"])
def test_every_parameter_of_the_indoor_field_learns(law):
    field = indoor_field(
        opacity=VolSDFOpacity(2.0, 0.3) if law == "volsdf" else None, direction_frequencies=2
    )
    volume = torch.randn(2, 8, *GRID.shape, requires_grad=True)
    answer = field(volume, *along_x())
    loss = answer.alphas.sum() + (answer.gradients.norm(dim=-1) - 1).square().sum()
    loss = loss + answer.channels["semantic"].at_samples().square().sum()
    (loss + answer.channels["rgb"].square().sum()).backward()
    assert volume.grad.any() and all(p.grad.any() for p in field.parameters())


def test_the_halves_of_a_split_volume_do_not_meet():
    """The distance reads the first half only, what the heads read of the volume is the second."""
    field, volume = indoor_field(), torch.randn(2, 8, *GRID.shape)
    other = torch.cat([volume[:, :4], torch.randn(2, 4, *GRID.shape)], 1)
    before, after = (field(v, *along_x()) for v in (volume, other))
    assert_close(before.sdf, after.sdf, rtol=0, atol=0)
    assert_close(before.gradients, after.gradients, rtol=0, atol=0)
    pairs = (answer.channels["semantic"].at_samples() for answer in (before, after))
    assert not torch.equal(*pairs)


@pytest.mark.parametrize("positions", [False, True])
def test_a_linear_embedding_is_composited_before_it_is_made(positions):
    """As if its network were asked at every sample: values, and gradients by the network and the volume."""
    torch.manual_seed(0)
    sizes = {"hidden_channels": 16, "geometry_channels": 6, "sdf_blocks": 1, "rgb_blocks": 0}
    field = SDFField(GRID, 8, extent=2.0, semantic_channels=5, positions=positions, **sizes).double()
    volume = torch.randn(2, 8, *GRID.shape, dtype=torch.float64, requires_grad=True)
    rays, samples = along_x()
    points = rays.at(samples.t_mids.double())
    valid = torch.ones(2, 16, dtype=torch.bool)
    found = field._values(volume, points[:, 0], rays, valid)
    mixed = field._channels(found, points[:, 0], (2, 1, 16))["semantic"]
    known = torch.cat([found.features, found.gradients, found.geometry], -1)
    asked = field.heads.semantic(points[:, 0] / 2.0, known)[:, None]
    weights = torch.rand(2, 1, 16, dtype=torch.float64)
    expected = (weights[..., None] * asked).sum(-2)
    assert_close(mixed.at_samples(), asked)
    assert_close(mixed.composite(weights, weights.sum(-1)), expected)
    inputs = [volume, *field.heads.semantic.parameters()]
    results = mixed.composite(weights, weights.sum(-1)), expected
    gradients = [torch.autograd.grad(x.square().sum(), inputs, retain_graph=True) for x in results]
    assert_close(*gradients)


def test_parts_of_a_linear_channel_have_the_width_of_its_map():
    with pytest.raises(ValueError, match="weight"):
        LinearChannel((torch.zeros(2, 3), torch.zeros(2, 4)), torch.zeros(5, 8), torch.zeros(5))


@pytest.mark.parametrize("position", [0, 3])
def test_a_linear_network_is_narrow_where_operators_take_it(position):
    network = InjectedMLP(7, 32, 3, num_blocks=0, position_channels=position).double()
    shape, flat = network.operand()
    assert shape.hidden_channels == 3 and flat.shape == (shape.num_parameters,)
    points, features = torch.randn(9, position, dtype=torch.float64), torch.randn(9, 7, dtype=torch.float64)
    (narrow,) = injected_layers(shape, shape.unpack(flat), points, features)
    assert_close(narrow, network(points, features))
    with pytest.raises(ValueError, match="num_blocks: expected 0"):
        InjectedMLP(7, 32, 3, num_blocks=1).linear_map()


def test_the_gradient_of_a_split_field_equals_finite_differences():
    field = indoor_field().double()
    volume = torch.randn(1, 8, *GRID.shape, dtype=torch.float64)
    points = (torch.rand(1, 20, 3, dtype=torch.float64) - 0.5) * 3
    directions = torch.nn.functional.normalize(torch.randn(1, 20, 3, dtype=torch.float64), dim=-1)
    rays = Rays(points, directions)
    gradients = field._values(volume, points, rays, torch.ones(1, 20, dtype=torch.bool)).gradients
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        difference = (field.sdf(volume, points + step) - field.sdf(volume, points - step)) / 2e-6
        # softplus(100 x) bends within 1e-2, so the quotient is good to 1e-6 * 100.
        assert_close(gradients[..., axis], difference, rtol=1e-4, atol=1e-5)


@pytest.mark.untyped
def test_an_odd_volume_cannot_be_split():
    with pytest.raises(ValueError, match="channels: expected an even number to split, got 7"):
        SDFField(GRID, 7, extent=2.0, split=True)


def test_an_occupancy_is_reproduced_voxel_by_voxel():
    """An interval that is exactly a voxel, inside equal neighbours, has the voxel's probability."""
    logits = torch.full((2, 1, *GRID.shape), -1.3)
    logits[1] = 0.7
    alphas = OccupancyField(GRID)(logits, *along_x()).alphas[:, 0]
    assert_close(alphas[:, 5:11], torch.sigmoid(torch.tensor([[-1.3], [0.7]])).expand(2, 6))
    assert not alphas[:, :3].any() and not alphas[:, 13:].any()


def test_further_channels_of_an_occupancy_volume_are_read():
    volume = torch.randn(2, 4, *GRID.shape)
    answer = OccupancyField(GRID, channel="class")(volume, *along_x())
    # Sample 6 is the middle of the third voxel in x at y = z = 0.25: index (4, 4, 2).
    assert_close(answer.channels["class"][:, 0, 6], volume[:, 1:, 4, 4, 2])
