"""BEVFormer's attention: the authors' numbers, slow loops, batch elements on their own, the ego motion."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain import Cameras, VoxelGrid
from renderpretrain.geometry import pose_from_yaw
from renderpretrain.lifters import (
    BEVFormerLifter,
    BEVMemory,
    PillarViews,
    PreviousBEV,
    SpatialCrossAttention,
    TemporalSelfAttention,
    deformable_attention,
    pillar_heights,
    pillar_points,
    project_pillars,
    warp_bev,
)
from renderpretrain.lifters.pillars import OUTSIDE

GRID = VoxelGrid((-8.0, -6.0, -2.0, 8.0, 6.0, 2.0), (2.0, 2.0, 4.0))


def looking_out(*yaws):
    """A camera at the origin per angle, looking away from it; a row of angles per batch element."""
    poses = torch.eye(4).repeat(len(yaws), len(yaws[0]), 1, 1)
    for b, row in enumerate(yaws):
        for n, angle in enumerate(row):
            forward = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
            down = torch.tensor([0.0, 0.0, -1.0])
            poses[b, n, :3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward], 1)
    intrinsics = torch.tensor([[20.0, 0.0, 20.0], [0.0, 20.0, 12.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics.expand(*poses.shape[:2], 3, 3), poses, (24, 40))


def read(image, u, v):
    """Bilinear reading of (C, h, w) at (u, v) in [0, 1] from edge to edge, zero outside."""
    x, y = u * image.shape[2] - 0.5, v * image.shape[1] - 0.5
    total = torch.zeros(image.shape[0], dtype=image.dtype)
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total = total + image[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def loose(module):
    """Random offsets and weights, so that nothing hides behind the even start."""
    for name, parameter in module.named_parameters():
        if "sampling_offsets" in name or "attention_weights" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return module


def close(got, expected, relative=1e-5):
    """Equal to a share of the tensor's largest entry, the size of the terms float32 has summed."""
    assert_close(got, expected, rtol=relative, atol=relative * expected.abs().max().item())


class Golden:
    """The file's weights in our module, its features as maps."""

    def __init__(self, g):
        self.g = g
        heads, points = g["num_heads"].item(), g["num_points"].item()
        self.attention = SpatialCrossAttention(32, num_heads=heads, num_levels=2, num_points=points)
        self.attention.load_state_dict({k[6:]: v for k, v in g.items() if k.startswith("param:")})
        self.query = g["query"][None].clone().requires_grad_()
        self.features = g["features_n_keys_c"].clone().requires_grad_()
        sizes = g["level_shapes_h_w"].tolist()
        parts = self.features.split([h * w for h, w in sizes], 1)
        self.levels = [p.mT.unflatten(2, s)[None] for p, s in zip(parts, sizes, strict=True)]

    def run(self, views):
        return self.attention(self.query + self.g["query_pos"], self.levels, views) + self.query


def test_spatial_attention_agrees_with_bevformer(golden):
    case = Golden(golden("uniscene_spatial_cross_attention.npz"))
    g = case.g
    out = case.run(PillarViews.pack(g["reference_points_image"][None], g["visible"][None]))
    close(out[0], g["out"])
    out.backward(g["grad_out"][None])
    close(case.query.grad[0], g["grad_query"])
    close(case.features.grad, g["grad_features"])
    for name, parameter in case.attention.named_parameters():
        close(parameter.grad, g[f"grad:{name}"])


