"""Recipes from parts: encoders of one's own, and what is said of parts that do not fit each other."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from variants import batch_of, scenes_for

from renderpretrain import VoxelGrid
from renderpretrain.encoders import (
    ImageMaps,
    OccupancyDecoder,
    SparseUNet,
    VolumeEncoder,
    grid_levels,
    voxelize,
)
from renderpretrain.fields import OccupancyField, SDFField
from renderpretrain.lifters import ConcatFusion, SplatLifter, ViewLifter
from renderpretrain.masking import RandomMask, no_mask
from renderpretrain.recipes import NSMAE, ImageBranch, PointBranch, PonderOutdoor, UniPAD, UniScene
from renderpretrain.recipes.columns import SWEEPS
from renderpretrain.recipes.places import encode_voxels
from renderpretrain.recipes.unipad import LossConfig
from renderpretrain.recipes.uniscene import ImageNetwork
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import Even, NeuSImportance

VOXELS = VoxelGrid((-25.6, -25.6, -4.0, 25.6, 25.6, 4.8), (0.8, 0.8, 0.8))


def point_branch(channels=8, stride=2):
    network = nn.Conv3d(5, channels, 3, stride=stride, padding=1)
    return PointBranch(VolumeEncoder(network, channels, stride=stride, first=0), VOXELS, RandomMask(0.5))


def image_branch(grid, channels=8):
    lifter = ViewLifter(grid, channels, depth_bins=8, depth_range=(1, 30))
    network = ImageMaps(nn.Conv2d(3, channels, 8, stride=8), [channels])
    return ImageBranch(network, lifter, RandomMask(0.3), patch_size=16)


def renderer(grid):
    field = SDFField(grid, 8, extent=25.6)
    return VolumeRenderer(field, NeuSImportance(field, 16, 8))


def unipad(**parts):
    grid = parts["lidar"].out_grid if "lidar" in parts else VOXELS
    return UniPAD(renderer(grid), losses=LossConfig(depth=1.0, rgb=1.0, depth_bins=1.0), **parts)


@pytest.fixture(scope="module")
def batch():
    return batch_of(scenes_for("unipad-fusion"))


@pytest.mark.parametrize("sensors", ["points", "images", "both"])
def test_networks_of_ones_own_are_trained(batch, sensors):
    lidar, camera = point_branch(), image_branch(point_branch().out_grid)
    parts = {"points": {"lidar": lidar}, "images": {"camera": image_branch(VOXELS)}}
    recipe = unipad(**parts.get(sensors, {"lidar": lidar, "camera": camera}))
    terms = recipe(batch)
    assert {"depth", "rgb"} <= set(terms)
    sum(terms.values()).backward()
    for name, encoder in recipe.encoders().items():
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters()), name
    assert len(recipe.encoders()) == (2 if sensors == "both" else 1)


def test_volumes_of_different_widths_are_fused_side_by_side(batch):
    lidar = point_branch()
    recipe = unipad(lidar=lidar, camera=image_branch(lidar.out_grid, 16), fusion=ConcatFusion((16, 8), 12))
    sum(recipe(batch).values()).backward()
    pulls = recipe.fusion[0].weight.grad.abs().sum((0, 2, 3, 4))
    assert pulls.shape == (24,) and (pulls > 0).all()


def test_what_points_hide_does_not_reach_a_network_of_ones_own(batch):
    recipe = unipad(lidar=point_branch()).eval()
    hidden = recipe.hide(batch)
    assert 0.4 < hidden.voxels.hidden.float().mean() < 0.6
    gone = replace(batch, points=batch.points.only(~hidden.points))
    assert torch.equal(recipe.encode(batch, hidden), recipe.encode(gone))


class NoGrid(nn.Conv3d):
    """A network without the contract."""


WRONG = {
    "a network as it is": (
        lambda: PointBranch(NoGrid(5, 8, 3), VOXELS, RandomMask(0.5)),
        "encoder: expected a module with out_channels and output_grid.*got NoGrid.*VolumeEncoder",
    ),
    "an image network as it is": (
        lambda: ImageBranch(nn.Conv2d(3, 8, 8), ViewLifter(VOXELS, 8), RandomMask(0.3)),
        "backbone: expected a module with channels.*got Conv2d.*ImageMaps",
    ),
    "no branch": (lambda: unipad(), "lidar, camera: expected at least one branch, got none"),
    "a field on the voxels": (
        lambda: UniPAD(renderer(VOXELS), lidar=point_branch()),
        r"lidar\.out_grid: expected the grid of renderer\.field.*make the field with lidar\.out_grid",
    ),
    "a lifter on another grid": (
        lambda: unipad(lidar=point_branch(), camera=image_branch(VOXELS)),
        r"camera\.lifter\.grid: expected the grid of renderer\.field",
    ),
    "two widths": (
        lambda: unipad(lidar=point_branch(), camera=image_branch(point_branch().out_grid, 16)),
        r"expected volumes of one width, got camera\.lifter 16, lidar\.out_channels 8",
    ),
    "a fusion of other widths": (
        lambda: unipad(
            lidar=point_branch(),
            camera=image_branch(point_branch().out_grid, 16),
            fusion=ConcatFusion((8, 16), 8),
        ),
        r"fusion: expected volumes of \(8, 16\) channels, got camera\.lifter 16, lidar\.out_channels 8",
    ),
    "a field without distances": (
        lambda: UniPAD(VolumeRenderer(OccupancyField(VOXELS), Even(VOXELS)), camera=image_branch(VOXELS)),
        r"renderer\.field: expected an SDFField or DensityField, got Occ",
    ),
}


@pytest.mark.untyped
@pytest.mark.parametrize("name", WRONG)
def test_parts_that_do_not_fit_are_refused(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        call()


def test_an_encoder_that_says_another_stride_is_refused_by_its_branch():
    network = nn.Conv3d(5, 8, 3, stride=2, padding=1)
    with pytest.raises(ValueError, match=r"encoder: expected a volume .*stride=\(4, 4, 4\) say"):
        PointBranch(VolumeEncoder(network, 8, stride=4), VOXELS, RandomMask(0.5))


def test_ns_mae_takes_a_point_network_of_ones_own(batch):
    grid = VoxelGrid((-25.6, -25.6, -4.0, 25.6, 25.6, 4.8), (1.6, 1.6, 0.4))
    branch = point_branch()
    low, high = branch.out_grid.lower, branch.out_grid.upper
    columns = VoxelGrid((*low[:2], grid.lower[2], *high[:2], grid.upper[2]), grid.voxel_size)
    recipe = NSMAE(VolumeRenderer(OccupancyField(columns), Even(columns, 24)), lidar=branch)
    terms = recipe(batch)
    sum(terms.values()).backward()
    assert terms["bev_depth"] > 0 and branch.encoder.network.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r"lidar\.out_grid: expected the columns of renderer\.field"):
        NSMAE(VolumeRenderer(OccupancyField(VOXELS), Even(VOXELS)), lidar=branch)
    with pytest.raises(ValueError, match="expected at least one branch"):
        NSMAE(VolumeRenderer(OccupancyField(VOXELS), Even(VOXELS)))


def test_ponder_takes_a_dense_network_of_ones_own(batch):
    branch = point_branch()
    grid = VoxelGrid(VOXELS.point_cloud_range, (1.6, 1.6, 0.8))
    recipe = PonderOutdoor(branch.encoder, VOXELS, renderer(grid), mask=RandomMask(0.8), columns=SWEEPS)
    terms = recipe(batch)
    sum(terms.values()).backward()
    assert terms["depth"] > 0 and branch.encoder.network.weight.grad.abs().sum() > 0
    assert recipe.token.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="encoder: expected a module with out_channels, got Sequential"):
        PonderOutdoor(nn.Sequential(branch.encoder.network), VOXELS, renderer(grid), mask=RandomMask(0.8))


def test_a_volume_is_read_at_the_centres_of_voxels(batch):
    """A volume of positions gives every voxel its own."""

    class Centers(nn.Module):
        def forward(self, voxels):
            where = out.centers().permute(3, 0, 1, 2)
            return where[None].expand(len(voxels), -1, -1, -1, -1)

    encoder = VolumeEncoder(Centers(), 3, stride=2)
    out = encoder.output_grid(VOXELS)
    voxels = voxelize(batch.points.columns(), batch.points.valid, VOXELS)
    read = encode_voxels(encoder, voxels)
    expected = VOXELS.centers()[tuple(voxels.coords[:, 1:].long().T)]
    lower, upper = torch.tensor(out.lower) + 0.8, torch.tensor(out.upper) - 0.8
    inside = ((expected > lower) & (expected < upper)).all(-1)  # beyond the outermost centres it fades to 0
    assert inside.sum() > 100
    assert_close(read[inside], expected[inside], atol=1e-4, rtol=0)  # metres in float32


class OwnRows(nn.Module):
    """An encoder of one's own that gives features of its voxels, and no levels."""

    out_channels = 5

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, x):
        return x.with_features(self.linear(x.features))


