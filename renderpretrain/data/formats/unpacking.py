"""Decompression that stops at a bound: a few kilobytes can stand for as many gigabytes."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator

from renderpretrain.data.folder.fields import brief

ARCHIVE_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What Python raises for archives that are damaged, encrypted, or compressed in unknown ways."""

GZIP = 31
"""What tells zlib that a header of gzip comes first."""


def gunzip(raw: bytes, most: int) -> bytes:
    """What gzip compressed, all its members.

    Raises:
        ValueError: If it is damaged, cut, or stands for more than ``most`` bytes.
    """
    parts: list[bytes] = []
    made = 0
    while raw:
        machine = zlib.decompressobj(GZIP)
        part = _decompressed(machine, raw, most - made, "gzip")
        made += len(part)
        parts.append(part)
        # Padding by zeros is common, anything else behind is another member.
        raw = machine.unused_data.lstrip(b"\0")
    return b"".join(parts)


def inflate(raw: bytes, size: int) -> bytes:
    """What zlib compressed, of which the size is known.

    Raises:
        ValueError: If it is damaged, cut, or of another size.
    """
    made = _decompressed(zlib.decompressobj(), raw, size, "zlib")
    if len(made) != size:
        raise ValueError(f"expected {size} bytes when decompressed, got {len(made)}")
    return made


def _decompressed(machine: "zlib._Decompress", raw: bytes, most: int, what: str) -> bytes:
    """The next stream, or an error where it is longer than it may be, or has no end."""
    try:
        made = machine.decompress(raw, most + 1)
    except zlib.error as error:
        raise ValueError(f"expected bytes that {what} compressed, got: {error}") from None
    if len(made) > most:
        raise ValueError(f"expected at most {most} bytes when decompressed, got more")
    if not machine.eof:
        raise ValueError(f"expected a whole {what} stream, got one that ends too early")
    return made


def unzipped(raw: bytes, most: int) -> Iterator[tuple[str, bytes]]:
    """The files of a zip archive with their names, one after the other.

    Raises:
        ValueError: If it is damaged, or they have more than ``most`` bytes together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    content = stream.read(most + 1)
                if len(content) > most:
                    raise ValueError("expected a smaller archive, got more bytes than it may have")
                most -= len(content)
                yield entry.filename, content
    except ARCHIVE_FAULTS as error:
        if isinstance(error, ValueError) and str(error).startswith("expected"):
            raise
        raise ValueError(f"expected a zip archive, got: {brief(str(error))}") from None
