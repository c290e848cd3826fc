"""The kinds of values that ``frames.json`` holds, and one line where a value is another."""

import json
import math
import os
import re
import reprlib
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from renderpretrain.terminal import printable

ROTATION_TOLERANCE = 1e-2
"""How far ``R R^T`` may be from the identity: published calibrations are off by 1e-4, wrong ones by more."""

FARTHEST = 1e8
"""Metres from an origin: more than any map's coordinates, which end at 2e7."""

SHORTEST = 1e-6
"""Metres along a side of an object: what is shorter is none, and less than 1e-45 would be 0 in float32."""

MOST_PIXELS = 2**26
"""Pixels of a picture: what a decoder is asked for before it is known to be a picture at all."""

MOST_CLASSES = 2**15
"""Class numbers end below this."""

SCALED = re.compile(r"(intensity|reflectance)(?:_0_(.*))?")
"""The column name carries the scale: ``intensity_0_255``, ``reflectance_0_1``."""

COLORS = re.compile(r"([rgb])(?:_0_(.*))?")
"""Names of columns of colours: ``r``, ``g``, ``b`` in [0, 1], ``r_0_255``."""

NORMALS = ("nx", "ny", "nz")
"""Columns of a normal, of any length."""

RING_COLUMNS = ("ring", "laser_number", "laser_id", "beam")
"""Columns that say which beam measured a point."""

TIME_COLUMNS = ("t_minus_timestamp_s", "offset_s", "t", "time", "timestamp")
"""Columns of the seconds at which each point was measured, from the time stamp on or absolute."""

CLASS_COLUMN = "semseg"
"""The column of each point's stored class number."""

NO_OBJECT = "DontCare"
"""KITTI's label of what is no object; its sizes are -1."""

OPENCV = "k1, k2, p1, p2, k3"
"""The lens model of pinholes."""

FISHEYE = "distortion_k1k2k3k4"
"""The field of a fisheye's coefficients, which says by its name that the camera is one."""

NAMED_LENSES = {
    "distortion_k1k2p1p2": 4,
    "distortion_k1k2p1p2k3": 5,
    "distortion_k1k2p1p2k3k4k5k6": 8,
    FISHEYE: 4,
}
"""Fields that say by their name which coefficients they hold, and how many."""

PLAIN_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+./-]{0,999}")
"""Paths that nearly all files have: relative ones, and within the folder where nothing goes up."""

FASTEST = 1e3
"""Metres per second that no object has."""

ODD_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What computing with a value raises that is of another kind, shape or size than it should be."""

LONGEST = 4000
"""Characters of a message: a path may have as many, and a word of a damaged table millions."""

_BRIEFLY = reprlib.Repr()
_BRIEFLY.maxlevel, _BRIEFLY.maxlist, _BRIEFLY.maxdict = 4, 16, 4
_BRIEFLY.maxstring = _BRIEFLY.maxother = _BRIEFLY.maxlong = 90


class SceneFolderError(ValueError):
    """A scene folder cannot be read; the message is one line that names file, frame and field."""

    def __init__(self, message: str) -> None:
        line = one_line(message)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 4 :]}"
        super().__init__(line)


def one_line(text: str) -> str:
    """The text in one line that a terminal may show."""
    return printable(" ".join(text.split()))


class Whole(str):
    """A text that messages show whole."""


def brief(value: object) -> str:
    """A value as messages show it: one short line."""
    if isinstance(value, Whole):
        return one_line(value)
    text = one_line(value if isinstance(value, str) else _BRIEFLY.repr(value))
    return text if len(text) <= 90 else text[:87] + "..."


def expected(what: str, got: object) -> PydanticCustomError:
    """An error in the house's form."""
    return PydanticCustomError("expected", "expected {what}, got {got}", {"what": what, "got": brief(got)})


def _of_field(field: str, error: PydanticCustomError) -> PydanticCustomError:
    """An error about an entry as an error about one of its fields."""
    return PydanticCustomError("expected", "{field}: {error}", {"field": field, "error": error.message()})


