"""Writing files so that a reader, or a crash, never meets half of one."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"
"""What a file's name ends in while it is written."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write beside ``path``, flush to the disk, then rename over it.

    Args:
        path: What stood there stays until the new content is safe.
        write: Fills the open file.

    Raises:
        OSError: If the disk is full or not writable; names the file. The old one is intact and nothing
            half-written stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error  # a write does not name its file
        raise
    sync_folder(path.parent)


def check_target(name: str, path: Path) -> None:
    """Refuse a path where no file can be written, before anything is computed for it.

    Args:
        name: The argument that names the path.
        path: Its folder need not exist.

    Raises:
        ValueError: If it is a folder, lies below a file, or in a folder that may not be written.
    """
    if path.is_dir():
        raise ValueError(f"{name}: expected a file to write, got the folder {path}")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{name}: expected {path} to lie in folders, but {above} is a file")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{name}: cannot write {path}: no permission in {above}")


def check_kept(name: str, path: Path, kept: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Args:
        name: The argument that names the path.
        path: Its folder need not exist.
        kept: Files, and folders in which nothing may be written.

    Raises:
        ValueError: If it is one of them or lies in one, through whatever links.
    """
    target = path.resolve()
    for own in kept:
        if own.resolve() in (target, *target.parents):
            what = f"lies in {own}" if own.is_dir() else "is read itself"
            raise ValueError(f"{name}: expected a file outside of what is read, got {path}, which {what}")


def write_text(path: Path, text: str) -> None:
    """:func:`write_atomically` for text in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def remove(path: Path) -> None:
    """Take a file or a folder away, if it is there; what a link points at stays.

    A folder loses its name first: nobody meets half of it, and who is killed meanwhile leaves what ends in
    :data:`PARTIAL`.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    leaving = path if path.name.endswith(PARTIAL) else path.with_name(f"{path.name}.old{PARTIAL}")
    if leaving != path:
        shutil.rmtree(leaving, ignore_errors=True)
        os.replace(path, leaving)
    shutil.rmtree(leaving)


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
