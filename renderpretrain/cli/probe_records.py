"""What probes leave in a run's ``probe.json``."""

import json
from pathlib import Path
from typing import Any

from renderpretrain.storage.files import write_text


def read_records(path: Path) -> dict[str, Any]:
    """What earlier probes left in a ``probe.json``, by task and mode; nothing where there is no file.

    Raises:
        ValueError: If it is damaged, and would be lost if another were written.
    """
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read ({reason}); move it away or mend it, then probe") from error
    if not isinstance(records, dict):
        raise ValueError(f"{path}: expected probes by task and mode, got {type(records).__name__}")
    return records


def probe_key(task: str, mode: str, levels: str, split: str) -> str:
    """What a probe is called in the file, such as ``semseg/linear`` and ``semseg/linear/last/test``.

    What is read of the encoders and which scenes are scored are said where they are not all levels and
    validation scenes; no probe takes the place of another.
    """
    more = ["last"] * (levels == "last") + ["test"] * (split == "test")
    return "/".join([task, mode, *more])


def note_opening(path: Path, key: str, about: dict[str, Any]) -> int:
    """Note in the file, before anything is scored, that test scenes are opened; how often they have been.

    Args:
        path: The file.
        key: The probe.
        about: What is known of it so far.
    """
    former = read_records(path).get(key, {})
    opened = int(former.get("opened", 0)) + 1
    save_record(path, key, {**about, **former, "opened": opened})
    return opened


def save_record(path: Path, key: str, record: dict[str, Any]) -> None:
    """Put a record into the file, beside those of other tasks and modes.

    Args:
        path: The file.
        key: What :func:`probe_key` makes.
        record: What JSON can hold.
    """
    write_text(path, json.dumps({**read_records(path), key: record}, indent=1) + "\n")
