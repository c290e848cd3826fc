"""The words that name data sets: ``folder:PATH?options@share``, several of them joined by ``+``.

In the place of ``folder`` stands the name of a format, see :data:`renderpretrain.data.readers.READERS`.

Paths may contain ``+``, ``@`` and ``?`` themselves, as logs do that are named after their time zone
(``...+0800``) or rate (``@10``). A folder that exists wins over any other reading; where none does, or two
do, ``%2B``, ``%40``, ``%3F`` and ``%25`` stand for ``+``, ``@``, ``?`` and ``%`` of a path.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from renderpretrain.data.readers import READERS

SHARDS = "shards"
"""Names what ``renderpretrain data prepare --shards`` wrote."""

FORMAT = re.compile(f"({'|'.join(map(re.escape, [*READERS, SHARDS]))}):")
"""What a recording's word begins with."""

JOIN = re.compile(rf"\+(?=synthetic|{FORMAT.pattern})")
"""What joins data sets; a plus sign within a path does not."""

SHARE = re.compile(r"(.*?)(?:@([0-9]{1,9}))?", re.DOTALL)
"""A data set and its share."""

ESCAPES = {"%25": "%", "%2B": "+", "%40": "@", "%3F": "?"}
"""How a path says what would otherwise end it."""

ESCAPED = re.compile("|".join(ESCAPES), re.IGNORECASE)


@dataclass(frozen=True)
class DataWord:
    """One data set as a user names it.

    Attributes:
        kind: The name of a format (``folder``), ``synthetic``, or whatever else was typed.
        path: Of a folder.
        options: What follows the ``?`` behind a folder's path.
        share: How often it occurs in a mixture relative to the others; ``None`` where the word does not say.
    """

    kind: str
    path: str = ""
    options: str = ""
    share: int | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether its scenes are made, in any number."""
        return self.kind.startswith("synthetic")

    @property
    def is_recording(self) -> bool:
        """Whether it names a folder and the format of what is in it."""
        return self.kind in READERS and bool(self.path)

    @property
    def alone(self) -> "DataWord":
        """The same data set without its share."""
        return replace(self, share=None)

    def absolute(self) -> "DataWord":
        """The same data set from wherever the word is read later."""
        local = self.path and "://" not in self.path
        path = str(Path(self.path).expanduser().resolve()) if local else self.path
        return replace(self, path=path)

    def fitted(self, fit: str) -> "DataWord":
        """The same data set with the option ``fit``, if it is a recording whose word does not say it yet."""
        if not self.is_recording or "fit" in folder_options(self.options):
            return self
        return replace(self, options="&".join(filter(None, (self.options, f"fit={fit}"))))

    @property
    def of_scenes(self) -> "DataWord":
        """The same scenes, whatever their share and however their pictures come to one size."""
        if not self.is_recording:
            return self.alone
        kept = [part for part in self.options.split("&") if not part.startswith("fit=")]
        return replace(self.alone, options="&".join(kept))

    def __str__(self) -> str:
        """A word that is read as this data set."""
        path = f":{_escaped(self.path)}" if self.path else ""
        options = f"?{self.options}" if self.options else ""
        share = "" if self.share is None else f"@{self.share}"
        return f"{self.kind}{path}{options}{share}"


def data_words(spec: str) -> tuple[DataWord, ...]:
    """The data sets that a text names, in the order of their numbers."""
    words, rest = [], spec
    while True:
        word, length = _first(rest)
        words.append(word)
        if length == len(rest):
            return tuple(words)
        rest = rest[length + 1 :]


def joined(words: tuple[DataWord, ...]) -> str:
    """The text that names these data sets."""
    return "+".join(str(word) for word in words)


def folder_options(text: str) -> dict[str, str]:
    """Values by name of ``a=1&b=2``, which may be percent-encoded; names in lists still are (:func:`listed`).

    Raises:
        ValueError: If it is not of that form or says something twice.
    """
    options: dict[str, str] = {}
    for part in text.split("&") if text else ():
        name, equals, value = part.partition("=")
        if not equals or name in options:
            raise ValueError(f"data: options: expected name=value&name=value, each once, got {text!r}")
        options[name] = value if name == "cameras" else unquote(value)
    return options


def listed(value: str) -> tuple[str, ...]:
    """The names in an option ``a,b``; ``%2C`` is a comma within a name."""
    return tuple(unquote(name) for name in value.split(","))


def _first(text: str) -> tuple[DataWord, int]:
    """The first data set of a text, and how many characters name it."""
    ends = [match.start() for match in JOIN.finditer(text)] + [len(text)]
    named = FORMAT.match(text)
    if named:
        for end in reversed(ends):
            for word in _readings(text[named.end() : end]):
                if word:
                    return replace(word, kind=named[1]), end
    plain, share = _with_share(text[: ends[0]])
    kind, _, rest = plain.partition(":")
    if kind not in READERS and kind != SHARDS:
        return DataWord(plain, share=share), ends[0]
    path, _, options = rest.partition("?")
    return DataWord(kind, _unescaped(path), options, share), ends[0]


def _readings(text: str) -> Iterator[DataWord | None]:
    """What stands behind a format's name read in all ways, the most literal first; ``None``: no folder."""
    yield _existing(text, "", None)
    plain, share = _with_share(text)
    yield _existing(plain, "", share)
    for mark in reversed([match.start() for match in re.finditer(r"\?", plain)]):
        if not JOIN.search(plain, mark):
            yield _existing(plain[:mark], plain[mark + 1 :], share)


def _existing(path: str, options: str, share: int | None) -> DataWord | None:
    """The data set at a path, or at the one it stands for, if there is a folder; no path makes this raise."""
    for read in (path, _unescaped(path)):
        if read and os.path.isdir(os.path.expanduser(read)):
            return DataWord("folder", read, options, share)
    return None


def _with_share(text: str) -> tuple[str, int | None]:
    """A text without its share, and that."""
    plain, share = SHARE.fullmatch(text).groups()  # type: ignore[union-attr]  # it matches everything
    return plain, None if share is None else int(share)


def _unescaped(path: str) -> str:
    """A path as the file system has it."""
    return ESCAPED.sub(lambda match: ESCAPES[match[0].upper()], path)


def _escaped(path: str) -> str:
    """A path that no part of is read as anything else, whether it exists or not."""
    path = ESCAPED.sub(lambda match: "%25" + match[0][1:], path).replace("?", "%3F")
    path = JOIN.sub("%2B", path)
    plain, share = _with_share(path)
    return path if share is None else f"{plain}%40{path[len(plain) + 1 :]}"
