"""The objects of KITTI's raw drives: ``tracklet_labels.xml``."""

from typing import Any
from xml.etree import ElementTree

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.readers.tables import numbers_in, text_of

SIZES = ("l", "w", "h")
"""Length, width and height of an object, metres."""

PLACES = ("tx", "ty", "tz", "rz")
"""Where its bottom's centre is in the LiDAR frame, and its heading about +z."""


def tracked_boxes(access: FolderAccess, file: str) -> dict[int, list[dict[str, Any]]]:
    """The objects in the LiDAR frame by the number of their frame; none where there is no such file.

    Raises:
        SceneFolderError: If it is no such file.
    """
    boxes: dict[int, list[dict[str, Any]]] = {}
    if not (access.path / file).exists():
        return boxes
    text, where = text_of(access, file), str(access.path / file)
    if "<!ENTITY" in text:
        raise SceneFolderError(f"{where}: expected XML without entities, got some")
    try:
        tracklets = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SceneFolderError(f"{where}: expected XML, got: {error}") from error
    for number, item in enumerate(tracklets.iterfind("./tracklets/item"), 1):
        at = f"{where}: tracklet {number}"
        label = (item.findtext("objectType") or "").strip()
        sizes = _numbers(item, SIZES, at)
        (first,) = _numbers(item, ("first_frame",), at)
        if not label or not 0 <= first < 1e9:
            raise SceneFolderError(f"{at}: expected objectType and first_frame, got {brief([label, first])}")
        for place, pose in enumerate(item.iterfind("./poses/item")):
            x, y, z, yaw = _numbers(pose, PLACES, f"{at}: pose {place + 1}")
            box = {"label": label, "center": [x, y, z + sizes[2] / 2], "size_lwh": sizes, "yaw": yaw}
            boxes.setdefault(int(first) + place, []).append(box)
    return boxes


def _numbers(item: ElementTree.Element, names: tuple[str, ...], where: str) -> list[float]:
    """The numbers in the elements of these names."""
    words = [(item.findtext(name) or "nothing").strip() for name in names]
    return numbers_in(words, len(names), f"{where}: {', '.join(names)}")
