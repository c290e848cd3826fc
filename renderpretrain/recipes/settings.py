"""What the settings of recipes are made of: names that exist, numbers that can be meant."""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

LARGEST = 1e9
"""No number of a setting is above it."""

MOST_PIXELS = 2**25
"""Of an image."""

MOST_VOXELS = {"voxel_size": 2**27, "lidar.voxel_size": 2**31 - 1, "encoder.voxel_size": 2**31 - 1}
"""Of a volume that is rendered, and of the sparse grids before it."""


class Settings(BaseModel):
    """A section of a configuration, which refuses unknown names, and texts and numbers past all use."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _numbers_are_no_truths(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        taken = handler(value)
        for given, got in zip(_leaves(value), _leaves(taken), strict=False):  # sections look at their own
            if isinstance(given, bool) and not isinstance(got, bool):
                raise PydanticCustomError("number", "expected something else than true or false")
        return taken

    @field_validator("*")
    @classmethod
    def _can_be_meant(cls, value: Any) -> Any:
        for part in _leaves(value):
            if isinstance(part, str) and not part.isprintable():
                raise PydanticCustomError("text", "expected text that can be printed")
            if isinstance(part, int | float) and abs(part) > LARGEST:
                raise PydanticCustomError(
                    "size", "expected numbers of at most {most}", {"most": f"{LARGEST:g}"}
                )
        return value

    @model_validator(mode="after")
    def _voxels_fit(self) -> "Settings":
        box = getattr(self, "point_cloud_range", None)
        for name, most in MOST_VOXELS.items() if box else ():
            section, _, field = name.rpartition(".")
            size = getattr(getattr(self, section, None) if section else self, field, None)
            if size and box and (count := _voxels(box, size)) > most:
                told = f"{name}: expected at most {most:.3g} voxels, got {count:.3g} of {size} m in {box}"
                raise PydanticCustomError("voxels", "{told}", {"told": told})
        return self


def _leaves(value: Any) -> Iterator[Any]:
    """Numbers and texts of a setting."""
    if isinstance(value, dict):
        value = (*value, *value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif not isinstance(value, BaseModel):
        yield value


def _voxels(box: tuple[float, ...], size: tuple[float, ...]) -> float:
    """How many voxels a box has."""
    return math.prod((high - low) / step for low, high, step in zip(box[:3], box[3:], size, strict=True))


def _rises(box: tuple[float, ...]) -> tuple[float, ...]:
    if not all(low < high for low, high in zip(box[: len(box) // 2], box[len(box) // 2 :], strict=True)):
        raise PydanticCustomError("order", "expected every minimum below its maximum")
    return box


def _is_small(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MOST_PIXELS:
        raise PydanticCustomError("pixels", "expected at most {most} pixels", {"most": MOST_PIXELS})
    return size


Meters = Annotated[float, Field(ge=-1e5, le=1e5)]
Distance = Annotated[float, Field(ge=0, le=1e5)]
Step = Annotated[float, Field(ge=1e-3, le=1e3)]

Box = Annotated[tuple[Meters, Meters, Meters, Meters, Meters, Meters], AfterValidator(_rises)]
"""``x_min, y_min, z_min, x_max, y_max, z_max`` in metres."""

Span = Annotated[tuple[Distance, Distance], AfterValidator(_rises)]
"""Two distances in metres, the nearer one first."""

VoxelSize = tuple[Step, Step, Step]
"""x, y, z in metres."""

_Side = Annotated[int, Field(gt=0, le=2**15)]
ImageSize = Annotated[tuple[_Side, _Side], AfterValidator(_is_small)]
"""Height and width in pixels."""

Width = Annotated[int, Field(gt=0, le=2**13)]
"""Channels."""

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
"""Channels per stage."""

Count = Annotated[int, Field(le=2**16)]
"""Of what there are a few of, or thousands."""

Blocks = Annotated[int, Field(ge=0, le=2**8)]
"""Layers that follow each other."""

Depths = Annotated[tuple[Annotated[int, Field(gt=0, le=2**8)], ...], Field(min_length=1, max_length=16)]
"""Layers per stage."""

_Edge = Annotated[int, Field(gt=0, le=2**10)]
Block = tuple[_Edge, _Edge, _Edge]
"""Voxels, z, y, x."""

AT_START = "at start"
"""Marks a setting that only fresh weights look at: a resumed run cannot change it."""

Initial = Annotated[float, AT_START]
"""A number that training changes from there."""

WeightsFile = Annotated[str | None, AT_START]
"""A path, or none."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""Of one, which it does not reach."""
