"""Pre-train 3D perception encoders by neural rendering.

The nouns everything speaks are here, and so are the packages, one per concept: after
``import renderpretrain as rp`` there are ``rp.Rays`` and ``rp.fields.SDFField``; and so are the verbs of the
command line, ``rp.pretrain("unipad-lidar", out="runs/x")``. Each is imported when it is
asked for: the command line answers before torch is loaded.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from renderpretrain import (
        data,
        encoders,
        fields,
        geometry,
        lifters,
        losses,
        masking,
        ops,
        probes,
        recipes,
        renderers,
        report,
        runs,
        samplers,
        storage,
        teachers,
        training,
        transfer,
        verbs,
        viewer,
        viz,
    )
    from renderpretrain.geometry import Cameras, Points, Rays, RaySamples, Views, VoxelGrid
    from renderpretrain.transfer import from_pretrained, load_encoder, push_to_hub
    from renderpretrain.verbs import evaluate, export, pretrain

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "Points",
    "RaySamples",
    "Rays",
    "Views",
    "VoxelGrid",
    "__version__",
    "data",
    "encoders",
    "evaluate",
    "export",
    "fields",
    "from_pretrained",
    "geometry",
    "lifters",
    "load_encoder",
    "losses",
    "masking",
    "ops",
    "pretrain",
    "probes",
    "push_to_hub",
    "recipes",
    "renderers",
    "report",
    "runs",
    "samplers",
    "storage",
    "teachers",
    "training",
    "transfer",
    "verbs",
    "viewer",
    "viz",
]

FUNCTIONS = dict.fromkeys(("evaluate", "export", "pretrain"), "verbs")
FUNCTIONS |= dict.fromkeys(("from_pretrained", "load_encoder", "push_to_hub"), "transfer")
"""What is a function, not a package, and the package that has it."""

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
    "teachers",
    "viz",
)
"""What ``RENDERPRETRAIN_CHECK=1`` looks at: the parts that people put together themselves."""


def __getattr__(name: str) -> Any:
    """Import what is asked for: a package, a noun of geometry, or a function."""
    if name not in __all__:
        raise AttributeError(f"module 'renderpretrain' has no attribute {name!r}")
    if name in FUNCTIONS:
        return getattr(import_module(f"renderpretrain.{FUNCTIONS[name]}"), name)
    if name.islower():
        return import_module(f"renderpretrain.{name}")
    return getattr(import_module("renderpretrain.geometry"), name)


def __dir__() -> list[str]:
    """What ``dir`` and completion show."""
    return __all__


def _check_every_call() -> None:
    """Have the functions of those parts check their arguments against their annotations, shapes included."""
    from importlib.util import find_spec

    from jaxtyping import install_import_hook

    if find_spec("beartype") is None:
        raise ImportError("RENDERPRETRAIN_CHECK needs beartype: pip install beartype", name="beartype")
    install_import_hook([f"renderpretrain.{part}" for part in IN_A_LOOP], "beartype.beartype")


if os.environ.get("RENDERPRETRAIN_CHECK", "0") not in ("", "0"):
    _check_every_call()
