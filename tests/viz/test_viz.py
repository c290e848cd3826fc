import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.renderers import Rendered
from renderpretrain.viz import (
    class_colors,
    depth_colors,
    error_colors,
    labels_from_above,
    normal_colors,
    read_sheet,
    save_rendering,
    save_sheet,
)
from renderpretrain.viz.sheet import ABOUT, HEADER, SWATCH
from renderpretrain.viz.views import camera_cells, camera_view, range_cells, range_view


def test_a_sheet_is_one_png_with_all_pictures(tmp_path):
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 20, 40)
    blue = red.flip(0)
    path = save_sheet(
        tmp_path / "new" / "sheet.png",
        "title",
        [("a", [("x", red), ("y", blue)]), ("b", [("x", red)])],
        height=20,
    )
    with Image.open(path) as image:
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(10**6)}
    assert colours[(255, 0, 0)] == 2 * 20 * 40
    assert colours[(0, 0, 255)] == 20 * 40


def test_a_sheet_gives_its_pictures_back(tmp_path):
    red, path = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 20, 40), tmp_path / "sheet.png"
    legend = {"8 m": torch.tensor([1.0, 0.0, 1.0])}
    save_sheet(path, "title", [("a", [("x", red), ("y", red.flip(0))])], height=20, legend=legend)
    sheet = read_sheet(path)
    assert [(panel.row, panel.caption) for panel in sheet.panels] == [("a", "x"), ("a", "y")]
    assert sheet.panels[1].picture.getcolors() == [(40 * 20, (0, 0, 255))]
    assert sheet.legend == {"8 m": (255, 0, 255)}
    Image.open(path).convert("RGB").save(tmp_path / "plain.png")
    (whole,) = read_sheet(tmp_path / "plain.png").panels
    assert (whole.row, whole.caption) == ("", "") and whole.picture.width > 80
    about = PngInfo()
    about.add_text(ABOUT, '{"panels": 3}')
    Image.new("RGB", (4, 4)).save(path, pnginfo=about)
    with pytest.raises(ValueError, match=r"sheet.png: expected pictures by row, caption and box, got '{"):
        read_sheet(path)


def test_a_legend_says_every_name_once_in_its_colour(tmp_path):
    """More names than fit a line: what is below moves down, and nothing is cut off."""
    black = torch.zeros(3, 20, 200)
    legend = {f"class {k}": torch.tensor([1.0, k / 255, 0.0]) for k in range(9)}
    plain, told = tmp_path / "plain.png", tmp_path / "told.png"
    save_sheet(plain, "title", [("a", [("x", black)])], height=20)
    save_sheet(told, "title", [("a", [("x", black)])], height=20, legend=legend)
    with Image.open(plain) as before, Image.open(told) as after:
        assert after.width == before.width and after.height > before.height + HEADER
        colours = {colour: count for count, colour in after.convert("RGB").getcolors(10**6)}
        assert [colours[(255, k, 0)] for k in range(9)] == [(SWATCH - 1) ** 2] * 9  # in a frame
        assert colours[(0, 0, 0)] >= 20 * 200


def test_a_row_goes_on_below_and_a_wide_picture_has_a_line_of_its_own(tmp_path):
    square, wide = torch.rand(3, 20, 20), torch.rand(3, 32, 720)
    row = [(f"x {k}", square) for k in range(5)]
    path = save_sheet(tmp_path / "s.png", "t", [("a", row), ("b", [("y", wide), ("z", wide)])], height=100)
    panels = read_sheet(path).panels
    assert [(panel.row, panel.caption) for panel in panels] == [("a", f"x {k}") for k in range(5)] + [
        ("b", "y"),
        ("b", "z"),
    ]
    assert [panel.picture.size for panel in panels] == [(100, 100)] * 5 + [(1600, 71)] * 2
    with Image.open(path) as sheet:
        assert sheet.width == 1600 + 12


def test_the_highest_labelled_point_is_seen_from_above():
    points = torch.tensor([[0.0, 0, 1], [0, 0, 3], [0, 0, 2], [9.9, 4.9, 0], [9.9, 0, 0], [5, 0, 0]])
    labels = torch.tensor([1, 2, 3, 4, 0, 5])
    seen = labels_from_above(points, labels, across=10)
    expected = torch.zeros(5, 10, dtype=torch.long)
    expected[4, 0], expected[4, 5], expected[0, 9] = 2, 5, 4  # y points up; class 0 is not drawn
    assert torch.equal(seen, expected)
    assert torch.equal(labels_from_above(points[:1], labels[:1]), torch.tensor([[1]]))