def test_the_pillars_are_seen_where_bevformer_sees_them(golden):
    """Their pixel of a projection is u / W: no half pixel is added. Behind a camera theirs has no meaning.

    Their heights are 0.5 m from the ends of a pillar of 8 m, scaled to the range: here 1/16 of 6 m.
    """
    g = golden("uniscene_spatial_cross_attention.npz")
    lower, upper = g["point_cloud_range"].tolist()[:3], g["point_cloud_range"].tolist()[3:]
    y, x = g["bev_shape_y_x"].tolist()
    size = ((upper[0] - lower[0]) / x, (upper[1] - lower[1]) / y, upper[2] - lower[2])
    grid = VoxelGrid((*lower, *upper), size)
    image_size = tuple(g["image_size_h_w"].tolist())
    cameras = Cameras.from_lidar2img(g["lidar2img"][None].float(), image_size, integer_centers=False)
    heights = pillar_heights(grid, g["num_z_anchors"].item(), margin=6 / 16)
    everyone = torch.ones(1, 3, dtype=torch.bool)
    views = project_pillars(cameras, everyone, grid, heights)
    theirs = PillarViews.pack(g["reference_points_image"][None], g["visible"][None])
    assert_close(views.counts, theirs.counts)
    assert_close(views.index, theirs.index)
    front = views.points[..., 0] != OUTSIDE
    assert front.float().mean() > 0.9
    # Pixels divide by depths of centimetres at the edge of what is in front; in the image it is 1e-4.
    inside = front & (theirs.points.abs().amax(-1) < 2)
    assert_close(views.points[inside], theirs.points[inside], rtol=0, atol=1e-4)


def test_deformable_attention_equals_a_slow_loop():
    levels = [torch.randn(2, 6, 5, 7, dtype=torch.float64), torch.randn(2, 6, 2, 3, dtype=torch.float64)]
    locations = torch.rand(2, 4, 3, 2, 5, 2, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 4, 3, 2, 5, dtype=torch.float64)
    got = deformable_attention(levels, locations, weights)
    for b, q, h in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(3)).tolist():
        expected = torch.zeros(2, dtype=torch.float64)
        for level in range(2):
            for p in range(5):
                u, v = locations[b, q, h, level, p].tolist()
                image = levels[level][b, 2 * h : 2 * h + 2]
                expected += weights[b, q, h, level, p] * read(image, u, v)
        assert_close(got[b, q, 2 * h : 2 * h + 2], expected)


