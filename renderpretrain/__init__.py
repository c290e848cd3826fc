"""Pre-train 3D perception encoders by neural rendering.

The four nouns everything speaks are here; the rest is one level down, by concept: ``renderpretrain.masking``,
``encoders``, ``lifters``, ``samplers``, ``fields``, ``losses``, ``renderers``, ``data``, ``recipes``,
``training``, ``transfer``.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from renderpretrain.geometry import Cameras, Rays, RaySamples, VoxelGrid

__version__ = "0.1.0"
__all__ = ["Cameras", "RaySamples", "Rays", "VoxelGrid", "__version__"]

IN_A_LOOP = (
    "data.batch",
    "encoders",
    "fields",
    "geometry",
    "lifters",
    "losses",
    "masking",
    "ops",
    "renderers",
    "samplers",
    "viz",
)
"""What ``RENDERPRETRAIN_CHECK=1`` looks at: the parts that people put together themselves."""


def __getattr__(name: str) -> Any:
    """Import the four nouns when they are asked for: the command line answers before torch is loaded."""
    if name not in __all__:
        raise AttributeError(f"module 'renderpretrain' has no attribute {name!r}")
    from renderpretrain import geometry

    return getattr(geometry, name)


def _check_every_call() -> None:
    """Have the functions of those parts check their arguments against their annotations, shapes included."""
    from importlib.util import find_spec

    from jaxtyping import install_import_hook

    if find_spec("beartype") is None:
        raise ImportError("RENDERPRETRAIN_CHECK needs beartype: pip install beartype", name="beartype")
    install_import_hook([f"renderpretrain.{part}" for part in IN_A_LOOP], "beartype.beartype")


if os.environ.get("RENDERPRETRAIN_CHECK", "0") not in ("", "0"):
    _check_every_call()
