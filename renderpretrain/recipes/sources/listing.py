"""Moved to :mod:`renderpretrain.recipes.settings`."""

from renderpretrain.recipes.settings import (
    CALIBRATION,
    CYCLE,
    OURS,
    UNREFINED,
    UNSCHEDULED,
    WARM_UP,
    Sources,
    listed,
    settings_of,
    sources_of,
    unused,
    unused_in,
)

__all__ = [
    "CALIBRATION",
    "CYCLE",
    "OURS",
    "UNREFINED",
    "UNSCHEDULED",
    "WARM_UP",
    "Sources",
    "listed",
    "settings_of",
    "sources_of",
    "unused",
    "unused_in",
]
