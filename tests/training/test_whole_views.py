"""A recipe that rasterises: evaluation and pictures ask it for whole views, and for rays where none are."""

from dataclasses import replace

import pytest
import torch
from stand_in import StandIn
from torch import nn

from renderpretrain.data import SyntheticStreet
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes import HasEncoders, Hidden, Recipe, RendersRays, RendersViews
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import LidarBeams
from renderpretrain.training import evaluate_views, pictures

GREY, WRONG = 0.25, 0.75


class Splats(nn.Module):
    """Its volume is the key sweep's points: a pixel shows the nearest that falls into it, in grey.

    Rays, of which it is not asked for a picture, show the wrong colour and stand still after 1 m.
    """

    def __init__(self):
        super().__init__()
        self.grid = VoxelGrid((-50.0, -50.0, -5.0, 50.0, 50.0, 5.0), (10.0, 10.0, 10.0))
        self.bias = nn.Parameter(torch.zeros(()))
        self.asked = []

    def forward(self, batch):
        return {"nothing": self.bias.square()}

    def hide(self, batch):
        return Hidden()

    def encode(self, batch, hidden=None):
        return batch.points.xyz[:, batch.points.key[0]]

    def targets(self, batch, num_rays=None):
        return LidarBeams(num_rays or 16)(batch)

    def encoders(self):
        return {}

    def render(self, volume, rays):
        ones = torch.ones(rays.shape)
        return Rendered(ones, ones, {"rgb": torch.full((*rays.shape, 3), WRONG)})

    def render_view(self, volume, camera):
        self.asked.append((camera.shape, camera.image_size))
        height, width = camera.image_size
        pixels, _, visible = camera.project(volume[0])
        index = torch.where(visible, pixels[:, 1].floor() * width + pixels[:, 0].floor(), height * width)
        depth = torch.full((height * width + 1,), torch.inf)
        distances = (volume[0] - camera.centers).norm(dim=-1)
        depth = depth.scatter_reduce(0, index.long(), distances, "amin")[None, :-1]
        hit = depth.isfinite()
        rgb = torch.full((*depth.shape, 3), GREY)
        return Rendered(torch.where(hit, depth, 0.0), hit.float(), {"rgb": rgb})


@pytest.fixture(scope="module")
def scene():
    """A street in even grey, whose pictures cells of 4 pixels do not tile."""
    found = SyntheticStreet(1, image_size=(62, 93), with_truth=False)[0]
    return replace(found, images=torch.full_like(found.images, GREY))


@pytest.fixture
def sheets(monkeypatch):
    """The rows of every picture, in place of files."""
    drawn = []
    monkeypatch.setattr(
        pictures, "save_sheet", lambda path, title, rows, *, legend: drawn.append(rows) or path
    )
    return drawn


def test_stand_ins_meet_what_they_are_taken_for():
    assert isinstance(Splats(), Recipe) and isinstance(Splats(), RendersViews)
    assert isinstance(StandIn(), RendersRays) and isinstance(StandIn(), HasEncoders)
    assert not isinstance(StandIn(), RendersViews)


def test_pictures_are_scored_whole_and_points_by_rays(scene):
    recipe = Splats()
    found = evaluate_views(recipe, [scene], [0], stride=4, num_rays=64)
    assert recipe.asked == [((), (16, 24))] * len(scene.images)
    assert found["picture_psnr"] == pytest.approx(100) and found["ssim"] == pytest.approx(1)
    assert found["chamfer"] > 1  # rays stand still after 1 m

    class Rays(Splats):
        render_view = None

    found = evaluate_views(Rays(), [scene], [0], stride=4, num_rays=64)
    assert found["picture_psnr"] == pytest.approx(-20 * torch.tensor(WRONG - GREY).log10().item())


def test_padding_counts_neither_in_scores_nor_in_pictures(scene, tmp_path, sheets):
    """Its colour is wrong everywhere, a pixel beyond what counts too; with nothing left no score is said."""
    seen = torch.zeros(scene.images[:, 0].shape, dtype=torch.bool)
    seen[:, 8:56] = True
    padded = replace(
        scene, image_valid=seen, images=torch.where(seen[:, None], GREY, 0.0).expand_as(scene.images)
    )
    found = evaluate_views(Splats(), [padded], [0], stride=4, num_rays=64)
    assert found["picture_psnr"] == pytest.approx(100) and found["ssim"] == pytest.approx(1)
    without = replace(padded, image_valid=None)
    assert evaluate_views(Splats(), [without], [0], stride=4, num_rays=64)["picture_psnr"] < 20
    nothing = replace(padded, image_valid=torch.zeros_like(seen))
    assert set(evaluate_views(Splats(), [nothing], [0], stride=4, num_rays=64)) == {"chamfer"}
    pictures.save_picture(Splats(), padded, tmp_path / "p.png", title="t")
    for _, row in sheets[0]:
        for panel in dict(row).values():
            assert not panel[:, :8].any() and not panel[:, 56:].any()
        assert (dict(row)["rendered colour"][:, 8:56] == GREY).all()


def test_pictures_draw_whole_views_where_the_cells_are(scene, tmp_path, sheets):
    """What is splatted into the view's camera lies in the cells of the target, to the bit."""
    images = scene.images.repeat(1, 1, 1, 5)[..., :451]  # which two pixels a cell do not tile
    wide = replace(scene, images=images, cameras=scene.cameras.resize((62, 451)))
    pictures.save_picture(Splats(), wide, tmp_path / "p.png", title="t")
    for _, row in sheets[0]:
        panels = dict(row)
        whole = slice(-1)  # the last cells reach over the edge of the picture
        rendered, target = panels["rendered depth"][..., whole], panels["target depth"][..., whole]
        cells = rendered.any(0)
        assert torch.equal(rendered[:, cells], target[:, cells])
        around = torch.nn.functional.max_pool2d(cells[None].float(), 3, stride=1, padding=1)[0] > 0
        assert torch.equal(around[:, :-1], target.any(0)[:, :-1])  # measured cells are drawn as 3 x 3
        assert panels["target depth"].any() and (panels["rendered colour"] == GREY).all()


def test_a_sweep_without_cameras_is_drawn_by_rays(scene, tmp_path, sheets):
    recipe = Splats()
    bare = replace(scene, images=None, cameras=None, camera_names=())
    pictures.save_picture(recipe, bare, tmp_path / "p.png", title="t")
    assert recipe.asked == [] and (dict(sheets[0][0][1])["rendered colour"] == WRONG).all()


def test_a_view_of_another_size_is_refused(scene):
    class Small(Splats):
        def render_view(self, volume, camera):
            return Rendered(torch.ones(1, 7), torch.ones(1, 7), {"rgb": torch.ones(1, 7, 3)})

    with pytest.raises(ValueError, match=r"render_view\(...\).depth: expected .*384.*got .*7"):
        evaluate_views(Small(), [scene], [0], stride=4, num_rays=64)


@pytest.mark.parametrize("take", ["evaluate_views", "save_picture"])
def test_what_cannot_render_is_refused_in_a_line(scene, tmp_path, take):
    said = r"^recipe: .* needs encode, .*render, targets, which Linear does not have$"
    with pytest.raises(ValueError, match=said):
        if take == "evaluate_views":
            evaluate_views(nn.Linear(1, 1), [scene], [0], stride=4, num_rays=64)
        else:
            pictures.save_picture(nn.Linear(1, 1), scene, tmp_path / "p.png", title="t")
