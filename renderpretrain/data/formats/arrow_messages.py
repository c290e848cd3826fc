"""How large the buffers of an Arrow file are when they are decompressed, told before anything does so."""

import struct
from collections.abc import Iterator

RECORD_BATCH, DICTIONARY_BATCH = 3, 2
"""Types of messages that have buffers."""


def unpacked_bytes(metadata: bytes, body: memoryview) -> int:
    """Bytes that the compressed buffers of a message say they stand for; 0 where none is compressed.

    Args:
        metadata: The message's head, a flatbuffer.
        body: Its buffers.

    Raises:
        ValueError: If the head is none.
    """
    try:
        return sum(_sizes(metadata, body))
    except struct.error:
        raise ValueError("expected messages of Arrow's, got a damaged one") from None


def _sizes(metadata: bytes, body: memoryview) -> Iterator[int]:
    """What each compressed buffer says before its content."""
    message = _number(metadata, "<I", 0)
    kind, header = _field(metadata, message, 1), _field(metadata, message, 2)
    if not kind or not header or metadata[kind] not in (RECORD_BATCH, DICTIONARY_BATCH):
        return
    batch = header + _number(metadata, "<I", header)
    if metadata[kind] == DICTIONARY_BATCH:
        data = _field(metadata, batch, 1)
        batch = data + _number(metadata, "<I", data)
    buffers = _field(metadata, batch, 2)
    if not buffers or not _field(metadata, batch, 3):
        return
    start = buffers + _number(metadata, "<I", buffers)
    for place in range(_number(metadata, "<I", start)):
        offset, length = struct.unpack_from("<qq", metadata, start + 4 + 16 * place)
        if length >= 8:
            yield max(0, _number(body, "<q", offset))


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a field of a table stands; 0 where the table has none."""
    about = table - _number(metadata, "<i", table)
    slot = 4 + 2 * number
    offset = _number(metadata, "<H", about + slot) if slot < _number(metadata, "<H", about) else 0
    return table + offset if offset else 0


def _number(raw: bytes | memoryview, form: str, place: int) -> int:
    """A number at a place, from the start."""
    if place < 0:
        raise struct.error
    return int(struct.unpack_from(form, raw, place)[0])
