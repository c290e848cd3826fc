"""Changes of scenes: what a picture shows of a point stays what it shows, and all else follows."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import OccupancyLabels, SyntheticRoom, SyntheticStreet
from renderpretrain.data.augment import Augmentation, ColorChange, ImageChange, WorldChange, moved_world

LENS = torch.tensor([-0.2, 0.05, 0.004, -0.003, 0.01])
QUARTER = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
CHANGES = {
    "turned": WorldChange(turn=40, tilt=3),
    "mirrored": WorldChange(mirror_x=1.0),
    "mirrored twice": WorldChange(mirror_x=1.0, mirror_y=1.0),
    "scaled": WorldChange(scale=(0.8, 0.8)),
    "shifted": WorldChange(shift=0.5),
    "all": WorldChange(turn=40, tilt=3, scale=(0.9, 1.1), shift=0.5, mirror_y=1.0),
}


@pytest.fixture(scope="module", params=["pinhole", "distorted", "fisheye"])
def street(request):
    """A street seen through lenses of a kind; its pictures stay those of pinholes, which no test asks."""
    scene = SyntheticStreet(1, image_size=(48, 64), points_per_beam=150)[0]
    cameras, count = scene.cameras, len(scene.camera_names)
    if request.param == "distorted":
        cameras = replace(cameras, distortion=LENS.repeat(count, 1))
    if request.param == "fisheye":
        lens = torch.tensor([0.05, -0.01, 0.002, 0.0, 0.0]).repeat(count, 1)
        cameras = replace(cameras, distortion=lens, fisheye=torch.ones(count, dtype=torch.bool))
    seen = torch.rand(count, 48, 64) < 0.9
    return replace(scene, cameras=cameras, pixel_labels=scene.truth.semantics, image_valid=seen)


@pytest.fixture(scope="module")
def room():
    return SyntheticRoom(1, image_size=(48, 64))[0]


def draw(seed=3):
    return torch.Generator().manual_seed(seed)


def seen(scene, points):
    """What each camera shows of points, and how far away: colours, labels, depths, whether inside."""
    pixels, depths, inside = scene.cameras.project(points)
    u, v = pixels.long().clamp(min=0).unbind(-1)
    u, v = u.clamp(max=63), v.clamp(max=47)
    camera = torch.arange(len(scene.camera_names))[:, None]
    return scene.images[camera, :, v, u], scene.pixel_labels[camera, v, u], depths, inside


@pytest.mark.parametrize("name", CHANGES)
def test_pictures_show_the_same_of_every_point(street, name):
    changed = CHANGES[name](street, draw())
    colors, labels, depths, inside = seen(street, street.points[:, :3])
    new_colors, new_labels, new_depths, new_inside = seen(changed, changed.points[:, :3])
    scale = 0.8 if name == "scaled" else 1.0
    if name != "all":
        assert_close(new_depths, scale * depths, rtol=1e-4, atol=1e-4)
    # A point on the border of two pixels may fall into the other, for its coordinates are rounded anew.
    pixels = street.cameras.project(street.points[:, :3])[0]
    firm = inside & ((pixels - pixels.floor() - 0.5).abs() < 0.49).all(-1)
    assert firm.sum() > 300 and torch.equal(new_inside[firm], inside[firm])
    assert torch.equal(new_colors[firm], colors[firm]) and torch.equal(new_labels[firm], labels[firm])


@pytest.mark.parametrize("name", CHANGES)
def test_cameras_stay_cameras_and_their_rays_end_where_the_points_are(street, name):
    changed = CHANGES[name](street, draw())
    rotation = changed.cameras.camera_to_world[:, :3, :3]
    assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), rtol=0, atol=1e-5)
    assert_close(torch.linalg.det(rotation), torch.ones(len(rotation)), rtol=0, atol=1e-5)
    pixels, _, inside = changed.cameras.project(changed.points[:, :3])
    rays = changed.cameras.rays(pixels)
    towards = torch.nn.functional.normalize(changed.points[:, :3] - rays.origins, dim=-1)
    # A lens is inverted to 1e-4 of a pixel, of which a picture of 64 has some 50 a radian.
    assert_close(rays.directions[inside], towards[inside], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", CHANGES)
def test_boxes_hold_the_points_that_they_held(street, name):
    boxes, changed = street.boxes, CHANGES[name](street, draw())
    if "tilt" in name or CHANGES[name].tilt:
        changed = replace(CHANGES[name], tilt=0.0)(street, draw())
    assert torch.equal(inside_of(changed), inside_of(street)) and inside_of(street).sum() > 20
    assert_close(
        changed.boxes.sizes / boxes.sizes, (changed.boxes.sizes / boxes.sizes)[0].expand_as(boxes.sizes)
    )


def inside_of(scene):
    """``(K, P)``: which points lie well within each box, or out of it."""
    boxes = scene.boxes
    offsets = scene.points[None, :, :3] - boxes.centers[:, None]
    cosine, sine = boxes.yaws.cos()[:, None], boxes.yaws.sin()[:, None]
    along = offsets[..., 0] * cosine + offsets[..., 1] * sine
    across = offsets[..., 1] * cosine - offsets[..., 0] * sine
    half = 0.501 * boxes.sizes[:, None]
    return (
        (along.abs() < half[..., 0]) & (across.abs() < half[..., 1]) & (offsets[..., 2].abs() < half[..., 2])
    )


def test_moments_of_a_recording_still_fit_together():
    street = SyntheticStreet(2, image_size=(24, 32), frames_per_street=2, points_per_beam=60)
    first, second = street[0], street[1]
    there = torch.linalg.solve(first.world_to_global, second.world_to_global)
    about = replace(second, previous=(first,))
    changed = CHANGES["all"](about, draw())
    (earlier,) = changed.previous
    moved = torch.linalg.solve(earlier.world_to_global, changed.world_to_global)
    rotation = moved[:3, :3]
    assert_close(rotation @ rotation.mT, torch.eye(3), rtol=0, atol=1e-5)
    # A point of the second moment, seen from the first: through the recording, or through the changed one.
    points = second.points[:50, :3]
    expected = moved_like(points @ there[:3, :3].T + there[:3, 3], first, earlier)
    found = changed.points[:50, :3] @ moved[:3, :3].T + moved[:3, 3]
    assert_close(found, expected, rtol=1e-4, atol=1e-3)


def moved_like(points, before, after):
    """Points moved by the affine map that takes the points of one scene to those of another."""
    ones = torch.ones(len(before.points), 1)
    a = torch.cat([before.points[:, :3], ones], -1).double()
    solved = torch.linalg.lstsq(a, after.points[:, :3].double()).solution
    return (torch.cat([points, torch.ones(len(points), 1)], -1).double() @ solved).float()


def surface(scene):
    """Where the measured pixels of the first camera lie."""
    camera = scene.cameras[0]
    v, u = torch.nonzero(scene.z_depth_valid[0]).unbind(-1)
    rays = camera.rays(torch.stack([u, v], -1) + 0.5)
    t = scene.z_depths[0, v, u] / (rays.directions @ camera.camera_to_world[:3, 2])
    return rays.origins + t[:, None] * rays.directions


def test_depth_images_show_the_same_surface(room):
    changed = CHANGES["all"](room, draw())
    expected = moved_like(surface(room), room, changed)[::20]
    # Mirrored pictures list its pixels in another order.
    apart = torch.cdist(expected, surface(changed), compute_mode="donot_use_mm_for_euclid_dist")
    assert apart.min(-1).values.max() < 1e-4


def test_truth_by_hand(street):
    scene = replace(street, world_to_global=None, previous=())
    moved = moved_world(scene, QUARTER, (1.0, -1.0), 2.0, torch.tensor([1.0, 2.0, 3.0]))
    x, y, z = scene.points[:, :3].unbind(-1)
    # y changes its sign, a quarter turn takes (x, y) to (-y, x), lengths double.
    assert_close(moved.points[:, :3], torch.stack([2 * y + 1, 2 * x + 2, 2 * z + 3], -1))
    assert moved.truth is None and torch.equal(moved.points[:, 3:], scene.points[:, 3:])
    assert_close(
        moved.lidar_origin,
        2 * QUARTER @ (scene.lidar_origin * torch.tensor([1.0, -1, 1])) + torch.tensor([1.0, 2, 3]),
    )


@pytest.mark.parametrize(
    "change",
    [
        ImageChange(zoom=(1.1, 1.4)),
        ImageChange((0.7, 0.9)),
        ImageChange(mirror=1.0),
        ImageChange(turn=25.0),
        ImageChange((0.8, 1.3), 0.5, 10.0),
    ],
)
def test_windows_of_pictures_show_the_same_labels(street, change):
    changed = change(street, draw())
    assert changed.images.shape == street.images.shape
    _, labels, depths, inside = seen(street, street.points[:, :3])
    _, new_labels, new_depths, new_inside = seen(changed, changed.points[:, :3])
    assert_close(new_depths, depths)
    both = inside & new_inside & (new_labels >= 0)
    # Enlarged, the nearest pixel of a point near a border may be the one beside it.
    assert both.sum() > 200 and (new_labels == labels)[both].float().mean() > 0.9
    if change.zoom[0] < 1 or change.turn:
        seen_whole = change(replace(street, image_valid=None), draw())
        outside = ~seen_whole.image_valid
        # Between the last pixel that was seen and the first that was not, a turned picture mixes the two.
        far = ~torch.nn.functional.max_pool2d(seen_whole.image_valid.float(), 3, 1, 1).bool()
        assert far.any() and not seen_whole.images.permute(0, 2, 3, 1)[far].any()
        assert (seen_whole.pixel_labels[outside] == -1).all()
        assert (changed.image_valid <= seen_whole.image_valid).all()


def test_colors_change_alike_and_stay_colors(street):
    scene = replace(street, image_valid=None)
    assert torch.equal(ColorChange(brightness=0.2, each=0.0)(scene, draw()).images, scene.images)
    light = ColorChange(brightness=0.2, each=1.0)(scene, draw()).images
    change = (light - scene.images)[(light > 0) & (light < 1)]
    assert_close(change, change[0].expand_as(change), rtol=0, atol=1e-6)
    grey = scene.images.mean(1, keepdim=True).expand_as(scene.images)
    # Of the axes of colour, written with three digits, grey has 5e-4.
    same = ColorChange(hue=90, saturation=0.9, each=1.0)(replace(scene, images=grey), draw()).images
    assert_close(same, grey.contiguous(), rtol=0, atol=2e-3)
    for seed in range(4):
        images = ColorChange(0.5, 0.9, 0.9, 90, each=1.0)(scene, draw(seed)).images
        assert images.min() >= 0 and images.max() <= 1 and not torch.equal(images, scene.images)


def test_scenes_that_follow_are_seen_in_the_same_light(street):
    later = replace(street, image_valid=None, images=street.images.flip(0))
    light = ColorChange(0.3, 0.5, 0.5, 20, each=1.0)
    changed = light(replace(street, image_valid=None, following=(later, replace(later, images=None))), draw())
    assert torch.equal(changed.following[0].images, changed.images.flip(0))
    assert not torch.equal(changed.images, street.images) and changed.following[1].images is None
    assert torch.equal(changed.images, light(replace(street, image_valid=None), draw()).images)


def test_the_seed_says_what_happens(street):
    augmentation = Augmentation(CHANGES["all"], ImageChange((0.9, 1.2), 0.5), ColorChange(0.1, 0.3, 0.3, 10))
    first, again, other = (augmentation(street, seed) for seed in (5, 5, 6))
    assert torch.equal(first.points, again.points) and torch.equal(first.images, again.images)
    assert not torch.equal(first.points, other.points)
    assert Augmentation().does_nothing and Augmentation()(street, 5) is street


def test_what_is_dropped_is_said(street):
    none = Augmentation(without_colors=1.0, without_intensity=1.0, without_cameras=1.0)
    colored = replace(street, colors=torch.rand(len(street.points), 3))
    scene = none(colored, 1)
    assert not scene.colors.any() and not scene.points[:, 3].any() and colored.points[:, 3].any()
    assert scene.camera_valid.sum() == 1 and scene.images[~scene.camera_valid].eq(0).all()
    assert torch.equal(scene.images[scene.camera_valid], street.images[scene.camera_valid])
    kept = [int(Augmentation(without_cameras=0.5)(street, k).camera_valid.sum()) for k in range(200)]
    # Of six cameras three stay on average; 200 draws leave a standard deviation of 0.09.
    assert abs(sum(kept) / 200 - 3) < 0.3


def test_labels_of_a_grid_stay_with_their_world(street):
    grid = torch.zeros(2, 3, 4, dtype=torch.bool)
    labelled = replace(street, occupancy=OccupancyLabels(grid, grid))
    with pytest.raises(ValueError, match=r"expected no labels of a grid where.*augment.world"):
        CHANGES["turned"](labelled, draw())
    assert ColorChange(0.1)(labelled, draw()).occupancy is not None


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: WorldChange(scale=(1.1, 0.9)),
            "scale: expected two factors above 0, the smaller first",
        ),
        (lambda: WorldChange(mirror_x=2.0), "mirror_x: expected a probability, got 2.0"),
        (lambda: ImageChange(zoom=(0.0, 1.0)), "zoom: expected two factors above 0"),
        (lambda: ImageChange(mirror=-1.0), "mirror: expected a probability, got -1.0"),
        (lambda: ImageChange(turn=90.0), r"turn: expected degrees in \[0, 90\), got 90.0"),
    ],
)
def test_what_cannot_be_is_refused(make, line):
    with pytest.raises(ValueError, match=line):
        make()
