"""Good files of every format, written from the published descriptions, without the code that reads them."""

import gzip
import io
import pickle
import struct
import sys
import types
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np

POINTS = 50


def columns():
    """Columns of several types."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(0, 30, POINTS).astype(np.float32),
        "y": rng.normal(0, 1e6, POINTS),
        "z": rng.normal(0, 2, POINTS).astype(np.float32),
        "ring": rng.integers(0, 64, POINTS).astype(np.uint16),
        "d": rng.integers(-100, 100, POINTS).astype(np.int8),
    }


def rows_of(table, order="<"):
    """The rows of columns, one after the other, as bytes."""
    codes = {"f": {4: "f", 8: "d"}, "u": {1: "B", 2: "H", 4: "I"}, "i": {1: "b", 2: "h", 4: "i"}}
    form = order + "".join(codes[v.dtype.kind][v.dtype.itemsize] for v in table.values())
    return b"".join(
        struct.pack(form, *row) for row in zip(*(v.tolist() for v in table.values()), strict=True)
    )


def text_of(table):
    """The rows of columns as text."""
    rows = zip(*(v.tolist() for v in table.values()), strict=True)
    return "".join(" ".join(map(repr, row)) + "\n" for row in rows).encode()


def lzf_of(raw):
    """Compress by looking for the last place of every three bytes, as the format's author describes it."""
    out, literals, seen, place = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literals), 32):
            part = literals[start : start + 32]
            out.append(len(part) - 1)
            out.extend(part)
        literals.clear()

    while place < len(raw):
        key = bytes(raw[place : place + 3])
        found = seen.get(key, -1)
        seen[key] = place
        if len(key) < 3 or found < 0 or place - found > 8192:
            literals.append(raw[place])
            place += 1
            continue
        length = 3
        while length < 264 and place + length < len(raw) and raw[found + length] == raw[place + length]:
            length += 1
        flush()
        back = place - found - 1
        if length - 2 < 7:
            out.append((length - 2 << 5) | back >> 8)
        else:
            out.extend((7 << 5 | back >> 8, length - 2 - 7))
        out.append(back & 255)
        place += length
    flush()
    return bytes(out)


def pcd(form="binary", table=None, more=""):
    """A PCD file of version 0.7."""
    table = columns() if table is None else table
    kinds = [v.dtype for v in table.values()]
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {' '.join(table)}\n"
        f"SIZE {' '.join(str(k.itemsize) for k in kinds)}\nTYPE {' '.join(k.kind.upper() for k in kinds)}\n"
        f"{more}WIDTH {POINTS}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {POINTS}\nDATA {form}\n"
    ).encode()
    if form == "ascii":
        return header + text_of(table)
    if form == "binary":
        return header + rows_of(table)
    by_field = b"".join(rows_of({name: values}) for name, values in table.items())
    packed = lzf_of(by_field)
    return header + struct.pack("<II", len(packed), len(by_field)) + packed


PLY_TYPES = {"f4": "float", "f8": "double", "u2": "ushort", "i1": "char", "u1": "uchar", "i4": "int32"}


def ply(form="binary_little_endian", table=None, faces_first=False, lists=((0, 1, 2), (2, 1, 0, 3))):
    """A PLY file with faces of different lengths before or after the vertices."""
    table = columns() if table is None else table
    order = ">" if "big" in form else "<"
    vertices = [f"element vertex {POINTS}"]
    vertices += [f"property {PLY_TYPES[v.dtype.str[1:]]} {name}" for name, v in table.items()]
    header = [f"element face {len(lists)}", "property list uchar int vertex_indices", "property uchar red"]
    if form == "ascii":
        content = text_of(table)
        faces = "".join(f"{len(face)} {' '.join(map(str, face))} 7\n" for face in lists).encode()
    else:
        content = rows_of(table, order)
        faces = b"".join(struct.pack(f"{order}B{len(face)}iB", len(face), *face, 7) for face in lists)
    parts = [(vertices, content), (header, faces)]
    parts = parts[::-1] if faces_first else parts
    lines = ["ply", f"format {form} 1.0", "comment made by hand", *parts[0][0], *parts[1][0], "end_header\n"]
    return "\n".join(lines).encode() + parts[0][1] + parts[1][1]


