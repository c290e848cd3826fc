"""Scenes and what a run makes of them, in a browser: computed here as plain values, drawn by viser."""

from renderpretrain.viewer.contents import (
    Cells,
    Cloud,
    Contents,
    Layer,
    Lines,
    PicturedCamera,
)
from renderpretrain.viewer.recording import recording_contents
from renderpretrain.viewer.server import Source, Viewer, check_viser
from renderpretrain.viewer.trained import trained_contents

__all__ = [
    "Cells",
    "Cloud",
    "Contents",
    "Layer",
    "Lines",
    "PicturedCamera",
    "Source",
    "Viewer",
    "check_viser",
    "recording_contents",
    "trained_contents",
]
