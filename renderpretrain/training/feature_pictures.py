"""What encoders say of a scene before and after training, as one PNG: alike is what has the same colour."""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.features import (
    FeaturePalette,
    Features,
    encoder_features,
    feature_picture,
    scene_batch,
)
from renderpretrain.recipes.recipe import HasGrid
from renderpretrain.training.pictures import telling_cameras
from renderpretrain.viz.colors import HEIGHT_STOPS, ramp
from renderpretrain.viz.sheet import save_sheet

HEIGHT = 250
"""Pixels of a camera's picture."""

ACROSS = 440
"""Pixels of the view from above, either side."""

REACH = 0.75
"""Share of the grid, in the middle of its ground, that the view from above shows."""

DOT = 1.6
"""Pixels from the middle of a point to its rim."""

Panels = list[tuple[str, Float[Tensor, "3 _ _"]]]


def save_features(
    fresh: nn.Module, trained: nn.Module, scene: Scene, path: Path, *, title: str, max_views: int = 3
) -> Path:
    """Write the points of a scene from above and its pictures, each with what encoders say of them.

    Colours are the first three principal components, of fresh and of trained features each their own: a
    colour of one column says nothing about the same colour in the other.

    Args:
        fresh: The recipe before training, in ``eval()`` mode.
        trained: The same after it.
        scene: As the recipe sees it.
        path: The PNG; its folder is made.
        title: First line of the sheet.
        max_views: Cameras shown, as :func:`~renderpretrain.training.pictures.telling_cameras` chooses them.

    Raises:
        ValueError: If the recipe says nothing of the scene's points and nothing of its pictures.
    """
    told = [(name, encoder_features(model, scene)) for name, model in (("before", fresh), ("after", trained))]
    columns = [(name, features, FeaturePalette.of(features)) for name, features in told]
    above, pictured = _points_row(trained, scene, columns), _picture_rows(scene, columns, max_views)
    rows, heights = above + pictured, [ACROSS] * len(above) + [HEIGHT] * len(pictured)
    if not rows:
        raise ValueError(
            f"features: {type(trained).__name__} says nothing of what is in scene {scene.name!r}"
        )
    return save_sheet(path, title, rows, height=heights)


def _points_row(
    recipe: nn.Module, scene: Scene, columns: list[tuple[str, Features, FeaturePalette]]
) -> list[tuple[str, Panels]]:
    """Points from above: their heights, then features."""
    if any(palette.points is None for _, _, palette in columns) or not isinstance(recipe, HasGrid):
        return []
    points = scene.points[:, :3].cpu()
    order = points[:, 2].sort().values
    low, high = (float(order[round(share * (len(order) - 1))]) for share in (0.02, 0.98))
    heights = ramp(((points[:, 2] - low) / max(high - low, 1e-3)).clamp(0, 1)[None], HEIGHT_STOPS)[:, 0].mT
    panels = [(f"height, {low:+.1f} to {high:+.1f} m", points_from_above(points, heights, recipe.grid))]
    for name, features, palette in columns:
        assert palette.points is not None  # else there is no row
        colors = palette.points(features["points"])
        panels.append((f"features of points, {name}", points_from_above(points, colors, recipe.grid)))
    return [("from above, y up", panels)]


def _picture_rows(
    scene: Scene, columns: list[tuple[str, Features, FeaturePalette]], max_views: int
) -> list[tuple[str, Panels]]:
    """Pictures, then features of each."""
    if scene.images is None or any(palette.images is None for _, _, palette in columns):
        return []
    size = (scene.images.shape[-2], scene.images.shape[-1])
    rows = []
    for n in telling_cameras(scene_batch(scene, torch.device("cpu")), scene.cameras_there, max_views):
        panels: Panels = [("picture", scene.images[n])]
        for name, features, palette in columns:
            assert palette.images is not None  # else there is no row
            shown = feature_picture(features["images"][n], palette.images, size)
            panels.append((f"features of the picture, {name}", shown))
        rows.append((scene.camera_names[n], panels))
    return rows


def points_from_above(
    points: Float[Tensor, "P 3"], colors: Float[Tensor, "P 3"], grid: VoxelGrid, *, across: int = ACROSS
) -> Float[Tensor, "3 H W"]:
    """The middle of a grid's ground, x to the right and y up, a dot for each point; the highest on top.

    Args:
        points: World points, metres; those outside are left out.
        colors: RGB of each in [0, 1].
        grid: What is looked at.
        across: Pixels of either side.
    """
    lower, upper = torch.tensor(grid.lower[:2]), torch.tensor(grid.upper[:2])
    middle, scale = (lower + upper) / 2, across / (REACH * float((upper - lower).max()))
    picture = Image.new("RGB", (across, across))
    draw = ImageDraw.Draw(picture)
    order = points[:, 2].argsort()
    places = ((points[order, :2] - middle) * scale).tolist()
    shades: UInt8[Tensor, "P 3"] = (colors[order].cpu() * 255 + 0.5).byte()
    for (x, y), shade in zip(places, shades.tolist(), strict=True):
        column, row = across / 2 + x, across / 2 - y
        draw.ellipse((column - DOT, row - DOT, column + DOT, row + DOT), tuple(shade))
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(across, across, 3).permute(2, 0, 1) / 255
