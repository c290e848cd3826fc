"""What may be wrong with a recording that comes from elsewhere: damages of bytes, values, names and links."""

import copy
import gzip
import hashlib
import json
import math
import os
import pickle
import shutil
import zlib

import numpy as np
from hypothesis import strategies as st

from renderpretrain.data.formats.pickles import pickled_columns
from tests.data import format_files
from tests.data.scene_folders import png
from tests.data.test_folder_fuzz import ODD, STARTS, places

OUTSIDE = "outside"
"""Beside the recording's folder: nothing of it may be read."""

PATHS = (f"../{OUTSIDE}/secret", "../../../../../../../etc/passwd", "/etc/passwd", ".", "a/../../b", "a\nb")
VALUES = [*ODD, *PATHS, True, 5.0, "5", -0.0, 2**53, 9e99, "\u0663", [["a"]], {"a": {"b": None}}]
WORDS = (
    *("nan", "inf", "-inf", "1e400", "1e300", "1e-320", "-1", "0", "", "x", "1_0", "\uff11", "0x1F", "\0"),
    *("9" * 25, "9" * 5000, "2" * 400, "\u0663", "\xb2", "#", ":", "<a>", "&a;", *PATHS),
)
"""What stands in the place of a word of a text."""

NAMES = (
    *("9" * 25, "9" * 19, "\u0663", "\xb2", "-1", "1e5", "nan", " ", "a b", "a\nb", "a#0+4", "a\x1b[2J"),
    *(os.fsdecode(b"\xff"), "%2F", "+", "@2", "?cameras=a", "0" * 200, "[red]", "000001 ", "..."),
)
"""What a file is called, but for its end."""

HOSTILE = b"cposix\nsystem\n(X\x04\x00\x00\x00exittR."
"""A pickle that ends whoever trusts it."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, pickle.UnpicklingError)
"""What a file that is no table of its kind raises here."""


def damage(path, draw):
    """Damage a recording in one way; what was done to which file."""
    files = sorted(file for file in path.rglob("*") if is_small(file))
    if not files:
        return "nothing left"
    file = draw(st.sampled_from(files))
    readable = TABLES.get(file.suffix)
    ways = ["bytes", "bytes", "place", "name"] + ["value"] * (4 if readable else 0)
    way = draw(st.sampled_from(ways))
    if way == "value":
        try:
            return f"{file.name}: {readable(file, draw)}"
        except UNREADABLE:  # it was damaged before
            way = "bytes"
    if way == "bytes":
        return f"{file.name}: {spoil_bytes(file, draw(st.sampled_from(files)), draw)}"
    return f"{file.name}: {(put_in_place if way == 'place' else rename)(file, path, draw)}"


def is_small(file):
    """Whether something is a file that can be damaged."""
    return file.is_file() and not file.is_symlink() and file.lstat().st_size < 2**24


def spoil_bytes(file, other, draw):
    """Cut, lengthen, overwrite, exchange the bytes of a file."""
    data = bytearray(file.read_bytes())
    how = draw(st.sampled_from(["flip", *BYTES, "exchange"]))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if how == "exchange":
        data = other.read_bytes()
    else:
        BYTES[how](data, at, draw)
    file.write_bytes(bytes(data))
    return f"{how} {at}"


def flip(data, at, draw):
    """One bit is another."""
    data[at : at + 1] = bytes(value ^ 1 << draw(st.integers(0, 7)) for value in data[at : at + 1])


def overwrite(data, at, draw):
    """It begins as something else."""
    start = draw(st.sampled_from([*STARTS, HOSTILE]))
    data[: len(start)] = start


def number(data, at, draw):
    """Four bytes are a number that does not fit."""
    odd = draw(st.sampled_from([math.nan, math.inf, -1e30, 300, 1e-30, -1]))
    data[at - at % 4 : at - at % 4 + 4] = np.array([odd], np.float32).tobytes()


BYTES = {
    "flip": flip,
    "cut": lambda data, at, draw: data.__delitem__(slice(at, None)),
    "empty": lambda data, at, draw: data.clear(),
    "one": lambda data, at, draw: data.__delitem__(slice(1, None)),
    "middle": lambda data, at, draw: data.__delitem__(slice(at, at + draw(st.integers(1, 64)))),
    "longer": lambda data, at, draw: data.extend(bytes(draw(st.integers(1, 40)))),
    "insert": lambda data, at, draw: data.__setitem__(slice(at, at), draw(st.binary(max_size=16))),
    "start": overwrite,
    "number": number,
}
"""What happens to the bytes of a file from some place on."""


def put_in_place(file, path, draw):
    """Something else in the place of a file, or nothing."""
    outside = path.parent / OUTSIDE / "copy"
    shutil.copy(file, outside)
    file.unlink()
    how = draw(st.sampled_from(["nothing", *PLACES]))
    if how != "nothing":
        PLACES[how](file, outside, draw)
    return how


def link_folder(file, outside, draw):
    """The file's folder is a link to one that lies outside."""
    shutil.copy(outside, file)
    moved = outside.with_name("moved")
    if file.parent.parent != outside.parent.parent and not moved.exists():
        shutil.move(file.parent, moved)
        file.parent.symlink_to(moved)


