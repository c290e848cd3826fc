"""Pictures a person can judge a run by."""

from renderpretrain.viz.colours import class_colours, depth_colours, error_colours, normal_colours
from renderpretrain.viz.curves import Curve, Panel, save_label_curves
from renderpretrain.viz.sheet import save_sheet

__all__ = [
    "Curve",
    "Panel",
    "class_colours",
    "depth_colours",
    "error_colours",
    "normal_colours",
    "save_label_curves",
    "save_sheet",
]
