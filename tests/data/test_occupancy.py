"""Occupancy labels against sampled beams, exact truth, and what must not be labelled."""

import dataclasses
import functools
import math

import pytest
import torch

from renderpretrain import VoxelGrid
from renderpretrain.data import Boxes, Scene, SceneWindows, SyntheticStreet, collate, label_occupancy

GRID = VoxelGrid((0.0, -2.0, -2.0, 8.0, 2.0, 2.0), (0.5, 0.5, 0.5))
STREET_RANGE = (-19.2, -19.2, -3.2, 19.2, 19.2, 3.2)
PARTS = 4


class Kept(SyntheticStreet):
    """Streets whose scenes are made once, however many windows they are in."""

    __getitem__ = functools.cache(SyntheticStreet.__getitem__)
    without_images = functools.cache(SyntheticStreet.without_images)


def scene(*ends, origin=(0.25, 0.0, 0.0), **fields):
    points = torch.zeros(len(ends), 5)
    points[:, :3] = torch.tensor(ends).reshape(-1, 3)
    return Scene("by hand", points, torch.tensor(origin), **fields)


def voxel(grid, x, y, z):
    return tuple(grid.cells(torch.tensor([x, y, z])).tolist())


def test_a_beam_occupies_its_end_and_frees_what_it_fills():
    # Four beams side by side fill the voxels between y = 0.5 and 1 but for their last one.
    ends = [(6.1, y, z) for y in (0.6, 0.9) for z in (0.1, 0.4)]
    beams = [scene(end, origin=(0.25, end[1], end[2]), world_to_global=torch.eye(4)) for end in ends]
    labels = label_occupancy(beams, 0, GRID)
    assert labels.occupied.nonzero().tolist() == [list(voxel(GRID, 6.1, 0.6, 0.1))]
    expected = torch.zeros(GRID.shape, dtype=torch.bool)
    for x in torch.arange(0.75, 6.0, 0.5).tolist():  # the first voxel is entered in its middle
        expected[voxel(GRID, x, 0.75, 0.25)] = True
    assert torch.equal(labels.free, expected)


def test_one_beam_alone_frees_nothing():
    labels = label_occupancy([scene((6.1, 0.6, 0.1), origin=(0.25, 0.6, 0.1))], 0, GRID)
    assert int(labels.observed.sum()) == 1


def test_what_lies_outside_is_not_moved_onto_the_border():
    labels = label_occupancy([scene((20.0, 0.1, 0.1), (3.0, 1.0, 9.0), (-4.0, 0.0, 0.0))], 0, GRID)
    assert not labels.occupied.any()


def test_a_return_on_a_face_belongs_to_the_voxel_behind_it():
    labels = label_occupancy([scene((4.0, 0.5, -0.5))], 0, GRID)
    assert labels.occupied.nonzero().tolist() == [[3, 5, 8]]


def test_close_returns_say_nothing():
    assert not label_occupancy([scene((0.75, 0.0, 0.0))], 0, GRID, near=1.0).observed.any()


def test_frames_are_joined_by_their_poses():
    moved = torch.eye(4)
    moved[0, 3] = 3.0
    frames = [scene(world_to_global=torch.eye(4)), scene((1.1, 0.1, 0.1), world_to_global=moved)]
    labels = label_occupancy(frames, 0, GRID)
    assert labels.occupied.nonzero().tolist() == [list(voxel(GRID, 4.1, 0.1, 0.1))]


def test_a_moving_box_takes_its_returns_along():
    def box(x):
        return Boxes(
            centers=torch.tensor([[x, 0.0, 0.0]]),
            sizes=torch.tensor([[2.0, 1.0, 1.0]]),
            yaws=torch.zeros(1),
            labels=torch.ones(1, dtype=torch.long),
            velocities=torch.tensor([[4.0, 0.0, 0.0]]),
        )

    pose = {"world_to_global": torch.eye(4)}
    before = scene((2.1, 0.1, 0.1), boxes=box(3.0), timestamp=0.0, **pose)
    now = scene(boxes=box(5.0), timestamp=0.5, **pose)
    labels = label_occupancy([before, now], 1, GRID)
    assert labels.occupied.nonzero().tolist() == [list(voxel(GRID, 4.1, 0.1, 0.1))]
    # An object that the key frame does not know leaves nothing at all.
    gone = label_occupancy([before, dataclasses.replace(now, boxes=None)], 1, GRID)
    assert not gone.occupied.any()


