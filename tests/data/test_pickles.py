"""Pickles of other libraries give arrays and containers, and whatever else they name is refused."""

import collections
import datetime
import gzip
import os
import pickle
import struct

import numpy as np
import pytest
from format_files import columns, data_frame

from renderpretrain.data.formats.pickles import load_pickle

CONTENT = {
    "frames": [{"a": np.arange(6.0).reshape(2, 3), "name": "x", "none": None, 3: (1, 2.5, True)}],
    "names": np.array(["Car", "Van"]),
    "objects": np.array(["Car", None, 3, 2.5], object),
    "scalar": np.float32(1.5),
    "big": 2**70,
    "bytes": b"\0\xff",
    "fortran": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "empty": np.zeros((0, 4)),
    "ordered": collections.OrderedDict(a=1),
}


def check_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            check_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            check_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_of_every_protocol(protocol):
    check_same(load_pickle(pickle.dumps(CONTENT, protocol)), CONTENT)


def test_the_same_array_twice_is_the_same_array():
    array = np.arange(5)
    found = load_pickle(pickle.dumps([array, {"again": array}, [array]], 2))
    assert found[0] is found[1]["again"] is found[2][0] and found[0].tolist() == [0, 1, 2, 3, 4]


def test_sets_become_lists():
    assert load_pickle(pickle.dumps([{1}, frozenset((2,))], 4)) == [[1], [2]]
    assert load_pickle(pickle.dumps({3}, 2)) == [3]


