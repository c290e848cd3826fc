"""What nuScenes calls things: sensors, classes, and the scenes of its official splits."""

from collections.abc import Iterator

LIDAR = "LIDAR_TOP"

CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)
"""The cameras in their places, clockwise."""

COLUMNS = ["x", "y", "z", "intensity_0_255", "ring"]
"""Of a sweep's rows, float32: x right, y forward, z up."""

OWN_VEHICLE = [-1.0, -1.0, 1.0, 1.0]
"""The area of the LiDAR frame, metres, that the detection code bases take for the vehicle's own."""

DETECTED = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.trailer": "trailer",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bicycle": "bicycle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}
"""The ten classes of the detection benchmark by category; objects of other categories are none of them."""

SURFACES = {
    "flat.driveable_surface": "driveable_surface",
    "flat.other": "other_flat",
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "manmade",
    "static.vegetation": "vegetation",
}
"""The other six classes of the benchmarks of segmentation, by category."""

SEGMENTED = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    *SURFACES.values(),
)
"""The sixteen classes of segmentation: numbers 1 to 16; 0 is what the benchmarks ignore."""

SPLITS = {
    "train": "1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 "
    "202-204 206-214 218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 "
    "461-465 467-469 471-472 474-480 499-502 504-515 517-518 525-539 541-546 566 568 570-578 580 582-600 "
    "639-679 681 683-689 695-698 700-701 703-719 726-728 730-731 733-741 744 746-747 749-752 757-765 767-769 "
    "786-787 789-792 803-806 808-813 815-817 819-822 847-856 858 860-866 868-873 875-878 880 882-903 945 947 "
    "949 952-953 955-961 975-984 988-992 994-1025 1044-1058 1074-1102 1104-1110",
    "val": "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 "
    "770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073",
    "test": "77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 "
    "827-831 833-842 844-846 932-933 935-943 1026-1043",
    "mini_train": "61 553 655 757 796 1077 1094 1100",
    "mini_val": "103 916",
}
"""The official lists of scenes, as ranges of their numbers: 700, 150, 150, 8 and 2 of them."""


def split_scenes(split: str) -> list[str]:
    """Names of the scenes of an official split, ``scene-0061``; raises ``KeyError`` for another name."""
    return [f"scene-{number:04d}" for number in _numbers(SPLITS[split])]


def _numbers(ranges: str) -> Iterator[int]:
    """The numbers in a text of ranges."""
    for part in ranges.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
