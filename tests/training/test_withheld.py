"""Depth where it was not given: what is taken out, and what it takes to score there."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from stand_in import Points, StandIn

from renderpretrain.data import Scene, SceneFolder, SyntheticRoom, SyntheticStreet
from renderpretrain.data.synthetic.lidar import Spinner
from renderpretrain.geometry import Rays
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import LidarBeams, PixelRays
from renderpretrain.training import Process, evaluate, evaluate_predictors
from renderpretrain.training.beams import beam_edges, sensor_axis
from renderpretrain.training.held_out import NOT_GIVEN, held_out_scenes
from renderpretrain.training.nearest import RADII, first_in_cylinder
from renderpretrain.training.predictors import FAR_AWAY, nearest_point
from renderpretrain.training.withheld import GIVEN, MARGIN, PixelBlocks, withhold

CPU = Process(0, 1, torch.device("cpu"))
SEED = torch.tensor([3])


class Beams(StandIn):
    """Draws the sensor's own beams, or pixels of the depth images, and knows the input's nearest points."""

    def __init__(self, otherwise):
        super().__init__()
        self.otherwise, self.encoded = otherwise, 0

    def targets(self, batch, num_rays=None):
        drawn = LidarBeams if batch.views is None or batch.views.z_depths is None else PixelRays
        targets = drawn(num_rays or 64)(batch)
        self.near = 0.99 * float(targets.depth[targets.hit].min())
        return targets

    def encode(self, batch):
        self.encoded += 1
        return batch.points.xyz

    def render(self, volume, rays):
        first = first_in_cylinder(rays[0], volume[0], near=self.near)[None].float()
        depth = torch.where(first.isinf(), self.otherwise, first)
        return Rendered(depth, torch.ones_like(depth))


class Blind(Beams):
    """Says 7 m of everything, whatever there is."""

    def encode(self, batch):
        self.encoded += 1
        return torch.zeros(1)

    def render(self, volume, rays):
        depth = torch.full(rays.shape, 7.0)
        return Rendered(depth, torch.ones_like(depth))


@cache
def streets():
    made = SyntheticStreet(3, image_size=(16, 24), with_truth=False)
    return [made[index] for index in range(3)]


@cache
def rooms():
    made = SyntheticRoom(2, num_points=3000, with_truth=False)
    return [made[index] for index in range(2)]


def turned(tilt):
    """A rotation about x and y by so many degrees."""
    angles = torch.tensor([*tilt, 0.0]).deg2rad()
    x, y, z = angles.tolist()
    return torch.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0.0]]))


def sweep(tilt=(0.0, 0.0), older=0):
    """What a tilted sensor 1.7 m above its world's origin sees of mere noise, and its points' beams."""
    generator = torch.Generator().manual_seed(5)
    directions = Spinner().directions() @ turned(tilt).T
    distance = 3 + 50 * torch.rand(len(directions), 1, generator=generator).square()
    origin = torch.tensor([0.3, -0.2, 1.7])
    table = torch.cat([origin + distance * directions, torch.zeros(len(directions), 2)], 1)
    beam = torch.arange(len(table)) // Spinner().points_per_beam
    kept = torch.rand(len(table), generator=generator) < 0.8
    past = table[kept].clone()
    past[:, :3] += 0.05 * torch.randn(len(past), 3, generator=generator)
    past[:, 4] = 0.1
    scene = Scene("sweep", torch.cat([table[kept], past[: older * len(past)]]), origin)
    return scene, beam[kept]


@pytest.mark.parametrize(
    "scene",
    [lambda: streets()[0], lambda: rooms()[1], lambda: sweep((2.0, -3.0), older=1)[0], lambda: Points()[0]],
    ids=["street", "room", "sweeps", "sphere"],
)
def test_what_is_withheld_is_not_in_the_input(scene):
    scene = scene()
    withheld, xyz = withhold(scene, SEED), scene.points[:, :3]
    kinds = withheld.kinds(xyz)
    ends, left = xyz[kinds != GIVEN].double(), withheld.left.points
    assert len(left) == len(scene.points) - withheld.count
    assert 0.15 < len(ends) / len(xyz) <= withheld.count / len(xyz) < 0.6
    distances = [torch.cdist(part, left[:, :3].double()).amin() for part in ends[::7].split(1000)]
    assert min(distances) > MARGIN
    # All others are there, in their order; hardly a place around those that are withheld was given up.
    places = (*withheld.beams, *withheld.blocks)
    gone = torch.stack([place.holds(xyz, MARGIN) for place in places]).any(0)
    assert torch.equal(left, scene.points[~gone])
    assert (gone & (kinds == GIVEN)).float().mean() < 0.15
    if scene.point_labels is not None:
        assert torch.equal(withheld.left.point_labels, scene.point_labels[~gone])


def test_what_is_withheld_follows_from_the_seed():
    scene = streets()[1]
    first, again, other = (withhold(scene, torch.tensor([seed])) for seed in (3, 3, 4))
    assert torch.equal(first.left.points, again.left.points)
    assert not torch.equal(first.left.points, other.left.points)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (1.5, -3.0), (-6.0, 4.0)])
def test_whole_beams_are_withheld_of_a_tilted_sensor_too(tilt):
    scene, beam = sweep(tilt)
    held = withhold(scene, SEED).beams[0].holds(scene.points[:, :3])
    shares = torch.bincount(beam, held.float()) / torch.bincount(beam)
    assert set(shares.tolist()) == {0.0, 1.0} and shares.sum() == 4  # one of every eight
    hidden = torch.nonzero(shares)[:, 0]
    assert (hidden.diff() > 1).all()


def test_without_beams_there_are_narrow_strips():
    directions = torch.nn.functional.normalize(
        torch.randn(20000, 3, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    widths = torch.rad2deg(beam_edges(torch.asin(directions[directions[:, 2].abs() < 0.5, 2]))).diff()
    assert 0.3 < widths.median() <= 1.5 and widths.max() <= 2.5
    assert sensor_axis(directions[:0]).tolist() == [0, 0, 1] and len(beam_edges(torch.zeros(0))) == 0


@pytest.mark.parametrize(("folder", "beams"), [("nuscenes_keyframe", 32), ("lidar_street_b", 64)])
def test_beams_of_recordings_are_found(realdata, folder, beams):
    scene = SceneFolder(realdata / folder)[0]
    offsets = scene.points[scene.of_key_sweep, :3] - scene.lidar_origin
    directions = torch.nn.functional.normalize(offsets[offsets.norm(dim=-1) > 2].double(), dim=-1)
    edges = beam_edges(torch.asin(directions @ sensor_axis(directions).double()))
    assert abs(len(edges) - 1 - beams) <= 3  # a beam that meets the car or the sky alone; two that overlap


def test_older_sweeps_leave_with_the_block():
    scene, _ = sweep(older=1)
    withheld = withhold(scene, SEED)
    old = withheld.left.points[withheld.left.points[:, 4] > 0, :3]
    assert 0.5 * len(scene.points) / 2 < len(old) < 0.9 * len(scene.points) / 2
    assert (withheld.kinds(old) == GIVEN).all()


def test_blocks_of_pixels_hold_what_lies_behind_them():
    room = SyntheticRoom(1, with_truth=False)[0]
    hidden = torch.zeros(len(room.camera_names), 8, 8, dtype=torch.bool)
    hidden[1, 2, 5] = True
    place = PixelBlocks(room.cameras, hidden)
    height, width = room.cameras.image_size
    pixels = torch.tensor([[5.5 * width / 8, 2.5 * height / 8], [4.5 * width / 8, 2.5 * height / 8]])
    rays = room.cameras[1].rays(pixels)
    for distance in (0.5, 2.0, 9.0):
        assert place.holds(rays.origins + distance * rays.directions).tolist() == [True, False]
    assert not place.holds(rays.origins - 2 * rays.directions, 0.01).any()


def test_an_encoder_sees_neither_depth_images_nor_earlier_points_of_what_is_left():
    room = SyntheticRoom(1)[0]
    left = withhold(replace(room, previous=(room,), following=(room,)), SEED).left
    assert not left.z_depth_valid.any() and not left.z_depths.any() and left.truth is None
    assert torch.equal(left.images, room.images) and len(left.previous[0].points) == 0
    assert left.following == ()


def slow_first_in_cylinder(rays, points, near=0.0):
    """Point by point, by the length of the cross product."""
    found = []
    for start, direction in zip(rays.origins.double(), rays.directions.double(), strict=True):
        offsets = points.double() - start
        along = (offsets * direction).sum(-1)
        aside = torch.linalg.cross(offsets, direction.expand_as(offsets)).norm(dim=-1)
        hits = (along[(along > near) & (aside <= radius)] for radius in RADII)
        found.append(next((hit.min().item() for hit in hits if len(hit)), math.inf))
    return torch.tensor(found, dtype=torch.float64)


def test_the_first_point_in_a_cylinder_is_the_slow_loops():
    generator = torch.Generator().manual_seed(2)
    points = 12 * torch.randn(400, 3, generator=generator)
    directions = torch.randn(400, 3, generator=generator)
    directions[:40, :2] *= 0.02  # nearly upright
    directions[40] = torch.tensor([0.0, 0.0, 1.0])
    origins = torch.randn(4, 3, generator=generator)[torch.arange(400) % 4]
    rays = Rays.through(origins, origins + directions)
    expected = slow_first_in_cylinder(rays, points, near=1.5)
    assert torch.isinf(expected).any() and (expected < math.inf).sum() > 100
    found = first_in_cylinder(rays, points, near=1.5)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert found.min() > 1.5 > first_in_cylinder(rays, points).min()
    assert first_in_cylinder(rays, points[:0]).isinf().all()
    nowhere = Rays(origins[:2], torch.zeros(2, 3))
    assert first_in_cylinder(nowhere, points).isinf().all()


@pytest.mark.parametrize("scenes", [streets, rooms])
def test_a_recipe_that_says_the_nearest_point_scores_as_the_predictor(scenes):
    recipe, order = Beams(FAR_AWAY), [1, 0]
    found = evaluate(recipe, scenes(), order, process=CPU, num_rays=300)
    beside = evaluate_predictors(recipe, scenes(), ((), order), process=CPU, num_rays=300)
    assert recipe.encoded == 4  # two scenes, whole and without
    names = {"depth_in_blocks_abs_rel", "depth_abs_rel"} | (
        {"depth_between_beams_abs_rel"} if scenes is streets else set()
    )
    assert names <= set(found)
    # Matrix products of other sizes are rounded otherwise.
    assert found == pytest.approx(beside["nearest_point"], rel=1e-6)
    assert found["depth_abs_rel"] < found["depth_in_blocks_abs_rel"]


def test_a_recipe_that_looks_at_no_points_is_encoded_once():
    recipe, order = Blind(0.0), [1, 2]
    found = evaluate(recipe, streets(), order, process=CPU, num_rays=200)
    assert recipe.encoded == 3  # once more to see that nothing changes
    for kind, number in NOT_GIVEN.items():
        scenes = held_out_scenes(recipe, streets(), order, process=CPU, num_rays=200)
        rays = [scene.of_kind(number) for scene in scenes]
        depth = torch.cat([targets.depth[targets.hit] for targets in rays])
        assert len(depth) > 10
        expected = ((7 - depth).abs() / depth).mean().item()
        assert found[f"depth_{kind}_abs_rel"] == pytest.approx(expected, rel=1e-6)  # depths are float32


def test_points_on_the_car_are_no_answer():
    """The same street with a few hundred points a hand's breadth around the sensor, in an older sweep."""
    street = streets()[0]
    car = torch.randn(600, 5, generator=torch.Generator().manual_seed(1)) * 0.1
    car[:, :3] += street.lidar_origin
    car[:, 4] = 0.1
    parked = Scene("parked", torch.cat([street.points, car]), street.lidar_origin)
    clean, dirty = (
        evaluate_predictors(Beams(FAR_AWAY), [scene], ((), [0]), process=CPU, num_rays=300)["nearest_point"]
        for scene in (Scene("clean", street.points, street.lidar_origin), parked)
    )
    assert dirty == pytest.approx(clean, rel=1e-6)


def test_predictors_read_what_is_left_and_training_rows():
    recipe, scenes = Beams(FAR_AWAY), streets()
    found = evaluate_predictors(recipe, scenes, (range(1), [1, 2]), process=CPU, num_rays=300)
    assert set(found) == {"nearest_point", "best_row", "row_median", "baseline"}
    scene = next(iter(held_out_scenes(recipe, scenes, [1], process=CPU, num_rays=300)))
    asked = scene.only_not_given
    depth = nearest_point(scene.left, asked, torch.full_like(asked.depth, math.nan), 0.5)
    assert (scene.kinds[asked.hit] != GIVEN).all() and 40 < asked.hit.sum() < 150
    near = slow_first_in_cylinder(asked.rays[asked.hit], scene.left.points.xyz[0], 0.5)
    near = torch.where(near.isinf(), torch.nan, near).float()
    torch.testing.assert_close(depth[asked.hit], near, rtol=1e-6, atol=1e-6, equal_nan=True)
