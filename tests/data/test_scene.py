import dataclasses

import pytest
import torch

from renderpretrain.data import Boxes, OccupancyLabels, Scene, SyntheticRoom, collate


@pytest.fixture(scope="module")
def room():
    return SyntheticRoom(1, image_size=(24, 32), num_points=50)[0]


def scene(count, value):
    return Scene("s", torch.full((count, 5), value), torch.zeros(3))


def test_points_are_padded_and_marked():
    batch = collate([scene(2, 1.0), scene(3, 2.0)])
    assert batch.points.xyz[..., 0].tolist() == [[1, 1, 0], [2, 2, 2]]
    assert batch.points.valid.tolist() == [[True, True, False], [True, True, True]]
    assert batch.size == 2 and batch.views is None and batch.boxes is None


def test_classes_of_points_are_padded_with_minus_one_and_absent_if_no_scene_has_any():
    labelled = [
        dataclasses.replace(scene(2, 1.0), point_labels=torch.tensor([5, 0], dtype=torch.int32)),
        dataclasses.replace(scene(3, 2.0), point_labels=torch.tensor([1, 2, 3])),
    ]
    assert collate(labelled).points.labels.tolist() == [[5, 0, -1], [1, 2, 3]]
    assert collate([labelled[0], scene(3, 2.0)]).points.labels.tolist() == [[5, 0, -1], [-1, -1, -1]]
    assert collate([scene(2, 1.0), scene(3, 2.0)]).points.labels is None


def test_classes_of_pixels_are_padded_with_minus_one_and_absent_if_no_scene_has_any(room):
    bare = dataclasses.replace(room, pixel_labels=None, class_names=(), domain=2)
    batch = collate([room, bare])
    labels = batch.views.labels
    assert torch.equal(labels[0], room.pixel_labels) and (labels[1] == -1).all()
    assert batch.class_names == (room.class_names, ()) and batch.domains == (0, 2)
    assert collate([bare]).views.labels is None


def test_fewer_cameras_are_padded_and_marked(room):
    two = dataclasses.replace(
        room,
        images=room.images[:2],
        cameras=room.cameras[:2],
        camera_names=room.camera_names[:2],
        z_depths=room.z_depths[:2],
        z_depth_valid=room.z_depth_valid[:2],
        pixel_labels=room.pixel_labels[:2],
    )
    views = collate([room, two]).views
    assert views.valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert views.cameras.shape == (2, 4)
    assert (views.labels[1, 2:] == -1).all() and (views.labels[1, :2] > 0).all()
    assert (views.images[1, 2:] == 0).all() and not views.z_depth_valid[1, 2:].any()
    assert torch.equal(views.cameras.camera_to_world[1, 3], torch.eye(4))


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(9, 4)}, r"points: expected \(P 5\) .*, got \(9, 4\)"),
        ({"points": torch.full((50, 5), torch.nan)}, "points: expected finite numbers, got 50 rows without"),
        ({"points": torch.zeros(9, 5)}, r"point_labels: expected \(P\) with .*P=9.*, got \(50,\)"),
        ({"pixel_labels": torch.zeros(2, 24, 32)}, r"pixel_labels: expected \(N H W\) .*, got \(2, 24, 32\)"),
        ({"images": torch.zeros(4, 3, 24, 30)}, r"images: expected \(N 3 H W\) .*, got \(4, 3, 24, 30\)"),
        ({"camera_names": ("front",)}, r"cameras: expected one for each of the 1 camera_names, got \(4,\)"),
        ({"point_key": torch.ones(9, dtype=torch.bool)}, r"point_key: expected \(P\) .*, got \(9,\)"),
    ],
)
def test_a_scene_that_cannot_be_is_refused_when_it_is_made(room, changes, message):
    """Where types are checked, it is refused in other words."""
    with pytest.raises(ValueError, match=f"scene 'room-0-0': {message}"):
        dataclasses.replace(room, **changes)


