"""What probes leave in a run's ``probe.json``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from renderpretrain.storage.files import write_text

ONE_RUN = (
    "there is one pre-training run: deviations and intervals speak of other labels, fresh weights, heads and "
    "scored scenes, and not of what pre-training again, from another seed, would give"
)
"""What every table of a probe leaves open."""


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


class Opening:
    """Counts in the file how often test scenes were opened: by a call's first score that is shown.

    Args:
        path: The file.
        key: The probe.
        about: What is known of it so far.
    """

    def __init__(self, path: Path, key: str, about: dict[str, Any]) -> None:
        self.path, self.key, self.about = path, key, about
        self.times = int(read_records(path).get(key, {}).get("opened", 0))
        self._noted = False

    def note(self, say: Callable[[str], None]) -> None:
        """Note, the first time, that a score of test scenes is about to be shown."""
        if self._noted:
            return
        former = read_records(self.path).get(self.key, {})
        self.times, self._noted = self.times + 1, True
        save_record(self.path, self.key, {**self.about, **former, "opened": self.times})
        say(f"test       opened, by this run {self.times} times in all")


def save_record(path: Path, key: str, record: dict[str, Any]) -> None:
    """Put a record into the file, beside those of other tasks and modes.

    Args:
        path: The file.
        key: What :func:`probe_key` makes.
        record: What JSON can hold.
    """
    write_text(path, json.dumps({**read_records(path), key: record}, indent=1) + "\n")
