"""Which columns of its points an encoder reads: a setting, and the module that reads them."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from renderpretrain.data import Batch, MixedScenes, Recording, SceneDataset, SceneFolder
from renderpretrain.encoders import Voxels, voxelize
from renderpretrain.geometry import VoxelGrid
from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS

Column = Literal["x", "y", "z", "intensity", "lag", "r", "g", "b", "nx", "ny", "nz"]

SWEEPS: tuple[Column, ...] = ("x", "y", "z", "intensity", "lag")
INTENSITY: tuple[Column, ...] = ("x", "y", "z", "intensity")
COLOR_NORMAL: tuple[Column, ...] = ("r", "g", "b", "nx", "ny", "nz")
"""What published encoders read: of merged sweeps, of one sweep, of a room."""

PLACE = POINT_COLUMNS[:3]
TOGETHER = (PLACE, COLOR_COLUMNS, NORMAL_COLUMNS)
"""Columns that are only read together, in this order."""


def _check(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """None twice, what belongs together in its order."""
    if not columns or len(set(columns)) < len(columns):
        raise PydanticCustomError("columns", "expected columns of points, none of them twice")
    for group in TOGETHER:
        found = [i for i, name in enumerate(columns) if name in group]
        if found and columns[found[0] : found[0] + 3] != group:
            raise PydanticCustomError("columns", "expected {group} together", {"group": ", ".join(group)})
    if columns[0] not in PLACE and set(PLACE) & set(columns):
        raise PydanticCustomError("columns", "expected x, y, z first")
    return columns


def _check_placed(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The same, with places."""
    if columns[:3] != PLACE:
        raise PydanticCustomError("columns", "expected x, y, z first")
    return _check(columns)


Columns = Annotated[tuple[Column, ...], AfterValidator(_check_placed)]
"""A setting: ``x, y, z`` and what else is read of a point."""

Features = Annotated[tuple[Column, ...], AfterValidator(_check)]
"""The same, of which ``x, y, z`` may be absent: voxels have their places all the same."""

MEANING = (
    "Columns of the points that the encoder reads: x y z intensity lag, and where the data has them r g b "
    "and nx ny nz."
)


class PointInput(nn.Module):
    """The columns that a point encoder reads, as means over voxels.

    Coordinates are metres, intensity is in [0, 1], the time lag is in seconds, colours are in [-1, 1] as
    Pointcept has them, normals are those of the world frame.

    Args:
        columns: Their names, see :data:`Columns`.
    """

    largest: Tensor
    """Largest absolute value of every column in training; 0 says that the column was always 0."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.placed = columns[:3] == PLACE
        self.read = columns if self.placed else (*PLACE, *columns)
        self.colored = COLOR_COLUMNS[0] in columns
        self.register_buffer("largest", torch.zeros(len(columns)))

    def forward(self, batch: Batch, valid: Bool[Tensor, "B P"], grid: VoxelGrid) -> Voxels:
        """The voxels of the valid points; each holds the mean of its points' columns.

        Raises:
            ValueError: Naming the scene that lacks a column, and the setting without it.
        """
        table = self._table(batch)
        if self.training and table.shape[1]:
            self._watch(table, valid)
        voxels = voxelize(table, valid, grid)
        return voxels if self.placed else replace(voxels, features=voxels.features[:, 3:])

    def _table(self, batch: Batch) -> Float[Tensor, "B P C"]:
        """The columns side by side, coordinates first."""
        points = batch.points
        # What is known of each sample's points, also where a batch was not collated.
        for place, known in enumerate(batch.columns or (points.known,) * batch.size):
            if not set(self.columns) <= set(known):  # a compiled graph is one of the names that it has read
                check_columns(self.columns, known, f"scene {batch.names[place]!r}")
        if self.colored and points.colors is not None:
            points = replace(points, colors=2 * points.colors - 1)
        return points.columns(self.read)

    @torch.no_grad()
    def _watch(self, table: Tensor, valid: Tensor) -> None:
        """Remember how far every column goes."""
        read = table if self.placed else table[..., 3:]
        reach = torch.where(valid[..., None], read, 0).abs().amax((0, 1))
        self.largest.copy_(torch.maximum(self.largest, reach))


def point_input(recipe: nn.Module) -> PointInput | None:
    """The part of a recipe that reads points, if one does."""
    return next((part for part in recipe.modules() if isinstance(part, PointInput)), None)


def columns_read(recipe: nn.Module) -> tuple[str, ...]:
    """What a recipe's encoder reads of a point; empty without one that does."""
    read = point_input(recipe)
    return () if read is None else read.columns


def check_columns(columns: tuple[str, ...], known: tuple[str, ...], whose: str) -> None:
    """Raise a ``ValueError`` unless all columns are known.

    Args:
        columns: What is to be read.
        known: What is there.
        whose: Begins the message.
    """
    missing = [name for name in columns if name not in known]
    if missing:
        left = ",".join(name for name in columns if name in known)
        raise ValueError(
            f"points: {whose} has no {', '.join(missing)}, it has {', '.join(known)}; "
            f"set points=[{left or ','.join(PLACE)}]"
        )


def check_data(columns: tuple[str, ...], dataset: SceneDataset) -> None:
    """Raise a ``ValueError`` unless a data set has all columns; of a mixture, all sets.

    Of a folder all frames are looked at, as ``frames.json`` describes them, of other data the first scene.
    Nothing is read where the columns are those that every scene has.
    """
    if set(columns) <= set(POINT_COLUMNS):
        return
    for one in dataset.datasets if isinstance(dataset, MixedScenes) else (dataset,):
        if isinstance(one, SceneFolder):
            for whose, known in one.columns():
                check_columns(columns, known, whose)
        else:
            scene = one.without_images(0) if isinstance(one, Recording) else one[0]
            check_columns(columns, scene.columns, f"scene {scene.name!r}")
