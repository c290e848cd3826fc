"""ScanNet's classes: the 20 of its benchmark among the 40 of NYU, and the raw numbers of its pictures."""

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.readers.tables import text_of

TABLE = "scannetv2-labels.combined.tsv"
"""Comes with the data set; says which of NYU's 40 classes each raw number is."""

CLASSES = {
    1: "wall",
    2: "floor",
    3: "cabinet",
    4: "bed",
    5: "chair",
    6: "sofa",
    7: "table",
    8: "door",
    9: "window",
    10: "bookshelf",
    11: "picture",
    12: "counter",
    14: "desk",
    16: "curtain",
    24: "refrigerator",
    28: "shower curtain",
    33: "toilet",
    34: "sink",
    36: "bathtub",
    39: "otherfurniture",
}
"""The benchmark's classes by NYU's numbers; class numbers are their places, from 1 on."""


def benchmark_classes() -> dict[int, int]:
    """Class number of each of NYU's 40, as meshes are labelled; -1 for those that are none of the 20."""
    numbers = {nyu: number for number, nyu in enumerate(CLASSES, 1)}
    return {nyu: numbers.get(nyu, -1) for nyu in range(41)}


def raw_classes(access: FolderAccess) -> dict[int, int]:
    """Class number of each raw number of ``label-filt`` pictures; -1 for those that are none of the 20.

    Raises:
        SceneFolderError: If the table is absent or lacks its columns.
    """
    numbers = {nyu: number for number, nyu in enumerate(CLASSES, 1)}
    lines = text_of(access, TABLE).splitlines()
    names = lines[0].split("\t") if lines else []
    if not {"id", "nyu40id"} <= set(names):
        raise SceneFolderError(
            f"{access.path / TABLE}: expected the columns id and nyu40id, got {brief(names)}"
        )
    raw, nyu = names.index("id"), names.index("nyu40id")
    found = {0: -1}
    for number, line in enumerate(lines[1:], 2):
        parts = line.split("\t")
        try:
            found[int(parts[raw])] = numbers.get(int(parts[nyu] or 0), -1)
        except ODD_VALUES:
            words = f"expected whole numbers id and nyu40id, got {brief(line)}"
            raise SceneFolderError(f"{access.path / TABLE}: line {number}: {words}") from None
    return found