def endless(file, outside, draw):
    """A file of so many bytes that nobody can read it; it holds none."""
    with file.open("wb") as stream:
        stream.truncate(2**36)


PLACES = {
    "folder": lambda file, outside, draw: file.mkdir(),
    "link": lambda file, outside, draw: file.symlink_to(
        draw(st.sampled_from([str(outside), "/etc/passwd", os.path.relpath(outside, file.parent)]))
    ),
    "folder link": link_folder,
    "loop": lambda file, outside, draw: file.symlink_to(file),
    "pipe": lambda file, outside, draw: os.mkfifo(file),
    "endless": endless,
    "bomb": lambda file, outside, draw: file.write_bytes(bomb(file.name, draw)),
}
"""What comes into the place of a file."""


def bomb(name, draw):
    """A small file that would become a large one."""
    if name.endswith((".gz", ".pkl")):
        return gzip.compress(bytes(2**24), 1)
    if name.endswith((".png", ".jpg")):
        size = draw(st.sampled_from([(60000, 60000), (8000, 8000), (1, 65535)]))
        return png(*size, rows=bytes(2**20))
    return draw(st.sampled_from([gzip.compress(bytes(2**20)), zlib.compress(bytes(2**20)), bytes(2**20)]))


def rename(file, path, draw):
    """Another name for a file, or a second one for a copy of it."""
    end = "".join(file.suffixes[-2:]) if draw(st.booleans()) else file.suffix
    name = draw(st.sampled_from([name for name in NAMES if not file.with_name(name + end).exists()])) + end
    if draw(st.booleans()):
        shutil.copy(file, file.with_name(name))
        return f"also {name!r}"
    file.rename(file.with_name(name))
    return f"called {name!r}"


def spoil_values(content, draw):
    """Replace, scale, remove, double or move a value of a tree of containers."""
    found = list(places(content))
    if not found:
        return "nothing in it"
    container, key = draw(st.sampled_from(found))
    how = draw(st.sampled_from(["odd", "odd", "odd", "scale", "remove", "double", "move"]))
    if how == "scale" and type(container[key]) in (int, float):
        container[key] *= draw(st.sampled_from([-1, 0, 0.5, 1e3, 1e150]))
    elif how == "remove":
        del container[key]
    elif how == "double" and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif how == "move":
        other, place = draw(st.sampled_from(found))
        container[key] = copy.deepcopy(other[place])
    else:
        container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return f"{how} {key!r} -> {container[key]!r:.60}" if how != "remove" else f"{how} {key!r}"


def spoil_json(file, draw):
    """A value of a JSON file."""
    content = json.loads(file.read_text())
    if draw(st.integers(0, 9)) == 0:
        content = copy.deepcopy(draw(st.sampled_from(VALUES)))
        told = f"all {content!r:.60}"
    else:
        told = spoil_values(content, draw)
    file.write_text(json.dumps(content).replace("1" + "0" * 400, "1" + "0" * 5000))
    return told


def spoil_text(file, draw):
    """A word or a line of a text."""
    lines = file.read_text().split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(["word", "word", "word", "remove", "double", "swap", "join"]))
    if how == "word":
        words = lines[at].split(" ")
        place = draw(st.integers(0, len(words) - 1))
        words[place] = draw(st.sampled_from(WORDS))
        how += f" {at} {place} {words[place]!r:.40}"
        lines[at] = " ".join(words)
    elif how == "remove":
        del lines[at]
    elif how == "double":
        lines.insert(at, lines[at])
    elif how == "join":
        lines[at : at + 2] = ["".join(lines[at : at + 2])]
    else:
        other = draw(st.integers(0, len(lines) - 1))
        lines[at], lines[other] = lines[other], lines[at]
    file.write_text("\n".join(lines))
    return f"{how} line {at}"


