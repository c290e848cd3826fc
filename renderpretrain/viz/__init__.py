"""Pictures a person can judge a run by."""

from renderpretrain.viz.colours import class_colours, depth_colours, error_colours, normal_colours
from renderpretrain.viz.sheet import save_sheet

__all__ = ["class_colours", "depth_colours", "error_colours", "normal_colours", "save_sheet"]
