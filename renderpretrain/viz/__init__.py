"""Pictures a person can judge a run by."""

from renderpretrain.viz.colours import depth_colours, error_colours, normal_colours
from renderpretrain.viz.sheet import save_sheet

__all__ = ["depth_colours", "error_colours", "normal_colours", "save_sheet"]
