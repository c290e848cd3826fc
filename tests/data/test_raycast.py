import math

import torch
from torch.testing import assert_close

from renderpretrain.data.synthetic.raycast import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    Solid,
    Solids,
    cast,
    contains,
    occupancy,
)
from renderpretrain.geometry import VoxelGrid, pose_from_vectors

GREY = (0.5, 0.5, 0.5)


def three():
    return Solids.stack(
        [
            Solid(BOX, (4.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1, GREY),
            Solid(CYLINDER, (0.0, 4.0, 0.0), (1.0, 1.0, 1.0), 2, GREY),
            Solid(ELLIPSOID, (0.0, 0.0, 4.0), (1.0, 1.0, 2.0), 3, GREY),
        ]
    )


def crowd(count=12):
    """Random solids of all kinds around the origin, none of which contains it."""
    generator = torch.Generator().manual_seed(3)
    solids = []
    for k in range(count):
        a, b, c, d, e, f, g = torch.rand(7, generator=generator).tolist()
        angle, distance = 6.28 * a, 3 + 4 * b
        center = (
            distance * torch.tensor(angle).cos().item(),
            distance * torch.tensor(angle).sin().item(),
            4 * c - 2,
        )
        solids.append(Solid(k % 3, center, (0.2 + d, 0.2 + e, 0.2 + f), k + 1, GREY, yaw=6 * g))
    return Solids.stack(solids)


def test_by_hand():
    hits = cast(three(), torch.zeros(3), torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [-1.0, 0, 0]]))
    assert hits.hit.tolist() == [True, True, True, False]
    assert hits.t.tolist() == [3.0, 3.0, 2.0, 0.0]
    assert hits.index.tolist() == [0, 1, 2, 0]
    assert_close(hits.normals, torch.tensor([[-1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0], [0, 0, 0]]))


