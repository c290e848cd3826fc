"""The colours of depth in a run's pictures."""

import pytest
import torch

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes import RECIPES
from renderpretrain.training import pictures
from renderpretrain.training.pictures import DEPTH_SPAN, DepthScale, telling_cameras, thickened
from renderpretrain.viz import depth_colors, error_colors

SMALL = {"num_points": 2048, "num_views": 2, "image_size": (48, 64), "with_truth": False}


def test_the_scale_ends_at_the_side_that_is_farthest_from_a_sensor():
    grid = VoxelGrid((-3.2, -3.2, -0.2, 3.2, 3.2, 3.0), (0.1, 0.1, 0.1))
    places = torch.tensor([[1.0, -2.0, 1.5], [0.0, 0.0, 1.0]])
    assert DepthScale.of(grid, places).far == pytest.approx(5.2)
    deep = VoxelGrid((-1.0, -1.0, -9.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    assert DepthScale.of(deep, places[1:]).far == pytest.approx(10.0)


def test_a_panel_says_which_depths_its_colours_stand_for():
    depth, valid = torch.tensor([[0.5, 1.0, 5.0]]), torch.tensor([[True, True, False]])
    name, picture = DepthScale(5.0).panel("target depth", depth, valid)
    assert name == "target depth"
    assert torch.equal(picture, depth_colors(depth, valid, near=0.5, far=5.0))
    near, middle, far, none, *errors = DepthScale(5.0).legend().items()
    assert (near[0], middle[0], far[0]) == ("0.5 m", "1.6 m", "5 m")
    assert torch.equal(near[1], picture[:, 0, 0]) and far[1].sum() < middle[1].sum() < near[1].sum()
    assert "below an opacity of 0.5" in none[0] and not none[1].any()
    assert [name for name, _ in errors] == ["depth error 0 %", "17 %", "33 %", "50 % and more"]
    third = error_colors(torch.tensor([[1 / 3, 9.0]]), torch.tensor([[True, True]]), worst=0.5)
    assert torch.allclose(errors[2][1], third[:, 0, 0]) and torch.allclose(errors[3][1], third[:, 0, 1])


def test_single_pixels_become_squares_of_which_the_nearest_shows():
    values, there = torch.zeros(3, 6), torch.zeros(3, 6, dtype=torch.bool)
    values[1, 1], values[1, 3], there[1, 1], there[1, 3] = 5.0, 2.0, True, True
    thick, found = thickened(values, there)
    assert found[:, :5].all() and not found[:, 5].any()
    assert thick[:, 0].tolist() == [5.0] * 3 and thick[:, 4].tolist() == [2.0] * 3
    assert thick[:, 2].tolist() == [2.0] * 3  # between both
    assert thick[1, 1] == 5.0 and thick[1, 3] == 2.0  # what was measured stays
    assert thickened(values, there, nearest=False)[0][:, 2].tolist() == [5.0] * 3


def test_the_first_camera_and_those_that_see_near_and_far_are_shown():
    scene = SyntheticStreet(1, image_size=(32, 48), with_truth=False)[0]
    batch = collate([scene], torch.zeros(1, dtype=torch.long))
    assert telling_cameras(batch, [0, 2], 3) == [0, 2]
    chosen = telling_cameras(batch, list(range(6)), 3)
    assert chosen[0] == 0 and len(chosen) == 3 and chosen == sorted(chosen)
    points = scene.points[:, :3]

    def spread(n):
        _, depth, visible = scene.cameras[n].project(points)
        return float(depth[visible].log().std())

    assert min(map(spread, chosen[1:])) >= max(spread(n) for n in range(1, 6) if n not in chosen)


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("ponder-indoor", SyntheticRoom(1, **SMALL)),
        ("unipad-lidar", SyntheticStreet(1, image_size=(64, 96), with_truth=False)),
    ],
)
def test_what_sensors_see_spreads_over_the_colours(recipe, data, tmp_path, monkeypatch):
    """Nine tenths of the distances between cameras and points, in rooms and streets, take half of them."""
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, *, legend: drawn.append(legend) or path
    )
    scene, entry = data[0], RECIPES[recipe]
    pictures.save_picture(entry.build(entry.presets["tiny"]), scene, tmp_path / "p.png", title="t")
    near, _, far = (float(name.removesuffix(" m")) for name in drawn[0] if name.endswith(" m"))
    assert far / near == pytest.approx(DEPTH_SPAN, rel=0.1)  # two digits each
    batch = collate([scene], torch.zeros(1, dtype=torch.long))
    apart = torch.cdist(batch.views.cameras.centers[0], batch.points.xyz[0])
    low, high = torch.quantile(apart, torch.tensor([0.05, 0.95]))
    shown = high.clamp(near, far).log() - low.clamp(near, far).log()
    assert shown > 0.5 * torch.tensor(DEPTH_SPAN).log()
