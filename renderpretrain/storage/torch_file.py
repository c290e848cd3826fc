"""Files of ``torch.save``, read with their checksums and without running what they hold.

Since torch 1.6 such a file is a zip archive whose records have checksums, which ``torch.load`` does not look
at. Before, it was one pickle after another, then the numbers, without any.
"""

import io
import mmap
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from renderpretrain.storage.inert import Named, StoredTensor
from renderpretrain.storage.pickled import CUT, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
"""First number of files before torch 1.6."""

TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
"""Element type by the name of a storage."""

FOREIGN = "not a whole checkpoint (torch.save did not write it)"


@runtime_checkable
class Memory(Protocol):
    """Where the numbers of tensors lie."""

    def read(self, name: str, size: int) -> Tensor:
        """The bytes of a storage."""


@dataclass
class TorchFile:
    """What ``torch.save`` wrote; its tensors are read one by one.

    Attributes:
        tree: Plain values, ``Inert`` objects and ``StoredTensor``.
        memory: Where the tensors' numbers lie.
        storages: Those that were read.
    """

    tree: Any
    memory: Memory
    storages: dict[str, Tensor] = field(default_factory=dict)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The numbers of a tensor, on the CPU; tensors that shared memory do so again.

        Raises:
            ValueError: If it is damaged, larger than its memory, or repeats it.
        """
        name, dtype, count = _storage(stored.storage)
        size, stride, offset = _geometry(stored)
        if name not in self.storages:
            self.storages[name] = self.memory.read(name, count * dtype.itemsize)
        if stored.dtype is not None:
            dtype, count = _typed(stored.dtype, dtype, count)
        numbers, last = 1, offset + 1
        for side, step in zip(size, stride, strict=True):
            numbers, last = numbers * side, last + (side - 1) * step
        if any(n > 1 and step == 0 for n, step in zip(size, stride, strict=True)) or numbers > count:
            raise ValueError(
                f"expected a tensor with a number in every place, got {count} numbers for the shape {size}; "
                "call .contiguous() before torch.save"
            )
        if numbers and last > count:
            raise ValueError(f"damaged: the shape {size} reaches beyond the {count} numbers of its tensor")
        memory = self.storages[name]
        return (
            memory.view(dtype).as_strided(size, stride, offset)
            if numbers
            else memory[:0].view(dtype).view(size)
        )

    def whole(self) -> Any:
        """The tree with its tensors.

        Raises:
            ValueError: If one of them is damaged, naming it.
        """
        return self._filled(self.tree, {}, "")

    def _filled(self, value: Any, done: dict[int, Any], where: str) -> Any:
        """A part of the tree with its tensors; parts that occur twice are filled once."""
        if id(value) in done:
            return done[id(value)]
        if isinstance(value, StoredTensor):
            filled: Any = named(where.removeprefix("."), self.tensor, value)
        elif isinstance(value, dict):
            filled = type(value)((key, self._filled(v, done, f"{where}.{key}")) for key, v in value.items())
            if hasattr(value, "_metadata"):
                filled._metadata = value._metadata
        elif isinstance(value, list | tuple):
            filled = type(value)(self._filled(v, done, where) for v in value)
        else:
            return value
        return done.setdefault(id(value), filled)


def named(name: str, read: Any, stored: StoredTensor) -> Tensor:
    """A tensor read, or a ``ValueError`` that begins with its name."""
    try:
        return read(stored)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@contextmanager
def open_torch_file(path: Path, *, data_only: bool = False) -> Iterator[TorchFile]:
    """What ``torch.save`` wrote, open as long as tensors are read.

    Args:
        path: The file.
        data_only: Whether it may hold nothing but tensors, numbers and text.

    Raises:
        ValueError: If it is no such file, damaged, or names what runs commands. The message lacks the path.
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(64)
        if start.startswith(b"PK"):
            with _opened_zip(path) as archive:
                records = _Records(archive, path.stat().st_size)
                pickle = io.BytesIO(records.record("data.pkl"))
                yield TorchFile(read_pickle(pickle, data_only=data_only), records)
        elif MAGIC.to_bytes(10, "little") in start:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
                yield _old_file(stream, data_only)
        elif start.startswith(b"\x80\x02\x8a\n") or not start:
            raise ValueError(CUT)
        elif start.startswith(b"\x80"):
            raise ValueError("refused: a pickle that torch.save did not write")
        else:
            raise ValueError(FOREIGN)


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, with one kind of error for whatever is wrong with its list of records."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError("not a whole checkpoint (its list of records is damaged or cut off)") from error
    with archive:
        if archive.infolist():
            twice, count = Counter(r.filename for r in archive.infolist()).most_common(1)[0]
            if count > 1:
                raise ValueError(f"refused: there are two records {twice!r}, and no telling which one counts")
        yield archive


