"""Values in a unit or code that is not the usual one: said once, with a cure that cures."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scene_folders import INTRINSICS, load, loads_with_problem, png, save
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, validate_scene_folder


def set_columns(street, columns, values):
    """Both sweeps get these columns in place of the intensity."""
    path, content = street
    points = np.fromfile(path / "0.bin", np.float32).reshape(-1, 4)[:, :3]
    rows = np.concatenate([points, np.asarray(values, np.float32).reshape(len(points), -1)], -1)
    for k in range(2):
        rows.astype(np.float32).tofile(path / f"{k}.bin")
        content["frames"][k]["lidar"]["columns"] = ["x", "y", "z", *columns]
    save(path, content)
    return path, content


RAW = np.linspace(0.2, 0.8, 20)


@pytest.mark.parametrize(("top", "cure"), [(255, 255), (3300, 2640), (65535, 65535)])
def test_intensities_of_the_sensors_own_numbers(street, caplog, top, cure):
    """Velodyne's and Livox's 255, an Ouster's photons, 16 bits: clipped, said once, and cured as it says."""
    path, content = set_columns(street, ["intensity"], np.round(RAW * top))
    line = (
        f"columns.intensity: expected values up to 1, got 100% above, up to {round(0.8 * top)}: they become 1"
    )
    scenes = loads_with_problem(path, line)
    assert caplog.text.count("they become 1") == 1 and f'"intensity_scale": {cure} ' in caplog.text
    assert (scenes[0].points[:, 3] == 1).all()
    content["intensity_scale"] = top
    content["frames"][1]["lidar"]["intensity_scale"] = 2 * top
    save(path, content)
    scenes = load(path)
    assert_close(scenes[0].points[:, 3], torch.from_numpy(np.round(RAW * top) / top).float())
    assert_close(scenes[1].points[:, 3] * 2, scenes[0].points[:, 3])
    assert validate_scene_folder(path) == []


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (
            "intensty",
            RAW,
            "expected intensity or reflectance among the columns, got neither: intensty is",
        ),
        ("intensity", -20 * RAW, "expected values from 0 on, got 100% below, down to -16: they become 0"),
        ("intensity_0_255", RAW, "expected values up to 255, got none above 0.8: divided already?"),
    ],
)
def test_intensities_that_cannot_be_meant(street, column, values, said):
    loads_with_problem(set_columns(street, [column], values)[0], said)


def test_one_intensity_for_all(street):
    path, _ = street
    np.tile([5.0, 0, 0, 51], (200, 1)).astype(np.float32).tofile(path / "0.bin")
    loads_with_problem(path, "lidar.columns.intensity_0_255: expected values that differ, got 51 only")


def test_a_retroreflector_is_clipped_without_a_word(street):
    values = np.tile(RAW, 20)
    values[7] = 1.5
    path, content = street
    rows = np.concatenate([np.full((400, 1), 5.0), np.zeros((400, 2)), values[:, None]], -1)
    for k in range(2):
        rows.astype(np.float32).tofile(path / f"{k}.bin")
        content["frames"][k]["lidar"]["columns"][3] = "intensity"
    save(path, content)
    assert validate_scene_folder(path) == [] and load(path)[0].points[7, 3] == 1


def test_a_column_that_nobody_uses_may_hold_anything(street):
    """And beams that are no numbers tell nothing, but drop nothing."""
    path, _ = set_columns(street, ["intensity", "gps", "ring"], np.stack([RAW, RAW, RAW], -1))
    rows = np.fromfile(path / "0.bin", np.float32).reshape(-1, 6)
    rows[:, 4] = np.nan
    rows.tofile(path / "0.bin")
    assert validate_scene_folder(path) == [] and len(load(path)[0].points) == 20
    rows[3, 5] = np.inf
    rows.tofile(path / "0.bin")
    assert len(loads_with_problem(path, "lidar.columns.ring: expected beam numbers")[0].points) == 20


