"""Opening what the index of a recording names: regular files of bounded size that lie within the folder."""

import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from renderpretrain.data.folder.fields import SceneFolderError, brief, one_line
from renderpretrain.data.folder.remote import RemoteFiles
from renderpretrain.data.formats.feather import parquet_row

INDEX = "frames.json"
"""Name of the file that describes a folder."""

SPAN = re.compile(r"(.+)#(\d{1,15})\+(\d{1,15})")
"""How an index names a part of a file: ``FILE#OFFSET+LENGTH``, in bytes."""

CELL = re.compile(r"(.+\.parquet)#([^#]+)@(\d{1,9})")
"""How an index names what one row of a table holds: ``FILE.parquet#COLUMN@ROW``."""

LONGEST_PATH = 1000
"""Characters of a path within the folder: a word of a damaged table may have millions."""

logger = logging.getLogger(__name__)

_SAID: set[tuple[str, str]] = set()
"""Folders, and what was remarked about them."""


def remark_once(folder: Path, kind: str, line: str) -> None:
    """Log what looks wrong with a folder, the first time that it is met in this process.

    Args:
        folder: Which folder.
        kind: What is remarked: other lines of this kind are not logged.
        line: File, frame, field, what was expected and what came, and the cure.
    """
    if (str(folder), kind) not in _SAID:
        _SAID.add((str(folder), kind))
        logger.warning("%s", line)


_READS: ContextVar[list[int] | None] = ContextVar("reads", default=None)


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """Within it, bytes of every file, or part of one, that is opened to read all of it, in this thread."""
    reads: list[int] = []
    token = _READS.set(reads)
    try:
        yield reads
    finally:
        _READS.reset(token)


def _count(size: int) -> None:
    """Note that so many bytes are read, if somebody counts."""
    reads = _READS.get()
    if reads is not None:
        reads.append(size)


MOST_TABLE = 2**34
"""Bytes of a table of which rows are read one at a time."""


def file_and_span(name: str) -> tuple[str, tuple[int, int] | None]:
    """The file that an index names, and the offset and length in bytes where it names a part of it."""
    cell = CELL.fullmatch(name)
    if cell is not None:
        return cell[1], None
    part = SPAN.fullmatch(name)
    return (part[1], (int(part[2]), int(part[3]))) if part else (name, None)


class _Part(BytesIO):
    """A part of a file, read: what its bytes are asked for is what an open file has."""

    name, mode = "", "rb"


