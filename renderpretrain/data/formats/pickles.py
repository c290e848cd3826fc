"""What other libraries pickle: numpy arrays, plain containers, and data frames of pandas.

Nothing is imported or called that a pickle names: for a few names stands what is made of them, and every
other name is refused. Data frames are read without pandas.
"""

import io
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from renderpretrain.data.folder.fields import brief, one_line
from renderpretrain.data.formats.unpacking import gunzip
from renderpretrain.storage.pickled import CUT, PickledThings, read_pickle

MOST_BYTES = 2**31
"""Of a pickle when it is decompressed."""

LONGEST = 300
"""Characters of a message."""

TYPE = re.compile(r"[<>=|]?[A-Za-z?][A-Za-z]{0,9}[0-9]{0,9}", re.ASCII)
"""Names of numpy types of one field."""

WHAT = "numpy arrays and plain containers"
NUMBERS = "biufc"
"""Kinds of numpy types that hold numbers."""

TEXTS = "SU"
PLAIN = (str, bytes, int, float, bool, type(None), np.generic)
"""What may stand in an array of objects."""


def load_pickle(raw: bytes, what: str = WHAT, most: int = MOST_BYTES) -> Any:
    """What a pickle holds; a data frame becomes a dictionary of its columns, and a set a list.

    Args:
        raw: The pickle, which may be compressed by gzip.
        what: What it should hold, in plural, for messages.
        most: Bytes that it may have when it is decompressed.

    Raises:
        ValueError: If it names anything that is none of these, is damaged, or is too large.
    """
    if raw.startswith(b"\x1f\x8b"):
        raw = gunzip(raw, most)
    things = _Things(len(raw), what)
    try:
        return read_pickle(io.BytesIO(raw), things=PickledThings(what, things.made(), things.set_state))
    except ValueError as error:
        if str(error) == CUT:
            raise ValueError(f"expected {what}, got a pickle that ends too early") from None
        if not str(error).startswith("expected"):
            raise ValueError(f"expected {what}, got {brief(str(error))}") from None
        line = one_line(str(error))  # it may quote what the pickle names
        raise ValueError(line if len(line) <= LONGEST else f"{line[:LONGEST]}...") from None


def pickled_columns(raw: bytes) -> dict[str, np.ndarray]:
    """The columns of a pickled data frame, or of a dictionary of arrays.

    Raises:
        ValueError: As :func:`load_pickle`, or if the pickle holds something else.
    """
    found = load_pickle(raw, "a table of numbers")
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(column, np.ndarray) and column.ndim == 1
        for name, column in found.items()
    ):
        raise ValueError(f"expected a table of named columns, got a {type(found).__name__} that is none")
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected columns of one length, got {brief(lengths)}")
    return found


class _Type:
    """A numpy type, of which the byte order may come later."""

    def __init__(self, kind: np.dtype) -> None:
        self.kind = kind


class _Manager:
    """What holds the columns: labels of the axes, and blocks of values with the columns that they are."""

    axes: Sequence[Any] = ()
    blocks: Sequence[tuple[Any, Any]] = ()


class _Frame(dict[str, np.ndarray]):
    """A data frame: its columns by their names."""