def test_what_a_moving_box_takes_along_tilts_with_the_world():
    """The car banks with the road, as the sensor does that now hangs to the side; it also turns left."""
    c, s = math.cos(0.9), math.sin(0.9)
    hangs, lifts = torch.eye(4), torch.tensor([-0.9, -0.3, 0.4])
    hangs[1:3, 1:3] = torch.tensor([[c, -s], [s, c]])
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # a quarter, in the world of now

    def box(x, yaw):
        return Boxes(
            centers=torch.tensor([[x, 0.0, 0.0]]),
            sizes=torch.tensor([[2.0, 1.0, 1.0]]),
            yaws=torch.tensor([yaw]),
            labels=torch.ones(1, dtype=torch.long),
            velocities=torch.tensor([[4.0, 0.0, 0.0]]),
        )

    end = tuple((torch.tensor([3.0, 0, 0]) + lifts).tolist())
    before = scene(end, boxes=box(3.0, 0.0), timestamp=0.0, world_to_global=torch.eye(4))
    for yaw, turn in ((0.0, torch.eye(3)), (math.pi / 2, turned)):
        now = scene(boxes=box(5.0, yaw), timestamp=0.5, world_to_global=hangs)
        there = torch.tensor([5.0, 0, 0]) + turn @ hangs[:3, :3].T @ lifts
        labels = label_occupancy([before, now], 1, GRID)
        assert labels.occupied.nonzero().tolist() == [list(voxel(GRID, *there.tolist()))]


def parts_of(tensor, grid):
    """``(Z, Y, X, parts)`` of a tensor on a grid ``PARTS`` times as fine."""
    z, y, x = grid.shape
    return tensor.view(z, PARTS, y, PARTS, x, PARTS).permute(0, 2, 4, 1, 3, 5).reshape(z, y, x, -1)


@pytest.fixture(scope="module")
def streets():
    """Streets of five frames, with the truth on a fine grid."""
    fine = VoxelGrid(STREET_RANGE, (0.4 / PARTS,) * 3)
    return SyntheticStreet(
        35, frames_per_street=5, grid=fine, image_size=(8, 16), num_beams=64, points_per_beam=1200
    )


@pytest.fixture(scope="module")
def truth_of(streets):
    """Of each voxel of a frame: the share that is solid, and whether it is within a part, 0.1 m, of something
    solid. Made once, for it takes seconds."""
    grid = VoxelGrid(STREET_RANGE, (0.4, 0.4, 0.4))

    def truth(key):
        solid = (streets[key].truth.occupancy > 0).float()
        grown = torch.nn.functional.max_pool3d(solid[None, None], 3, 1, 1)[0, 0]
        return parts_of(solid, grid).mean(-1), parts_of(grown, grid).any(-1)

    return functools.cache(truth)


@pytest.mark.parametrize("key", [2, pytest.param(7, marks=pytest.mark.long)])
def test_labels_are_the_truth_of_synthetic_streets(streets, truth_of, key):
    """The ground leans, so it cuts slivers off voxels: returns lie in some of which the truth, asked in the
    middles of parts of 0.1 m, sees nothing, and beams pass most of others. These alone cost a sixth of the
    overlap; beyond them labels are nearly exact."""
    grid = VoxelGrid(STREET_RANGE, (0.4, 0.4, 0.4))
    labels = SceneWindows(streets, grid)[key].occupancy
    share, near = truth_of(key)
    truth, seen = share > 0, labels.observed
    union = (labels.occupied | truth) & seen
    # 0.815 and 0.845; of ten streets the least is 0.803.
    assert int((labels.occupied & truth & seen).sum()) / int(union.sum()) >= 0.78
    # What is not within 0.1 m of anything are people who walk: they have no boxes.
    assert int((labels.occupied & ~near).sum()) <= 0.015 * int(labels.occupied.sum())
    # What is called free holds slivers at most.
    assert int((seen & ~labels.occupied & (share > 0.5)).sum()) <= 0.001 * int(labels.occupied.sum())
    assert int(seen.sum()) > 40_000  # 61 and 47 thousand of 147