def test_scenes_with_and_without_cameras_depth_and_labels_share_a_batch(room):
    bare = scene(3, 1.0)
    seen = dataclasses.replace(room, z_depths=None, z_depth_valid=None, pixel_labels=None)
    occupancy = OccupancyLabels(*torch.ones(2, 2, 3, 4, dtype=torch.bool))
    batch = collate([bare, room, dataclasses.replace(seen, occupancy=occupancy)])
    views = batch.views
    assert views.images.shape == (3, 4, 3, 24, 32) and torch.equal(views.images[1], room.images)
    assert views.valid.tolist() == [[False] * 4, [True] * 4, [True] * 4]
    assert views.z_depth_valid.flatten(1).any(-1).tolist() == [False, True, False]
    assert torch.equal(views.z_depths[1], room.z_depths) and (views.labels[[0, 2]] == -1).all()
    assert batch.observed.flatten(1).all(-1).tolist() == [False, False, True]
    assert torch.equal(views.cameras.camera_to_world[0], torch.eye(4).expand(4, 4, 4))
    # Whoever comes first says nothing about the others.
    pairs = collate([seen, room]).views, collate([room, seen]).views
    assert pairs[0].z_depth_valid[1].any() and pairs[1].z_depth_valid[0].any()


def test_a_camera_that_a_scene_lacks_is_invalid_in_its_place(room):
    lacking = dataclasses.replace(room, camera_valid=torch.tensor([True, False, True, True]))
    assert collate([room, lacking]).views.valid.tolist() == [[True] * 4, [True, False, True, True]]


def test_the_key_sweep_is_told_by_its_mark_and_not_by_a_lag_of_zero():
    points = torch.zeros(3, 5)
    marked = Scene("m", points, torch.zeros(3), point_key=torch.tensor([True, False, True]))
    points = collate([marked, scene(2, 0.0), scene(2, 1.0)]).points
    assert points.key.tolist() == [[True, False, True], [True, True, False], [False] * 3]
    assert torch.equal(dataclasses.replace(points, key_sweep=None).key[0], torch.ones(3) > 0)


def boxes(count):
    """Boxes without a zero in them."""
    labels = torch.arange(1, count + 1)
    return Boxes(*(1 + torch.rand(count, n) for n in (3, 3)), labels + 0.5, labels, 1 + torch.rand(count, 3))


def test_boxes_are_padded_and_marked_and_absent_if_no_scene_has_any():
    two, three = (dataclasses.replace(scene(2, 1.0), boxes=boxes(count)) for count in (2, 3))
    batch = collate([scene(2, 1.0), two, three])
    assert batch.boxes.valid.tolist() == [[False] * 3, [True, True, False], [True] * 3]
    for name in ("centers", "sizes", "yaws", "labels", "velocities"):
        padded = getattr(batch.boxes, name)
        assert torch.equal(padded[1, :2], getattr(two.boxes, name)), name
        assert torch.equal(padded[2], getattr(three.boxes, name)), name
        assert not padded[~batch.boxes.valid].any(), name
    assert batch.boxes.labels.dtype == three.boxes.labels.dtype
    assert collate([scene(2, 1.0)] * 2).boxes is None
    assert collate([dataclasses.replace(two, boxes=boxes(0))]).boxes.valid.shape == (1, 0)


def test_seeds_are_the_users_or_the_global_generators():
    seeds = torch.tensor([4, 5])
    assert torch.equal(collate([scene(1, 0.0)] * 2, seeds).seeds, seeds)
    torch.manual_seed(1)
    first = collate([scene(1, 0.0)]).seeds
    torch.manual_seed(1)
    assert torch.equal(collate([scene(1, 0.0)]).seeds, first)


def test_scenes_that_do_not_fit_are_named(room):
    small = SyntheticRoom(1, image_size=(12, 16), num_points=50)[0]
    with pytest.raises(ValueError, match=r"image size: scene 'room-0-0' has \(24, 32\), .* has \(12, 16\)"):
        collate([scene(1, 0.0), room, small])
    with pytest.raises(ValueError, match="expected at least one scene, got none"):
        collate([])


def test_a_scene_moves_to_a_device_with_everything_in_it(room, device):
    moved = room.to(device)
    assert (
        moved.points.device.type
        == moved.cameras.intrinsics.device.type
        == moved.truth.depth.device.type
        == device.type
    )
    assert moved.truth.grid == room.truth.grid
