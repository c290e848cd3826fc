"""Key tables: what a parameter is called here and there, readable in both directions."""

import re
from functools import cache
from itertools import zip_longest

Table = tuple[tuple[str, str], ...]
"""Pairs (ours, theirs) of beginnings of a key, the first that fits counts; ``#`` stands for a number, and the
numbers are carried over in order. What follows the beginning stays."""

SAME: Table = (("", ""),)
"""A table that renames nothing at all."""


def rename(key: str, table: Table) -> str | None:
    """The key in the other's words, or ``None`` where the other has no such thing."""
    for ours, theirs in table:
        found = _pattern(ours).match(key)
        if found:
            words = zip_longest(theirs.split("#"), found.groups(), fillvalue="")
            return "".join(text + number for text, number in words) + key[found.end() :]
    return None


def inverted(table: Table) -> Table:
    """The table that leads from the other library's keys to ours."""
    return tuple((theirs, ours) for ours, theirs in table)


def dotted(prefix: str | None) -> str | None:
    """A prefix as keys have it, which users give with or without the dot at its end."""
    return prefix if not prefix or prefix.endswith(".") else f"{prefix}."


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    """A regular expression for keys that begin so, with ``#`` for numbers."""
    return re.compile(r"(\d+)".join(re.escape(part) for part in beginning.split("#")))
