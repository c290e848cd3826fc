"""Files elsewhere: what fsspec opens (``s3://``, ``gs://``, ``https://``), fetched in parts."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

ATTEMPTS = 4
"""How often a store is asked for the same before it is an error."""

PAUSE = 0.5
"""Seconds before a store is asked again; twice as many the next time."""

PATIENCE, SLOWEST = 30.0, 2**20
"""Seconds that an answer may take, and one more for each so many bytes."""

REFUSED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that are the same when a store is asked again."""

REFUSALS = (401, 403, 404, 410, 416)
"""Answers of HTTP that are the same again."""


@dataclass
class _Stretch:
    """Bytes of a file that are fetched with the first of them.

    Attributes:
        url: Of the file.
        begin: Where they begin.
        end: Where they end.
        content: What was fetched.
    """

    url: str
    begin: int
    end: int
    content: bytes | None = None

    def holds(self, url: str, offset: int, end: int) -> bool:
        """Whether bytes of a file are among these."""
        return self.url == url and self.begin <= offset and end <= self.end


_STRETCHES: ContextVar[tuple[_Stretch, ...]] = ContextVar("stretches", default=())


@contextmanager
def read_together(url: str, stretches: Iterable[tuple[int, int]]) -> Iterator[None]:
    """Within it, in this thread, the first bytes that are read of a stretch bring all of it, in one request.

    Args:
        url: Of the file.
        stretches: Where each begins and ends.
    """
    token = _STRETCHES.set(tuple(_Stretch(url, begin, end) for begin, end in stretches))
    try:
        yield
    finally:
        _STRETCHES.reset(token)


@dataclass(frozen=True)
class RemoteFiles:
    """The files below a URL.

    A store that fails or does not answer is asked again, a few times.

    Attributes:
        location: The URL of the folder.
        pause: Seconds before it is asked again.
        patience: Seconds that an answer may take, beside those for its bytes.
    """

    location: str
    pause: int | float = PAUSE
    patience: int | float = PATIENCE

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file from an offset on, so many or all that are left.

        Raises:
            OSError: If the store refuses, or fails again and again.
        """
        end = None if length is None else offset + length
        url = f"{self.location}/{name}"
        stretch = next((s for s in _STRETCHES.get() if end is not None and s.holds(url, offset, end)), None)
        if stretch is None:
            return self._fetched(name, offset, end)
        if stretch.content is None:
            content = self._fetched(name, stretch.begin, stretch.end)
            if len(content) != stretch.end - stretch.begin:
                count = stretch.end - stretch.begin
                raise OSError(f"expected {count} bytes from byte {stretch.begin} on, got {len(content)}")
            stretch.content = content
        return stretch.content[offset - stretch.begin :][:length]

    def _fetched(self, name: str, offset: int, end: int | None) -> bytes:
        """Bytes of a file, fetched."""
        size = 0 if end is None else end - offset

        def ask() -> bytes:
            return self._asked(name, "cat_file", size, start=offset, end=end)

        return self._tried(ask)

    def length(self, name: str) -> int:
        """Bytes of a file, of which nothing is read; raises as :meth:`read` does."""

        def ask() -> int:
            size = self._asked(name, "info", 0)["size"]
            if size is None:
                raise OSError("the store does not say how long it is")
            return int(size)

        return self._tried(ask)

    def _asked(self, name: str, method: str, size: int, **told: Any) -> Any:
        """What a file system's method answers about a file, within a time where the system can tell it."""
        from fsspec.asyn import sync
        from fsspec.core import url_to_fs

        system, path = url_to_fs(f"{self.location}/{name}")
        if not getattr(system, "async_impl", False):
            return getattr(system, method)(path, **told)
        within = self.patience + size / SLOWEST
        return sync(system.loop, getattr(system, f"_{method}"), path, timeout=within, **told)

    def _tried(self, ask: Callable[[], T]) -> T:
        """An answer, after failures perhaps."""
        attempt = 1
        while True:
            try:
                return ask()
            except Exception as error:  # stores have errors of their own kinds
                refusal = _refusal(error)
                if refusal is not None:
                    raise refusal from error
                if attempt == ATTEMPTS:
                    raise OSError(f"{_words(error)}, {ATTEMPTS} times") from error
            time.sleep(self.pause * 2 ** (attempt - 1))
            attempt += 1


def _refusal(error: Exception) -> OSError | None:
    """The error that a store would give again; fsspec calls all a missing file when it asks for a size."""
    cause = error if error.__cause__ is None else error.__cause__
    if getattr(cause, "status", None) in (404, 410):
        return FileNotFoundError(_words(cause))
    if getattr(cause, "status", None) in REFUSALS:
        return OSError(_words(cause))
    return cause if isinstance(cause, REFUSED) else None


def _words(error: BaseException) -> str:
    """What an error says, or what it is called where it says nothing."""
    said = error if error.__cause__ is None else error.__cause__
    return str(said) or type(said).__name__


def remote_files(location: str) -> RemoteFiles | None:
    """The files below a URL; ``None`` for a folder of this machine.

    Args:
        location: A path, or a URL of a kind that fsspec knows.

    Raises:
        ValueError: If it is no such kind, or the package that fsspec needs for it is missing.
    """
    kind, there, _ = location.partition("://")
    if not there:
        return None
    import fsspec

    try:
        fsspec.get_filesystem_class(kind)
    except (ImportError, ValueError) as error:
        raise ValueError(f"data: expected a URL that fsspec opens, got {location}: {error}") from error
    return RemoteFiles(location.rstrip("/"))
