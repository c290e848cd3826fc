"""What readers of posed pictures share: which files are there, what all views have in common."""

import posixpath
from pathlib import PurePosixPath

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError


class Listing:
    """Which files lie in a folder's folders; each folder is listed once, no file is opened.

    Args:
        access: Of the folder.
    """

    def __init__(self, access: FolderAccess) -> None:
        self.access, self.folders = access, dict[str, frozenset[str]]()

    def has(self, name: str) -> bool:
        """Whether there is a file, or another entry, of this path within the folder."""
        path = PurePosixPath(name)
        parent = str(path.parent)
        if parent not in self.folders:
            try:
                names = frozenset(self.access.names("" if parent == "." else parent))
            except (SceneFolderError, ValueError):
                names = frozenset()
            self.folders[parent] = names
        return path.name in self.folders[parent]

    def found(self, name: str, suffixes: tuple[str, ...] = ()) -> str | None:
        """The path of a file that is there, as it is said or with a suffix; ``None`` where there is none.

        A path that leads out of the folder is left to be refused.
        """
        clean = posixpath.normpath(name.replace("\\", "/"))
        if not self.access.outside and (clean.startswith("/") or clean.split("/")[0] == ".."):
            return clean
        ends = ("", *suffixes) if PurePosixPath(clean).suffix else suffixes or ("",)
        return next((clean + end for end in ends if self.has(clean + end)), None)


def say_absent(access: FolderAccess, table: str, absent: int, listed: int, what: str = "pictures") -> None:
    """Remark on files that a table lists and that are not there.

    Raises:
        SceneFolderError: If none is there.
    """
    if absent == listed:
        raise SceneFolderError(
            f"{access.path / table}: expected a file that is listed, got none of {listed} {what}"
        )
    if absent:
        words = f"expected the files of {listed} {what}, got none for {absent}, which are left out"
        access.doubt("absent", table, "frames", words)
