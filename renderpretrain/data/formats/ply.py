"""The vertices of a polygon file, ``.ply``: text, and binary of either byte order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.formats.text_rows import lines_of, text_columns

LONGEST_HEADER = 2**20
"""Bytes before the elements: comments may be long."""

KINDS = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
"""Types of numbers by their names in a header."""

ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
"""Byte orders by the name of the form."""


@dataclass(frozen=True)
class Element:
    """One kind of thing in the file, such as vertices or faces.

    Attributes:
        name: What they are.
        rows: How many there are.
        properties: Name, type, and the type of the length for a list of numbers, else ``None``.
    """

    name: str
    rows: int
    properties: list[tuple[str, np.dtype, np.dtype | None]] = field(default_factory=list)

    @property
    def row(self) -> np.dtype:
        """One row of the binary form, for an element without lists."""
        return np.dtype([(name, kind) for name, kind, _ in self.properties])

    @property
    def has_lists(self) -> bool:
        """Whether its rows differ in length."""
        return any(length is not None for _, _, length in self.properties)


def read_ply(raw: bytes) -> dict[str, np.ndarray]:
    """The properties of the vertices, in the byte order of this machine; other elements are passed over.

    Raises:
        ValueError: If the header is no such header, has no vertices, or promises more than there is.
    """
    form, elements, place = _header(raw)
    before = list(itertools.takewhile(lambda element: element.name != "vertex", elements))
    if len(before) == len(elements):
        raise ValueError("expected an element vertex, got none")
    vertices = elements[len(before)]
    if vertices.has_lists or not vertices.properties:
        raise ValueError("expected numbers for each vertex, got a list or nothing")
    names = [name for name, _, _ in vertices.properties]
    if len(set(names)) < len(names):
        raise ValueError("expected properties of different names, got one twice")
    if form == "ascii":
        lines = lines_of(raw, place)
        _skip_lines(lines, before)
        kinds = [kind for _, kind, _ in vertices.properties]
        columns = text_columns(lines, vertices.rows, kinds, len(raw) - place)
        return dict(zip(names, columns, strict=True))
    for element in before:
        place = _behind(raw, element, place)
    _check_rows(raw, vertices, place)
    rows = np.frombuffer(raw, vertices.row, vertices.rows, place)
    return {name: rows[name].astype(rows[name].dtype.newbyteorder("=")) for name in names}


def _header(raw: bytes) -> tuple[str, list[Element], int]:
    """The form, the elements and where the first begins."""
    end = raw.find(b"end_header", 0, LONGEST_HEADER)
    stop = raw.find(b"\n", end, end + 16)
    if not raw.startswith(b"ply") or end < 0 or stop < 0:
        raise ValueError("expected a PLY header from ply to end_header, got none")
    elements: list[Element] = []
    form = None
    for line in raw[:end].decode("latin-1").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) > 1 and words[1] in ORDERS and form is None:
            form = words[1]
        elif words[0] == "element" and len(words) == 3 and form:
            elements.append(Element(words[1], _rows(words[2])))
        elif words[0] == "property" and elements and form:
            elements[-1].properties.append(_property(words[1:], ORDERS[form]))
        else:
            raise ValueError(f"expected a format, elements and their properties, got {brief(line)}")
    if form is None:
        raise ValueError(f"expected a format of {', '.join(ORDERS)}, got none")
    return form, elements, stop + 1


def _rows(word: str) -> int:
    """How many rows an element has."""
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise ValueError(f"expected a number of rows, got {brief(word)}")
    return int(word)


def _property(words: list[str], order: str) -> tuple[str, np.dtype, np.dtype | None]:
    """A property's name, the type of its numbers and that of its length."""
    kinds = [KINDS.get(word) for word in words[:-1] if word != "list"]
    if len(kinds) != (2 if words[:1] == ["list"] else 1) or None in kinds:
        raise ValueError(f"expected property TYPE NAME or list TYPE TYPE NAME, got {brief(' '.join(words))}")
    types = [np.dtype(f"{order}{kind}") for kind in kinds]
    if len(types) == 2 and types[0].kind == "f":
        raise ValueError(f"expected a list's length to be a whole number, got {brief(' '.join(words))}")
    return words[-1], types[-1], types[0] if len(types) == 2 else None


def _skip_lines(lines: Iterator[bytes], elements: list[Element]) -> None:
    """Pass over the lines of elements, of which those without properties have none."""
    for element in elements:
        wanted = element.rows if element.properties else 0
        passed = sum(1 for _ in itertools.islice(lines, wanted))
        if passed < wanted:
            raise ValueError(f"expected {wanted} rows of {brief(element.name)}, got {passed}")


def _check_rows(raw: bytes, element: Element, place: int) -> None:
    """Refuse an element without lists that is larger than the rest of the file."""
    needed = element.rows * element.row.itemsize
    if needed > len(raw) - place:
        raise ValueError(f"expected {needed} bytes of {brief(element.name)}, got {len(raw) - place}")


def _behind(raw: bytes, element: Element, place: int) -> int:
    """Where an element's last row ends."""
    if not element.has_lists:
        row_bytes = sum(kind.itemsize for _, kind, _ in element.properties)
        return _within(raw, element, place + element.rows * row_bytes)
    alike = _alike(raw, element, place)
    if alike is not None:
        return place + alike
    for _ in range(element.rows):
        place = _behind_row(raw, element, place)
    return place


def _within(raw: bytes, element: Element, place: int) -> int:
    """A place in the file; refused where there is none."""
    if place > len(raw):
        raise ValueError(f"expected {element.rows} rows of {brief(element.name)}, got the end of the file")
    return place


def _behind_row(raw: bytes, element: Element, place: int) -> int:
    """Where a row with lists ends."""
    for _, kind, length in element.properties:
        count = 1
        if length is not None:
            stop = _within(raw, element, place + length.itemsize)
            count = int(np.frombuffer(raw, length, 1, place)[0])
            if count < 0:
                raise ValueError(f"expected lists in {brief(element.name)}, got one of length {count}")
            place = stop
        place = _within(raw, element, place + count * kind.itemsize)
    return place


def _alike(raw: bytes, element: Element, place: int) -> int | None:
    """Bytes of an element whose rows are all as long as the first, as triangles are; ``None`` for others."""
    if not element.rows:
        return 0
    end, parts, lengths = place, [], []
    for number, (_, kind, length) in enumerate(element.properties):
        count = 1
        if length is not None:
            _within(raw, element, end + length.itemsize)
            count = max(0, int(np.frombuffer(raw, length, 1, end)[0]))
            parts.append((f"length {number}", length, 1))
            lengths.append((f"length {number}", count))
            end += length.itemsize
        _within(raw, element, end + count * kind.itemsize)
        parts.append((f"{number}", np.dtype("V1"), count * kind.itemsize))
        end += count * kind.itemsize
    row_bytes = end - place
    if element.rows * row_bytes > len(raw) - place:
        return None
    row = np.dtype([(name, kind, (n,)) for name, kind, n in parts])
    rows = np.frombuffer(raw, row, element.rows, place)
    same = all((rows[name] == count).all() for name, count in lengths)
    return element.rows * row_bytes if same else None