class _Records:
    """The records of an archive, each read against its checksum.

    Args:
        archive: The file.
        size: Of the file in bytes.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        records = archive.infolist()
        pickles = [r.filename for r in records if r.filename.split("/")[1:] == ["data.pkl"]]
        if any(r.filename.endswith("/constants.pkl") for r in records):
            raise ValueError("expected weights, got a program of torch.jit.save; save its state_dict()")
        if len(pickles) != 1:
            raise ValueError(FOREIGN)
        packed = next((r.filename for r in records if r.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(f"refused: record {packed!r} is compressed, which torch.save never does")
        if sum(r.file_size for r in records) > size:
            raise ValueError("damaged: its records are longer together than the file")
        if not any(r.CRC for r in records):  # torch.serialization.set_crc32_options(False)
            for record in records:
                del record.CRC  # zipfile then compares nothing
        self.root = pickles[0].removesuffix("data.pkl")
        if f"{self.root}byteorder" in archive.namelist() and self.record("byteorder") != b"little":
            raise ValueError("expected a file of a little-endian machine")

    def record(self, name: str) -> bytes:
        """The bytes of one record in the archive."""
        try:
            return self.archive.read(self.root + name)
        except KeyError as error:
            raise ValueError(f"not a whole checkpoint (record {name!r} is missing)") from error
        except Exception as error:  # one flipped bit asks for a password, another for a later version of zip
            raise ValueError(
                f"damaged: record {name!r} is not what was saved (its checksum differs)"
            ) from error

    def read(self, name: str, size: int) -> Tensor:
        """The bytes of a storage."""
        content = self.record(f"data/{name}")
        if len(content) != size:
            raise ValueError(f"damaged: expected {size} bytes in record {name!r}, got {len(content)}")
        return _tensor_of(content)


class _Stretches:
    """The storages of an old file, by name.

    Args:
        stream: The file.
        places: Where each begins, and its length.
    """

    def __init__(self, stream: mmap.mmap, places: dict[str, tuple[int, int]]) -> None:
        self.stream, self.places = stream, places

    def read(self, name: str, size: int) -> Tensor:
        """The bytes of a storage."""
        begin, length = self.places.get(name, (0, -1))
        if length != size:
            raise ValueError(f"damaged: storage {name!r} has another size")
        return _tensor_of(self.stream[begin : begin + length])


def _old_file(stream: mmap.mmap, data_only: bool) -> TorchFile:
    """A file of a torch before 1.6."""
    if read_pickle(stream) != MAGIC or read_pickle(stream) != 1001:
        raise ValueError(FOREIGN)
    system = read_pickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("expected a file of a little-endian machine")
    storages: list[Any] = []
    tree = read_pickle(stream, data_only=data_only, storages=storages)
    described = [s for s in storages if isinstance(s, tuple) and s[:1] == ("storage",)]  # others are programs
    types = {name: dtype for name, dtype, _ in map(_storage, described)}
    places: dict[str, tuple[int, int]] = {}
    names = read_pickle(stream)
    begin = stream.tell()
    for name in names if isinstance(names, list) else ():
        if name not in types or begin + 8 > len(stream):
            raise ValueError(CUT)
        (count,) = struct.unpack("<q", stream[begin : begin + 8])
        places[name] = begin + 8, count * types[name].itemsize
        begin += 8 + max(0, places[name][1])
    if begin > len(stream):
        raise ValueError(CUT)
    return TorchFile(tree, _Stretches(stream, places))


def _storage(described: Any) -> tuple[str, torch.dtype, int]:
    """Name, element type and number of elements of a storage, from what a pickle says of it."""
    match described:
        case ("storage", Named(name=kind), str(name), _, int(count), *view) if not any(view):
            if kind in TYPES and count >= 0:
                return name, TYPES[kind], count
            raise ValueError(f"expected a tensor of real numbers, got a {kind!r} of {count}")
    raise ValueError("expected a dense tensor, got one of another kind")


def _geometry(stored: StoredTensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shape, strides and offset, which the file may say anything about."""
    size, stride, offset = stored.size, stored.stride, stored.offset
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        raise ValueError("damaged: a tensor without shape or strides")
    for number in (*size, *stride, offset):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**62:
            raise ValueError(f"damaged: a tensor of shape {size}, strides {stride}, offset {offset}")
    return size, stride, offset


def _typed(dtype: Any, storage: torch.dtype, count: int) -> tuple[torch.dtype, int]:
    """Element type and number of elements where the tensor says the type, not its storage."""
    found = getattr(torch, dtype.name, None) if isinstance(dtype, Named) and dtype.module == "torch" else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"expected a tensor of real numbers, got one of {dtype}")
    return found, count * storage.itemsize // found.itemsize


def _tensor_of(content: bytes) -> Tensor:
    """Bytes in memory of their own."""
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
