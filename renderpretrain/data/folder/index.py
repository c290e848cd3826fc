"""Reading ``frames.json``: everything that is wrong with it, one line each; see ``docs/scene_folder.md``."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief, expected, one_line
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder

INDEX = "frames.json"
"""Name of the file that describes a folder."""

INDEX_BYTES = 2**29
"""Largest ``frames.json``: a day of recording has a tenth."""

OUTDOOR = ("multicam_lidar", "lidar_sequence")
INDOOR = ("posed_rgbd", "posed_rgb")


def read_index(
    path: Path, *, outside: bool = False, skip: Collection[int] = ()
) -> OutdoorFolder | IndoorFolder:
    """The parsed ``frames.json`` of a folder.

    Args:
        path: The folder.
        outside: Whether files may lie elsewhere.
        skip: Frames to leave out, by their position in the list.

    Raises:
        SceneFolderError: With the first problem.
    """
    index, problems = parse_index(path, outside=outside, skip=skip)
    if index is None:
        raise SceneFolderError(problems[0])
    return index


def parse_index(
    path: Path, *, outside: bool = False, skip: Collection[int] = ()
) -> tuple[OutdoorFolder | IndoorFolder | None, list[str]]:
    """The parsed ``frames.json``, or all that is wrong with it, one line each; as :func:`read_index`."""
    index, problems = placed_problems(path, outside=outside, skip=skip)
    return index, [line for _, line in problems]


def placed_problems(
    path: Path, *, outside: bool = False, skip: Collection[int] = ()
) -> tuple[OutdoorFolder | IndoorFolder | None, list[tuple[int | None, str]]]:
    """Problems that :func:`parse_index` finds, each with the position of its frame, or with ``None``."""
    file = path / INDEX
    try:
        content = _content(path)
    except SceneFolderError as error:
        return None, [(None, str(error))]
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in OUTDOOR + INDOOR:
        got = brief([kind])[1:-1]
        return None, [(None, f"{file}: format: expected one of {', '.join(OUTDOOR + INDOOR)}, got {got}")]
    if isinstance(content.get("frames"), list):
        content["frames"] = _placed(content["frames"], skip)
    try:
        model: type[OutdoorFolder] | type[IndoorFolder] = OutdoorFolder if kind in OUTDOOR else IndoorFolder
        return model.model_validate(content, context={"outside": outside}), []
    except ValidationError as error:
        found = ((_frame_of(detail, content), _line(detail, content)) for detail in error.errors())
        return None, [
            (None if frame is None else frame["position"], one_line(f"{file}: {line}"))
            for frame, line in found
        ]


def _placed(frames: list[Any], skip: Collection[int]) -> list[dict[str, Any]]:
    """The frames that are not skipped; each knows its position in the list."""
    kept = ((position, frame) for position, frame in enumerate(frames) if position not in skip)
    return [
        {**frame, "position": position} if isinstance(frame, dict) else {"position": position}
        for position, frame in kept
    ]


def _content(path: Path) -> Any:
    """The JSON of a folder's ``frames.json``."""
    file = path / INDEX
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise SceneFolderError(f"{path}: expected a folder with {INDEX}, got {got}")
    if not file.exists():
        raise SceneFolderError(f"{file}: expected a file, got nothing")
    try:
        text = FolderAccess(path, outside=True).read(INDEX, INDEX, INDEX_BYTES).decode("utf-8-sig")
        # No number of this format has so many digits, and Python takes ages, or refuses, to convert them.
        return json.loads(text, parse_int=lambda digits: (int if len(digits) <= 30 else float)(digits))
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise SceneFolderError(f"{file}: {at}: expected JSON, got: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise SceneFolderError(
            f"{file}: byte {error.start}: expected UTF-8 text, got: {error.reason}"
        ) from error
    except RecursionError as error:
        raise SceneFolderError(f"{file}: expected JSON, got brackets hundreds of levels deep") from error


def _frame_of(detail: ErrorDetails, content: dict[str, Any]) -> dict[str, Any] | None:
    """The frame that a validation error is about."""
    location = detail["loc"]
    if len(location) > 1 and location[0] == "frames" and isinstance(location[1], int):
        return content["frames"][location[1]]
    return None


def _line(detail: ErrorDetails, content: dict[str, Any]) -> str:
    """One validation error as ``frame 3 (id): field: expected ..., got ...``."""
    location = list(detail["loc"])
    where, frame = "", _frame_of(detail, content)
    if frame is not None:
        where = f"frame {frame['position']} ({brief(frame.get('frame_id', ''))}): "
        location = location[2:]
    field = ".".join(str(part) for part in location) + ": " if location else ""
    if detail["type"] == "missing":
        return f"{where}{field}expected a value, got nothing"
    if detail["type"] == "expected":
        return f"{where}{field}{detail['msg']}"
    return f"{where}{field}{expected(detail['msg'], detail['input']).message()}"
