"""Mistakes of a loop of one's own are refused in a sentence at every public entry, not trained on.

Each call is right but for one argument; without its check it ran, or failed in words of torch.
"""

import numpy as np
import pytest
import torch

from renderpretrain import (
    Cameras,
    Rays,
    RaySamples,
    VoxelGrid,
    encoders,
    fields,
    lifters,
    losses,
    masking,
    ops,
)
from renderpretrain import renderers as render
from renderpretrain import samplers as sample
from renderpretrain.data import Batch
from renderpretrain.geometry import Points, Views

pytestmark = pytest.mark.untyped  # the hook refuses most of them before we do

GRID = VoxelGrid((-4.0, -4.0, -2.0, 4.0, 4.0, 2.0), (1.0, 1.0, 1.0))  # 4 x 8 x 8
VOLUME = torch.zeros(2, 6, *GRID.shape)
HALF = torch.zeros(2, 6, 2, 4, 4)
XYZ = torch.zeros(2, 6, 8, 8, 4)
RAYS = Rays(torch.zeros(2, 5, 3), torch.tensor([1.0, 0, 0]).expand(2, 5, 3))
FLAT = Rays(torch.zeros(5, 3), torch.tensor([1.0, 0, 0]).expand(5, 3))
SAMPLES = RaySamples(torch.zeros(2, 5, 7), torch.full((2, 5, 7), 0.5), torch.ones(2, 5, 7, dtype=torch.bool))
CAMERAS = Cameras(
    torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]]).expand(2, 3, 3, 3),
    torch.eye(4).expand(2, 3, 4, 4),
    (48, 64),
)
SEEN = torch.ones(2, 3, dtype=torch.bool)
IMAGES = torch.rand(2, 3, 3, 48, 64)
POINTS, VALID = torch.rand(2, 9, 5), torch.ones(2, 9, dtype=torch.bool)
PLACES, ORIGINS, SEEDS = POINTS[..., :3], torch.zeros(2, 3), torch.tensor([1, 2])
PATCHES = torch.ones(6, 6, 8, dtype=torch.bool)
COORDS = torch.zeros(4, 4, dtype=torch.int32)
MAPS = torch.rand(2, 3, 6, 6, 8)
DEPTH, HIT = torch.rand(2, 5), torch.ones(2, 5, dtype=torch.bool)
RGB, SDF = torch.rand(2, 5, 3), torch.rand(2, 5, 7)
NEAR = torch.zeros(2, 5)
PICTURE = torch.rand(2, 3, 16, 16)
CELLS = torch.ones(2, 4, 4, dtype=torch.bool)


def sdf_field():
    return fields.SDFField(GRID, 6, extent=4.0)


def neus(**sizes):
    field = sdf_field()
    return render.VolumeRenderer(field, sample.NeuSImportance(field, **sizes))


def even(**sizes):
    return render.VolumeRenderer(fields.OccupancyField(GRID), sample.Even(GRID, **sizes))


def voxels():
    return encoders.voxelize(POINTS, VALID, GRID)


def points_of(xyz=PLACES, valid=VALID, **more):
    return Points(xyz, POINTS[..., 3], POINTS[..., 4], valid, ORIGINS, **more)


def views_of(cameras=CAMERAS, seen=SEEN, images=IMAGES, **more):
    return Views(images, cameras, seen, **more)


def guided(seeds=SEEDS, points=PLACES, **views):
    return sample.LidarGuidedRays(4)(Batch(("a", "b"), Points.from_table(points), seeds, views_of(**views)))


def drawn(candidates=None):
    candidates = torch.ones(2, 3, 6, 8, dtype=torch.bool) if candidates is None else candidates
    return sample.PixelRays(4, candidates)(Batch(("a", "b"), points_of(), SEEDS, views_of()))


def depths(shape=(2, 3, 48, 64)):
    return torch.ones(shape), torch.ones(shape, dtype=torch.bool)


def view_lifter():
    return lifters.ViewLifter(GRID, 6, depth_bins=4)


def splat():
    return lifters.LiftSplat(GRID, 6, depth_bins=4)