def test_near_is_brighter_than_far_and_unknown_is_black():
    depth = torch.tensor([[2.0, 10.0, 60.0, 10.0]])
    colours = depth_colors(depth, torch.tensor([[True, True, True, False]]), near=2.0, far=60.0)
    brightness = colours.sum(0)[0]
    assert brightness[0] > brightness[1] > brightness[2] > brightness[3] == 0


def test_a_large_error_is_red():
    colours = error_colors(torch.tensor([[0.0, 9.0]]), torch.ones(1, 2, dtype=torch.bool), worst=0.5)
    assert colours[0, 0, 1] > 0.8 > 0.2 > colours[1, 0, 1]
    assert colours[:, 0, 0].max() < 0.2


def test_every_class_has_its_own_colour_and_nothing_is_black():
    colours = class_colors(torch.arange(-1, 40)[None])[:, 0].T
    assert not colours[:2].any() and colours.min() >= 0 and colours.max() <= 1
    apart = torch.cdist(colours[2:], colours[2:]) + torch.eye(39)
    assert apart.min() > 0.05
    assert torch.equal(class_colors(torch.tensor([[7]]))[:, 0, 0], colours[8])


def test_an_upward_normal_is_blue():
    up = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    assert_close(normal_colors(up)[:, 0, 0], torch.tensor([0.5, 0.5, 1.0]))


def test_points_are_drawn_in_the_cell_their_ray_passes():
    """Points on a view's own rays fall back into their cells, with their distance."""
    k = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]])
    camera = Cameras(k, torch.eye(4), (48, 64))
    view = camera_view(camera, 4)
    points = view.rays.origins + 7 * view.rays.directions
    depth, hit = view.rasterize(points, *camera_cells(camera, points, 4))
    assert hit.all()
    assert_close(depth, torch.full((12, 16), 7.0))


@pytest.mark.parametrize("distortion", [None, torch.tensor([-0.2, 0.05, 1e-3, -1e-3, 0.0])])
def test_the_cells_of_a_view_are_the_pixels_of_its_camera(distortion):
    """Also where they do not tile the picture: the last ones reach over its edge."""
    k = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]])
    view = camera_view(Cameras(k, torch.eye(4), (46, 65), distortion), 4)
    assert view.camera.image_size == view.shape == (12, 17)
    own = camera_view(view.camera, 1).rays
    assert_close(own.directions, view.rays.directions, atol=1e-6, rtol=0)  # float32
    assert torch.equal(own.origins, view.rays.origins)
    assert range_view(torch.zeros(3)).camera is None


def test_a_range_image_inverts_its_own_rays():
    origin = torch.tensor([1.0, 2.0, 0.5])
    view = range_view(origin, (8, 36))
    points = view.rays.origins + 9 * view.rays.directions
    depth, hit = view.rasterize(
        points, range_cells(origin, points, (8, 36)), torch.ones(288, dtype=torch.bool)
    )
    assert hit.all()
    assert_close(depth, torch.full((8, 36), 9.0))


def test_the_nearest_point_of_a_cell_is_drawn():
    k = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
    camera = Cameras(k, torch.eye(4), (1, 1))
    points = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
    view = camera_view(camera, 1)
    depth, _ = view.rasterize(points, *camera_cells(camera, points, 1))
    assert depth.item() == 3.0


def test_a_view_of_a_volume_is_drawn_pixel_by_pixel(tmp_path):
    """A wall 4 m ahead that covers the right half of the view."""
    intrinsics = torch.tensor([[16.0, 0, 16.0], [0, 16.0, 8.0], [0, 0, 1]])
    camera = Cameras(intrinsics, torch.eye(4), (16, 32))

    def wall(volume, rays):
        seen = (rays.directions[..., 0] > 0).float()
        depth = 4 / rays.directions[..., 2] * seen
        return Rendered(depth, seen, {"rgb": seen[..., None].expand(-1, -1, 3)})

    volume = torch.zeros(1, 1, 2, 2, 2)
    path = save_rendering(tmp_path / "new" / "view.png", wall, volume, camera, image=torch.zeros(3, 16, 32))
    with Image.open(path) as sheet:
        pixels = torch.tensor(list(sheet.convert("L").tobytes())).view(sheet.height, sheet.width)
    row = pixels[sheet.height // 2]
    panels = [row[6 + 386 * n : 386 * (n + 1)] for n in range(4)]  # 16 x 32 pixels as 190 x 380
    assert panels[0].max() == 0
    for panel in panels[1:]:
        assert panel[:180].max() == 0 and panel[200:370].min() > 20
    with pytest.raises(ValueError, match="camera: expected a single one"):
        save_rendering(path, wall, volume, camera[None])
