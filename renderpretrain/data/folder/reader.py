"""What turns the tables of a recording into the content of a ``frames.json``."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.remote import RemoteFiles

Option = tuple[Callable[[str], Any], str]
"""How an option is read from text (``ValueError`` or ``KeyError`` where it is none); what is expected."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Makes millions of objects that all stay, without the collector looking through them again and again.

    It takes two thirds of the time that a large index needs otherwise, and finds nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass(frozen=True)
class UnreadFrame:
    """A frame whose own tables are at fault, in the place of its content: it can be skipped, others be read.

    Attributes:
        line: File, frame, field, what was expected and what came.
    """

    line: str


@dataclass(frozen=True)
class Reader:
    """A format that recordings are read from.

    What it says of a recording is checked and read as a ``frames.json`` is (``docs/scene_folder.md``), so
    that sweeps are merged, cameras placed, frames skipped and faults worded in one way for all formats.

    Attributes:
        name: As in ``--data NAME:PATH``.
        read: From the folder and the values of options to the content of its ``frames.json``, with
            :class:`UnreadFrame` in the place of frames that cannot be described. Raises
            :class:`~renderpretrain.data.SceneFolderError`.
        table: File or folder that messages name where they are about the description of frames.
        options: What the reader can be told, beside the options that all recordings have.
        values: What it is told.
        remote: Where the files are that it describes, if not on this machine.
    """

    name: str
    read: Callable[..., Any]
    table: str
    options: Mapping[str, Option] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    remote: RemoteFiles | None = None

    def told(self, **values: Any) -> "Reader":
        """The same reader with values of its options; raises a ``ValueError`` for others."""
        for name in values:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise ValueError(f"{self.name}: expected the options {known}, got {name[:40]!r}")
        return replace(self, values={**self.values, **values})

    def access(self, path: Path, outside: bool = False) -> FolderAccess:
        """How the files of a recording are read.

        Args:
            path: The folder.
            outside: Whether files may lie elsewhere.
        """
        return FolderAccess(path, outside, table=self.table, remote=self.remote)

    @uncollected()
    def content(self, access: FolderAccess) -> Any:
        """What the ``frames.json`` of the recording would hold.

        Numbers that overflow on the way are refused with their frames, and warned of nowhere.
        """
        with np.errstate(all="ignore"):
            return self.read(access, **self.values)
