"""Pre-train 3D perception encoders by neural rendering.

The four nouns everything speaks are here; the rest is one level down, by concept: ``renderpretrain.masking``,
``encoders``, ``lifters``, ``samplers``, ``fields``, ``losses``, ``renderers``, ``data``, ``recipes``, ``training``.
"""

from renderpretrain.geometry import Cameras, Rays, RaySamples, VoxelGrid

__version__ = "0.1.0"
__all__ = ["Cameras", "RaySamples", "Rays", "VoxelGrid", "__version__"]
