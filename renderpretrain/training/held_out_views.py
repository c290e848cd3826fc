"""Whole held-out pictures and point clouds, as a person would compare them: SSIM, PSNR, Chamfer distance."""

from collections.abc import Sequence
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.data import Batch, SceneDataset
from renderpretrain.geometry import Rays
from renderpretrain.recipes.recipe import RendersRays, RendersViews, Volume, lacking
from renderpretrain.recipes.rendering import depth_and_color, refined, render_parts, render_view
from renderpretrain.training.order import held_out_batch
from renderpretrain.training.scores import chamfer
from renderpretrain.viz.views import camera_view

WINDOW = 11
"""Pixels on a side of the window in which SSIM compares."""


@torch.no_grad()
def evaluate_views(
    recipe: nn.Module, dataset: SceneDataset, indices: Sequence[int], *, stride: int, num_rays: int
) -> dict[str, float]:
    """Render held-out scenes with nothing hidden, picture by picture, and as points.

    Pictures are rendered from where the recipe believes their cameras to be. Of padded ones, only what the
    camera saw is compared.

    Args:
        recipe: It :class:`~renderpretrain.recipes.RendersRays`, or whole pictures
            (:class:`~renderpretrain.recipes.RendersViews`); runs in ``eval()`` mode and is put back.
        dataset: Where the scenes are.
        indices: Which ones.
        stride: Pixels between the rendered ones; the pictures are compared at that size.
        num_rays: Of the sensors' rays, per camera, or per sweep where there are no cameras.

    Returns:
        ``ssim`` and ``picture_psnr`` (dB), means over the pictures, where the recipe renders colour, and
        ``chamfer`` in metres: rendered ends of the sensors' rays that hit something against where they ended,
        a mean over the scenes. A score without a picture or a hit is absent.

    Raises:
        ValueError: If the pictures at that stride are smaller than the window of SSIM, 11 pixels, or the
            recipe cannot render.
    """
    if not isinstance(recipe, RendersRays):
        raise lacking(recipe, RendersRays, "evaluation")
    was_training, device = recipe.training, next(recipe.parameters()).device
    recipe.eval()
    found: dict[str, list[float]] = {"ssim": [], "picture_psnr": [], "chamfer": []}
    try:
        for index in indices:
            batch = held_out_batch(dataset, index).to(device)
            volume = recipe.encode(batch)
            for rendered, seen, counts in _pictures(recipe, volume, refined(recipe, batch), stride):
                for name, score in _scores(rendered, seen, counts).items():
                    found[name].append(score)
            targets = recipe.targets(batch, num_rays)
            depth, _ = depth_and_color(render_parts(recipe, volume, targets.rays))
            ends = targets.rays.origins + depth[..., None] * targets.rays.directions
            if targets.hit.any():
                found["chamfer"].append(chamfer(ends[targets.hit], targets.ends[targets.hit]))
    finally:
        recipe.train(was_training)
    return {name: fmean(values) for name, values in found.items() if values}


def _scores(rendered: Tensor, seen: Tensor, counts: Tensor) -> dict[str, float]:
    """How alike two pictures ``(1, 3, h, w)`` are where they count; nothing where nothing can be compared."""
    scores = {}
    if not nn.functional.max_pool2d((~counts).float(), WINDOW, stride=1).all():
        scores["ssim"] = 1 - float(losses.rgb_ssim(rendered, seen, counts))
    if counts.any():
        error = (rendered - seen).square().movedim(1, -1)[counts].mean().clamp(min=1e-10)
        scores["picture_psnr"] = -10 * float(error.log10())
    return scores


def _pictures(
    recipe: RendersRays, volume: Volume, batch: Batch, stride: int
) -> list[tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 3 h w"], Bool[Tensor, "1 h w"]]]:
    """Every real camera's rendered picture, what it saw, and where; none where nothing has a colour."""
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    if batch.views is None:
        return pairs
    for n in torch.nonzero(batch.views.valid[0])[:, 0].tolist():
        view = camera_view(batch.views.cameras[0, n], stride)
        if not pairs and not isinstance(recipe, RendersViews):
            first = Rays(view.rays.origins[None, :1], view.rays.directions[None, :1])
            if recipe.render(volume, first).rgb is None:
                return pairs
        seen = _shrunken(batch.views.images[0, n], stride)
        _, rgb = depth_and_color(render_view(recipe, volume, view))
        if rgb is None:
            return pairs
        rendered = rgb.view(1, *view.shape, 3).permute(0, 3, 1, 2)
        height, width = seen.shape[2:]
        counts = torch.ones_like(seen[:, 0], dtype=torch.bool)
        if batch.views.image_valid is not None:
            counts = nn.functional.avg_pool2d(batch.views.image_valid[:, n].float(), stride) == 1
        pairs.append((rendered[..., :height, :width].float(), seen, counts))
    return pairs


def _shrunken(image: Float[Tensor, "3 H W"], stride: int) -> Float[Tensor, "1 3 h w"]:
    """What a camera saw, at the size at which it is compared."""
    height, width = image.shape[1:]
    if min(height, width) // stride < WINDOW:
        raise ValueError(
            f"stride: expected at least {WINDOW} pixels a side for SSIM, got {height // stride} x "
            f"{width // stride} of {height} x {width}, one in {stride}"
        )
    return nn.functional.avg_pool2d(image[None], stride)
