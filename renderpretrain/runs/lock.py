"""One process per run folder: a lock that dies with its process and says who holds it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none: there, runs are not kept apart
    fcntl = None  # type: ignore[assignment]

_HELD: set[int] = set()
"""Descriptors of the locks that this process holds."""


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system takes back however this process ends.

    File systems that know no locks give none. Processes that are forked meanwhile do not hold it.

    Args:
        path: A file that is there as long as the lock is held; it says by whom.

    Raises:
        ValueError: If another process holds it; says which one, where, and since when.
        OSError: If the file cannot be written.
    """
    descriptor = _take(path)
    _HELD.add(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may be gone, or not writable any more
            if _is_at(path, descriptor):
                path.unlink()
        _HELD.discard(descriptor)
        os.close(descriptor)


def check_unlocked(path: Path) -> None:
    """Raise a ``ValueError`` that says who holds the lock, if somebody does; touches nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _AS_IT_IS)
    except OSError:
        return
    try:
        _lock(path, descriptor, shared=True)
    finally:
        os.close(descriptor)


_AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Neither followed where it is a link, nor waited for where it is a pipe."""


def _take(path: Path) -> int:
    """The locked file's descriptor, with our name in it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o644)
        try:
            _lock(path, descriptor)
            if _is_at(path, descriptor):  # else its holder removed it, while we waited, as it let go
                os.ftruncate(descriptor, 0)
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                os.write(
                    descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode()
                )
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(path: Path, descriptor: int, *, shared: bool = False) -> None:
    """Lock an open file, or say who has."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise ValueError(
            f"out: {path.parent} is in use by {ascii(holder)[1:-1]}; "
            "wait until it ends, or choose another folder"
        ) from error
    except OSError:
        return  # a file system without locks


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """A forked process, such as one that prepares batches, must not keep the lock of a run that has ended."""
    for descriptor in _HELD:
        with suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