def _array(value: list[Any], shape: tuple[int, ...], what: str, largest: int | float) -> np.ndarray:
    """The nested list as float64, or an error."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise expected(what, value) from None
    if array.shape != shape or not np.isfinite(array).all():
        raise expected(f"{what} of finite numbers", value)
    if np.abs(array).max() > largest:
        raise expected(f"{what} of numbers up to {largest:g}", value)
    return array


def _is_rigid(value: list[list[float]]) -> bool:
    """Whether plain arithmetic tells that a matrix is a rigid motion, which it does of nearly all.

    A large data set has a million of them, and numpy takes ten times as long for a single one.
    """
    try:
        (a, b, c, x), (d, e, f, y), (g, h, i, z), last = value
    except ValueError:
        return False
    # Sums, because a NaN stays in them, and none of their parts is larger.
    off = abs(a * a + b * b + c * c - 1) + abs(d * d + e * e + f * f - 1) + abs(g * g + h * h + i * i - 1)
    off += abs(a * d + b * e + c * f) + abs(a * g + b * h + c * i) + abs(d * g + e * h + f * i)
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    near = abs(x) + abs(y) + abs(z) <= FARTHEST
    return off <= ROTATION_TOLERANCE and determinant > 0 and near and last == [0, 0, 0, 1]


def _check_pose(value: list[list[float]]) -> list[list[float]]:
    """Refuse what is not a rigid 4x4 motion."""
    if _is_rigid(value):
        return value
    pose = _array(value, (4, 4), "a 4x4 matrix", FARTHEST)
    rotation = pose[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise expected("an orthonormal right-handed rotation within 0.01", f"an error of {off:.3g}, {value}")
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise expected("a last row of 0 0 0 1", value[3])
    return value


def _check_tracked_pose(value: list[list[float]] | None) -> list[list[float]] | None:
    """A pose, or ``None`` where tracking was lost: ScanNet then writes a matrix of infinities."""
    if value is None or ([len(row) for row in value] == [4] * 4 and not np.isfinite(value[:3]).any()):
        return None
    return _check_pose(value)


def _is_upper(value: list[list[float]]) -> bool:
    """Whether plain arithmetic tells that a matrix is one of intrinsics, as :func:`_is_rigid` does."""
    try:
        (fx, skew, cx), (zero, fy, cy), last = value
    except ValueError:
        return False
    sizes = fx + fy + abs(skew) + abs(cx) + abs(cy)
    return zero == 0 and last == [0, 0, 1] and fx >= 0.1 and fy >= 0.1 and sizes <= 1e6


def _check_intrinsics(value: list[list[float]]) -> list[list[float]]:
    """An invertible upper triangular 3x3 matrix in pixels that mirrors nothing."""
    if _is_upper(value):
        return value
    matrix = _array(value, (3, 3), "a 3x3 matrix", 1e6)
    if not _are_intrinsics(matrix):
        form = (
            "an invertible matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx and fy of 0.1 pixels or more"
        )
        given = json.dumps([[float(f"{number:.4g}") for number in row] for row in matrix.tolist()])
        raise expected(form, Whole(given + _looks_like(matrix)))
    return value


def _are_intrinsics(matrix: np.ndarray) -> bool:
    """Whether a 3x3 matrix is one of intrinsics."""
    upper = np.abs(np.tril(matrix, -1)).max() < 1e-9 and abs(matrix[2, 2] - 1) < 1e-9
    return bool(upper and min(matrix[0, 0], matrix[1, 1]) >= 0.1)


def _looks_like(matrix: np.ndarray) -> str:
    """What a 3x3 matrix that is none of intrinsics may be, in words; empty where nothing is known."""
    if _are_intrinsics(matrix.T):
        return ": this looks transposed"
    if matrix[0, 0] == 0 or matrix[1, 1] == 0:
        return ": there is a 0 where fx or fy belongs"
    inverse = np.linalg.inv(matrix) if np.linalg.matrix_rank(matrix) == 3 else np.zeros((3, 3))
    if _are_intrinsics(inverse):
        return f": this looks inverted, its inverse has fx {inverse[0, 0]:.4g} and fy {inverse[1, 1]:.4g}"
    return ""


def _check_vector(value: list[float]) -> list[float]:
    """Refuse what is not three finite numbers."""
    if len(value) == 3 and abs(value[0]) + abs(value[1]) + abs(value[2]) <= FARTHEST:
        return value
    _array(value, (3,), "3 numbers", FARTHEST)
    return value


def check_sizes(field: str, label: str, value: list[float]) -> None:
    """Raise unless a box has three lengths; what is labelled as no object needs none."""
    if label != NO_OBJECT and not all(SHORTEST <= length <= 1e4 for length in value):
        raise _of_field(field, expected(f"3 lengths from {SHORTEST:g} to 1e4", value))


def _check_extent(value: list[float]) -> list[float]:
    """Refuse what is no box that has a length along each axis."""
    low, high = _array(
        value, (6,), "6 numbers: x, y, z of the lower and of the upper corner", FARTHEST
    ).reshape(2, 3)
    if not (high - low >= SHORTEST).all():
        raise expected("a lower corner below the upper one along x, y and z", value)
    return value


def _check_velocity(value: list[float | None]) -> list[float]:
    """Two numbers; 0 where one is unknown: nuScenes writes NaN."""
    known = [0.0 if number is None or math.isnan(number) else number for number in value]
    if len(known) == 2 and abs(known[0]) + abs(known[1]) <= FASTEST:
        return known
    _array(known, (2,), "2 numbers", FASTEST)
    return known


def check_lens(value: list[float]) -> list[float]:
    """Refuse lens coefficients other than the five finite numbers of OpenCV."""
    if len(value) in (4, 8):
        names = ", ".join(name for name, count in NAMED_LENSES.items() if count == len(value))
        raise expected(f"{OPENCV}, or another number of coefficients by name ({names})", value)
    _array(value, (5,), OPENCV, 1e6)
    return value


def _check_fisheye(value: list[float]) -> list[float]:
    """Refuse what is not the four finite numbers of a fisheye."""
    _array(value, (4,), "k1, k2, k3, k4", 1e6)
    return value


def named_lens(content: Any) -> Any:
    """An entry's content, ``distortion`` taken from the field whose name says which coefficients it has.

    A fisheye's stay in their own field.

    Raises:
        PydanticCustomError: If two fields say it, or the coefficients are of another model.
    """
    if not isinstance(content, dict):
        return content
    said = [name for name in ("distortion", *NAMED_LENSES) if content.get(name) is not None]
    if len(said) > 1:
        raise expected("one field of distortion", ", ".join(said))
    if not said or said[0] == "distortion":
        return content
    name, value = said[0], content[said[0]]
    number = isinstance(value, list) and all(isinstance(k, int | float) for k in value)
    if not number or len(value) != NAMED_LENSES[name]:
        raise _of_field(name, expected(f"{NAMED_LENSES[name]} numbers", value))
    if name == FISHEYE:
        return content
    if any(value[5:]):
        raise _of_field(name, expected(f"k4, k5, k6 of 0 (undistort the pictures) or {OPENCV}", value))
    return {**content, "distortion": [*value, 0.0][:5]}


def _check_columns(value: list[str]) -> list[str]:
    """Coordinates must be there, and what is read must be there once."""
    if not {"x", "y", "z"} <= set(value):
        raise expected("columns with x, y and z", value)
    for name in value:
        if value.count(name) > 1 and is_read(name):
            raise expected(f"{brief(name)} once among the columns", value)
        match = SCALED.fullmatch(name) or COLORS.fullmatch(name)
        if match and match[2] is not None and not _is_scale(match[2]):
            raise expected("columns whose names end in the largest value, as intensity_0_255", name)
    return value


def is_read(column: str) -> bool:
    """Whether a sweep's column has a meaning."""
    if column in ("x", "y", "z", CLASS_COLUMN, *NORMALS, *RING_COLUMNS):
        return True
    return bool(SCALED.fullmatch(column) or COLORS.fullmatch(column))