def as_lists(value):
    """Arrays and tuples as lists, so that anything may stand in them."""
    if isinstance(value, np.ndarray):
        return as_lists(value.tolist())
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def as_arrays(value):
    """Lists of numbers as arrays again, where they still are some."""
    if isinstance(value, dict):
        return {key: as_arrays(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return [as_arrays(item) for item in value]


def spoil_pickle(file, draw):
    """A value of a pickle, or what it makes."""
    if draw(st.integers(0, 9)) == 0:
        file.write_bytes(HOSTILE)
        return "hostile"
    content = as_lists(pickle.loads(file.read_bytes()))
    told = spoil_values(content, draw)
    content = as_arrays(content) if draw(st.booleans()) else content
    file.write_bytes(pickle.dumps(content))
    return told


CELLS = (
    *(math.nan, math.inf, 1e300, -1, 0, 2**62, "x", b"\xff", PATHS[0], None, [1.0], True, "5"),
    {"a": 1},
)
"""What stands in a column."""


def odd_column(values, draw):
    """A column of another type, of other values, or ``None`` for no column; and what it is."""
    odd = draw(st.sampled_from(CELLS))
    how = draw(st.sampled_from(["all", "one", "none", "text", "float"]))
    if how == "none":
        return None, "no column"
    if how == "text":
        return [str(value) for value in values], "texts"
    if how == "float":
        return [float(k) if k else math.nan for k in range(len(values))], "floats"
    last = len(values) - 1
    found = [odd if how == "all" or k == last else value for k, value in enumerate(values)]
    return found, f"{how} {odd!r}"


def spoil_frame(file, draw):
    """A column of a data frame, pickled and compressed."""
    table = {name: values.tolist() for name, values in pickled_columns(file.read_bytes()).items()}
    if len(table) < 2:
        raise ValueError("too few columns to lack one")
    name = draw(st.sampled_from(sorted(table)))
    table[name], told = odd_column(table[name], draw)
    columns = {}
    for key, values in table.items():
        if values is not None:
            kinds = {type(value) for value in values}
            plain = kinds <= {int, float, bool} and all(abs(value) < 2**63 for value in values)
            columns[key] = np.array(values) if plain else as_objects(values)
    file.write_bytes(format_files.gzip_of(format_files.data_frame(columns)))
    return f"{name} {told}"


def as_objects(values):
    """A column of anything."""
    column = np.empty(len(values), object)
    for k, value in enumerate(values):
        column[k] = value
    return column


def spoil_arrow(file, draw):
    """A column of a feather or parquet file."""
    import pyarrow
    from pyarrow import feather, parquet

    read, write = (
        (feather.read_table, feather.write_feather)
        if file.suffix == ".feather"
        else (parquet.read_table, parquet.write_table)
    )
    table = read(file)
    if draw(st.integers(0, 4)) == 0:
        start, rows = draw(st.integers(0, table.num_rows)), draw(st.integers(0, table.num_rows))
        write(table.slice(start, rows), file)
        return f"rows from {start}, {rows}"
    place = draw(st.integers(0, table.num_columns - 1))
    name, (values, told) = table.column_names[place], odd_column(table.column(place).to_pylist(), draw)
    if values is None:
        write(table.drop_columns([name]), file)
        return f"{name} {told}"
    try:
        column = pyarrow.array(values)
    except (pyarrow.ArrowException, TypeError, OverflowError):
        column = pyarrow.nulls(len(values))
    try:
        write(table.set_column(place, name, column), file)
    except pyarrow.ArrowException:
        write(table.set_column(place, name, pyarrow.nulls(len(values))), file)
    return f"{name} {told}"


def spoil_npy(file, draw):
    """Another type or shape of an array."""
    array = np.load(file)
    kind = draw(st.sampled_from(["<f2", ">f8", "i8", "u1", "c16", "?", "U3", "M8[ns]"]))
    shape = draw(st.sampled_from([array.shape, array.shape[::-1], (-1,), (1, 1, -1), (0, 4)]))
    with np.errstate(all="ignore"):
        array = array.real.astype("i8") if kind == "M8[ns]" else array
        array = array[:0] if shape[0] == 0 else array.reshape(shape)
        np.save(file, array.astype(kind))
    return f"{kind} {shape}"


FIELDS = (
    *((0, 100, name) for name in (b"../../x", b"/etc/passwd")),
    (124, 12, b"77777777777"),
    (156, 1, b"2"),
)
"""Place and length of a field in a tar's header, and what stands there: name, size, kind (a link)."""


def spoil_tar(file, draw):
    """A field of a tar's header, with its checksum or without."""
    data = bytearray(file.read_bytes())
    blocks = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    at = draw(st.sampled_from(blocks))
    start, length, odd = draw(st.sampled_from(FIELDS))
    data[at + start : at + start + length] = odd.ljust(length, b"\0")
    if draw(st.booleans()):
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    file.write_bytes(data)
    return f"header {at} {odd!r}"


TABLES = {
    ".json": spoil_json,
    ".txt": spoil_text,
    ".tsv": spoil_text,
    ".xml": spoil_text,
    ".pkl": spoil_pickle,
    ".gz": spoil_frame,
    ".feather": spoil_arrow,
    ".parquet": spoil_arrow,
    ".npy": spoil_npy,
    ".tar": spoil_tar,
}
"""What damages a value of a file, by the end of its name."""


def sealed(path):
    """Shards whose lengths and digests are told anew, as whoever means harm would tell them."""
    index = json.loads((path / "shards.json").read_text())
    for shard in index["shards"]:
        raw = (path / shard["file"]).read_bytes()
        record = json.loads((path / shard["index"]).read_text())
        shard |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        (path / shard["index"]).write_text(json.dumps(record | {k: shard[k] for k in ("bytes", "sha256")}))
    (path / "shards.json").write_text(json.dumps(index))