@pytest.mark.parametrize("layout", ["old", "new"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_data_frames_without_pandas(protocol, layout):
    table = columns() | {"label": np.array(["Car", None] * 25, object), "w": np.arange(50.0)}
    found = load_pickle(gzip.compress(data_frame(table, protocol, layout)))
    assert set(found) == set(table)
    for name, values in table.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


class Calls:
    """Is pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


REFUSED = [
    (Calls(os.system, "touch hacked"), "numpy arrays and plain containers, got (posix|nt).system"),
    (Calls(eval, "1"), "got (builtins|__builtin__).eval"),
    (Calls(getattr, "", "join"), "got (builtins|__builtin__).getattr"),
    (Calls(np.load, "x"), "got numpy.load"),
    (Calls(pickle.loads, b"N."), "got _?pickle.loads"),
    (Calls(np.ndarray, (2,)), "a call of a class"),
    (datetime.timedelta(1), "got datetime.timedelta"),
    (np.zeros(2, [("a", "f4")]), "the numpy type V4|several fields"),
    (np.array(["2020"], "M8[D]"), "the numpy type"),
    (np.array([[1], "a"], object), "an array that holds a list"),
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(("thing", "words"), REFUSED)
def test_other_things_are_refused_by_name(tmp_path, monkeypatch, thing, words, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as found:
        load_pickle(pickle.dumps({"a": [thing]}, protocol))
    assert "\n" not in str(found.value) and str(found.value).startswith("expected numpy arrays")
    assert list(tmp_path.iterdir()) == []


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0t" + b"C\1btR"
TYPE = b"cnumpy\ndtype\n(" + text(b"f8") + b"K\0K\1tR"
HOSTILE = {
    "an array larger than its bytes": ARRAY
    + b"(K\1(J\xff\xff\xff\x7ft"
    + TYPE
    + b"\x89C\x08"
    + bytes(8)
    + b"tb",
    "a negative shape": ARRAY + b"(K\1(J\xff\xff\xff\xfft" + TYPE + b"\x89C\x08" + bytes(8) + b"tb",
    "objects of a pickled list": ARRAY + b"(K\1(K\2t" + TYPE.replace(b"f8", b"O8") + b"\x89]tb",
    "a state of a text": text(b"a") + b"}b",
    "an array filled twice": ARRAY + b"q\0" + (b"(K\1(K\1t" + TYPE + b"\x89C\x08" + bytes(8) + b"tb") * 2,
    "a memory that is not there": b"h\7",
    "a persistent id": b"K\1Q",
    "an extension": b"\x82\1",
    "a buffer elsewhere": b"\x97",
    "a number without an end": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "a text longer than the file": b"X\xff\xff\xff\xff",
    "bytes longer than the file": b"\x8e" + struct.pack("<Q", 2**62),
    "a tuple of tuples as a key": b"}(" + b")" + b"\x85" * 50000 + b"Nu",
    "a type that is a shape": b"cnumpy\ndtype\n(" + text(b"9999f8") + b"K\0K\1tR",
    "a type by another text": b"cnumpy\ndtype\n(" + text(b"{'a':1}") + b"K\0K\1tR",
    "a slice that is none": b"cbuiltins\nslice\n(tR",
    "a list of a list of a number": b"cbuiltins\nlist\n(K\1tR",
    "a codec that is none": b"c_codecs\nencode\n(" + text(b"a") + text(b"rot13") + b"tR",
    "nothing": b"",
    "only a mark": b"(",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused_in_one_line(raw):
    with pytest.raises(ValueError, match=r"^expected numpy arrays and plain containers") as found:
        load_pickle(b"\x80\4" + raw + (b"." if raw else b""))
    assert "\n" not in str(found.value)


def test_a_memory_far_away_costs_nothing():
    assert load_pickle(b"\x80\4Nr\xff\xff\xff\xff.") is None


def test_copies_of_the_same_text_end_before_memory_does():
    # The text of 1 MB is stored once and encoded ten thousand times.
    once = b"c_codecs\nencode\nq\0" + text(b"a" * 2**20) + b"q\1" + text(b"latin1") + b"q\2]"
    again = b"h\0h\1h\2\x86Ra"
    with pytest.raises(ValueError, match="many copies of the same"):
        load_pickle(b"\x80\4" + once + again * 10000 + b".")


def test_a_bomb_is_refused():
    bomb = gzip.compress(bytes(10**7))
    with pytest.raises(ValueError, match="expected at most 1000000 bytes when decompressed, got more"):
        load_pickle(bomb, most=10**6)


def test_words_say_what_was_expected():
    with pytest.raises(ValueError, match=r"^expected a list of frames, got a pickle that ends too early$"):
        load_pickle(pickle.dumps(CONTENT)[:-9], "a list of frames")


def test_published_info_files_and_data_frames(realdata):
    names = [
        "kitti_native/kitti_infos_train.pkl",
        "native/mmdet3d_infos/kitti_000008_v1.pkl",
        "native/scannet_mmdet3d/scannet_infos.pkl",
    ]
    for name in names:
        assert isinstance(load_pickle((realdata / name).read_bytes()), list)
    content = load_pickle((realdata / "native/mmdet3d_infos/nuscenes_v2.pkl").read_bytes())
    assert len(content["data_list"][0]["instances"]) == 69
    native = realdata / "pandaset_native" / "002"
    sweep = load_pickle((native / "lidar" / "20.pkl.gz").read_bytes())
    labels = load_pickle((native / "annotations" / "semseg" / "20.pkl.gz").read_bytes())
    assert list(sweep) == ["x", "y", "z", "i", "t", "d"] and list(labels) == ["class"]
    stored = np.fromfile(realdata / "pandaset_002_sequence" / "20_semseg.u8", np.uint8)
    np.testing.assert_array_equal(labels["class"][sweep["d"] == 0], stored)
    rows = np.fromfile(realdata / "pandaset_002_sequence" / "20_lidar.bin", np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(sweep["i"][sweep["d"] == 0].astype(np.float32), rows[:, 3])
    assert {"position.x", "label", "yaw"} <= set(
        load_pickle((native / "annotations" / "cuboids" / "20.pkl.gz").read_bytes())
    )


@pytest.mark.parametrize("name", ["f4,08", "(08)f4", "3f4", "f4,f4", "<f4\n", "f" * 17])
def test_numpy_types_that_are_no_one_type_are_one_line(name):
    """Numpy reads the text of several fields with Python's parser, which raises what it likes."""
    text = name.encode()
    raw = b"\x80\x04cnumpy\ndtype\n(X" + struct.pack("<I", len(text)) + text + b"K\0K\1tR."
    with pytest.raises(
        ValueError, match="expected numpy arrays and plain containers, got a numpy type without"
    ):
        load_pickle(raw)


def test_what_a_pickle_names_is_quoted_in_one_short_line():
    raw = b"\x80\x04\x8c\x02os\x8c\xff" + b"\x0c\x1b\xc2\x85 " * 51 + b"\x93)R."
    with pytest.raises(ValueError, match="expected numpy arrays and plain containers, got os") as caught:
        load_pickle(raw)
    assert len(str(caught.value)) < 320 and str(caught.value).isprintable()