@pytest.mark.parametrize("key", [17, pytest.param(32, marks=pytest.mark.long)])
def test_moving_cars_leave_no_trail(streets, truth_of, key):
    """On streets where cars drive past near by; in many of the others none comes into the grid."""
    grid = VoxelGrid(STREET_RANGE, (0.4, 0.4, 0.4))
    frames = [streets.without_images(k) for k in streets.sequence(key)]
    # The ground below cars is seen in slivers of voxels that the truth does not know: no trail.
    _, near = truth_of(key)
    blind = [dataclasses.replace(frame, boxes=None) for frame in frames]
    passed_by = torch.zeros(grid.shape, dtype=torch.bool)
    for k in (0, 1, 3, 4):
        passed_by |= swept(frames[k], frames[2], grid)
    # What the other frames see where their cars were and nothing is now.
    trail = label_occupancy(blind, 2, grid).occupied & ~near & passed_by
    trail &= ~label_occupancy(blind[2:3], 0, grid).occupied
    left = trail & label_occupancy(frames, 2, grid).occupied
    assert int(trail.sum()) > 100
    # Street 17 leaves 7 of 320, on a car of another frame that is carried to a corner of its box of now.
    assert int(left.sum()) <= 0.03 * int(trail.sum())


def swept(frame, now, grid):
    """Voxels whose centre lies in a moving box of another frame."""
    to_frame = torch.linalg.inv(frame.world_to_global) @ now.world_to_global
    centers = grid.centers() @ to_frame[:3, :3].T + to_frame[:3, 3]
    inside = torch.zeros(grid.shape, dtype=torch.bool)
    boxes = frame.boxes
    for k in range(len(boxes.yaws)):
        if boxes.velocities[k].norm() > 1.0:
            c, s = boxes.yaws[k].cos(), boxes.yaws[k].sin()
            local = centers - boxes.centers[k]
            along, across = c * local[..., 0] + s * local[..., 1], c * local[..., 1] - s * local[..., 0]
            near = torch.stack([along, across, local[..., 2]], -1).abs() * 2 < boxes.sizes[k]
            inside |= near.all(-1)
    return inside


def test_windows_at_the_ends_of_a_recording():
    streets = Kept(
        10, frames_per_street=5, image_size=(8, 16), num_beams=8, points_per_beam=60, with_truth=False
    )
    windows = SceneWindows(streets, GRID, reach=1, history=2)
    assert [scene.name for scene in windows[5].previous] == ["street-0-5", "street-0-5"]
    assert [scene.name for scene in windows[8].previous] == ["street-0-6", "street-0-7"]
    batch = collate([windows[5], windows[8]])
    assert batch.occupied.shape == batch.observed.shape == (2, *GRID.shape)
    assert [moment.names for moment in batch.previous] == [
        ("street-0-5", "street-0-6"),
        ("street-0-5", "street-0-7"),
    ]
    assert torch.equal(batch.previous[1].world_to_global[1], streets[7].world_to_global)


def test_held_out_scenes_label_none_before_them():
    """What is known of a scene before the border is what is known where the recording ends there."""
    street = Kept(
        5, frames_per_street=5, image_size=(8, 16), num_beams=8, points_per_beam=60, with_truth=False
    )
    cut = dataclasses.replace(street, num_scenes=3)
    held, ended, free = (
        SceneWindows(street, GRID, holdout=2),
        SceneWindows(cut, GRID),
        SceneWindows(street, GRID),
    )
    for index in range(3):
        assert torch.equal(held[index].occupancy.observed, ended[index].occupancy.observed)
        assert torch.equal(held[index].occupancy.occupied, ended[index].occupancy.occupied)
    assert not torch.equal(held[2].occupancy.observed, free[2].occupancy.observed)
    for index in (3, 4):
        assert torch.equal(held[index].occupancy.observed, free[index].occupancy.observed)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"^key: expected one of 1 frames, got 1"):
        label_occupancy([scene()], 1, GRID)
    with pytest.raises(ValueError, match=r"^frames: scene 'by hand' has no pose"):
        label_occupancy([scene(), scene()], 0, GRID)
    with pytest.raises(ValueError, match=r"^SceneWindows: reach: expected at least 0, got -1"):
        SceneWindows(SyntheticStreet(1), GRID, reach=-1)