def test_a_cube_turned_by_45_degrees_shows_its_edge():
    cube = Solids.stack([Solid(BOX, (4.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1, GREY, yaw=torch.pi / 4)])
    hits = cast(cube, torch.tensor([0.0, 1e-3, 0.0]), torch.tensor([[1.0, 0, 0]]))
    assert_close(hits.t, torch.tensor([4 - 2**0.5 + 1e-3]), atol=1e-5, rtol=0)  # float32 at 4 m
    assert_close(hits.normals, torch.tensor([[-1.0, 1.0, 0.0]]) / 2**0.5)


def test_hits_agree_with_marching_along_the_rays():
    solids = crowd()
    directions = torch.nn.functional.normalize(torch.randn(600, 3) * torch.tensor([1.0, 1.0, 0.2]), dim=-1)
    hits = cast(solids, torch.zeros(3), directions)
    t = torch.arange(0, 12, 0.005)
    points = t[None, :, None] * directions[:, None]
    inside = torch.stack([contains(solids[torch.tensor([k])], points.reshape(-1, 3)) for k in range(12)], -1)
    inside = inside.any(-1).reshape(600, -1)
    marched = t[inside.int().argmax(-1)]
    # A chord shorter than the 5 mm step may be stepped over, so only its hits may be missing from the march.
    assert not (inside.any(-1) & ~hits.hit).any()
    both = inside.any(-1) & hits.hit
    assert both.sum() > 40
    late = marched[both] - hits.t[both]
    assert (
        (late >= -1e-4) & (late <= 5.1e-3)
    ).float().mean() > 0.98  # grazing chords of another solid are skipped


def test_normals_are_unit_face_the_ray_and_point_out_of_the_solid():
    solids = crowd()
    directions = torch.nn.functional.normalize(torch.randn(2000, 3), dim=-1)
    hits = cast(solids, torch.zeros(3), directions)
    at = hits.t[:, None] * directions
    assert_close(hits.normals[hits.hit].norm(dim=-1), torch.ones(int(hits.hit.sum())))
    assert ((hits.normals * directions).sum(-1)[hits.hit] < 1e-3).all()
    for ray in torch.nonzero(hits.hit)[:100, 0]:
        solid = solids[hits.index[ray : ray + 1]]
        step = 1e-3 * hits.normals[ray]
        assert (
            contains(solid, (at[ray] - step)[None]).item()
            and not contains(solid, (at[ray] + step)[None]).item()
        )


def test_a_camera_that_sees_few_solids_gets_the_same_hits_as_all_rays_at_once():
    solids = crowd()
    narrow = torch.nn.functional.normalize(torch.randn(300, 3) * 0.1 + torch.tensor([1.0, 0.3, 0.0]), dim=-1)
    around = torch.nn.functional.normalize(torch.randn(300, 3), dim=-1)
    alone, together = (
        cast(solids, torch.zeros(3), narrow),
        cast(solids, torch.zeros(3), torch.cat([narrow, around])),
    )
    assert torch.equal(alone.t, together.t[:300]) and torch.equal(alone.index, together.index[:300])


def test_nothing_beyond_far_and_nothing_behind():
    ahead = torch.tensor([[1.0, 0, 0]])
    assert not cast(three(), torch.zeros(3), ahead, far=2.9).hit.item()
    assert not cast(three(), torch.tensor([6.0, 0, 0]), ahead).hit.item()


def test_a_thin_pole_far_away_keeps_its_distance_to_a_few_millimetres():
    pole = Solids.stack([Solid(CYLINDER, (60.0, 0.0, 0.0), (0.09, 0.09, 3.0), 1, GREY)])
    across = torch.linspace(-0.08, 0.08, 9)
    directions = torch.nn.functional.normalize(
        torch.stack([torch.full((9,), 60.0), across, 0 * across], -1), dim=-1
    )
    exact = directions.double()
    along = exact[:, 0] * 60
    truth = along - (along**2 - (3600 - 0.09**2)).sqrt()
    hits = cast(pole, torch.zeros(3), directions)
    # At 0.9 of the radius the rounding of 60 m to 4e-6 m is stretched by the slope of the silhouette.
    assert_close(hits.t.double(), truth, atol=3e-3, rtol=0)


def test_occupancy_is_the_class_of_the_last_solid_around_each_voxel_centre():
    solids, grid = crowd(), VoxelGrid((-6.0, -6.0, -3.0, 6.0, 6.0, 3.0), (0.5, 0.5, 0.5))
    centers = grid.centers().reshape(-1, 3)
    expected = torch.zeros(len(centers), dtype=torch.int64)
    for k in range(12):
        expected[contains(solids[torch.tensor([k])], centers)] = k + 1
    assert torch.equal(occupancy(solids, grid).flatten(), expected)
    assert (expected > 0).sum() > 20


def test_moving_the_solids_and_the_rays_alike_changes_nothing():
    solids = crowd()
    directions = torch.nn.functional.normalize(torch.randn(500, 3), dim=-1)
    pose = pose_from_vectors(torch.tensor([0.2, -0.3, 0.9]), torch.tensor([1.0, 2.0, 3.0]))
    before = cast(solids, torch.zeros(3), directions)
    after = cast(solids.moved(pose), pose[:3, 3], directions @ pose[:3, :3].T)
    same = before.index == after.index
    assert same.float().mean() > 0.99  # rays that graze an edge may tip over
    assert_close(
        before.t[same], after.t[same], atol=1e-2, rtol=0
    )  # grazing a crown turns 1e-6 into millimetres
    assert_close(before.normals[same] @ pose[:3, :3].T, after.normals[same], atol=1e-2, rtol=0)


def test_a_leaning_box_is_hit_where_its_turned_planes_are():
    pose = pose_from_vectors(torch.tensor([0.0, 0.4, 0.0]), torch.tensor([5.0, 0.0, 0.0]))
    box = Solids.stack([Solid(BOX, (0.0, 0.0, 0.0), (1.0, 2.0, 3.0), 1, GREY)]).moved(pose)
    hits = cast(box, torch.zeros(3), torch.tensor([[1.0, 0, 0]]))
    # The face x = -1, turned by 0.4 about y, crosses the x axis 1 / cos 0.4 before the centre.
    assert_close(hits.t, torch.tensor([5 - 1 / math.cos(0.4)]), atol=1e-5, rtol=0)
    assert_close(hits.normals, torch.tensor([[-math.cos(0.4), 0, math.sin(0.4)]]), atol=1e-6, rtol=0)
    assert contains(
        box, torch.tensor([[5.0, 0, 0], [5.0 + math.sin(0.4) * 2.9, 0, math.cos(0.4) * 2.9]])
    ).all()
