"""LZF, the compression of PCD files: runs of literal bytes, and copies of what came before."""

LONGEST_COPY = 264
"""Bytes that one copy, of two or three bytes of its own, may make."""


def lzf_bytes(raw: bytes, size: int) -> bytes:
    """What was compressed.

    A byte below 32 precedes so many literal bytes and one more. Any other begins a copy: its upper three bits
    are the length less two, with a further byte to add where they are all set, and its lower five bits and
    the next byte how far back it begins, less one.

    Args:
        raw: The compressed bytes.
        size: How many they stand for.

    Raises:
        ValueError: If they stand for another number of bytes, end within one, or copy
            from before the start.
    """
    if size > LONGEST_COPY * len(raw):
        raise ValueError(f"expected bytes that stand for {size}, got {len(raw)}, which cannot")
    try:
        made = _decompressed(raw, size)
    except IndexError:
        raise ValueError("expected whole runs, got the end of the compressed bytes") from None
    if len(made) != size:
        raise ValueError(f"expected {size} bytes when decompressed, got {len(made)}")
    return bytes(made)


def _decompressed(raw: bytes, size: int) -> bytearray:
    """What the runs make; an ``IndexError`` where the last is cut."""
    made = bytearray()
    place, end = 0, len(raw)
    while place < end:
        control = raw[place]
        place += 1
        if control < 32:
            made += raw[place : place + control + 1]
            place += control + 1
            continue
        length = (control >> 5) + 2
        if length == 9:
            length += raw[place]
            place += 1
        back = ((control & 31) << 8) + raw[place] + 1
        place += 1
        first = len(made) - back
        if first < 0 or len(made) > size:
            raise ValueError(f"expected copies of what was there, got {back} bytes back at {len(made)}")
        if back >= length:
            made += made[first : first + length]
        else:
            made += (made[first:] * (length // back + 1))[:length]
    if place != end:
        raise IndexError
    return made
