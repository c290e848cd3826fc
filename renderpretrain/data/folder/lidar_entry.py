"""What ``frames.json`` says of the file of a sweep, or of a room's cloud of points."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, model_validator

from renderpretrain.data.folder.fields import (
    CLASS_COLUMN,
    Area,
    ClassMap,
    Columns,
    File,
    Pose,
    Vector,
    expected,
    within,
)

Layout = Literal["rows", "text", "npy", "npz", "pcd", "ply", "las", "feather", "pickle", "range_image"]
"""How the bytes of a sweep's file are laid out; all but the first two name their columns."""


class RangeImageEntry(BaseModel):
    """Where in a table of range images a sweep is, and how it was measured: Waymo's way.

    A column has ``.values`` and ``.shape`` behind its name. Poses of pixels bring points to ``frame_pose``.
    """

    row: Annotated[int, within("a row", 0, 10**9)]
    column: str
    inclinations: list[float]
    sensor_to_vehicle: Pose
    frame_pose: Pose | None = None
    poses: File | None = None
    poses_row: Annotated[int, within("a row", 0, 10**9)] = 0
    poses_column: str = ""
    semseg: File | None = None
    semseg_row: Annotated[int, within("a row", 0, 10**9)] = 0
    semseg_column: str = ""
    first_beam: Annotated[int, within("a number of beams", 0, 10**6)] = 0


class PartEntry(BaseModel):
    """One of several files whose points are those of a sweep; all points of it are of one class."""

    file: File
    semseg: Annotated[int, within("a stored class number", 0, 2**32 - 1)]


class BesideEntry(BaseModel):
    """A file with other columns of the same points."""

    file: File
    columns: list[str]


class LidarEntry(BaseModel):
    """What ``frames.json`` says of one LiDAR sweep, or of a room's cloud of points."""

    file: File
    dtype: Literal["float32", "float64"] = "float32"
    columns: Columns
    intensity_scale: Annotated[float, within("a number from 1e-6 to 1e9", 1e-6, 1e9)] | None = None
    lidar_to_ego: Pose = np.eye(4).tolist()
    ego_to_global: Pose | None = None
    sensor_origin: Vector | None = None
    layout: Layout | None = None
    fields: list[str] | None = None
    file_to_lidar: Pose | None = None
    range_image: RangeImageEntry | None = None
    further_images: list[RangeImageEntry] = []
    only: dict[str, Annotated[float, within("a number, within 1e9", -1e9, 1e9)]] = {}
    semseg_file: File | None = None
    semseg_dtype: Literal["uint8", "uint16", "uint32"] = "uint8"
    semseg_column: str | None = None
    semseg_bits: Annotated[int, within("1 to 32 bits", 1, 32)] | None = None
    semseg_divisor: Annotated[int, within("a divisor from 1 to 1e6", 1, 10**6)] = 1
    semseg_map: ClassMap | None = None
    own_vehicle: Area | None = None
    parts: list[PartEntry] = []
    beside: list[BesideEntry] = []

    @property
    def files(self) -> list[str]:
        """All files that it names."""
        parts, beside = ([entry.file for entry in entries] for entries in (self.parts, self.beside))
        named = [self.file, self.semseg_file, *parts, *beside]
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def has_classes(self) -> bool:
        """Whether its points have classes."""
        return self.semseg_file is not None or CLASS_COLUMN in self.columns

    @model_validator(mode="after")
    def _has_a_field_per_column(self) -> "LidarEntry":
        if self.fields is not None and len(self.fields) != len(self.columns):
            what = f"fields: one per column ({len(self.columns)})"
            raise expected(what, len(self.fields))
        absent = [name for name in self.only if name not in self.columns]
        if absent:
            raise expected("only: values of some of the columns", absent[0])
        return self
