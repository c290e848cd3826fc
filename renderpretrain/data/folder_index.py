"""Reading ``frames.json``: everything that is wrong with it, one line each; see ``docs/scene_folder.md``."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from renderpretrain.data.folder_access import FolderAccess
from renderpretrain.data.folder_fields import SceneFolderError, brief, expected, one_line
from renderpretrain.data.folder_schema import IndoorFolder, OutdoorFolder

INDEX = "frames.json"
"""Name of the file that describes a folder."""

INDEX_BYTES = 2**29
"""Largest ``frames.json``: a day of recording has a tenth."""

OUTDOOR = ("multicam_lidar", "lidar_sequence")
INDOOR = ("posed_rgbd", "posed_rgb")


def read_index(path: Path, *, outside: bool = False) -> OutdoorFolder | IndoorFolder:
    """The parsed ``frames.json`` of a folder; ``outside`` allows files that lie elsewhere.

    Raises:
        SceneFolderError: With the first problem.
    """
    index, problems = parse_index(path, outside=outside)
    if index is None:
        raise SceneFolderError(problems[0])
    return index


def parse_index(
    path: Path, *, outside: bool = False
) -> tuple[OutdoorFolder | IndoorFolder | None, list[str]]:
    """The parsed ``frames.json``, or everything that is wrong with it, one line each."""
    file = path / INDEX
    try:
        content = _content(path)
    except SceneFolderError as error:
        return None, [str(error)]
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in OUTDOOR + INDOOR:
        got = brief([kind])[1:-1]
        return None, [f"{file}: format: expected one of {', '.join(OUTDOOR + INDOOR)}, got {got}"]
    try:
        model: type[OutdoorFolder] | type[IndoorFolder] = OutdoorFolder if kind in OUTDOOR else IndoorFolder
        return model.model_validate(content, context={"outside": outside}), []
    except ValidationError as error:
        return None, [one_line(f"{file}: {_line(detail, content)}") for detail in error.errors()]


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


def _line(detail: ErrorDetails, content: dict[str, Any]) -> str:
    """One validation error as ``frame 3 (id): field: expected ..., got ...``."""
    location = list(detail["loc"])
    where = ""
    if len(location) > 1 and location[0] == "frames" and isinstance(location[1], int):
        frame = content["frames"][location[1]]
        name = frame.get("frame_id", "") if isinstance(frame, dict) else ""
        where = f"frame {location[1]} ({brief(name)}): "
        location = location[2:]
    field = ".".join(str(part) for part in location) + ": " if location else ""
    if detail["type"] == "missing":
        return f"{where}{field}expected a value, got nothing"
    if detail["type"] == "expected":
        return f"{where}{field}{detail['msg']}"
    return f"{where}{field}{expected(detail['msg'], detail['input']).message()}"
