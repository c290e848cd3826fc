"""What turns the tables of a recording into the content of a ``frames.json``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from renderpretrain.data.folder.access import FolderAccess

Option = tuple[Callable[[str], Any], str]
"""How an option is read from text (``ValueError`` or ``KeyError`` where it is none); what is expected."""


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
    """

    name: str
    read: Callable[..., Any]
    table: str
    options: Mapping[str, Option] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def told(self, **values: Any) -> "Reader":
        """The same reader with values of its options; raises a ``ValueError`` for others."""
        for name in values:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise ValueError(f"{self.name}: expected the options {known}, got {name[:40]!r}")
        return replace(self, values={**self.values, **values})

    def content(self, access: FolderAccess) -> Any:
        """What the ``frames.json`` of the recording would hold."""
        return self.read(access, **self.values)
