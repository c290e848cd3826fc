import dataclasses

import pytest
import torch

from renderpretrain.data import Scene, SyntheticRoom, collate


@pytest.fixture(scope="module")
def room():
    return SyntheticRoom(1, image_size=(24, 32), num_points=50)[0]


def scene(count, value):
    return Scene("s", torch.full((count, 5), value), torch.zeros(3))


def test_points_are_padded_and_marked():
    batch = collate([scene(2, 1.0), scene(3, 2.0)])
    assert batch.points[..., 0].tolist() == [[1, 1, 0], [2, 2, 2]]
    assert batch.point_valid.tolist() == [[True, True, False], [True, True, True]]
    assert batch.size == 2 and batch.images is None


def test_classes_of_points_are_padded_with_minus_one_and_absent_if_no_scene_has_any():
    labelled = [
        dataclasses.replace(scene(2, 1.0), point_labels=torch.tensor([5, 0], dtype=torch.int32)),
        dataclasses.replace(scene(3, 2.0), point_labels=torch.tensor([1, 2, 3])),
    ]
    assert collate(labelled).point_labels.tolist() == [[5, 0, -1], [1, 2, 3]]
    assert collate([labelled[0], scene(3, 2.0)]).point_labels.tolist() == [[5, 0, -1], [-1, -1, -1]]
    assert collate([scene(2, 1.0), scene(3, 2.0)]).point_labels is None


def test_classes_of_pixels_are_padded_with_minus_one_and_absent_if_no_scene_has_any(room):
    bare = dataclasses.replace(room, pixel_labels=None, class_names=(), domain=2)
    batch = collate([room, bare])
    assert torch.equal(batch.pixel_labels[0], room.pixel_labels) and (batch.pixel_labels[1] == -1).all()
    assert batch.class_names == (room.class_names, ()) and batch.domains == (0, 2)
    assert collate([bare]).pixel_labels is None


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
    batch = collate([room, two])
    assert batch.camera_valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.cameras.shape == (2, 4)
    assert (batch.pixel_labels[1, 2:] == -1).all() and (batch.pixel_labels[1, :2] > 0).all()
    assert (batch.images[1, 2:] == 0).all() and not batch.z_depth_valid[1, 2:].any()
    assert torch.equal(batch.cameras.camera_to_world[1, 3], torch.eye(4))


@pytest.mark.untyped
def test_classes_that_are_not_of_the_scene_are_named(room):
    """Where types are checked, such a scene cannot be made."""
    with pytest.raises(ValueError, match=r"pixel_labels: expected \(4, 24, 32\) of .*, got \(2, 24, 32\)"):
        collate([dataclasses.replace(room, pixel_labels=room.pixel_labels[:2])])
    with pytest.raises(ValueError, match=r"point_labels: expected \(9,\) of scene 'room-0-0', got \(50,\)"):
        collate([dataclasses.replace(room, points=room.points[:9])])


def test_seeds_are_the_users_or_the_global_generators():
    seeds = torch.tensor([4, 5])
    assert torch.equal(collate([scene(1, 0.0)] * 2, seeds).seeds, seeds)
    torch.manual_seed(1)
    first = collate([scene(1, 0.0)]).seeds
    torch.manual_seed(1)
    assert torch.equal(collate([scene(1, 0.0)]).seeds, first)


def test_scenes_that_do_not_fit_are_named(room):
    with pytest.raises(ValueError, match="having cameras: scene 's' has False, scene 'room-0-0' has True"):
        collate([scene(1, 0.0), room])
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
