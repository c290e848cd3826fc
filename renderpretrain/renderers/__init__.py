"""From a field on samples, or on the cells of a grid, to one value per ray."""

from renderpretrain.renderers.axis import RenderedMap, render_axis, render_bev, render_frustum
from renderpretrain.renderers.volume import AlongRays, Rendered, VolumeRenderer, render

__all__ = [
    "AlongRays",
    "Rendered",
    "RenderedMap",
    "VolumeRenderer",
    "render",
    "render_axis",
    "render_bev",
    "render_frustum",
]
