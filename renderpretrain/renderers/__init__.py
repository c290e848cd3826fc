"""From a field on samples, or on the cells of a grid, to one value per ray."""

from renderpretrain.renderers.axis import RenderedMap, render_axis, render_bev, render_frustum
from renderpretrain.renderers.hierarchical import NeuSRenderer
from renderpretrain.renderers.uniform import UniformRenderer
from renderpretrain.renderers.volume import Rendered, render

__all__ = [
    "NeuSRenderer",
    "Rendered",
    "RenderedMap",
    "UniformRenderer",
    "render",
    "render_axis",
    "render_bev",
    "render_frustum",
]
