"""Detection: the boxes of a scene, found from above by a small head and judged as nuScenes judges them."""

from renderpretrain.probes.detection.bev import bev_features, bev_grid
from renderpretrain.probes.detection.boxes import box_labels, counted_boxes
from renderpretrain.probes.detection.head import CenterHead, said_boxes
from renderpretrain.probes.detection.metrics import detection_scores, matched
from renderpretrain.probes.detection.task import detection, left_out

__all__ = [
    "CenterHead",
    "bev_features",
    "bev_grid",
    "box_labels",
    "counted_boxes",
    "detection",
    "detection_scores",
    "left_out",
    "matched",
    "said_boxes",
]