def bevformer():
    return lifters.BEVFormerLifter(
        GRID, 16, num_layers=1, num_heads=2, num_levels=1, num_cameras=3, hidden_channels=8
    )


WRONG = {
    "a sampler without its grid": (
        lambda: render.VolumeRenderer(fields.DensityField(GRID, 6, extent=4.0), sample.Even(32)),
        r"sampler: expected one made with a VoxelGrid, such as Even\(grid\), got Even\(grid=32",
    ),
    "the class of a sampler": (
        lambda: render.VolumeRenderer(fields.DensityField(GRID, 6, extent=4.0), sample.Even),
        "sampler: expected one made with a VoxelGrid, such as Even.grid., got Even",
    ),
    # masking
    "candidates are numbers": (
        lambda: masking.RandomMask(0.3)(POINTS, SEEDS),
        "candidates: expected torch.bool",
    ),
    "candidates without a batch": (lambda: masking.RandomMask(0.3)(VALID[0], SEEDS), "candidates: expected"),
    "candidates of numpy": (
        lambda: masking.RandomMask(0.3)(VALID.numpy(), SEEDS),
        "candidates: expected a tensor",
    ),
    "candidates of a batch of cameras": (lambda: masking.patch_candidates(IMAGES, 8), "flatten"),
    "patches of zero pixels": (lambda: masking.patch_candidates(IMAGES[0], 0), "patch_size=0"),
    "patches that do not tile": (
        lambda: masking.hide_patches(IMAGES.flatten(0, 1), torch.zeros(6, 5, 5, dtype=torch.bool)),
        "mask: expected patches that tile",
    ),
    "hide images of bytes": (
        lambda: masking.hide_patches(IMAGES.flatten(0, 1).byte(), PATCHES),
        "images: expected floating-point",
    ),
    "hide with a mask of numbers": (
        lambda: masking.hide_patches(IMAGES.flatten(0, 1), PATCHES.float()),
        "mask: expected torch.bool",
    ),
    "hide a batch of cameras": (lambda: masking.hide_patches(IMAGES, PATCHES), "flatten"),
    "hide depth of another size": (lambda: masking.hide_depth(DEPTH, HIT[:, :1]), "mask: expected"),
    "hide features without a token for each": (
        lambda: masking.hide_features(torch.rand(4, 6), torch.ones(4, dtype=torch.bool), torch.zeros(1)),
        "token: expected",
    ),
    "voxels in three columns": (lambda: masking.voxel_candidates(COORDS[:, 1:], 2), "coords: expected"),
    "voxels of floats": (
        lambda: masking.occupied_blocks(COORDS.float(), (2, 2, 2), (2, 2, 4, 4)),
        "integers",
    ),
    "blocks without a batch": (lambda: masking.occupied_blocks(COORDS, (2, 2, 2), (2, 4, 4)), "shape, block"),
    "a mask without a batch": (lambda: masking.hidden_voxels(COORDS, (2, 2, 2), CELLS), "mask: expected"),
    "returns of another mask": (
        lambda: masking.returns_per_patch(torch.rand(6, 9, 2), VALID, 8, (6, 8)),
        "visible: expected",
    ),
    # samplers
    "places of five columns": (lambda: points_of(POINTS), r"Points\.xyz: expected"),
    "a table of two columns": (lambda: Points.from_table(POINTS[..., :2]), "table: expected 3 to 5 columns"),
    "a table of colours": (
        lambda: Points.from_table(torch.rand(2, 9, 6)),
        r"table: expected 3 to 5 columns \(x, y, z, intensity, lag\), got \(2, 9, 6\)",
    ),
    "numpy points": (lambda: points_of(PLACES.numpy()), r"Points\.xyz: expected a tensor"),
    "another mask of points": (lambda: points_of(valid=VALID[:, :3]), r"Points\.valid: expected"),
    "point masks of numbers": (
        lambda: points_of(valid=VALID.float()),
        r"Points\.valid: expected torch\.bool",
    ),
    "labels of other points": (
        lambda: points_of(labels=torch.zeros(2, 3).long()),
        r"Points\.labels: expected",
    ),
    "colours in one column": (lambda: points_of(colors=POINTS[..., 3]), r"Points\.colors: expected"),
    "columns that are not known": (
        lambda: points_of().columns(("x", "nx")),
        "names: expected columns among x, y, z, intensity, lag, got nx",
    ),
    "a choice among other points": (lambda: points_of().only(VALID[:, :3]), "these: expected"),
    "seeds of another batch": (lambda: guided(seeds=SEEDS[:1]), "seeds: expected"),
    "points of another batch": (lambda: guided(points=PLACES[:1]), r"views\.valid: expected"),
    "points of one sample": (lambda: guided(points=PLACES[0]), r"points\.xyz: expected"),
    "cameras of one sample": (lambda: views_of(cameras=CAMERAS[0]), r"Views\.cameras: expected"),
    "images cropped without their cameras": (
        lambda: views_of(images=IMAGES[..., :32, :48]),
        "cameras.resize",
    ),
    "images with colour last": (lambda: views_of(images=IMAGES.movedim(2, -1)), r"Views\.images: expected"),
    "a depth image without its mask": (lambda: views_of(z_depths=IMAGES[:, :, 0]), "both or neither"),
    "depth of other pixels": (
        lambda: views_of(z_depths=IMAGES[:, :, 0, 1:], z_depth_valid=IMAGES[:, :, 0, 1:] > 0),
        r"Views\.z_depths: expected",
    ),
    "images of bytes": (lambda: guided(images=IMAGES.byte()), "images: expected floating-point"),
    "pixels of other cameras": (lambda: drawn(candidates=HALF[:, 0] == 0), r"candidates: expected.*N=3"),
    "pixels among flat candidates": (lambda: drawn(candidates=PATCHES), "candidates: expected"),
    "pixels among numbers": (
        lambda: sample.draw_pixels(torch.ones(2, 3, 6, 8), (48, 64), 3, SEEDS),
        "candidates: expected torch.bool",
    ),
    "depth of another size": (
        lambda: sample.add_depth(drawn(), *depths((2, 3, 24, 32)), CAMERAS),
        "z_depths",
    ),
    "depth with a channel": (
        lambda: sample.add_depth(drawn(), *depths((2, 3, 1, 48, 64)), CAMERAS),
        "z_depths",
    ),
    "range without a batch": (lambda: sample.uniform_positions(NEAR[0], NEAR[0] + 1, 3), "near: expected"),
    "range of another batch": (
        lambda: sample.stratified_positions(NEAR, NEAR[:1] + 1, 3, SEEDS),
        "far: expected",
    ),
    "disparity of another batch": (
        lambda: sample.disparity_positions(NEAR + 1, NEAR[:1] + 2, 3),
        "far: expected",
    ),
    "depth of a column": (
        lambda: sample.near_surface_positions(NEAR, NEAR + 1, DEPTH[..., None], HIT, 3, width=1),
        "depth: expected",
    ),
    "occupancy of another grid": (
        lambda: sample.occupied_samples(
            RAYS, NEAR, NEAR + 1, torch.ones(2, 2, 4, 4, dtype=torch.bool), GRID, step=1, capacity=4
        ),
        "occupied: expected",
    ),
    "pictures without cameras": (
        lambda: sample.read_pixels(depths()[0][:, 0], torch.zeros(2, 5).long(), torch.zeros(2, 5, 2)),
        "pictures: expected",
    ),
    "depth pictures of five columns": (
        lambda: sample.depth_pictures(POINTS, VALID, CAMERAS),
        "points: expected",
    ),
    "returns of another batch": (
        lambda: sample.read_returns(POINTS[:1], torch.zeros(2, 4).long()),
        "values: expected",
    ),
    "every zeroth pixel": (lambda: sample.pixel_grid(CAMERAS, 0), "stride"),
    "targets with depth in a column": (
        lambda: sample.RayTargets(
            RAYS, DEPTH[..., None], HIT, RGB, HIT, torch.zeros(2, 5).long(), torch.zeros(2, 5, 2)
        ),
        r"RayTargets\.depth: expected",
    ),
    # fields and renderers
    "a strided volume": (lambda: neus()(HALF, RAYS, SEEDS), "output_grid"),
    "a transposed volume": (lambda: neus()(XYZ, RAYS), "output_grid"),
    "a volume of another width": (lambda: neus()(VOLUME[:, :4], RAYS), "C=6"),
    "rays without a batch": (
        lambda: neus()(VOLUME, FLAT),
        r"rays\.origins: expected",
    ),
    "rays of another batch": (lambda: neus()(VOLUME[:1], RAYS), "B=1"),
    "distances of a strided volume": (lambda: sdf_field().sdf(HALF, torch.zeros(2, 4, 3)), "output_grid"),
    "distances without a batch": (lambda: sdf_field().sdf(VOLUME, torch.zeros(4, 3)), "points: expected"),
    "a field asked along other rays": (lambda: sdf_field()(VOLUME, RAYS[:, :3], SAMPLES), r"samples\.valid"),
    "a density of a strided volume": (
        lambda: fields.DensityField(GRID, 6, extent=4.0)(HALF, RAYS, SAMPLES),
        "output_grid",
    ),
    "a density of another width": (
        lambda: fields.DensityField(GRID, 4, extent=4.0)(VOLUME, RAYS, SAMPLES),
        "C=4",
    ),
    "occupancy of a strided volume": (
        lambda: fields.OccupancyField(GRID)(HALF, RAYS, SAMPLES),
        "output_grid",
    ),
    "a surface of a strided volume": (
        lambda: fields.OccupancyField(GRID).surface(HALF, torch.zeros(2, 4, 3)),
        "output_grid",
    ),
    "even samples in a strided volume": (
        lambda: even()(HALF, RAYS),
        "output_grid",
    ),
    "even samples without a batch": (
        lambda: even()(VOLUME, FLAT),
        r"rays\.origins: expected",
    ),
    "a field without a distance": (
        lambda: sample.NeuSImportance(fields.DensityField(GRID, 6, extent=4.0)),
        r"Even\(grid\) samples any field",
    ),
    "an answer of other samples": (
        lambda: render.render(fields.FieldSamples(SDF[..., :4]), SAMPLES),
        r"answer\.alphas: expected",
    ),
    "channels of other samples": (
        lambda: render.render(fields.FieldSamples(SDF, {"rgb": torch.rand(2, 5, 4, 3)}), SAMPLES),
        "channels",
    ),
    "features of another width": (
        lambda: fields.InjectedMLP(6, 8, 1, num_blocks=1)(PLACES, POINTS),
        "features: expected",
    ),
    # losses
    "targets in a column": (lambda: losses.depth_l1(DEPTH, DEPTH[..., None], HIT), "target: expected"),
    "squares of targets in a column": (
        lambda: losses.depth_l2(DEPTH, DEPTH[..., None], HIT),
        "target: expected",
    ),
    "logarithms of targets in a column": (
        lambda: losses.depth_silog(DEPTH, DEPTH[..., None], HIT),
        "target: expected",
    ),
    "targets of whole millimetres": (
        lambda: losses.depth_l1(DEPTH, DEPTH.int(), HIT),
        "target: expected floating",
    ),
    "a hit of numbers": (lambda: losses.depth_l1(DEPTH, DEPTH, HIT.float()), "hit: expected torch.bool"),
    "depth without a batch": (lambda: losses.depth_l1(DEPTH[0], DEPTH[0], HIT[0]), "depth: expected a batch"),
    "inliers of other rays": (lambda: losses.depth_l1(DEPTH, DEPTH, HIT, inliers=DEPTH[:, :1]), "inliers"),
    "a distribution without intervals": (
        lambda: losses.depth_kl(SDF, SDF[:, :1], SDF, DEPTH, HIT, sigma=1),
        "t_starts: expected",
    ),
    "a distribution of other rays": (
        lambda: losses.depth_kl(SDF, SDF, SDF, DEPTH[:, :1], HIT, sigma=1),
        "depth",
    ),
    "colours of bytes": (lambda: losses.rgb_l1(RGB, (RGB * 255).byte(), HIT), "target: expected floating"),
    "colours with the channel first": (lambda: losses.rgb_l1(RGB, RGB.mT, HIT), "target: expected"),
    "one colour for all": (lambda: losses.rgb_mse(RGB, RGB[:, :1], HIT), "target: expected"),
    "a mark for each channel": (lambda: losses.rgb_mse(RGB, RGB, RGB > 0), "valid: expected"),
    "pictures with the channel last": (
        lambda: losses.rgb_ssim(PICTURE, PICTURE.movedim(1, -1), PICTURE[:, 0] > 0),
        "target: expected",
    ),
    "a mark with a channel": (
        lambda: losses.rgb_ssim(PICTURE, PICTURE, PICTURE[:, :1] > 0),
        "valid: expected",
    ),
    "entropy of a column": (lambda: losses.opacity_entropy(DEPTH[..., None], HIT), "valid: expected"),
    "spread of other intervals": (
        lambda: losses.distortion(SDF, SDF[..., :3], SDF, HIT),
        "t_starts: expected",
    ),
    "a mean of broadcast marks": (lambda: losses.masked_mean(SDF, HIT[..., None]), "valid: expected"),
    "free space of rays": (
        lambda: losses.free_space(DEPTH, DEPTH, DEPTH, HIT, truncation=1),
        "sdf: expected",
    ),
    "free space of a column": (
        lambda: losses.free_space(SDF, SDF, DEPTH[..., None], HIT, truncation=1),
        "depth: expected",
    ),
    "a surface of other samples": (
        lambda: losses.near_surface_sdf(SDF, SDF[..., :3], DEPTH, HIT, truncation=1),
        "t: expected",
    ),
    "gradients of other samples": (
        lambda: losses.eikonal(torch.rand(2, 5, 7, 3), SAMPLES.valid[..., :3]),
        "valid: expected",
    ),
    "a volume of labels": (
        lambda: neus()(VOLUME.long(), RAYS, SEEDS),
        "volume: expected floating",
    ),
    "whole directions": (
        lambda: Rays(torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 1, 0]])),
        "expected floating-point numbers, got torch.float32 and torch.int64",
    ),
    "no length unit": (lambda: fields.SDFField(GRID, 6, extent=0.0), "extent: expected a positive number"),
    "a length unit that is none": (
        lambda: fields.DensityField(GRID, 6, extent=float("nan")),
        "extent: expected a positive number",
    ),
    "depths from far to near": (
        lambda: lifters.ViewLifter(GRID, channels=6, depth_range=(45, 1)),
        "depth_range: expected the nearest",
    ),
    "depths without end": (
        lambda: lifters.LiftSplat(GRID, channels=6, depth_range=(1, float("inf"))),
        "depth_range: expected the nearest",
    ),
    "fewer than no beams": (
        lambda: sample.LidarBeams(-4)(Batch(("a", "b"), points_of(), SEEDS)),
        "num_rays: expected a whole number of at least 1, got -4",
    ),
    "half a pixel": (
        lambda: sample.PixelRays(4.5)(Batch(("a", "b"), points_of(), SEEDS, views_of())),
        "expected a whole number of at least 1, got 4.5",
    ),
    "cameras without number": (lambda: ops.per_camera(SEEDS, 0), "num_cameras: expected at least 1"),
    "seeds in a list": (
        lambda: masking.RandomMask(0.3)(PATCHES, [1, 2, 3, 4, 5, 6]),
        "seeds: expected a tensor",
    ),
    "distances in centimetres": (
        lambda: losses.near_surface_sdf((SDF * 100).byte(), SDF, DEPTH, HIT, truncation=1),
        "sdf: expected floating",
    ),
    "whole gradients": (
        lambda: losses.eikonal(torch.ones(2, 5, 7, 3, dtype=torch.int64), SAMPLES.valid),
        "gradients: expected floating",
    ),
    "weights of 255": (
        lambda: losses.distortion((SDF * 255).byte(), SDF, SDF, HIT),
        "weights: expected float",
    ),
    "opacity of 255": (
        lambda: losses.opacity_entropy((DEPTH * 255).byte(), HIT),
        "opacity: expected floating",
    ),
    "logits that are labels": (
        lambda: losses.occupancy_bce(CELLS.long(), CELLS, CELLS),
        "logits: expected floating",
    ),
    "labels for probabilities": (
        lambda: losses.lovasz_softmax(torch.ones(2, 3, 4, 4).long(), torch.zeros(2, 4, 4).long(), CELLS),
        "probabilities: expected floating",
    ),
    "whole embeddings": (lambda: losses.semantic_cosine(SDF.int(), SDF, HIT), "features: expected floating"),
    "whole residuals": (lambda: losses.inlier_weights(DEPTH.int(), HIT), "residual: expected floating"),
    "sparsity of rays": (lambda: losses.sdf_sparsity(SDF, HIT[..., None], sharpness=1), "valid: expected"),
    "inliers of a column": (lambda: losses.inlier_weights(DEPTH, HIT[..., None]), "valid: expected"),
    "the best of a column": (lambda: losses.trimmed_weights(DEPTH, HIT[..., None]), "valid: expected"),
    "occupancy with a channel": (
        lambda: losses.occupancy_bce(torch.rand(2, 1, 4, 4), CELLS, CELLS),
        "occupied: expected",
    ),
    "labels of numbers": (
        lambda: losses.occupancy_focal(torch.rand(2, 4, 4), torch.rand(2, 4, 4), CELLS),
        "occupied: expected torch.bool",
    ),
    "classes of other cells": (
        lambda: losses.lovasz_softmax(torch.rand(2, 3, 4, 4), torch.zeros(2, 4).long(), CELLS),
        "labels: expected",
    ),
    "the top of a map": (lambda: losses.top_surface(CELLS, 1.0), "occupied: expected"),
    "embeddings of another width": (
        lambda: losses.semantic_cosine(SDF, SDF[..., :3], HIT),
        "target: expected",
    ),
    "embeddings of one ray": (lambda: losses.semantic_info_nce(SDF, SDF[:, :1], HIT), "target: expected"),
    "classes of another width": (
        lambda: losses.class_log_probabilities(SDF[0], SDF[0, :, :3], torch.ones(5, 5, dtype=torch.bool)),
        "vectors: expected",
    ),
    # lifters
    "a tensor for a list": (lambda: view_lifter()(MAPS, CAMERAS, SEEN), r"\[features\]"),
    "maps of another width": (
        lambda: view_lifter()([MAPS[:, :, :4]], CAMERAS, SEEN),
        "levels: expected.*C=6",
    ),
    "maps in one row": (lambda: view_lifter()([MAPS.flatten(0, 1)], CAMERAS, SEEN), "levels: expected"),
    "maps of other cameras": (lambda: view_lifter()([MAPS], CAMERAS[:, :2], SEEN), "cameras: expected"),
    "no maps": (lambda: view_lifter()([], CAMERAS, SEEN), "levels: expected"),
    "camera marks of numbers": (lambda: view_lifter()([MAPS], CAMERAS, SEEN.float()), "camera_valid"),
    "splat a tensor": (lambda: splat()(MAPS, CAMERAS, SEEN), r"\[features\]"),
    "splat another width": (lambda: splat()([MAPS[:, :, :4]], CAMERAS, SEEN), "levels: expected.*C=6"),
    "attend to a tensor": (lambda: bevformer()(MAPS, CAMERAS, SEEN), r"\[features\]"),
    "attend to another width": (lambda: bevformer()([MAPS], CAMERAS, SEEN), "levels: expected.*C=16"),
    "a volume for a list": (lambda: lifters.sum_volumes(VOLUME), "volumes: expected a list"),
    "disparity from the sensor itself": (
        lambda: sample.Disparity(GRID, near=0),
        "near: expected more than 0 for samples even in 1/t, got 0",
    ),
    "a background in bytes": (
        lambda: render.VolumeRenderer(sdf_field(), sample.Even(GRID), background=(0, 128, 255)),
        r"background: expected RGB in \[0, 1\]",
    ),
    "values of other points": (
        lambda: lifters.lift_points(POINTS[:, :3], PLACES, VALID, GRID),
        "points: expected",
    ),
    "likelihoods of other cameras": (
        lambda: lifters.depth_log_likelihood(MAPS, torch.zeros(2, 2, 5, 3), torch.ones(2, 2, 5) > 0),
        "coordinates: expected",
    ),
    # encoders
    "voxels of numpy": (lambda: encoders.voxelize(POINTS, VALID.numpy(), GRID), "expected a tensor"),
    "points of numpy": (lambda: encoders.voxelize(np.zeros((2, 9, 5)), VALID, GRID), "expected a tensor"),
    "points of two columns": (lambda: encoders.voxelize(POINTS[..., :2], VALID, GRID), "points: expected"),
    "points of whole numbers": (lambda: encoders.voxelize(POINTS.long(), VALID, GRID), "floating-point"),
    "a mask of other voxels": (lambda: voxels().to_sparse(torch.zeros(999, dtype=torch.bool)), "hidden"),
    "voxels for a sparse tensor": (lambda: encoders.SparseEncoder(5)(voxels()), "SparseTensor"),
    "voxels for a U-Net": (lambda: encoders.SparseUNet(5)(voxels()), "SparseTensor"),
    "features of other voxels": (
        lambda: encoders.SparseTensor(torch.rand(3, 5), COORDS, GRID.shape, 2),
        "coords: expected",
    ),
    "a ResNet of a batch of cameras": (lambda: encoders.resnet18()(IMAGES), "flatten"),
    "a ResNet of bytes": (lambda: encoders.resnet18()(IMAGES[0].byte()), "floating-point"),
    "a ResNet of colour last": (lambda: encoders.resnet18()(IMAGES[0].movedim(1, -1)), "images: expected"),
    "a ConvNeXt of a batch of cameras": (
        lambda: encoders.ConvNeXt((1,), (8,), out_indices=(0,))(IMAGES),
        "flatten",
    ),
    "a Swin of a batch of cameras": (
        lambda: encoders.SwinTransformer((1,), 8, out_indices=(0,))(IMAGES),
        "flatten",
    ),
    "a mask without a channel": (lambda: encoders.hide_cells(IMAGES[0], PATCHES[:3]), "hidden: expected"),
    "a pyramid of another width": (lambda: encoders.FPN((4, 8), 8)([MAPS[0], MAPS[0]]), "maps: expected"),
    "a neck of another width": (
        lambda: encoders.VolumeNeck(4, 4, channels=(4,), strides=(1,), num_blocks=0)(VOLUME),
        "volume: expected",
    ),
    "a U-Net without a batch": (
        lambda: encoders.VolumeUNet(6, 4, channels=(4,))(VOLUME[0]),
        "volume: expected",
    ),
    # nouns
    "even samples of tensors": (lambda: RaySamples.even(NEAR, NEAR + 1, 3), "near, far: expected numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_refused_in_a_sentence(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        call()


def test_the_right_calls_run():
    """What the mistakes are changes of."""
    neus(num_samples=4, num_importance=4)(VOLUME, RAYS, SEEDS)
    fields.DensityField(GRID, 6, extent=4.0)(VOLUME, RAYS, SAMPLES)
    even(num_samples=4)(VOLUME, RAYS, SEEDS)
    sample.add_depth(drawn(), *depths(), CAMERAS)
    sample.LidarBeams(3)(Batch(("a", "b"), points_of(labels=torch.zeros(2, 9).long()), SEEDS))
    guided()
    masking.hide_patches(IMAGES.flatten(0, 1), PATCHES)
    view_lifter()([MAPS], CAMERAS, SEEN)
    splat()([MAPS], CAMERAS, SEEN)
    bevformer()([torch.rand(2, 3, 16, 6, 8)], CAMERAS, SEEN)
    encoders.FPN((6, 6), 8)([MAPS[0], MAPS[0]])
    losses.free_space(SDF, SDF, DEPTH, HIT, truncation=1)


def test_a_grid_of_lists_is_a_grid():
    grid = VoxelGrid(list(GRID.point_cloud_range), list(GRID.voxel_size))
    assert grid == GRID and hash(grid) == hash(GRID)
