"""Samplers as values: what a renderer takes, each against the positions it is made of or a scene."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, VoxelGrid, ops
from renderpretrain.fields import OccupancyField, SDFField
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import (
    Disparity,
    Even,
    NearSurface,
    NeuSImportance,
    Occupied,
    Stratified,
)

GRID = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (0.5, 0.5, 0.5))
VOLUME = torch.zeros(2, 6, *GRID.shape)
SEEDS = torch.tensor([7, 8])
# From outside the box, through it; the last ray of each sample misses it.
ORIGINS = torch.tensor([-6.0, 0.2, 0.1]).expand(2, 3, 3)
TARGETS = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 1.0], [-6.0, 9.0, 0.0]]).expand(2, 3, 3)
RAYS = Rays.through(ORIGINS, TARGETS)
DEPTH, HIT = torch.full((2, 3), 5.0), torch.tensor([True, False, True]).expand(2, 3)
FIELD = SDFField(GRID, 6, extent=4.0)
OCCUPIED = torch.zeros(2, *GRID.shape, dtype=torch.bool)
OCCUPIED[:, 7:9, 7:9, 7:9] = True

SAMPLERS = {
    "even": Even(GRID, 20),
    "stratified": Stratified(GRID, 20),
    "disparity": Disparity(GRID, 20),
    "near the surface": NearSurface(GRID, DEPTH, HIT, width=0.5, num_samples=20),
    "importance": NeuSImportance(FIELD, 12, 8),
    "occupied": Occupied(GRID, OCCUPIED, step=0.25, capacity=20),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_sorted_within_the_grid_and_jittered_with_seeds(name):
    still, moved = SAMPLERS[name](VOLUME, RAYS), SAMPLERS[name](VOLUME, RAYS, SEEDS)
    for samples in (still, moved):
        valid = samples.valid
        assert valid.shape == (2, 3, 20) and valid[:, 0].any() and not valid[:, 2].any()
        starts, ends = samples.t_starts, samples.t_ends
        assert (starts <= ends + 1e-6)[valid].all() and not starts.requires_grad
        both = valid[..., 1:] & valid[..., :-1]
        assert (ends[..., :-1] <= starts[..., 1:] + 1e-5)[both].all()
        middles = RAYS.at(samples.t_mids)[valid]
        # Half a step of jitter may leave the box by as much.
        assert (middles.abs() < 4 + 0.3).all()
    assert not torch.equal(still.t_mids, moved.t_mids)
    assert torch.equal(moved.t_mids, SAMPLERS[name](VOLUME, RAYS, SEEDS).t_mids)
    alone = Rays(RAYS.origins[1:], RAYS.directions[1:])
    if name not in ("near the surface", "occupied"):  # these are values of one batch
        assert torch.equal(moved.t_mids[1:], SAMPLERS[name](VOLUME[1:], alone, SEEDS[1:]).t_mids)


def test_samples_gather_where_a_surface_was_measured():
    samples = SAMPLERS["near the surface"](VOLUME, RAYS)
    near = ((samples.t_mids - 5).abs() < 0.6).sum(-1)
    assert near[:, 0].min() >= 10 and near[:, 1].max() < 5


def test_empty_space_is_not_sampled():
    samples = SAMPLERS["occupied"](VOLUME, RAYS)
    inside = RAYS.at(samples.t_mids)[samples.valid]
    assert samples.valid[:, 0].sum(-1).tolist() == [4, 4] and (inside.abs() <= 0.5 + 1e-5).all()


def test_importance_gathers_at_the_surface_of_the_field():
    class Wall(SDFField):
        def sdf(self, volume, points):
            return 1.3 - points[..., 0]

    samples = NeuSImportance(Wall(GRID, 6, extent=4.0), 16, 16)(VOLUME, RAYS)
    t = 1.3 + 6  # the first ray runs along x, nearly
    assert ((samples.t_mids[:, 0] - t).abs() < 0.5).sum(-1).min() >= 14


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_renders(name):
    """A wall of logits across the box, at x = 0."""
    logits = torch.full((2, 1, *GRID.shape), -12.0)
    logits[..., 8:] = 12.0
    field = OccupancyField(GRID)
    if name == "importance":
        pytest.skip("asks for signed distances")
    sampler = SAMPLERS[name]
    if name != "occupied":
        sampler = replace(sampler, num_samples=200, **({"depth": 0 * DEPTH + 6} if "near" in name else {}))
    else:
        sampler = replace(sampler, occupied=logits[:, 0] > 0, step=0.04, capacity=200)
    rendered = VolumeRenderer(field, sampler)(logits, RAYS)
    assert_close(rendered.opacity[:, :2], torch.ones(2, 2), atol=1e-3, rtol=0)
    # The wall is trilinear over half a metre before x = 0.25, the first centre of full logits.
    assert (RAYS.at(rendered.depth[..., None])[:, :2, 0, 0].abs() < 0.3).all()
    assert (rendered.opacity[:, 2] == 0).all()


def test_a_background_is_seen_where_nothing_is():
    field = SDFField(GRID, 6, extent=4.0, sharpness=2.0)
    black, blue = (
        VolumeRenderer(field, Even(GRID, 24), background=color)(VOLUME, RAYS)
        for color in (None, (0.1, 0.2, 0.9))
    )
    left = (1 - black.opacity)[..., None]
    assert left.max() == 1 and 0 < left.min() < 1
    assert_close(blue.rgb, black.rgb + left * torch.tensor([0.1, 0.2, 0.9]))
    assert torch.equal(blue.depth, black.depth)


def test_distances_composite_as_their_opacities_do():
    """One pass from distances to depth, against opacities first and their compositing then."""
    field = SDFField(GRID, 6, extent=4.0, sharpness=3.0)
    volume = torch.randn(2, 6, *GRID.shape)
    samples = Even(GRID, 24)(volume, RAYS, SEEDS)
    answer = field(volume, RAYS, samples)
    fused = answer.composite(samples)
    apart = ops.composite_values(answer.alphas, answer.alphas.new_empty(2, 3, 24, 0), samples.t_mids)
    for name in ("depth", "opacity", "weights"):
        # float32, sums of 24 terms.
        assert_close(getattr(fused, name), getattr(apart, name), rtol=1e-6, atol=1e-6)
    sharpness = field.opacity.log_sharpness
    gradients = [
        torch.autograd.grad(made.depth.sum() + made.opacity.sum(), sharpness, retain_graph=True)
        for made in (fused, apart)
    ]
    assert_close(*gradients, rtol=1e-5, atol=1e-6)
