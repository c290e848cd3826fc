"""Files elsewhere: what fsspec opens (``s3://``, ``gs://``, ``https://``), fetched in parts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFiles:
    """The files below a URL.

    Attributes:
        location: The URL of the folder.
    """

    location: str

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file from an offset on, so many or all that are left; raises ``OSError``."""
        from fsspec.core import url_to_fs

        system, path = url_to_fs(f"{self.location}/{name}")
        end = None if length is None else offset + length
        raw: bytes = system.cat_file(path, start=offset, end=end)
        return raw

    def length(self, name: str) -> int:
        """Bytes of a file, of which nothing is read; raises ``OSError``."""
        from fsspec.core import url_to_fs

        system, path = url_to_fs(f"{self.location}/{name}")
        return int(system.info(path)["size"])


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