def test_deformable_attention_has_the_right_gradients():
    levels = [torch.randn(1, 4, 3, 4, dtype=torch.float64).requires_grad_()]
    locations = (torch.rand(1, 2, 2, 1, 3, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    weights = torch.rand(1, 2, 2, 1, 3, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda m, x, w: deformable_attention([m], x, w), (*levels, locations, weights))


def test_spatial_attention_equals_a_slow_loop():
    """Camera by camera and pillar by pillar, with other visibility in each batch element."""
    attention = loose(SpatialCrossAttention(4, num_heads=2, num_levels=2, num_points=4))
    inner = attention.deformable_attention
    levels = [torch.randn(2, 3, 4, 6, 10), torch.randn(2, 3, 4, 3, 5)]
    query, points = torch.randn(2, 5, 4), torch.rand(2, 3, 5, 2, 2)
    visible = torch.rand(2, 3, 5, 2) < 0.4
    visible[1, :, 2] = False
    got = attention(query, levels, PillarViews.pack(points, visible))
    for b, q in torch.cartesian_prod(torch.arange(2), torch.arange(5)).tolist():
        found, count = torch.zeros(4), 0
        offsets = inner.sampling_offsets(query[b, q]).view(2, 2, 4, 2)
        weights = inner.attention_weights(query[b, q]).view(2, 8).softmax(-1).view(2, 2, 4)
        for n in range(3):
            if not visible[b, n, q].any():
                continue
            count += 1
            for h, level, p in torch.cartesian_prod(*(torch.arange(k) for k in (2, 2, 4))).tolist():
                maps = torch.einsum("oc,chw->ohw", inner.value_proj.weight, levels[level][b, n])
                maps = maps + inner.value_proj.bias[:, None, None]
                size = torch.tensor([maps.shape[2], maps.shape[1]])
                u, v = (points[b, n, q, p % 2] + offsets[h, level, p] / size).tolist()
                found[2 * h : 2 * h + 2] += weights[h, level, p] * read(maps[2 * h : 2 * h + 2], u, v)
        expected = attention.output_proj(found / max(count, 1))
        assert_close(got[b, q], expected, rtol=1e-4, atol=1e-5)  # sixteen reads per camera in float32


def test_temporal_attention_equals_a_slow_loop():
    attention, size = loose(TemporalSelfAttention(4, num_heads=2, num_points=3)), (3, 4)
    query, maps = torch.randn(2, 12, 4), (torch.randn(2, 12, 4), torch.randn(2, 12, 4))
    got = attention(query, maps, size)
    for b, q in torch.cartesian_prod(torch.arange(2), torch.arange(12)).tolist():
        both = torch.cat([maps[0][b, q], query[b, q]])
        offsets = attention.sampling_offsets(both).view(2, 2, 3, 2)
        weights = attention.attention_weights(both).view(2, 2, 3).softmax(-1)
        found = torch.zeros(4)
        for h, k, p in torch.cartesian_prod(*(torch.arange(k) for k in (2, 2, 3))).tolist():
            image = attention.value_proj(maps[k][b]).T.reshape(4, *size)[2 * h : 2 * h + 2]
            place = torch.tensor([(q % 4 + 0.5) / 4, (q // 4 + 0.5) / 3])
            u, v = (place + offsets[h, k, p] / torch.tensor([4, 3])).tolist()
            found[2 * h : 2 * h + 2] += weights[h, k, p] * read(image, u, v) / 2
        assert_close(got[b, q], attention.output_proj(found), rtol=1e-4, atol=1e-5)  # twelve reads in float32


def test_an_attention_starts_with_a_star():
    """Heads look in different directions, each read one cell farther than the last."""
    attention = TemporalSelfAttention(8, num_heads=4, num_points=2)
    offsets = attention.sampling_offsets.bias.view(4, 2, 2, 2)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert_close(offsets[:, 0, 0], expected, rtol=0, atol=1e-6)
    assert_close(offsets[:, 1, 1], 2 * expected, rtol=0, atol=1e-6)


def small_lifter(grid=GRID, **sizes):
    defaults = {"num_layers": 2, "num_heads": 2, "num_levels": 2, "num_cameras": 2, "num_heights": 2}
    return loose(BEVFormerLifter(grid, 8, num_points=4, hidden_channels=16, **defaults | sizes))


def small_batch():
    """Two samples whose cameras look elsewhere and whose egos moved differently."""
    cameras = looking_out((0.0, 2.0), (1.0, 4.0))
    levels = [torch.randn(2, 2, 8, 6, 10), torch.randn(2, 2, 8, 3, 5)]
    motion = torch.stack([pose_from_yaw(0.1, (1.0, 0.0, 0.0)), pose_from_yaw(-0.2, (0.0, 2.0, 0.0))])
    previous = PreviousBEV(torch.randn(2, 8, 1, 6, 8), motion, torch.tensor([True, True]))
    return levels, cameras, torch.ones(2, 2, dtype=torch.bool), previous


def part(batch, b):
    """One sample of a batch."""
    levels, cameras, valid, previous = batch
    alone = PreviousBEV(
        *(x[b : b + 1] for x in (previous.volume, previous.current_to_previous, previous.valid))
    )
    return [level[b : b + 1] for level in levels], cameras[b : b + 1], valid[b : b + 1], alone


def test_a_batch_of_two_is_two_batches_of_one():
    """The published code reads the visibility and the history of the first sample for all of them."""
    lifter, batch = small_lifter(), small_batch()
    together = lifter(*batch)
    for b in range(2):
        assert_close(together[b : b + 1], lifter(*part(batch, b)), rtol=1e-5, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_sample_without_history_is_as_if_there_were_none():
    lifter, (levels, cameras, valid, previous) = small_lifter(), small_batch()
    mixed = PreviousBEV(previous.volume, previous.current_to_previous, torch.tensor([True, False]))
    got = lifter(levels, cameras, valid, mixed)
    assert_close(got[0], lifter(levels, cameras, valid, previous)[0], rtol=1e-5, atol=1e-5)
    assert_close(got[1], lifter(levels, cameras, valid)[1], rtol=1e-5, atol=1e-5)


def test_everything_learns_and_so_does_the_frame_before():
    lifter, (levels, cameras, valid, previous) = small_lifter(), small_batch()
    levels = [level.requires_grad_() for level in levels]
    previous.volume.requires_grad_()
    lifter(levels, cameras, valid, previous).square().sum().backward()
    assert all(parameter.grad.any() for parameter in lifter.parameters())
    assert all(level.grad.any() for level in levels) and previous.volume.grad.any()


def test_it_runs_under_autocast_and_finds_the_same():
    lifter, (levels, cameras, valid, previous) = small_lifter(), small_batch()
    full = lifter(levels, cameras, valid, previous)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = lifter(levels, cameras, valid, previous)
        mixed.float().square().sum().backward()
    # Outputs are normalised to about 1; bfloat16 has 8 bits, and two layers of linear maps add up.
    assert (mixed - full).abs().mean() < 0.05
    assert all(torch.isfinite(parameter.grad).all() for parameter in lifter.parameters())


def test_a_camera_that_is_absent_changes_nothing():
    lifter, (levels, cameras, valid, previous) = small_lifter(), small_batch()
    valid = torch.tensor([[True, False], [False, False]])
    other = [torch.where(valid[..., None, None, None], level, torch.nan) for level in levels]
    clean = [torch.nan_to_num(level) for level in other]
    assert_close(lifter(levels, cameras, valid, previous), lifter(clean, cameras, valid, previous))


def test_keys_are_bevformers():
    keys = set(small_lifter().state_dict())
    layer = "transformer.encoder.layers.1."
    names = [f"{layer}norms.{k}.weight" for k in range(3)]
    names += [f"{layer}ffns.0.layers.{k}.weight" for k in ("0.0", "1")]
    for name in ("sampling_offsets", "attention_weights", "value_proj"):
        names += [f"{layer}attentions.0.{name}.bias", f"{layer}attentions.1.deformable_attention.{name}.bias"]
    names += [f"{layer}attentions.{k}.output_proj.weight" for k in (0, 1)]
    names += ["bev_embedding.weight", "positional_encoding.row_embed.weight", "transformer.level_embeds"]
    names += ["positional_encoding.col_embed.weight", "transformer.cams_embeds"]
    assert set(names) <= keys
    # The published layer has 4 linear maps in either attention, 2 in its network and 3 norms.
    assert sum(key.startswith(layer) for key in keys) == 2 * (4 + 4 + 2 + 3)


def test_heights_share_the_channels():
    flat = VoxelGrid(GRID.point_cloud_range, (2.0, 2.0, 1.0))
    lifter, batch = small_lifter(flat), small_batch()
    torch.manual_seed(1)
    volume = lifter(*batch[:3])
    assert volume.shape == (2, 2, 4, 6, 8)
    map_lifter = small_lifter()
    map_lifter.load_state_dict(lifter.state_dict())
    assert_close(volume.flatten(1, 2), map_lifter(*batch[:3])[:, :, 0])


def test_a_camera_sees_the_pillars_in_front_of_it():
    """Looking along +x from the origin, 45 degrees wide to both sides: exactly the columns with |y| < x."""
    cameras = looking_out((0.0,))
    points = pillar_points(GRID, (0.0,))[:, 0]
    views = project_pillars(cameras, torch.ones(1, 1, dtype=torch.bool), GRID, (0.0,))
    border = points[:, 1].abs() == points[:, 0]
    expected = (points[:, 0] > 0) & (points[:, 1].abs() < points[:, 0])
    assert expected.sum() > 5
    assert_close((views.counts[0] > 0)[~border], expected[~border])
    seen = views.index[0, 0][views.valid[0, 0]]
    pixels = cameras.project(points[seen][None, None])[0][0, 0] / torch.tensor([40.0, 24.0])
    assert_close(views.points[0, 0, :, 0][views.valid[0, 0]], pixels, rtol=0, atol=1e-6)


def test_no_camera_at_all_is_served():
    views = project_pillars(looking_out((0.0, 1.0)), torch.zeros(1, 2, dtype=torch.bool), GRID, (0.0, 1.0))
    attention = SpatialCrossAttention(4, num_heads=2, num_levels=1, num_points=2)
    out = attention(torch.randn(1, 48, 4), [torch.randn(1, 2, 4, 3, 5)], views)
    assert not views.counts.any()
    assert_close(out, attention.output_proj.bias.expand(1, 48, 4))


def test_heights_keep_half_a_metre_from_floor_and_ceiling():
    grid = VoxelGrid((-51.2, -51.2, -5.0, 51.2, 51.2, 3.0), (0.512, 0.512, 8.0))
    assert pillar_heights(grid, 4) == pytest.approx((-4.5, -4.5 + 7 / 3, -4.5 + 14 / 3, 2.5))
    assert pillar_heights(grid, 1) == (-1.0,)


def test_what_stood_still_is_found_where_it_is_now():
    """The ego drove 4 m forward and turned: a landmark's value is read at its new cell."""
    grid = VoxelGrid((-10.0, -10.0, -1.0, 10.0, 10.0, 1.0), (1.0, 1.0, 2.0))
    motion = pose_from_yaw(math.pi / 2, (4.0, 0.0, 0.0))
    landmark = torch.tensor([[6.5, 2.5, 0.0]])  # in the previous world
    now = (landmark - motion[:3, 3]) @ motion[:3, :3]
    previous = torch.zeros(1, 1, 20, 20)
    _, y, x = grid.cells(landmark)[0].tolist()
    previous[0, 0, y, x] = 1.0
    warped = warp_bev(previous, motion[None], grid)
    _, y, x = grid.cells(now)[0].tolist()
    assert_close(warped[0, 0, y, x], torch.tensor(1.0), rtol=0, atol=1e-5)
    assert_close(warped.sum(), torch.tensor(1.0), rtol=0, atol=1e-4)


def test_a_linear_map_is_warped_exactly_and_ends_at_the_border():
    grid, motion = GRID, pose_from_yaw(0.3, (1.0, -0.5, 0.0))
    centers = grid.centers()[0]
    bev = (2 * centers[..., 0] - centers[..., 1])[None, None]
    there = centers.reshape(-1, 3) @ motion[:3, :3].T + motion[:3, 3]
    expected = (2 * there[:, 0] - there[:, 1]).view(6, 8)
    inner = ((there[:, 0].abs() < 7) & (there[:, 1].abs() < 5)).view(6, 8)
    outer = ((there[:, 0].abs() > 9) | (there[:, 1].abs() > 7)).view(6, 8)
    warped = warp_bev(bev, motion[None], grid)[0, 0]
    assert inner.sum() > 20 and outer.any()
    assert_close(warped[inner], expected[inner], rtol=1e-5, atol=1e-5)
    assert not warped[outer].any()


def test_a_memory_is_the_newest_that_each_sample_has_seen_from_where_it_is_now():
    there, further, now = (pose_from_yaw(0.0, (x, 0.0, 0.0)).expand(3, 4, 4) for x in (1.0, 3.0, 4.0))
    older = BEVMemory(torch.zeros(3, 2, 1, 4, 4), there, torch.tensor([True, True, False]))
    newer = BEVMemory(torch.ones(3, 2, 1, 4, 4), further, torch.tensor([True, False, False]))
    assert newer.over(None) is newer
    memory = newer.over(older)
    assert memory.valid.tolist() == [True, True, False]
    assert memory.volume[:2, 0, 0, 0, 0].tolist() == [1, 0]
    seen = memory.seen_from(now)
    assert seen.current_to_previous[:2, 0, 3].tolist() == [1, 3]  # the present origin lies so far ahead
    assert seen.valid is memory.valid and seen.volume is memory.volume


@pytest.mark.untyped
def test_errors_name_what_came():
    lifter, (levels, cameras, valid, _) = small_lifter(), small_batch()
    with pytest.raises(ValueError, match="levels: expected 2 feature maps, got 1"):
        lifter(levels[:1], cameras, valid)
    with pytest.raises(
        ValueError, match=r"levels: expected \(B N C h w\) with N=3, C=8, got \(2, 2, 8, 6, 10\)"
    ):
        small_lifter(num_cameras=3)(levels, cameras, valid)
    with pytest.raises(ValueError, match="channels: expected an even multiple of the grid's Z=4, got 6"):
        BEVFormerLifter(VoxelGrid(GRID.point_cloud_range, (2.0, 2.0, 1.0)), 6)
    with pytest.raises(ValueError, match="num_heads: expected a divisor of channels=8, got 3"):
        TemporalSelfAttention(8, num_heads=3)
    with pytest.raises(ValueError, match="points: expected heights that divide num_points=4, got 3"):
        attention = SpatialCrossAttention(8, num_heads=2, num_levels=2, num_points=4)
        attention(torch.zeros(2, 48, 8), levels, project_pillars(cameras, valid, GRID, (0.0, 1.0, 1.5)))