def _is_scale(text: str) -> bool:
    """Whether a text is a number that intensities may be divided by."""
    return re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text, re.ASCII) is not None and float(text) > 0


def _check_file(value: str, info: Any) -> str:  # pydantic's ValidationInfo cannot be checked at run time
    """A path that a file can have and, unless others are allowed, one within the folder."""
    if PLAIN_PATH.fullmatch(value) and ".." not in value:
        return value
    try:
        possible = 0 < len(os.fsencode(value)) <= 4096 and "\0" not in value
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise expected("the path of a file", value)
    outside = bool(info.context and info.context.get("outside"))
    if not outside and (os.path.isabs(value) or os.path.normpath(value).split(os.sep)[0] == os.pardir):
        raise expected("a path within the folder (outside=1 allows others)", value)
    return value


def _check_classes(value: dict[int, str]) -> dict[int, str]:
    """Numbers that a list of names can have."""
    for number in value:
        if not 0 <= number < MOST_CLASSES:
            raise expected(f"class numbers from 0 to {MOST_CLASSES - 1}", number)
    return value


def _check_class_map(value: dict[int, int]) -> dict[int, int]:
    """Stored numbers of 32 bits at most, and classes that can have a name or are none (-1)."""
    for stored, number in value.items():
        if not (0 <= stored < 2**32 and -1 <= number < MOST_CLASSES):
            what = f"stored numbers from 0 on and class numbers from -1 to {MOST_CLASSES - 1}"
            raise expected(what, {stored: number})
    return value


