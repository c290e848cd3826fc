"""Pictures a person can judge a run by."""

from renderpretrain.viz.boxes import boxes_from_above
from renderpretrain.viz.colors import class_colors, depth_colors, error_colors, normal_colors
from renderpretrain.viz.curves import Curve, Panel, save_label_curves
from renderpretrain.viz.features import FeatureColors, feature_colors
from renderpretrain.viz.mesh import extract_mesh, rendered_points
from renderpretrain.viz.ply import Mesh, write_ply
from renderpretrain.viz.points import points_on_image
from renderpretrain.viz.rendering import save_rendering
from renderpretrain.viz.scores import ScoreLine, ScorePanel, save_score_lines
from renderpretrain.viz.sheet import Sheet, SheetPanel, read_sheet, save_sheet
from renderpretrain.viz.views import labels_from_above

__all__ = [
    "Curve",
    "FeatureColors",
    "Mesh",
    "Panel",
    "ScoreLine",
    "ScorePanel",
    "Sheet",
    "SheetPanel",
    "boxes_from_above",
    "class_colors",
    "depth_colors",
    "error_colors",
    "extract_mesh",
    "feature_colors",
    "labels_from_above",
    "normal_colors",
    "points_on_image",
    "read_sheet",
    "rendered_points",
    "save_label_curves",
    "save_rendering",
    "save_score_lines",
    "save_sheet",
    "write_ply",
]
