"""Point clouds of the Point Cloud Library, ``.pcd``: text, binary, and binary compressed."""

import itertools
from dataclasses import dataclass

import numpy as np

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.formats.lzf import lzf_bytes
from renderpretrain.data.formats.text_rows import lines_of, text_columns

LONGEST_HEADER = 65536
"""Bytes before the points."""

MOST_COLUMNS = 4096
"""Numbers of a point: more than any descriptor has."""

PACKED_COLORS = ("rgb", "rgba")
"""Fields of 4 bytes that hold blue, green and red, in this order from the first byte on."""

PADDING = "_"
"""The name of fields that hold nothing."""

KINDS = {
    **{("F", size): f"<f{size}" for size in (4, 8)},
    **{(sign, size): f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)},
}
"""Types of numbers by TYPE and SIZE."""


@dataclass(frozen=True)
class PcdHeader:
    """What stands before the points.

    Attributes:
        names: Of the fields, padding among them.
        kinds: Type of each field's numbers.
        counts: How many numbers each field has.
        points: How many points there are.
        data: ``ascii``, ``binary`` or ``binary_compressed``.
        size: Bytes of the header.
    """

    names: list[str]
    kinds: list[np.dtype]
    counts: list[int]
    points: int
    data: str
    size: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one point in the binary forms."""
        return sum(kind.itemsize * count for kind, count in zip(self.kinds, self.counts, strict=True))


def read_pcd(raw: bytes) -> dict[str, np.ndarray]:
    """The columns of a PCD file; what stands behind the declared points is left alone.

    A field with several numbers becomes ``name_0``, ``name_1`` and so on; a packed ``rgb`` the columns ``r``,
    ``g``, ``b`` of uint8; padding is left out.

    Raises:
        ValueError: If the header is no such header, or promises more than there is.
    """
    header = _header(raw)
    if header.data == "ascii":
        values = _text_fields(raw, header)
    elif header.data == "binary":
        _check_size(header.points * header.row_bytes, len(raw) - header.size)
        kinds = zip(map(str, range(len(header.names))), header.kinds, header.counts, strict=True)
        rows = np.frombuffer(
            raw, np.dtype([(name, kind, (n,)) for name, kind, n in kinds]), header.points, header.size
        )
        values = [rows[name] for name in rows.dtype.names or ()]
    else:
        values = _compressed_fields(raw, header)
    columns: dict[str, np.ndarray] = {}
    for name, field in zip(header.names, values, strict=True):
        for column, numbers in _named(name, field):
            if column in columns:
                raise ValueError(f"expected fields of different names, got {brief(column)} twice")
            columns[column] = np.ascontiguousarray(numbers)
    return columns


def _header(raw: bytes) -> PcdHeader:
    """What stands before the points."""
    entries: dict[str, list[str]] = {}
    place = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", place, LONGEST_HEADER)
        if end < 0:
            raise ValueError("expected a PCD header that ends with DATA, got none")
        words = raw[place:end].decode("latin-1").split()
        place = end + 1
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
    names = entries.get("FIELDS") or entries.get("COLUMNS") or []
    if not names:
        raise ValueError("expected a PCD header with FIELDS, got none")
    sizes, types = _listed(entries, "SIZE", len(names)), _listed(entries, "TYPE", len(names))
    counts = [_count(c, "COUNT") for c in _listed(entries, "COUNT", len(names), ["1"] * len(names))]
    if not all(counts) or sum(counts) > MOST_COLUMNS:
        raise ValueError(f"expected 1 to {MOST_COLUMNS} numbers a point, got COUNT {brief(counts)}")
    unknown = [f"{t} {s}" for t, s in zip(types, sizes, strict=True) if (t, _count(s, "SIZE")) not in KINDS]
    if unknown:
        raise ValueError(f"expected TYPE and SIZE of F 4, F 8, I or U 1 to 8, got {brief(unknown[0])}")
    kinds = [np.dtype(KINDS[t, int(s)]) for t, s in zip(types, sizes, strict=True)]
    data = " ".join(entries["DATA"]).lower()
    if data not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"expected DATA ascii, binary or binary_compressed, got {brief(data)}")
    return PcdHeader(names, kinds, counts, _points(entries), data, place)


def _points(entries: dict[str, list[str]]) -> int:
    """How many points a header promises."""
    if "POINTS" in entries:
        return _count(_listed(entries, "POINTS", 1)[0], "POINTS")
    width, height = (_count(_listed(entries, name, 1)[0], name) for name in ("WIDTH", "HEIGHT"))
    return width * height


def _listed(
    entries: dict[str, list[str]], name: str, count: int, default: list[str] | None = None
) -> list[str]:
    """The words of a header's line, one for each field."""
    words = entries.get(name, default)
    if words is None or len(words) != count:
        raise ValueError(f"expected {count} words after {name}, got {0 if words is None else len(words)}")
    return words


def _count(word: str, name: str) -> int:
    """A whole number of a header."""
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise ValueError(f"expected whole numbers after {name}, got {brief(word)}")
    return int(word)


def _check_size(needed: int, there: int) -> None:
    """Refuse a header that promises more than the file holds."""
    if needed > there:
        raise ValueError(f"expected {needed} bytes of points, got {there}")


def _text_fields(raw: bytes, header: PcdHeader) -> list[np.ndarray]:
    """The values of each field, ``(points, count)``, from text."""
    kinds = [kind for kind, n in zip(header.kinds, header.counts, strict=True) for _ in range(n)]
    columns = text_columns(lines_of(raw, header.size), header.points, kinds, len(raw) - header.size)
    rest = iter(columns)
    return [np.stack(list(itertools.islice(rest, count)), -1) for count in header.counts]


def _compressed_fields(raw: bytes, header: PcdHeader) -> list[np.ndarray]:
    """The values of each field: they are stored field by field before they are compressed."""
    _check_size(8, len(raw) - header.size)
    packed, size = (int(n) for n in np.frombuffer(raw, "<u4", 2, header.size))
    _check_size(packed, len(raw) - header.size - 8)
    if size != header.points * header.row_bytes:
        raise ValueError(f"expected {header.points * header.row_bytes} bytes of points, got {size}")
    whole = lzf_bytes(raw[header.size + 8 : header.size + 8 + packed], size)
    fields, place = [], 0
    for kind, count in zip(header.kinds, header.counts, strict=True):
        numbers = np.frombuffer(whole, kind, header.points * count, place)
        fields.append(numbers.reshape(header.points, count))
        place += numbers.nbytes
    return fields


def _named(name: str, field: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The columns of one field, with their names."""
    if name == PADDING:
        return []
    if name.lower() in PACKED_COLORS and field.dtype.itemsize == 4 and field.shape[1] == 1:
        packed = np.ascontiguousarray(field[:, 0]).view("<u4")
        return [(c, (packed >> shift).astype(np.uint8)) for c, shift in (("r", 16), ("g", 8), ("b", 0))]
    if field.shape[1] == 1:
        return [(name, field[:, 0])]
    return [(f"{name}_{k}", field[:, k]) for k in range(field.shape[1])]