def las(form=3, minor=2):
    """A LAS file, its points and what they should be."""
    rng = np.random.default_rng(form)
    header_bytes = {2: 227, 3: 235, 4: 375}[minor]
    row_bytes = [20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67][form]
    scale, offset = (0.001, 0.001, 0.01), (4e5, 5.8e6, -100.0)
    raw = bytearray(header_bytes)
    raw[:4] = b"LASF"
    raw[24:26] = 1, minor
    struct.pack_into("<HIIBHI", raw, 94, header_bytes, header_bytes + 5, 0, form, row_bytes, POINTS)
    struct.pack_into("<6d", raw, 131, *scale, *offset)
    if minor == 4:
        struct.pack_into("<I", raw, 107, 0)
        struct.pack_into("<Q", raw, 247, POINTS)
    raw += b"-----"
    expected = {name: [] for name in ("x", "y", "z", "intensity", "return_number", "number_of_returns")}
    expected |= {"classification": []}
    for _ in range(POINTS):
        place = rng.integers(-(10**6), 10**6, 3).tolist()
        shine, number, returns, kind = (int(rng.integers(0, n)) for n in (65536, 8, 8, 32))
        row = bytearray(row_bytes)
        struct.pack_into("<3iH", row, 0, *place, shine)
        row[14] = number | returns << (3 if form < 6 else 4) | (1 << 7 if form < 6 else 0)
        row[15 if form < 6 else 16] = kind | (1 << 6 if form < 6 else 0)
        time, color = float(rng.uniform(0, 1e9)), rng.integers(0, 65536, 3).tolist()
        if form in (1, 3, 4, 5) or form >= 6:
            struct.pack_into("<d", row, 20 if form < 6 else 22, time)
            expected.setdefault("gps_time", []).append(time)
        at = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}.get(form)
        if at:
            struct.pack_into("<3H", row, at, *color)
            for name, value in zip(("red", "green", "blue"), color, strict=True):
                expected.setdefault(name, []).append(value)
        for k, name in enumerate("xyz"):
            expected[name].append(place[k] * scale[k] + offset[k])
        for name, value in zip(list(expected)[3:7], (shine, number, returns, kind), strict=True):
            expected[name].append(value)
        raw += row
    return bytes(raw), expected


def npy(array):
    """A file of numpy's own."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays):
    """An archive of numpy's own."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def feather(table=None, compression="zstd"):
    """A feather file, written by pyarrow."""
    import pyarrow
    import pyarrow.feather

    table = columns() if table is None else table
    stream = io.BytesIO()
    pyarrow.feather.write_feather(pyarrow.table(table), stream, compression=compression)
    return stream.getvalue()


def parquet(table=None):
    """A parquet file, written by pyarrow."""
    import pyarrow
    import pyarrow.parquet

    table = columns() if table is None else table
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(table), stream)
    return stream.getvalue()


@contextmanager
def pandas_by_name():
    """Classes that are pickled by the names that pandas has for its own."""

    def made(module, name, bases=(object,), **members):
        kind = type(name, bases, {"__module__": module, **members})
        for part in [".".join(module.split(".")[: n + 1]) for n in range(module.count(".") + 1)]:
            sys.modules.setdefault(part, types.ModuleType(part))
        setattr(sys.modules[module], name, kind)
        return kind

    before = dict(sys.modules)
    try:
        yield made
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def data_frame(table, protocol=4, layout="old"):
    """A data frame as pandas pickles it: before 1.3 (``old``), or since."""
    with pandas_by_name() as made:
        base, managers, inner = (
            "pandas.core.indexes.base",
            "pandas.core.internals.managers",
            "pandas._libs.internals",
        )

        def new_index():
            pass

        new_index.__module__, new_index.__qualname__, new_index.__name__ = base, "_new_Index", "_new_Index"
        index = made(base, "Index")
        sys.modules[base]._new_Index = new_index
        labels = np.array(list(table), dtype=object)
        names = made(
            base, "Labels", __reduce__=lambda _: (new_index, (index, {"data": labels, "name": None}))
        )
        spans = made("pandas.core.indexes.range", "RangeIndex")
        count = len(next(iter(table.values())))
        about = {"name": None, "start": 0, "stop": count, "step": 1}
        rows = made(base, "Rows", __reduce__=lambda _: (new_index, (spans, about)))
        kinds = sorted({v.dtype.str for v in table.values()})
        places = {k: [n for n, v in enumerate(table.values()) if v.dtype.str == k] for k in kinds}
        blocks = [
            (np.stack([list(table.values())[n] for n in places[k]]), np.array(places[k])) for k in kinds
        ]
        blocks[0] = (
            (blocks[0][0], blocks[0][1])
            if len(blocks[0][1]) > 1
            else (blocks[0][0], slice(places[kinds[0]][0], places[kinds[0]][0] + 1, 1))
        )
        axes = [names(), rows()]
        if layout == "old":
            content = {"axes": axes, "blocks": [{"values": v, "mgr_locs": p} for v, p in blocks]}
            state = (axes, [v for v, _ in blocks], [labels[p] for _, p in blocks], {"0.14.1": content})
            manager = made(managers, "BlockManager", __getstate__=lambda _: state)()
            said = {"_data": manager, "_typ": "dataframe", "_metadata": []}
        else:

            def unpickle_block():
                pass

            unpickle_block.__module__, unpickle_block.__qualname__ = inner, "_unpickle_block"
            made(inner, "Anything")
            sys.modules[inner]._unpickle_block = unpickle_block
            block = made(
                inner, "Block", __reduce__=lambda self: (unpickle_block, (self.values, self.places, 2))
            )
            listed = []
            for values, place in blocks:
                listed.append(block())
                listed[-1].values, listed[-1].places = values, place
            kind = made(managers, "BlockManager")
            kind.__reduce__ = lambda _: (kind, (tuple(listed), axes))
            said = {"_mgr": kind(), "_typ": "dataframe", "_metadata": [], "attrs": {}, "_flags": {}}
        frame = made("pandas.core.frame", "DataFrame", __getstate__=lambda _: said)
        return pickle.dumps(frame(), protocol=protocol)