@pytest.mark.parametrize(
    ("said", "measured", "problem"),
    [
        (None, {1500}, "depth: expected measurements, got 65535 in 25.0% of the pixels"),
        (65535, {1500}, None),
        ([65535, 1500], set(), "depth: expected measured pixels, got none"),
        ([], {1500, 65535}, None),
    ],
)
def test_the_largest_integer_is_no_wall(room, said, measured, problem):
    """7-Scenes writes 65535 where nothing was measured: 65 m in a kitchen."""
    path, content = room
    depth = np.full((12, 16), 1500, np.uint16)
    depth[:3] = 65535
    Image.fromarray(depth).save(path / "d.png")
    content["depth_invalid"] = said
    save(path, content)
    scene = load(path)[0]
    assert {round(1000 * z) for z in scene.z_depths[scene.z_depth_valid].tolist()} == measured
    assert torch.equal(scene.z_depth_valid, scene.z_depths > 0)
    problems = validate_scene_folder(path)
    assert (len(problems) == 1 and problem in problems[0]) if problem else problems == []


def test_a_picture_of_16_bits_spans_8(street):
    """A thermal camera: not white, and as contrasted as the folder says."""
    path, content = street
    grey = np.linspace(20000, 26000, 192).round().astype(np.uint16).reshape(12, 16)
    Image.fromarray(grey).save(path / "0.png")
    line = (
        'cameras.front: expected a picture that spans its 16 bits, got values from 20000 to 26000; "levels": '
    )
    read = loads_with_problem(path, line + "[20000, 26000]")[0].images[0]
    # One rounding to 8 bits.
    assert_close(read, torch.from_numpy(grey / 65535).float().expand(3, -1, -1), atol=0.51 / 255, rtol=0)
    content["levels"] = [20000, 26000]
    content["frames"][1]["cameras"]["front"]["levels"] = [0, 255]
    save(path, content)
    read = load(path)[0].images[0]
    expected = torch.from_numpy((grey - 20000.0) / 6000).float().expand(3, -1, -1)
    assert_close(read, expected, atol=0.51 / 255, rtol=0)
    assert validate_scene_folder(path) == []
    half = load(path, image_size=(6, 8))[0].images[0]
    assert_close(half, torch.nn.functional.avg_pool2d(expected, 2), atol=0.51 / 255, rtol=0)


def test_levels_of_a_picture_of_8_bits(street):
    path, content = street
    Image.fromarray(np.full((12, 16, 3), (20, 60, 110), np.uint8)).save(path / "0.png")
    content["frames"][0]["cameras"]["front"]["levels"] = [10, 110]
    save(path, content)
    assert_close(load(path)[0].images[0, :, 0, 0], torch.tensor([0.1, 0.5, 1.0]), atol=0.51 / 255, rtol=0)


UPRIGHT = np.arange(12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8)
STORED_AS = {t: {6: 8, 8: 6}.get(t, t) for t in range(1, 9)}


