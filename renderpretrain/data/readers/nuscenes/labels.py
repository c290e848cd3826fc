"""Classes of the points of nuScenes: of its lidarseg or its panoptic files, by the table of categories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.readers.json_rows import table_rows, value_of, values_of
from renderpretrain.data.readers.nuscenes.names import DETECTED, SEGMENTED, SURFACES

KINDS: dict[str, dict[str, Any]] = {
    "lidarseg": {"semseg_dtype": "uint8"},
    "panoptic": {"semseg_column": "data", "semseg_divisor": 1000},
}
"""How files of each kind hold the number of a point's category; panoptic ones beside that of its object."""

NOISE = "noise"
"""The category of points that are none: number 0, which is free space here."""


@dataclass(frozen=True)
class PointLabels:
    """Where the labels of sweeps are.

    Attributes:
        kind: ``lidarseg``, ``panoptic``, or nothing where there are none.
        files: By the token of a sweep's row in the sample data.
        classes: Names of class numbers, and class numbers of stored ones, as ``frames.json`` has them.
    """

    kind: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, Any] = field(default_factory=dict)

    def of(self, token: str) -> dict[str, Any]:
        """What ``frames.json`` would say of a sweep's labels."""
        return {"semseg_file": self.files[token], **KINDS[self.kind]} if token in self.files else {}


def read_labels(access: FolderAccess, version: str, kind: str | None, raw_classes: bool) -> PointLabels:
    """The labels of one kind; of those that are there where nobody says which.

    Args:
        access: Of the folder.
        version: The folder of the tables.
        kind: ``lidarseg``, ``panoptic``, ``none``, or ``None`` for the first that is there.
        raw_classes: Whether categories are classes, instead of the sixteen of the benchmarks.

    Raises:
        SceneFolderError: If a table is broken, or the labels are not there.
    """
    there = [name for name in KINDS if (access.path / version / f"{name}.json").is_file()]
    kind = (there[0] if there else "none") if kind is None else kind
    if kind == "none":
        return PointLabels()
    name = f"{version}/{kind}.json"
    where, files = str(access.path / name), {}
    for row in table_rows(access, name):
        files[value_of(row, "sample_data_token", str, where)] = value_of(row, "filename", str, where)
    return PointLabels(kind, files, _classes(access, version, raw_classes))


def _classes(access: FolderAccess, version: str, raw: bool) -> dict[str, Any]:
    """Names and numbers of classes, from the numbers of the categories."""
    name = f"{version}/category.json"
    rows, where = table_rows(access, name), str(access.path / name)
    if not any("index" in row for row in rows):
        raise SceneFolderError(
            f"{where}: index: expected the categories that came with the labels of points, got those without"
        )
    names = values_of(rows, "name", str, where)
    indices = values_of(rows, "index", int, where)
    if raw:
        numbers = {index: -1 if name == NOISE else index for index, name in zip(indices, names, strict=True)}
        named = {index: name for index, name in zip(indices, names, strict=True) if index}
    else:
        class_of = {name: SEGMENTED.index(label) + 1 for name, label in (DETECTED | SURFACES).items()}
        numbers = {index: class_of.get(name, -1) for index, name in zip(indices, names, strict=True)}
        named = dict(enumerate(SEGMENTED, 1))
    return {"semseg_map": numbers, "semseg_classes": named}
