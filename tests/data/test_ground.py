import torch
from torch.testing import assert_close

from renderpretrain.data.synthetic.ground import KERB_WIDTH, Ground, Strip, strip_distances


def hills(kerb=0.15, cell=1.0):
    """A road of 6 m along y with pavements of 2 m over waves of 1.5 m."""
    road = Strip(0.0, 0.0, torch.pi / 2, 0.0, 0.1, 0.0, 3.0, 5.0, 5.0)
    steps = torch.arange(-60.0, 60.5, cell)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    distance, edge = strip_distances([road], torch.stack([x, y], -1).view(-1, 2))
    base = 0.8 * (0.11 * x + 0.05 * y).sin() + 0.7 * (0.09 * y).cos()
    table = torch.stack([base, torch.full_like(base, kerb), distance.view_as(base), edge.view_as(base)])
    return Ground.tabulate(table, (-60.0, -60.0), cell, verge=0.0, strips=[road])


def test_a_road_has_kerbs_and_pavements_where_its_strip_says():
    ground = hills()
    places = torch.tensor(
        [[0.0, 7.0], [2.9, 7.0], [3.2, 7.0], [4.9, 7.0], [5.1, 7.0], [-4.9, 7.0], [-5.1, 7.0]]
    )
    assert ground.surfaces(places).tolist() == [0, 0, 1, 1, 2, 1, 2]
    base = ground.read(places)[0]
    assert_close(ground.height(places) - base, torch.tensor([0.0, 0.0, *[0.15] * 5]), atol=1e-6, rtol=0)
    middle = torch.tensor([[3.0 + KERB_WIDTH / 2, 7.0]])
    assert_close(ground.height(middle) - ground.read(middle)[0], torch.tensor([0.075]), atol=1e-5, rtol=0)


def test_rays_meet_the_ground_where_marching_along_them_does():
    ground, origin = hills(), torch.tensor([1.0, 2.0, 4.0])
    directions = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(directions * torch.tensor([1.0, 1.0, 0.15]), dim=-1)
    t = ground.cast(origin, directions, torch.full((300,), 80.0))
    steps = torch.arange(0.0, 80.0, 0.01)
    points = origin + steps[:, None] * directions[:, None]
    below = points[..., 2] <= ground.height(points[..., :2].reshape(-1, 2)).view(points.shape[:-1])
    marched = torch.where(below.any(1), steps[below.int().argmax(1)], torch.inf)
    assert t.isfinite().sum() > 80 and t.isinf().sum() > 50
    # A ray that dips into a crest for less than one of the cast's steps may pass it.
    same = (t.isfinite() == marched.isfinite()) & ~((marched - t).abs() > 0.0101)
    assert same.float().mean() > 0.98
    at = origin + t[t.isfinite(), None] * directions[t.isfinite()]
    assert (at[:, 2] - ground.height(at[:, :2])).abs().max() < 3e-4  # 1e-4 m along a ray, onto a kerb's face


def test_a_limit_ends_a_ray_and_a_start_below_meets_nothing():
    ground, down = hills(), torch.tensor([[0.0, 0.0, -1.0]])
    origin = torch.tensor([0.5, 0.5, 4.0])
    depth = 4.0 - ground.height(origin[None, :2])
    assert_close(ground.cast(origin, down, torch.tensor([9.0])), depth, atol=1e-4, rtol=0)
    assert ground.cast(origin, down, depth - 0.01).isinf().all()
    assert ground.cast(origin - torch.tensor([0, 0, 9.0]), down, torch.tensor([9.0])).isinf().all()


def test_a_winding_strip_finds_back_the_places_it_gives():
    strip = Strip(3.0, -2.0, 0.7, 4.0, 0.08, 0.4, 3.0, 5.0, 4.0, -20.0, 30.0)
    inside = [strip.place(a, c) for a in (-19.0, 0.0, 29.0) for c in (-2.9, 0.0, 2.9)]
    pavements = [strip.place(a, c) for a in (-19.0, 0.0, 29.0) for c in (-4.9, 3.9)]
    outside = [strip.place(a, c) for a, c in ((-21.0, 0.0), (31.0, 0.0), (0.0, -5.1), (0.0, 4.1))]
    road, edge = strip_distances([strip], torch.tensor(inside + pavements + outside))
    assert ((road <= 0) == torch.tensor([True] * 9 + [False] * 10)).all()
    assert ((edge <= 0) == torch.tensor([True] * 15 + [False] * 4)).all()
    step = 1e-3
    (x0, y0), (x1, y1) = strip.place(5.0, 1.0), strip.place(5.0 + step, 1.0)
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    assert abs(length / step - strip.stretch(5.0)) < 1e-3
    assert abs(torch.atan2(torch.tensor(y1 - y0), torch.tensor(x1 - x0)).item() - strip.direction(5.0)) < 1e-3
