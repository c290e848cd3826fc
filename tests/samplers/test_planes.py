"""Normals of a sweep's returns where the exact ones are known, and rays that go where surfaces bend."""

import pytest
import torch
from sweeps import sweep
from torch.testing import assert_close

from renderpretrain.geometry import Points
from renderpretrain.samplers import CurvedReturns, LidarBeams, local_planes
from renderpretrain.samplers.curved import choose
from renderpretrain.samplers.planes import FLATTEST, NARROWEST, smallest_axis


def errors(points, normals):
    """Degrees between estimated and exact normals where there is a plane, and the share of these returns."""
    returns = torch.arange(0, points.xyz.shape[1], 7)[None]
    planes = local_planes(points, returns)
    cosines = (planes.normals[0] * normals[returns[0]]).sum(-1)[planes.valid[0]].clamp(-1, 1)
    assert_close(planes.normals.norm(dim=-1), planes.valid.float(), rtol=0, atol=1e-5)
    return torch.rad2deg(torch.acos(cosines)), planes.valid.float().mean()


@pytest.mark.parametrize(("degrees", "slope"), [(0.0, (0.0, 0.0)), (5.0, (0.08, -0.03))])
def test_normals_are_those_of_the_world(degrees, slope):
    """Ground and boxes with 2 cm of noise: 0.8 degrees in the median, 0.5 % far off, five of six have one."""
    for seed in range(2):
        points, normals, _ = sweep(seed, degrees=degrees, slope=slope)
        angles, share = errors(points, normals)
        assert angles.median() < 1.5 and angles.quantile(0.9) < 5 and (angles > 30).float().mean() < 0.02
        assert share > 0.7


def test_a_wall_without_noise_has_its_exact_normal():
    y, z = torch.meshgrid(torch.linspace(-3, 3, 60), torch.linspace(-1, 1, 20), indexing="ij")
    wall = torch.stack([10 + 0.5 * y, y, z], -1).reshape(1, -1, 3)
    planes = local_planes(Points.from_table(wall), torch.tensor([[600, 610]]))
    expected = torch.nn.functional.normalize(torch.tensor([-1.0, 0.5, 0.0]), dim=0).expand(1, 2, 3)
    assert planes.valid.all()
    assert_close(planes.normals, expected, rtol=0, atol=1e-3)  # moments in float32: places to 1e-7 of metres
    assert_close(planes.variation, torch.zeros(1, 2), rtol=0, atol=1e-5)


def test_normals_turn_with_the_world_and_move_with_the_sensor():
    points, _, _ = sweep(3)
    returns = torch.arange(0, 3000, 11)[None]
    turned = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    shift = torch.tensor([40.0, -7.0, 3.0])
    moved = Points.from_table(points.xyz @ turned.T + shift, origin=shift[None])
    here, there = local_planes(points, returns), local_planes(moved, returns)
    same = here.valid & there.valid
    assert same.float().mean() > 0.97 * here.valid.float().mean()
    cosines = ((here.normals @ turned.T) * there.normals).sum(-1)[same]
    # A quarter of a turn is whole columns, but a return on the border of two may fall into the other one.
    assert cosines.median() > 0.9999 and cosines.quantile(0.05) > 0.998


def test_edges_clutter_and_single_lines_have_no_plane():
    generator = torch.Generator().manual_seed(0)
    cloud = torch.randn(1, 400, 3, generator=generator) * 0.4 + torch.tensor([8.0, 0.0, 0.0])
    t = torch.linspace(-1, 1, 200)
    line = torch.stack([torch.full_like(t, 8.0), t, torch.zeros_like(t)], -1)[None]
    for places in (cloud, line, line[:, :3]):
        planes = local_planes(Points.from_table(places), torch.zeros(1, 1, dtype=torch.long))
        assert not planes.valid.any() and not planes.normals.any()
    assert local_planes(Points.from_table(cloud), torch.arange(400)[None]).variation.median() > 0.05


@pytest.mark.parametrize("points", ["none", "padding"])
def test_without_returns_there_are_no_planes(points):
    rows = torch.full((2, 4), -1)
    places = torch.full((2, 0 if points == "none" else 6, 3), torch.nan)
    planes = local_planes(Points.from_table(places, torch.zeros(places.shape[:2], dtype=torch.bool)), rows)
    assert not planes.valid.any() and not planes.normals.any() and not planes.variation.any()


def test_smallest_axes_are_those_of_the_eigenvalues():
    """Where the plane counts as one; nearly equal values have no axis of their own."""
    generator = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(500, 3, 3, generator=generator)).Q
    sizes = torch.rand(500, 3, generator=generator) * torch.tensor([FLATTEST, 1.0, 1.0])
    spread = axes @ torch.diag_embed(sizes) @ axes.mT
    values, vectors = torch.linalg.eigh(spread)
    least, second, largest, axis = smallest_axis(spread)
    assert_close(torch.stack([least, second, largest], -1), values, rtol=1e-2, atol=1e-4)
    flat = (values[:, 0] < FLATTEST * values[:, 1]) & (values[:, 1] > NARROWEST * values[:, 2])
    assert flat.sum() > 100
    assert ((axis * vectors[..., 0]).sum(-1).abs()[flat] > 1 - 1e-4).all()


def test_rays_go_where_the_sweep_bends_after_the_warm_up():
    points, _, _ = sweep(0)
    batch = type("Sensors", (), {"points": points, "views": None, "seeds": torch.tensor([5])})()
    curved, bent = CurvedReturns(after=2), []
    sampler = LidarBeams(512, curved)
    for step in range(3):
        targets = sampler(batch)
        assert torch.equal(sampler(batch).returns, targets.returns)  # drawing rays is no step
        assert int(curved.steps) == step
        curved.count_step()
        assert targets.hit.all() and len(set(targets.returns[0].tolist())) == 512
        bent.append(local_planes(points, targets.returns).variation.mean())
    assert bent[0] == bent[1] and bent[2] > 1.5 * bent[0]
    alike = local_planes(points, LidarBeams(512)(batch).returns).variation.mean().item()
    assert bent[0].item() == pytest.approx(alike, rel=0.4)  # four deviations of the mean of 512
    with pytest.raises(ValueError, match="after: expected at least 0 steps, got -1"):
        CurvedReturns(-1)


def test_returns_are_chosen_in_proportion_to_their_weights():
    """One of two with weights 1 and 3, many times: three times out of four the second."""
    points = Points.from_table(torch.zeros(4000, 2, 3))
    candidates = torch.arange(2).expand(4000, 2)
    found = torch.ones(4000, 2, dtype=torch.bool)
    weights = torch.tensor([1.0, 3.0]).expand(4000, 2)
    seeds = torch.arange(4000)
    chosen, kept = choose(points, candidates, found, 1, lambda *_: weights, seeds)
    assert kept.all()
    assert chosen.float().mean() == pytest.approx(0.75, abs=0.02)  # three deviations of 4000 draws
    found = torch.tensor([True, False]).expand(4000, 2)
    chosen, kept = choose(points, candidates, found, 2, lambda *_: weights, seeds)
    assert torch.equal(chosen[:, 0], torch.zeros(4000, dtype=torch.long)) and torch.equal(kept, found)
