"""Words on their way to a terminal: control characters in names are shown, never obeyed.

A frame's id, a file or a checkpoint's key may hold ``ESC ] 0 ; ... BEL``, which renames the window, or worse.
:func:`guard_terminal` puts one place in front of all that a process prints.
"""

import re
import sys
from typing import Any, TextIO, cast

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""What moves the cursor, rings, hides or reorders text, or is no character; a new line and a tab are not
among them."""

DRAWN = re.compile(r"(\x1b\[[?0-9;]*[A-HJKhlm]|\r)")
"""What rich draws with: colours, where the cursor is, and whether it shows."""


def printable(text: str) -> str:
    """The text with control characters as Python writes them in a string.

    Args:
        text: Anything. New lines and tabs stay.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class GuardedStream:
    """A text stream that writes :func:`printable` text, and otherwise is the stream it stands before.

    Attributes:
        rich_proxied_file: Where rich writes: the same, but the sequences that rich draws with pass. What is
            given to rich must be printable before.
    """

    def __init__(self, stream: Any, *, drawing: bool = False) -> None:
        """Stand before a stream.

        Args:
            stream: Where the text goes: ``sys.stdout``, or what somebody has put in its place.
            drawing: Let pass what rich draws with.
        """
        self._stream = stream
        self._drawing = drawing
        self.rich_proxied_file = self if drawing else GuardedStream(stream, drawing=True)

    def write(self, text: str) -> int:
        """Write the text; what the stream's encoding lacks becomes an escape."""
        shown = _drawn(text) if self._drawing else printable(text)
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts, one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's; its bytes are not handed out."""
        if name in ("buffer", "_stream"):
            raise AttributeError(name)
        return getattr(self._stream, name)


def guard_terminal() -> None:
    """Guard ``sys.stdout`` and ``sys.stderr`` for the rest of the process; twice is once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, GuardedStream):
            setattr(sys, name, cast(TextIO, GuardedStream(stream)))


def _drawn(text: str) -> str:
    """Text of rich: odd parts of the split are what it draws with."""
    parts = DRAWN.split(text)
    return "".join(part if odd % 2 else printable(part) for odd, part in enumerate(parts))