def within(what: str, low: int | float, high: int | float) -> AfterValidator:
    """The check that a number is in ``[low, high]``; NaN never is."""

    def check(value: int | float) -> int | float:
        if not low <= value <= high:
            raise expected(what, value)
        return value

    return AfterValidator(check)


def _check_area(value: list[float]) -> list[float]:
    """Refuse an area whose lower corner is not below its upper one."""
    what = "x_min, y_min, x_max, y_max in metres"
    left, right, front, back = _array(value, (4,), what, FARTHEST)
    if not (left < front and right < back):
        raise expected(f"{what}, the smaller ones first", value)
    return value


def _check_levels(value: list[float]) -> list[float]:
    """Refuse levels whose black is not below their white."""
    black, white = _array(value, (2,), "2 numbers: what is black and what is white", 65535)
    if not 0 <= black < white:
        raise expected("what is black and then what is white, from 0 to 65535", value)
    return value


def _once(check: Callable[[list[list[float]]], Any]) -> AfterValidator:
    """The check of a matrix, made once for all frames that share one, as those of a rig do."""

    @lru_cache(maxsize=256)
    def passed(rows: tuple[tuple[float, ...], ...]) -> None:
        check([list(row) for row in rows])

    def checked(value: list[list[float]]) -> list[list[float]]:
        passed(tuple(map(tuple, value)))
        return value

    return AfterValidator(checked)


Pose = Annotated[list[list[float]], _once(_check_pose)]
TrackedPose = Annotated[list[list[float]] | None, AfterValidator(_check_tracked_pose)]
Intrinsics = Annotated[list[list[float]], _once(_check_intrinsics)]
Vector = Annotated[list[float], AfterValidator(_check_vector)]
Extent = Annotated[list[float], AfterValidator(_check_extent)]
Velocity = Annotated[list[float | None], AfterValidator(_check_velocity)]
Angle = Annotated[float, within("radians, within two turns", -4 * math.pi, 4 * math.pi)]
Seconds = Annotated[float, within("seconds, within 1e11", -1e11, 1e11)]
Distortion = Annotated[list[float], AfterValidator(check_lens)]
Fisheye = Annotated[list[float], AfterValidator(_check_fisheye)]
Columns = Annotated[list[str], AfterValidator(_check_columns)]
File = Annotated[str, AfterValidator(_check_file)]
Classes = Annotated[dict[int, str], AfterValidator(_check_classes)]
ClassMap = Annotated[dict[int, int], AfterValidator(_check_class_map)]
Area = Annotated[list[float], AfterValidator(_check_area)]
Levels = Annotated[list[float], AfterValidator(_check_levels)]
Pixels = Annotated[int, within("1 to 65535 pixels", 1, 65535)]
