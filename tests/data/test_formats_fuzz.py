"""Files of every format, spoiled at random, are read or refused in one line, in little time and memory."""

import io
import pickle
import struct

import numpy as np
import pytest
from format_files import (
    colmap,
    columns,
    data_frame,
    feather,
    gzip_of,
    las,
    lzf_of,
    npy,
    npz,
    parquet,
    pcd,
    ply,
    sens,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderpretrain.data.formats.arrays import read_npy, read_npz
from renderpretrain.data.formats.colmap import read_cameras, read_images, read_points
from renderpretrain.data.formats.feather import read_feather, read_parquet
from renderpretrain.data.formats.las import read_las
from renderpretrain.data.formats.lzf import lzf_bytes
from renderpretrain.data.formats.pcd import read_pcd
from renderpretrain.data.formats.pickles import load_pickle
from renderpretrain.data.formats.ply import read_ply
from renderpretrain.data.formats.sens import index_sens

FEW = {name: values[:4] for name, values in columns().items()}


def read_sens(raw):
    """All of a recording."""
    found = index_sens(io.BytesIO(raw))
    for start, length in found.depth_spans:
        found.depth_image(raw[start : start + length])


def with_content(*tables):
    return pickle.dumps([{"a": np.arange(6.0), "s": np.float32(2), "t": ("x", 1, None), "b": tables}], 2)


FORMATS = {
    **{f"pcd {form}": (read_pcd, pcd(form)) for form in ("ascii", "binary", "binary_compressed")},
    **{
        f"ply {form} {first}": (read_ply, ply(form, faces_first=first))
        for form in ("ascii", "binary_little_endian", "binary_big_endian")
        for first in (False, True)
    },
    **{f"las {form}": (read_las, las(form, 4)[0]) for form in (0, 3, 7)},
    "npy": (read_npy, npy(np.zeros((3, 4), np.float32))),
    "npz": (read_npz, npz(**FEW)),
    "lzf": (lambda raw: lzf_bytes(raw, 400), lzf_of(b"abcabcabcd" * 40)),
    "pickle": (load_pickle, with_content([1.5, 2])),
    "pickle 5": (load_pickle, pickle.dumps({"a": np.arange(6.0), "o": np.array(["x", 1], object)}, 5)),
    "data frame": (load_pickle, data_frame(FEW)),
    "new data frame": (load_pickle, data_frame(FEW, 4, "new")),
    "pickle.gz": (load_pickle, gzip_of(with_content())),
    "sens": (read_sens, sens()[0]),
    **{
        f"colmap {name} {binary}": (lambda raw, b=binary, r=read: r(raw, binary=b), colmap(binary)[n])
        for binary in (False, True)
        for n, (name, read) in enumerate(
            (("cameras", read_cameras), ("images", read_images), ("points", read_points))
        )
    },
}
ARROW = ("feather", "feather plain", "parquet")


def good_file(name):
    """How a format is read, and a good file of it."""
    if name in ARROW:
        pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
        raw = (
            parquet(FEW)
            if name == "parquet"
            else feather(FEW, "zstd" if name == "feather" else "uncompressed")
        )
        return read_parquet if name == "parquet" else read_feather, raw
    return FORMATS[name]


def spoiled(raw, draw):
    """Flip, overwrite, cut, lengthen or double some of the bytes."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["flip", "flip", "byte", "number", "cut", "double", "insert"]))
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "number":
            odd = draw(
                st.sampled_from(
                    [b"\xff" * 4, b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"-1", b"nan", b"9" * 20]
                )
            )
            data[at : at + len(odd)] = odd
        elif how == "cut":
            data = data[:at]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


def try_out(read, raw):
    """Read it, or have it refused in one line."""
    try:
        found = read(raw)
    except ValueError as error:
        words = str(error)
        assert type(error) is ValueError and "expected" in words and "\n" not in words and len(words) < 500, (
            words
        )
        return
    if isinstance(found, dict) and found and all(isinstance(v, np.ndarray) for v in found.values()):
        assert {v.ndim for v in found.values()} <= {0, 1, 2, 3, 4}
        assert sum(v.nbytes for v in found.values()) < 10**6


QUICK = settings(
    max_examples=40,
    deadline=10000,  # milliseconds of a machine that does other things, too
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# At 1.5 ms an example thirty formats take seven minutes of one core.
LONG = settings(QUICK, max_examples=8000, derandomize=False)


@pytest.mark.parametrize("name", [*FORMATS, *ARROW])
def test_spoiled_files_are_read_or_refused_in_one_line(name):
    read, raw = good_file(name)
    read(raw)

    @QUICK
    @given(st.data())
    def spoil(data):
        try_out(read, spoiled(raw, data.draw))

    spoil()


@pytest.mark.parametrize("name", [*FORMATS, *ARROW])
def test_the_beginning_of_a_file_is_no_file(name):
    read, raw = good_file(name)
    for end in {0, 1, 4, len(raw) // 4, len(raw) // 2, len(raw) - 2}:
        try_out(read, raw[:end])


def test_one_format_is_not_taken_for_another():
    for name, (read, _) in FORMATS.items():
        for other, (_, raw) in FORMATS.items():
            if other.split()[0].split(".")[0] != name.split()[0].split(".")[0]:
                try_out(read, raw)


@pytest.mark.long
@pytest.mark.parametrize("name", [*FORMATS, *ARROW])
def test_many_spoiled_files_are_read_or_refused_in_one_line(name):
    read, raw = good_file(name)

    @LONG
    @given(st.data())
    def spoil(data):
        try_out(read, spoiled(raw, data.draw))

    spoil()


@pytest.mark.long
def test_random_programs_of_the_pickle_machine_are_refused_or_make_data():
    parts = [
        *(bytes([code]) for code in b"().NIJKMLFUTXBCcV0123abdehijloprstuqRQ}]"),
        *(bytes([code]) for code in (*range(0x80, 0x83), *range(0x85, 0x97))),
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\1btR",
        b"cnumpy\ndtype\n(X\2\0\0\0f8K\0K\1tR",
        b"ccollections\nOrderedDict\n",
        b"cpandas.core.frame\nDataFrame\n)\x81",
        b"cpandas.core.internals.managers\nBlockManager\n)\x81",
        b"cbuiltins\nslice\n",
        struct.pack("<I", 3) + b"abc",
    ]

    @LONG
    @given(st.lists(st.one_of(st.sampled_from(parts), st.binary(max_size=3)), max_size=40))
    def program(chosen):
        try_out(load_pickle, b"\x80\4" + b"".join(chosen) + b".")

    program()
