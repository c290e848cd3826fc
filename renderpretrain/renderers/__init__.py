"""From a field on samples to one value per ray."""

from renderpretrain.renderers.hierarchical import NeuSRenderer
from renderpretrain.renderers.volume import Rendered, render

__all__ = ["NeuSRenderer", "Rendered", "render"]
