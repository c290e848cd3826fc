"""Classes of Waymo's points, ``Segmentation.Type`` of its ``segmentation.proto``; 0 is none of them."""

CLASSES = (
    "car",
    "truck",
    "bus",
    "other_vehicle",
    "motorcyclist",
    "bicyclist",
    "pedestrian",
    "sign",
    "traffic_light",
    "pole",
    "construction_cone",
    "bicycle",
    "motorcycle",
    "building",
    "vegetation",
    "tree_trunk",
    "curb",
    "road",
    "lane_marker",
    "other_ground",
    "walkable",
    "sidewalk",
)
"""Names; the number of a class is its place, from 1 on."""
