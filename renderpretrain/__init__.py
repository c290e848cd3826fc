"""Pre-train 3D perception encoders by neural rendering.

The four nouns everything speaks are here; the rest is one level down, by concept: ``renderpretrain.masking``,
``encoders``, ``lifters``, ``samplers``, ``fields``, ``losses``, ``renderers``, ``data``, ``recipes``,
``training``, ``transfer``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from renderpretrain.geometry import Cameras, Rays, RaySamples, VoxelGrid

__version__ = "0.1.0"
__all__ = ["Cameras", "RaySamples", "Rays", "VoxelGrid", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the four nouns when they are asked for: the command line answers before torch is loaded."""
    if name not in __all__:
        raise AttributeError(f"module 'renderpretrain' has no attribute {name!r}")
    from renderpretrain import geometry

    return getattr(geometry, name)
