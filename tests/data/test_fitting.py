"""Pictures of any shape at one size: proportions, cameras, and what is not a picture and teaches nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scene_folders import load, save, write_room, write_street
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, collate, write_scene_folder
from renderpretrain.data.folder.fitting import FITS, Fitting
from renderpretrain.data.open import open_data
from renderpretrain.samplers import LidarGuidedRays, PixelRays

PORTRAIT, WIDE = (64, 48), (40, 132)
"""Height and width of a phone's picture and of KITTI's, a tenth."""


def by_slow_loop(size, target, fit, of_street):
    """Every pixel of the result: the pixel of the resized picture that it shows, or ``None``."""
    ratio = [new / old for new, old in zip(target, size, strict=True)]
    if fit == "stretch":
        return {(v, u): (v, u) for v in range(target[0]) for u in range(target[1])}, target
    factor = min(ratio) if fit == "pad" else max(ratio)
    scaled = [round(side * factor) for side in size]
    shown = {}
    for v in range(target[0]):
        for u in range(target[1]):
            above, left = target[0] - scaled[0], target[1] - scaled[1]
            top = above if above < 0 and of_street else above // 2
            row, column = v - top, u - left // 2
            inside = 0 <= row < scaled[0] and 0 <= column < scaled[1]
            shown[v, u] = (row, column) if inside else None
    return shown, tuple(scaled)


@pytest.mark.parametrize("of_street", [True, False], ids=["street", "room"])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [PORTRAIT, WIDE, (41, 40)])
def test_pictures_lie_where_a_slow_loop_puts_them(size, fit, of_street):
    target = (24, 42)
    place = Fitting(target, fit, of_street).of(size)
    shown, scaled = by_slow_loop(size, target, fit, of_street)
    assert place.scaled == scaled
    numbers = torch.arange(scaled[0] * scaled[1]).view(scaled)
    result = place.put(numbers, -1)
    wanted = [-1 if at is None else at[0] * scaled[1] + at[1] for at in shown.values()]
    assert result.flatten().tolist() == wanted
    real = place.real()
    assert (torch.ones(target, dtype=torch.bool) if real is None else real).flatten().tolist() == [
        number >= 0 for number in wanted
    ]
    assert (fit == "pad") == (real is not None)


def test_nearly_equal_proportions_are_equal():
    """nuScenes at the presets' 128 x 224 loses nothing and is padded by nothing; 928 rows pad its 900."""
    assert Fitting((128, 224)).of((900, 1600)).fills
    place = Fitting((928, 1600)).of((900, 1600))
    assert (place.scaled, place.top, place.left) == ((900, 1600), 14, 0)


def test_a_cut_street_keeps_its_bottom_as_bevfusion_does():
    """0.44 of nuScenes' 1600 x 900 is 704 x 396; of it the lowest 256 rows stay."""
    place = Fitting((256, 704), "crop").of((900, 1600))
    assert (place.scaled, place.top, place.left) == ((396, 704), -140, 0)


def marked_street(path, sizes):
    """A street of one frame and cameras of several sizes that look ahead, each white at one LiDAR return."""
    content = write_street(path)
    point = np.array([[8.0, 0.5, -0.25, 255]], np.float32)
    np.repeat(point, 20, 0).tofile(path / "0.bin")
    frame, entry = content["frames"][0], content["frames"][0]["cameras"]["front"]
    frame["cameras"] = {}
    for n, (height, width) in enumerate(sizes):
        focal = 0.8 * max(height, width)
        intrinsics = [[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]]
        u, v = width / 2 - focal * 0.5 / 8, height / 2 + focal * 0.25 / 8
        rows, columns = np.mgrid[:height, :width] + 0.5
        blob = np.exp(-((rows - v) ** 2 + (columns - u) ** 2) / (0.05 * focal) ** 2)
        Image.fromarray((blob * 255).astype(np.uint8)).save(path / f"c{n}.png")
        frame["cameras"][f"c{n}"] = {**entry, "file": f"c{n}.png", "intrinsics": intrinsics}
        frame["cameras"][f"c{n}"] |= {"width": width, "height": height}
    save(path, content | {"frames": [frame]})
    return path


@pytest.mark.parametrize("options", [{}, *({"image_size": (48, 84), "fit": fit} for fit in FITS)])
def test_a_rig_of_several_sizes_is_read_with_each_return_on_its_mark(tmp_path, options):
    """The middle of what is white is where the camera says that the return falls."""
    scene = load(marked_street(tmp_path, [PORTRAIT, WIDE, (48, 64), (48, 64)]), **options)[0]
    size = options.get("image_size", (48, 64))
    assert scene.images.shape == (4, 3, *size)
    pixels, _, seen = scene.cameras.project(scene.points[:1, :3])
    # Of a tall picture that is cut, the lower part stays.
    assert seen[:, 0].tolist() == [options.get("fit") != "crop", True, True, True]
    rows, columns = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    for image, pixel in zip(scene.images[seen[:, 0], 0], pixels[seen], strict=True):
        middle = torch.stack([(image * columns).sum(), (image * rows).sum()]) / image.sum()
        assert_close(middle, pixel, rtol=0, atol=0.15)  # of the blob 8 bits and resampling keep so much
    padded = options.get("fit", "pad") == "pad"
    assert (scene.image_valid is not None) == padded
    if padded:
        assert not scene.images.movedim(1, -1)[~scene.image_valid].any()
        aspect = scene.image_valid[0].any(1).sum() / scene.image_valid[0].any(0).sum()
        assert abs(aspect - 64 / 48) < 0.05


