"""Reading ``frames.json``: everything that is wrong with it, one line each; see ``docs/scene_folder.md``."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from renderpretrain.data.folder.access import INDEX, FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief, expected, one_line
from renderpretrain.data.folder.json_files import json_of_file
from renderpretrain.data.folder.reader import Reader, UnreadFrame, uncollected
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder

INDEX_BYTES = 2**29
"""Largest ``frames.json``: a day of recording has a tenth."""

OUTDOOR = ("multicam_lidar", "lidar_sequence")
INDOOR = ("posed_rgbd", "posed_rgb")


def read_index(
    path: Path, *, outside: bool = False, skip: Collection[int] = (), reader: Reader | None = None
) -> OutdoorFolder | IndoorFolder:
    """The index of a recording.

    Args:
        path: The folder.
        outside: Whether files may lie elsewhere.
        skip: Frames to leave out, by their position in the list.
        reader: Of the format; ``None`` reads ``frames.json``.

    Raises:
        SceneFolderError: With the first problem.
    """
    index, problems = parse_index(path, outside=outside, skip=skip, reader=reader)
    if index is None:
        raise SceneFolderError(problems[0])
    return index


def parse_index(
    path: Path, *, outside: bool = False, skip: Collection[int] = (), reader: Reader | None = None
) -> tuple[OutdoorFolder | IndoorFolder | None, list[str]]:
    """The index, or all that is wrong with it, one line each; as :func:`read_index`."""
    reader = reader or FRAMES_JSON
    access = reader.access(path, outside)
    try:
        content = reader.content(access)
    except SceneFolderError as error:
        return None, [str(error)]
    index, problems = placed_problems(access, content, skip)
    return index, [line for _, line in problems]


@uncollected()
def placed_problems(
    access: FolderAccess, content: Any, skip: Collection[int] = ()
) -> tuple[OutdoorFolder | IndoorFolder | None, list[tuple[int | None, str]]]:
    """The index that a content describes; or its problems, each with its frame's position, or ``None``.

    Args:
        access: Of the folder.
        content: Of ``frames.json``, or what another format's reader says in its place.
        skip: Frames to leave out, by their position in the list.
    """
    file = access.described_in
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in OUTDOOR + INDOOR:
        got = brief([kind])[1:-1]
        return None, [(None, f"{file}: format: expected one of {', '.join(OUTDOOR + INDOOR)}, got {got}")]
    unread: list[tuple[int | None, str]] = []
    if isinstance(content.get("frames"), list):
        content, unread = _placed(content, skip)
        if unread and not content["frames"]:
            return None, unread
    try:
        model: type[OutdoorFolder] | type[IndoorFolder] = OutdoorFolder if kind in OUTDOOR else IndoorFolder
        index = model.model_validate(content, context={"outside": access.outside})
        return (None if unread else index), unread
    except ValidationError as error:
        found = ((_frame_of(detail, content), _line(detail, content)) for detail in error.errors())
        return None, unread + [
            (None if frame is None else frame["position"], one_line(f"{file}: {line}"))
            for frame, line in found
        ]


def _placed(
    content: dict[str, Any], skip: Collection[int]
) -> tuple[dict[str, Any], list[tuple[int | None, str]]]:
    """The content with the frames that stay, each knowing its position; and those not described."""
    frames, unread = [], []
    for position, frame in enumerate(content["frames"]):
        if position in skip:
            continue
        if isinstance(frame, UnreadFrame):
            unread.append((position, frame.line))
        else:
            told = frame if isinstance(frame, dict) else {}
            frames.append({**told, "position": position})
    return {**content, "frames": frames}, list(unread)


def _content(access: FolderAccess) -> Any:
    """The JSON of a folder's ``frames.json``."""
    path, file = access.path, access.path / INDEX
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise SceneFolderError(f"{path}: expected a folder with {INDEX}, got {got}")
    if not file.exists():
        raise SceneFolderError(f"{file}: expected a file, got nothing")
    return json_of_file(access, INDEX, "table", INDEX_BYTES)


FRAMES_JSON = Reader("folder", _content, INDEX)
"""Reads the project's own format."""


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
