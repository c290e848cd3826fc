"""What a recipe renders of rays and of views, a few rays at a time: what scores, pictures and viewers ask."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.data import Batch
from renderpretrain.geometry import Rays
from renderpretrain.recipes.recipe import RefinesCameras, RendersRays, RendersViews, Volume
from renderpretrain.renderers import Rendered
from renderpretrain.viz.views import View

CHUNK = 1024
"""Rays rendered at once, which bounds the memory."""


def refined(recipe: nn.Module, batch: Batch) -> Batch:
    """The batch with its cameras where the recipe believes them to be, to look at what it renders.

    A picture is seen from its camera's true place; see :class:`~renderpretrain.recipes.RefinesCameras`.
    """
    return recipe.refined(batch) if isinstance(recipe, RefinesCameras) else batch


def render_parts(
    recipe: RendersRays, volume: Volume, rays: Rays, *, at_once: int = CHUNK
) -> Iterator[Rendered]:
    """Many rays, a few at a time."""
    for start in range(0, rays.origins.shape[1], at_once):
        yield recipe.render(volume, rays[:, start : start + at_once])


def render_view(
    recipe: RendersRays, volume: Volume, view: View, *, at_once: int = CHUNK
) -> Iterator[Rendered]:
    """The cells of a view in reading order: at once by a recipe that renders views, else some rays at a time.

    Raises:
        ValueError: If the recipe gives another number of values than the view has cells.
    """
    if view.camera is None or not isinstance(recipe, RendersViews):
        rays = Rays(view.rays.origins[None], view.rays.directions[None])
        yield from render_parts(recipe, volume, rays, at_once=at_once)
        return
    rendered = recipe.render_view(volume, view.camera)
    check_shape("render_view(...).depth", rendered.depth, "B P", B=1, P=view.shape[0] * view.shape[1])
    yield rendered


def depth_and_color(parts: Iterable[Rendered]) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R 3"] | None]:
    """Depth, and colour where there is one, of the rays of :func:`render_parts` or :func:`render_view`."""
    parts = list(parts)
    colors = [part.rgb for part in parts if part.rgb is not None]
    return torch.cat([part.depth for part in parts], 1), torch.cat(colors, 1) if colors else None