def test_a_room_is_padded_with_its_depth_and_classes(tmp_path):
    content = write_room(tmp_path)
    Image.fromarray(np.full((12, 16), 1, np.uint8)).save(tmp_path / "s.png")
    content["frames"][0]["semseg"], content["semseg_classes"] = "s.png", {"1": "wall"}
    save(tmp_path, content)
    scene = load(tmp_path, image_size=(12, 24))[0]
    real = torch.zeros(12, 24, dtype=torch.bool)
    real[:, 4:20] = True
    for found in (scene.image_valid[0], scene.z_depth_valid[0], scene.pixel_labels[0] == 1):
        assert torch.equal(found, real)
    assert (scene.pixel_labels[0][~real] == -1).all()
    assert scene.cameras.intrinsics[0, 0].tolist() == [16.0, 0.0, 12.0]
    targets = PixelRays(num_rays=500)(collate([scene], torch.tensor([0])))
    assert targets.hit.sum() == 12 * 16 and not (targets.rgb_valid & ~targets.hit).any()
    assert_close(targets.ends[targets.hit][:, 2], torch.full((192,), 1.5))


def padded_batch(path):
    """A wide picture in the middle third of a square, and returns whose pixels are all over that square."""
    scene = SceneFolder(marked_street(path, [(20, 60), (60, 60)]), image_size=(60, 60))[0]
    random = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.6
    points = torch.cat([torch.full((2000, 1), 8.0), 8 * random, torch.zeros(2000, 2)], -1)
    return collate([replace(scene, points=points), scene], torch.tensor([0, 1]))


@pytest.mark.parametrize("sampler", [LidarGuidedRays(num_rays=700), PixelRays(num_rays=700)])
def test_no_ray_with_a_target_starts_in_padding(tmp_path, sampler):
    batch = padded_batch(tmp_path)
    targets = sampler(batch)
    rows = targets.pixels[..., 1]
    first = targets.camera == 0
    counts = targets.rgb_valid | targets.hit
    assert counts[first].sum() > 200 and counts[~first].all()
    assert ((rows >= 20) & (rows < 40))[first & counts].all()
    patches = torch.ones(2, 2, 3, 3, dtype=torch.bool)
    targets = PixelRays(num_rays=300, candidates=patches)(batch)
    assert ((targets.pixels[..., 1] - 30).abs() < 10)[(targets.camera == 0) & targets.rgb_valid].all()
    pixels = torch.tensor([[10.0, 19.9], [10.0, 20.1]]).expand(2, 2, 2, 2)
    seen = batch.views.seen_at(pixels, torch.ones(2, 2, 2, dtype=torch.bool))
    assert seen[0].tolist() == [[False, True], [True, True]]


def test_padding_of_one_camera_changes_no_ray_of_another(tmp_path):
    batch = padded_batch(tmp_path)
    whole = replace(batch, views=replace(batch.views, image_valid=None))
    found, wanted = (LidarGuidedRays(num_rays=700)(each) for each in (batch, whole))
    second = found.camera == 1
    assert torch.equal(found.pixels[second], wanted.pixels[second])
    assert torch.equal(found.rgb_valid[second], wanted.rgb_valid[second])
    nothing = replace(batch.views, image_valid=torch.zeros_like(batch.views.image_valid))
    assert not LidarGuidedRays(num_rays=9)(replace(batch, views=nothing)).rgb_valid.any()


def test_cells_count_where_every_pixel_was_seen(tmp_path):
    views = padded_batch(tmp_path).views
    cells = views.seen((4, 4))  # rows of 15 pixels: 20 to 40 is the second in part
    assert not cells[:, 0].any() and cells[:, 1].all()
    assert views.seen((6, 6))[0, 0].any(1).tolist() == [False, False, True, True, False, False]
    assert replace(views, image_valid=None).seen((4, 4)).all()


def test_scenes_with_and_without_padding_share_a_batch(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    padded = load(marked_street(tmp_path / "a", [WIDE, PORTRAIT]), image_size=(48, 64))[0]
    whole = load(marked_street(tmp_path / "b", [(48, 64)]), image_size=(48, 64))[0]
    seen = collate([whole, padded], torch.tensor([0, 1])).views.image_valid
    assert seen[0, 0].all() and not seen[0, 1].any() and torch.equal(seen[1], padded.image_valid)
    assert collate([whole], torch.tensor([0])).views.image_valid is None


def test_padded_pictures_are_written_without_their_padding(tmp_path):
    (tmp_path / "a").mkdir()
    scene = load(marked_street(tmp_path / "a", [WIDE, (48, 64)]), image_size=(48, 64))[0]
    write_scene_folder(tmp_path / "b", [scene])
    again = load(tmp_path / "b", image_size=(48, 64))[0]
    assert_close(again.images, scene.images)
    assert_close(again.cameras.intrinsics, scene.cameras.intrinsics)
    assert torch.equal(again.image_valid, scene.image_valid)
    sizes = SceneFolder(tmp_path / "b").index.frames[0].cameras
    assert (sizes["c0"].height, sizes["c0"].width) == (19, 64)


def test_a_word_says_how_pictures_fit(tmp_path):
    path = marked_street(tmp_path, [WIDE])
    cut = open_data(f"folder:{path}?fit=crop", image_size=(48, 64))[0]
    assert cut.image_valid is None
    with pytest.raises(ValueError, match="data: fit: expected pad or crop or stretch, got 'squeeze'"):
        open_data(f"folder:{path}?fit=squeeze")


@pytest.mark.untyped
def test_another_way_to_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fit: expected one of pad, crop, stretch, got 'squeeze'"):
        SceneFolder(tmp_path, fit="squeeze")