def halved(grid):
    """Half as many voxels along x and y."""
    x, y, z = grid.voxel_size
    return VoxelGrid(grid.point_cloud_range, (2 * x, 2 * y, z))


class OtherLevels(OwnRows):
    """Its first level is not on the voxels' grid."""

    level_channels = (5, 5)

    def levels(self, x):
        coarse = replace(x, coords=x.coords // torch.tensor([1, 1, 2, 2]), spatial_shape=halved(VOXELS).shape)
        return [coarse, self(x)]

    def level_grids(self, grid):
        return [halved(grid), grid]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SparseUNet(5, channels=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
        lambda: VolumeEncoder(nn.Conv3d(5, 4, 3, 2, 1), 4, stride=2, first=0),
        OwnRows,
    ],
)
def test_features_of_voxels_are_the_same_where_levels_are_asked_for(make, batch):
    torch.manual_seed(0)
    encoder, told = make().eval(), []
    voxels = voxelize(batch.points.columns(), batch.points.valid, VOXELS)
    alone = encode_voxels(encoder, voxels)
    assert torch.equal(encode_voxels(encoder, voxels, told=told), alone) and alone.abs().sum() > 0
    expected = grid_levels("point_encoder", encoder, voxels.to_sparse(), VOXELS)
    assert [level.name for level in told] == [level.name for level in expected]
    assert all(torch.equal(a.rows(), b.rows()) for a, b in zip(told, expected, strict=True))


def test_levels_in_another_order_are_refused(batch):
    voxels = voxelize(batch.points.columns(), batch.points.valid, VOXELS)
    with pytest.raises(ValueError, match="encoder: expected the first of the levels of OtherLevels"):
        encode_voxels(OtherLevels(), voxels, told=[])


def test_uniscene_takes_an_image_network_of_ones_own():
    batch = batch_of(scenes_for("uniscene lss"))
    grid = VoxelGrid((-12.8, -12.8, -3.0, 12.8, 12.8, 5.0), (0.8, 0.8, 1.0))
    network = nn.Conv2d(3, 16, 8, stride=8)
    recipe = UniScene(
        ImageNetwork(ImageMaps(network, [16]), nn.Identity()),
        SplatLifter(grid, 16, depth_bins=12, depth_range=(1.0, 20.0)),
        OccupancyDecoder(2, 8, 8),
        VolumeRenderer(OccupancyField(grid), Even(grid, 24)),
        mask_images=no_mask,
    )
    terms = recipe(batch)
    sum(terms.values()).backward()
    assert terms["occupancy"] > 0 and network.weight.grad.abs().sum() > 0