def sens(frames=3, form=1):
    """A recording of ScanNet, its depth images and poses."""
    rng = np.random.default_rng(0)
    depth = rng.integers(0, 5000, (frames, 4, 6)).astype(np.uint16)
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, :3, 3] = rng.normal(size=(frames, 3))
    poses[-1] = -np.inf
    name = b"StructureSensor"
    raw = struct.pack("<IQ", 4, len(name)) + name
    lens = np.array([[5, 0, 3, 0], [0, 6, 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    for matrix in (lens, np.eye(4, dtype=np.float32), 2 * lens, np.eye(4, dtype=np.float32)):
        raw += matrix.tobytes()
    raw += struct.pack("<iiIIIIfQ", 2, form, 12, 8, 6, 4, 1000.0, frames)
    for k in range(frames):
        packed = zlib.compress(depth[k].tobytes()) if form else depth[k].tobytes()
        color = f"picture {k}".encode()
        raw += poses[k].tobytes() + struct.pack("<QQQQ", 10 * k, 10 * k + 1, len(color), len(packed))
        raw += color + packed
    return raw + struct.pack("<Q", 0), depth, poses


CAMERAS = {
    1: ("PINHOLE", 64, 48, (50.0, 51.0, 32.0, 24.0)),
    7: ("OPENCV", 64, 48, (50.0, 51.0, 32.0, 24.0, 0.1, 0.2, 0.3, 0.4)),
    9: ("OPENCV_FISHEYE", 64, 48, (50.0, 51.0, 32.0, 24.0, 0.1, 0.2, 0.3, 0.4)),
}
IMAGES = {
    4: ((0.5, 0.5, -0.5, 0.5, 1.0, 2.0, 3.0), 7, "a b/4.jpg", [(1.5, 2.5, 11), (3.0, 4.0, -1)]),
    2: ((1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1, "2.jpg", []),
}
MARKS = {11: (1.0, 2.0, 3.0, 255, 128, 0, 0.25), 12: (-1.0, 0.5, 3.0, 1, 2, 3, 1.5)}


def colmap(binary):
    """The three files of a model, from the constants above."""
    numbers = {"PINHOLE": 1, "OPENCV": 4, "OPENCV_FISHEYE": 5}
    if not binary:
        cameras = [f"{k} {m} {w} {h} {' '.join(map(repr, p))}" for k, (m, w, h, p) in CAMERAS.items()]
        images = []
        for k, (pose, camera, name, seen) in IMAGES.items():
            images.append(f"{k} {' '.join(map(repr, pose))} {camera} {name}")
            images.append(" ".join(f"{u} {v} {n}" for u, v, n in seen))
        points = [f"{k} {' '.join(map(repr, p))} 4 0 2 1" for k, p in MARKS.items()]
        return tuple(("# made by hand\n" + "\n".join(t) + "\n").encode() for t in (cameras, images, points))
    cameras = struct.pack("<Q", len(CAMERAS))
    for k, (model, width, height, values) in CAMERAS.items():
        cameras += struct.pack(f"<iiQQ{len(values)}d", k, numbers[model], width, height, *values)
    images = struct.pack("<Q", len(IMAGES))
    for k, (pose, camera, name, seen) in IMAGES.items():
        images += (
            struct.pack("<i7di", k, *pose, camera) + name.encode() + b"\0" + struct.pack("<Q", len(seen))
        )
        images += b"".join(struct.pack("<ddq", *mark) for mark in seen)
    points = struct.pack("<Q", len(MARKS))
    for k, values in MARKS.items():
        points += struct.pack("<q3d3Bd", k, *values) + struct.pack("<Q4i", 2, 4, 0, 2, 1)
    return cameras, images, points


def zip_of(**contents):
    """A compressed archive of files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


def gzip_of(raw):
    """What gzip makes of bytes."""
    return gzip.compress(raw)