@dataclass(frozen=True)
class FolderAccess:
    """How the files of a folder are read.

    Attributes:
        path: The folder.
        outside: Whether files may lie elsewhere.
        remark: Told of what can be read and looks wrong: the folder, the kind, and one line.
        table: What describes the frames: messages name it.
        remote: The files, where they are not on this machine.
        consulted: Where it is noted which files and folders of this machine are read; ``None`` for nowhere.
    """

    path: Path
    outside: bool = False
    remark: Callable[[Path, str, str], None] = remark_once
    table: str = INDEX
    remote: RemoteFiles | None = None
    consulted: set[str] | None = None

    @cached_property
    def _home(self) -> Path:
        """The path of the folder, with links resolved."""
        return Path(os.path.realpath(self.path))

    @property
    def described_in(self) -> Path:
        """The file or folder that describes the frames."""
        return self.path / self.table

    def named(self, name: str) -> str:
        """How messages call a file: where it lies, or its URL."""
        return str(self.path / name) if self.remote is None else f"{self.remote.location}/{name}"

    def doubt(self, kind: str, name: str, where: str, words: str) -> None:
        """Remark on a file: ``where`` is its frame and field, ``words`` what was expected and what came."""
        self.remark(self.path, kind, one_line(f"{self.named(name)}: {where}: {words}"))

    def read(self, name: str, where: str, most: int) -> bytes:
        """A file's content.

        Raises:
            SceneFolderError: As :meth:`open`.
        """
        with self.open(name, where, most) as stream:
            try:
                return stream.read()
            except OSError as error:
                raise self._unreadable(name, where, error) from error

    def open(self, name: str, where: str, most: int, what: str = "file") -> BufferedReader | BytesIO:
        """A file to read from.

        Args:
            name: Its path, as ``frames.json`` says it; ``FILE#OFFSET+LENGTH`` is a part of a file, which is
                read at once, and ``FILE.parquet#COLUMN@ROW`` the bytes in a row of a table.
            where: Frame and field that name it, for messages.
            most: Bytes it may have.
            what: What it should be, for messages.

        Raises:
            SceneFolderError: If there is none, it lies outside, is no regular file, ends before, or is too
                large.
        """
        cell = CELL.fullmatch(name)
        if cell is not None:
            return BytesIO(self._cell(cell, where, most))
        name, span = file_and_span(name)
        if self.remote is not None:
            return self._fetched(name, where, span, most)
        stream = self._opened(name, where, what)
        size = os.fstat(stream.fileno()).st_size if span is None else span[1]
        if size > most:
            stream.close()
            raise self._too_large(name, where, most, size)
        if what != "table":  # of which single rows are read
            _count(size)
        return stream if span is None else self._part(stream, name, where, span)

    def row(self, name: str, row: int, columns: list[str], where: str) -> list[Any]:
        """What a row of a parquet file holds in some columns, see :func:`parquet_row`.

        Raises:
            SceneFolderError: As :meth:`open`, or if there is no such row or column.
        """
        with self.open(name, where, MOST_TABLE, "table") as stream:
            try:
                return parquet_row(stream, row, columns)
            except ValueError as error:
                raise SceneFolderError(f"{self.named(name)}: {where}: row {row}: {error}") from error

    def _cell(self, cell: re.Match[str], where: str, most: int) -> bytes:
        """The bytes that a row of a table holds."""
        name, column, row = cell[1], cell[2], int(cell[3])
        (content,) = self.row(name, row, [column], where)
        if not isinstance(content, bytes):
            got = type(content).__name__
            raise SceneFolderError(f"{self.named(name)}: {where}: row {row}: expected bytes, got {got}")
        if len(content) > most:
            raise self._too_large(name, where, most, len(content))
        _count(len(content))
        return content

    def _fetched(
        self, name: str, where: str, span: tuple[int, int] | None, most: int
    ) -> BufferedReader | BytesIO:
        """A file that is elsewhere, or a part of it, read."""
        size = self.length(name, where) if span is None else span[1]
        if size > most:
            raise self._too_large(name, where, most, size)
        offset, length = span or (0, size)
        _count(length)
        try:
            part = self.remote.read(name, offset, length) if self.remote else b""
        except OSError as error:
            what = "file" if span is None else f"file, bytes {offset} to {offset + length}"
            raise self._unreadable(name, where, error, what) from error
        return self._whole(part, name, where, (offset, length))

    def _too_large(self, name: str, where: str, most: int, size: int) -> SceneFolderError:
        """The error for a file of more bytes than one of its kind has."""
        return SceneFolderError(f"{self.named(name)}: {where}: expected at most {most} bytes, got {size}")

    def length(self, name: str, where: str) -> int:
        """Bytes of a file, of which nothing is read; raises as :meth:`open` does."""
        if self.remote is not None:
            try:
                return self.remote.length(name)
            except OSError as error:
                raise self._unreadable(name, where, error) from error
        with self._opened(name, where, "file") as stream:
            return os.fstat(stream.fileno()).st_size

    def _part(
        self, stream: BufferedReader, name: str, where: str, span: tuple[int, int]
    ) -> BufferedReader | BytesIO:
        """A part of an open file, read; the file is closed."""
        offset, length = span
        with stream:
            try:
                stream.seek(offset)
                part = stream.read(length)
            except OSError as error:
                raise self._unreadable(name, where, error) from error
        return self._whole(part, name, where, span)

    def _whole(self, part: bytes, name: str, where: str, span: tuple[int, int]) -> BufferedReader | BytesIO:
        """A part of a file, if all of it is there."""
        offset, length = span
        if len(part) != length:
            got = f"the file's end after {len(part)}" if len(part) < length else f"{len(part)}"
            raise SceneFolderError(
                f"{self.named(name)}: {where}: expected {length} bytes from byte {offset} on, got {got}"
            )
        return _Part(part)

    def _opened(self, name: str, where: str, what: str) -> BufferedReader:
        """A regular file within the folder, open."""
        if len(name) > LONGEST_PATH:
            what = f"a path of at most {LONGEST_PATH} characters"
            raise SceneFolderError(f"{self.path}: {where}: expected {what}, got {brief(name)}")
        file = self.path / name
        if self.consulted is not None:
            self.consulted.update((str(file), str(file.parent)))
        try:
            if not self.outside and not Path(os.path.realpath(file)).is_relative_to(self._home):
                raise SceneFolderError(
                    f"{file}: {where}: expected a file within the folder (outside=1 allows others), got a "
                    f"link to {os.path.realpath(file)}"
                )
            # Asked before it is opened: a pipe would wait for its writer.
            if not stat.S_ISREG(os.stat(file).st_mode):
                kind = "a folder" if file.is_dir() else "a device or pipe"
                raise SceneFolderError(f"{file}: {where}: expected a regular file, got {kind}")
            return file.open("rb")
        except (OSError, ValueError) as error:
            if isinstance(error, SceneFolderError):
                raise
            raise self._unreadable(name, where, error, what) from error

    def names(self, folder: str) -> list[str]:
        """The names of all that lies in a folder, sorted.

        Args:
            folder: Its path within this one; the empty text is this folder itself.

        Raises:
            SceneFolderError: If there is no such folder, or it lies outside.
        """
        place = self.path / folder
        if self.consulted is not None:
            self.consulted.add(str(place))
        try:
            if not self.outside and not Path(os.path.realpath(place)).is_relative_to(self._home):
                raise SceneFolderError(
                    f"{place}: expected a folder within {self.path} (outside=1 allows others), got a link to "
                    f"{os.path.realpath(place)}"
                )
            return sorted(os.listdir(place))
        except OSError as error:
            reason = "nothing" if isinstance(error, FileNotFoundError) else error.strerror
            raise SceneFolderError(f"{place}: expected a folder, got: {reason}") from error

    def _unreadable(self, name: str, where: str, error: Exception, what: str = "file") -> SceneFolderError:
        """The error for a file that the system does not give."""
        absent = isinstance(error, FileNotFoundError)
        reason = "nothing" if absent else getattr(error, "strerror", None) or str(error)
        return SceneFolderError(f"{self.named(name)}: {where}: expected a readable {what}, got: {reason}")