def turned(pixels, orientation):
    """The pixels as a viewer shows them that obeys an orientation."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_the_folder_says(street, kind, orientation):
    path, content = street
    stored = turned(UPRIGHT, STORED_AS[orientation])
    assert np.array_equal(turned(stored, orientation), UPRIGHT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(
        path / f"0.{kind}", exif=exif, **({"lossless": True} if kind == "webp" else {})
    )
    camera = content["frames"][0]["cameras"]["front"]
    camera["file"] = f"0.{kind}"

    def read(said, size):
        camera["height"], camera["width"] = size
        content["orientation"] = said
        save(path, content)
        image = SceneFolder(path, image_size=size)[0].images[0]
        return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()

    assert np.array_equal(read("exif", (12, 16)), UPRIGHT)
    assert np.array_equal(read("stored", stored.shape[:2]), stored)
    assert validate_scene_folder(path) == []
    assert np.array_equal(read(None, stored.shape[:2]), stored)
    said = [f"expected no EXIF orientation, got {orientation}"] if orientation > 1 else []
    problems = validate_scene_folder(path)
    assert len(problems) == len(said) and all(part in line for part, line in zip(said, problems, strict=True))
    assert np.array_equal(read(None, (12, 16)), UPRIGHT if orientation > 4 else stored)


def test_views_whose_tracking_was_lost_are_left_out(room, caplog):
    """ScanNet writes a matrix of -inf for them, others NaN over a last row of 0 0 0 1, or null."""
    path, content = room
    lost = [[[float("-inf")] * 4] * 4, [*[[float("nan")] * 4] * 3, [0, 0, 0, 1]], None]
    view = content["frames"][0]
    poses = [view["camera_to_world"], lost[0], view["camera_to_world"], *lost[1:]]
    content["frames"] = [{**view, "frame_id": k, "camera_to_world": pose} for k, pose in enumerate(poses)]
    save(path, content)
    assert [scene.camera_names for scene in load(path)] == [("0", "2")]
    assert "frames.json: camera_to_world: expected a pose, got none for 3 of 5 views" in caplog.text
    problems = validate_scene_folder(path)
    assert [line.partition("frame ")[2][:5] for line in problems] == ["1 (1)", "3 (3)", "4 (4)"]
    assert all("camera_to_world: expected a pose, got none" in line for line in problems)
    content["frames"] = content["frames"][1:2]
    save(path, content)
    with pytest.raises(SceneFolderError, match="expected frames with a finite camera_to_world, got none"):
        SceneFolder(path)


@pytest.mark.parametrize("size", [(6, 8), (24, 32), (20, 27)])
def test_depth_of_another_size_than_colour(room, size):
    """A slanted wall seen by a Kinect at another resolution: its points lie on the same plane."""
    path, _ = room
    u = (np.arange(size[1]) + 0.5) / size[1] * 16  # in the colour picture's pixels
    v = (np.arange(size[0]) + 0.5) / size[0] * 12
    z = 1500 + 20 * u[None] + 0 * v[:, None]
    Image.fromarray(z.round().astype(np.uint16)).save(path / "d.png")
    grey = np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 16, (12, 1, 3))
    Image.fromarray(grey).save(path / "c.png")
    scene = load(path)[0]
    assert validate_scene_folder(path) == [] and len(scene.points) == size[0] * size[1]
    x, y, depth = scene.points[:, :3].unbind(-1)
    # Depth is stored in millimetres, and a pixel's colour tells where in the picture it lies.
    assert_close(x * 16 / depth + 8, (depth * 1000 - 1500) / 20, atol=0.03, rtol=0)
    assert_close(y * 16 / depth + 6, torch.from_numpy(np.repeat(v, size[1])).float(), atol=1e-4, rtol=0)
    # The nearest pixel of the depth image is half of its pixels away at most.
    columns = 1.5 + 0.02 * (torch.arange(16) + 0.5)
    assert_close(scene.z_depths[0], columns.expand(12, -1), atol=0.02 * 8 / size[1] + 6e-4, rtol=0)
    assert (scene.colors[:, 0] * 255 / 16 - (x * 16 / depth + 8 - 0.5)).abs().max() < 0.75


def test_depth_of_another_shape_is_refused(room):
    path, _ = room
    Image.fromarray(np.full((16, 12), 1500, np.uint16)).save(path / "d.png")
    with pytest.raises(SceneFolderError, match=r"d.png: frame 0 \(7\): depth: expected 16 x 12 pixels"):
        load(path)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("distortion_k1k2p1p2", [0.1, 0.2, 0.01, 0.02], [0.1, 0.2, 0.01, 0.02, 0.0]),
        ("distortion_k1k2p1p2k3", [0.1, 0.2, 0.01, 0.02, 0.3], [0.1, 0.2, 0.01, 0.02, 0.3]),
        ("distortion_k1k2p1p2k3k4k5k6", [0.1, 0.2, 0.01, 0.02, 0.3, 0, 0, 0], [0.1, 0.2, 0.01, 0.02, 0.3]),
        ("distortion", [0.1, 0.2, 0.01, 0.02], "distortion: expected k1, k2, p1, p2, k3, or another number"),
        ("distortion", [0.1] * 8, "distortion: expected k1, k2, p1, p2, k3, or another number"),
        ("distortion_k1k2p1p2", [0.1] * 5, "distortion_k1k2p1p2: expected 4 numbers, got [0.1, 0.1"),
        ("distortion_k1k2p1p2k3k4k5k6", [0.1] * 8, "distortion_k1k2p1p2k3k4k5k6: expected k4, k5, k6 of 0"),
        ("distortion_k1k2k3k4", [0.1, 0.2, 0.01, 0.02], [0.1, 0.2, 0.01, 0.02, 0.0]),
        ("distortion_k1k2k3k4", [0.1] * 5, "distortion_k1k2k3k4: expected 4 numbers, got [0.1, 0.1"),
        ("distortion_k1k2k3k4", [1e7] * 4, "distortion_k1k2k3k4: expected k1, k2, k3, k4 of numbers up to"),
    ],
)
def test_lens_models_are_told_apart_by_name(street, room, field, value, read):
    """Outdoors and indoors (which the fixtures put into one folder, the room's index last)."""
    path, content = room
    for entry, index in ((street[1]["frames"][0]["cameras"]["front"], street[1]), (content, content)):
        entry[field] = value
        save(path, index)
        if isinstance(read, list):
            cameras = SceneFolder(path)[0].cameras
            assert_close(cameras.distortion[0], torch.tensor(read))
            assert (cameras.fisheye is not None) == (field == "distortion_k1k2k3k4")
        else:
            with pytest.raises(SceneFolderError) as caught:
                SceneFolder(path)
            assert read in str(caught.value)


def test_two_lenses_are_one_too_many(room):
    path, content = room
    content |= {"distortion": [0.0] * 5, "distortion_k1k2p1p2": [0.0] * 4}
    save(path, content)
    with pytest.raises(SceneFolderError, match="expected one field of distortion, got distortion, dist"):
        SceneFolder(path)


def test_classes_without_a_name_are_none(street, room):
    path, content = street
    np.arange(20, dtype=np.uint8).tofile(path / "0.u8")
    content["frames"][0]["lidar"]["semseg_file"] = "0.u8"
    content["semseg_classes"] = {"18": "road"}
    save(path, content)
    line = "0.u8: frame 0 (f0): lidar.semseg_file: expected class numbers that semseg_classes names, got 19"
    assert loads_with_problem(path, line)[0].point_labels.tolist() == [*range(19), -1]
    path, content = room
    classes = np.full((12, 16), 255, np.uint8)
    classes[0] = 1
    Image.fromarray(classes).save(path / "s.png")
    content["frames"][0]["semseg"], content["semseg_classes"] = "s.png", {"1": "wall"}
    save(path, content)
    assert load(path)[0].pixel_labels.unique().tolist() == [-1, 1] and validate_scene_folder(path) == []
    assert SceneFolder(path, image_size=(6, 8))[0].pixel_labels.shape == (1, 6, 8)
    assert content["intrinsics"] == INTRINSICS


@pytest.mark.parametrize("levels", [None, [0, 4095]])
def test_colours_of_12_bits_in_16(street, levels):
    """Nearly black and said to be, or spread from the upper bytes that Pillow keeps."""
    path, content = street
    values = np.linspace(0, 4095, 12 * 16 * 3).astype(">u2").reshape(12, 16, 3)
    (path / "0.png").write_bytes(png(16, 12, 16, 2, b"".join(b"\0" + row.tobytes() for row in values)))
    content["levels"] = levels
    save(path, content)
    read = load(path)[0].images[0].permute(1, 2, 0).double()
    white = 65535 if levels is None else 4095
    # The upper byte of 16 bits is a sixteenth of what is white here.
    step = 1.01 / 255 if levels is None else 1.02 / 16
    assert_close(read, torch.from_numpy(values / white), atol=step, rtol=0)
    said = ["expected colours that span their 16 bits, got nearly black ones"] if levels is None else []
    problems = validate_scene_folder(path)
    assert len(problems) == len(said) and all(part in line for part, line in zip(said, problems, strict=True))


def test_a_palette_with_transparency_is_a_picture(street):
    path, _ = street
    image = Image.fromarray(UPRIGHT).quantize(8)
    image.save(path / "0.png", transparency=bytes([0, 100, 255, 255, 255, 255, 255, 255]))
    expected = np.asarray(image.convert("RGB"))
    read = (load(path)[0].images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(read, expected) and validate_scene_folder(path) == []


def test_a_picture_of_the_depth_is_no_depth_image(room):
    path, _ = room
    Image.fromarray(np.full((12, 16), 150, np.uint8)).save(path / "d.png")
    loads_with_problem(path, "d.png: frame 0 (7): depth: expected 16 bits, got 8: at most 0.26 m")
