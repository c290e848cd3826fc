"""Point clouds of aerial and terrestrial surveys, ``.las`` 1.0 to 1.4 without compression."""

import struct

import numpy as np

HEADER_BYTES = 227
"""Of the shortest header."""

ROW_BYTES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)
"""Bytes of a point of each format; a file's may be longer."""

GPS_TIME = {1: 20, 3: 20, 4: 20, 5: 20, **dict.fromkeys(range(6, 11), 22)}
"""Where the time stands in a point of each format that has one."""

COLORS = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}
"""Where red, green and blue stand in a point of each format that has them."""

COMPRESSED = 0xC0
"""Bits of the format's number that say that the points are compressed."""


def read_las(raw: bytes) -> dict[str, np.ndarray]:
    """The columns of a LAS file.

    ``x``, ``y``, ``z`` are float64, the stored integers with the header's scale and offset: map coordinates
    stay exact. ``intensity``, ``return_number``, ``number_of_returns`` and ``classification`` are in every
    format, ``gps_time`` and ``red``, ``green``, ``blue`` (uint16) in some.

    Raises:
        ValueError: If it is no such file, is compressed (LAZ), or promises more than there is.
    """
    form, points, start, row_bytes = _layout(raw)
    scales = np.frombuffer(raw, "<f8", 6, 131)
    if not np.isfinite(scales).all() or not scales[:3].all():
        raise ValueError(f"expected finite scales and offsets, got {', '.join(f'{s:g}' for s in scales)}")
    row = _row(form, row_bytes)
    rows = np.frombuffer(raw, row, points, start)
    with np.errstate(over="ignore"):  # places beyond all numbers are infinite, and no places
        columns = {name: rows[name] * scales[axis] + scales[axis + 3] for axis, name in enumerate("xyz")}
    columns["intensity"] = np.ascontiguousarray(rows["intensity"])
    returns, bits = rows["returns"], 3 if form < 6 else 4
    columns["return_number"] = returns & (2**bits - 1)
    columns["number_of_returns"] = (returns >> bits) & (2**bits - 1)
    columns["classification"] = rows["classification"] & (31 if form < 6 else 255)
    for name in ("gps_time", "red", "green", "blue"):
        if name in (row.names or ()):
            columns[name] = np.ascontiguousarray(rows[name])
    return columns


def _layout(raw: bytes) -> tuple[int, int, int, int]:
    """Format and number of the points, where they begin, and bytes of each."""
    if not raw.startswith(b"LASF") or len(raw) < HEADER_BYTES:
        raise ValueError(f"expected a LAS header of at least {HEADER_BYTES} bytes, got none")
    major, minor = raw[24], raw[25]
    if major != 1 or minor > 4:
        raise ValueError(f"expected LAS 1.0 to 1.4, got {major}.{minor}")
    header, start, _, form, row_bytes, points = struct.unpack_from("<HIIBHI", raw, 94)
    if form & COMPRESSED:
        raise ValueError("expected LAS points, got compressed ones (LAZ): decompress the file first")
    if form >= len(ROW_BYTES) or row_bytes < ROW_BYTES[form]:
        raise ValueError(
            f"expected a point format of 0 to {len(ROW_BYTES) - 1} with all its bytes, got format {form} "
            f"of {row_bytes} bytes"
        )
    if minor >= 4:
        if min(header, len(raw)) < 375:
            raise ValueError(f"expected a header of 375 bytes in LAS 1.4, got {min(header, len(raw))}")
        points = struct.unpack_from("<Q", raw, 247)[0] or points
    if start < header or points * row_bytes > len(raw) - start:
        raise ValueError(f"expected {points} points of {row_bytes} bytes, got {len(raw) - start} bytes")
    return form, points, start, row_bytes


def _row(form: int, row_bytes: int) -> np.dtype:
    """One point."""
    fields = {"x": ("<i4", 0), "y": ("<i4", 4), "z": ("<i4", 8), "intensity": ("<u2", 12)}
    fields |= {"returns": ("u1", 14), "classification": ("u1", 15 if form < 6 else 16)}
    if form in GPS_TIME:
        fields["gps_time"] = ("<f8", GPS_TIME[form])
    if form in COLORS:
        fields |= {name: ("<u2", COLORS[form] + 2 * k) for k, name in enumerate(("red", "green", "blue"))}
    kinds, offsets = zip(*fields.values(), strict=True)
    names = list(fields)
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": row_bytes})