class _Things:
    """Makes what a pickle of a certain size may hold, and no more of it than would fit the size."""

    def __init__(self, size: int, what: str) -> None:
        self.left, self.what = 2 * size + 2**20, what
        self.unfilled: dict[int, np.ndarray] = {}

    def spend(self, size: int) -> None:
        """Count what is copied: a short pickle can ask for the same copy a million times."""
        self.left -= size
        if self.left < 0:
            raise self.refusal("many copies of the same")

    def refusal(self, got: object) -> ValueError:
        """The error for what has no business in the pickle."""
        return ValueError(f"expected {self.what}, got {brief(got)}")

    def made(self) -> dict[str, Callable[..., Any]]:
        """What is made of the functions and classes that may be named."""
        numpy_own = {"_reconstruct": self.array, "scalar": self.scalar}
        found: dict[str, Callable[..., Any]] = {
            "numpy.dtype": self.type,
            "numpy.ndarray": self.refused,
            "_codecs.encode": self.encoded,
            "builtins.slice": slice,
            "__builtin__.slice": slice,
            "collections.OrderedDict": self.ordered,
            "pandas.core.frame.DataFrame": lambda *_: _Frame(),
            "pandas.core.indexes.base._new_Index": self.index,
            "pandas.core.indexes.base.Index": self.refused,
            "pandas.core.indexes.range.RangeIndex": self.refused,
            "pandas.core.indexes.numeric.Int64Index": self.refused,
            "pandas._libs.internals._unpickle_block": lambda values, places, *_: (values, places),
        }
        for module in ("numpy.core", "numpy._core"):
            found |= {f"{module}.multiarray.{name}": make for name, make in numpy_own.items()}
            found[f"{module}.numeric._frombuffer"] = self.from_buffer
        kinds = {"set": list, "frozenset": list, "list": list, "tuple": tuple}
        for name, kind in (kinds | {"bytearray": bytes, "bytes": bytes}).items():
            for module in ("builtins", "__builtin__"):
                found[f"{module}.{name}"] = partial(self.copy, kind)
        for module in ("pandas.core.internals.managers", "pandas._libs.internals"):
            found[f"{module}.BlockManager"] = self.manager
        return found

    def refused(self, *_: Any) -> Any:
        """Classes that only stand as arguments of others are not called."""
        raise self.refusal("a call of a class")

    def copy(self, kind: Callable[..., Any], values: Any = ()) -> Any:
        """A list, tuple, set or byte string from what it holds."""
        if not isinstance(values, list | tuple | bytes):
            raise TypeError
        self.spend(8 * len(values))
        return kind(values)

    def ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        """A dictionary, of which old pickles give the pairs at once."""
        if not isinstance(pairs, list | tuple) or not all(isinstance(p[0], str | int) for p in pairs):
            raise TypeError
        self.spend(8 * len(pairs))
        return OrderedDict(pairs)

    def encoded(self, text: Any, coding: Any = "latin1") -> bytes:
        """Bytes, which protocol 2 stores as a text."""
        if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
            raise self.refusal(f"a text in {brief(coding)}")
        self.spend(len(text))
        return text.encode("latin1")

    def type(self, name: Any, *_: Any) -> _Type:
        """A type of numbers or texts."""
        if isinstance(name, _Type):
            return name
        # Of others numpy makes several fields, by Python's own parser.
        if not isinstance(name, str) or not TYPE.fullmatch(name):
            raise self.refusal("a numpy type without a name")
        kind = np.dtype(name)
        if kind.kind not in NUMBERS + TEXTS + "O" or kind.subdtype is not None:
            raise self.refusal(f"the numpy type {brief(name)}")
        return _Type(kind)

    def array(self, *_: Any) -> np.ndarray:
        """An array; shape, type and values are its state."""
        made = np.empty(0, np.int8)
        self.unfilled[id(made)] = made
        return made

    def scalar(self, kind: Any, data: Any = b"") -> Any:
        """One number of numpy's."""
        if not isinstance(kind, _Type) or kind.kind.hasobject or not isinstance(data, bytes):
            raise self.refusal("a numpy number that is none")
        return self.numbers((), kind.kind, data)[()]

    def from_buffer(self, data: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
        """An array, as protocol 5 stores it."""
        if not isinstance(kind, _Type) or order not in ("C", "F"):
            raise self.refusal("a numpy array that is none")
        return self.numbers(shape, kind.kind, data, order)

    def numbers(self, shape: Any, kind: np.dtype, data: Any, order: str = "C") -> np.ndarray:
        """An array of numbers from its bytes, which are not copied."""
        if not isinstance(data, bytes | bytearray) or kind.hasobject or not kind.itemsize:
            raise self.refusal("a numpy array without its bytes")
        count = self.count(shape)
        if count * kind.itemsize != len(data):
            raise self.refusal(f"an array of {count * kind.itemsize} bytes with {len(data)}")
        return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")

    def count(self, shape: Any) -> int:
        """How many values an array of a shape has."""
        whole = isinstance(shape, tuple) and len(shape) <= 32
        if not whole or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise self.refusal("an array without a shape")
        count = 1
        for n in shape:
            count *= n
        return count

    def index(self, _: Any, parts: Any) -> Any:
        """Labels of an axis: those of columns are a list, those of rows are nobody's."""
        if not isinstance(parts, dict):
            raise TypeError
        return parts.get("data")

    def manager(self, blocks: Any = (), axes: Any = (), *_: Any) -> _Manager:
        """What holds the columns; old pandas gives its content as a state."""
        made = _Manager()
        made.blocks, made.axes = blocks, axes
        return made

    def set_state(self, thing: Any, state: Any) -> None:
        """Give a thing the state that follows it."""
        if isinstance(thing, np.ndarray):
            # Once: numpy would free what columns of a data frame look at.
            self.unfilled.pop(id(thing)).__setstate__(self.filled(*state))
        elif isinstance(thing, _Type):
            self.set_order(thing, *state)
        elif isinstance(thing, _Manager):
            content = state[3]["0.14.1"]
            thing.axes = content["axes"]
            thing.blocks = [(block["values"], block["mgr_locs"]) for block in content["blocks"]]
        elif isinstance(thing, _Frame):
            self.take_columns(thing, state.get("_mgr", state.get("_data")))
        else:
            raise self.refusal("a state of something that has none")

    def set_order(self, thing: _Type, _: Any, order: Any, *more: Any) -> None:
        """The byte order of a type."""
        if order not in ("<", ">", "=", "|") or any(part is not None for part in more[:3]):
            raise self.refusal("a numpy type of several fields")
        if order in "<>":
            thing.kind = thing.kind.newbyteorder(order)

    def filled(self, _: Any, shape: Any, kind: Any, fortran: Any, data: Any) -> tuple[Any, ...]:
        """The state of an array in the words of numpy; one of objects holds only plain ones."""
        if not isinstance(kind, _Type):
            raise self.refusal("a numpy array without a type")
        if not kind.kind.hasobject:
            data = self.numbers(shape, kind.kind, data).tobytes()
            return 1, shape, kind.kind, bool(fortran), data
        if not isinstance(data, list) or self.count(shape) != len(data):
            raise self.refusal("an array of objects without them")
        wrong = next((value for value in data if not isinstance(value, PLAIN)), None)
        if wrong is not None:
            raise self.refusal(f"an array that holds a {type(wrong).__name__}")
        self.spend(8 * len(data))
        return 1, shape, kind.kind, bool(fortran), data

    def take_columns(self, frame: _Frame, manager: Any) -> None:
        """Fill a data frame with the rows of each block, which are its columns."""
        if not isinstance(manager, _Manager) or not isinstance(manager.axes, list | tuple):
            raise self.refusal("a data frame without columns")
        names = manager.axes[0]
        if not isinstance(names, np.ndarray) or names.ndim != 1:
            raise self.refusal("a data frame whose columns have no names")
        for values, places in manager.blocks:
            if not isinstance(values, np.ndarray) or values.ndim != 2:
                raise self.refusal("a data frame of other than plain columns")
            where = self.places(places, len(names))
            self.spend(64 * len(values))
            for place, column in zip(where, values, strict=False):
                frame[str(names[place])] = column
            if len(where) != len(values):
                raise self.refusal("a data frame with columns too many or too few")
        if len({len(column) for column in frame.values()}) > 1 or len(frame) != len(names):
            raise self.refusal("a data frame whose columns differ in length")

    def places(self, places: Any, count: int) -> Sequence[int]:
        """Which columns a block holds."""
        if isinstance(places, slice):
            return range(*places.indices(count))
        found: Iterable[Any] = places.tolist() if isinstance(places, np.ndarray) else ()
        if not all(type(place) is int and 0 <= place < count for place in found):
            raise self.refusal("a data frame with columns elsewhere")
        return list(found)
