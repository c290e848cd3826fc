"""Weights from other people's files: what lies beside them, what is damaged, and what is made to do harm."""

import io
import os
import pickle
import pickletools
import resource
import struct
import subprocess
import sys
import types
import zipfile
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from renderpretrain.storage.safetensors_file import DIGEST, pack_tensors
from renderpretrain.storage.weights import check_finite, read_weights


def weights():
    generator = torch.Generator().manual_seed(5)
    return OrderedDict(
        (name, torch.randn(shape, generator=generator)) for name, shape in (("stem.w", (4, 3)), ("b", (5,)))
    )


def same(read, expected):
    assert list(read) == list(expected)
    return all(torch.equal(read[key], expected[key]) for key in expected)


def class_of(monkeypatch, module, name, base=object):
    """An importable class of a framework that is not installed; pickle writes a reference to it."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        path = ".".join(parts[:i])
        if path not in sys.modules:
            monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
    made = type(name, (base,), {"__module__": module})
    monkeypatch.setattr(sys.modules[module], name, made, raising=False)
    return made


def settings(monkeypatch, module, name):
    """A framework's dictionary of settings."""
    made = class_of(monkeypatch, module, name, dict)(lr=0.1, nested={"a": [1, 2]})
    made.frozen = True
    return made


def plain_object(monkeypatch, module, name):
    """A framework's object, with numbers inside."""
    made = class_of(monkeypatch, module, name)()
    made.values, made.when = np.arange(3.0), datetime(2026, 1, 2)
    return made


BAGGAGE = {
    "yacs": lambda m: settings(m, "yacs.config", "CfgNode"),
    "easydict": lambda m: settings(m, "easydict", "EasyDict"),
    "omegaconf": lambda m: settings(m, "omegaconf.dictconfig", "DictConfig"),
    "ml_collections": lambda m: plain_object(m, "ml_collections.config_dict", "ConfigDict"),
    "mmengine": lambda m: plain_object(m, "mmengine.logging.history_buffer", "HistoryBuffer"),
    "somebody": lambda m: plain_object(m, "train_my_net", "Options"),
    "lightning": lambda m: {class_of(m, "pytorch_lightning.callbacks", "ModelCheckpoint"): {"best": "x"}},
    "defaultdict": lambda _: defaultdict(list, a=[1.0]),
    "counter": lambda _: Counter("abca"),
    "numpy": lambda _: {"ap": np.float64(0.3), "epoch": np.int64(7), "curve": np.zeros((2, 3), np.float32)},
    "python": lambda _: [
        {1, 2},
        frozenset((3,)),
        Path("a"),
        datetime(2026, 1, 2),
        1j,
        slice(1),
        b"x",
        {(1, 2): 3},
    ],
    "torch": lambda _: [torch.device("cuda:1"), torch.float16, torch.Size((2, 3)), torch.nn.Linear(2, 2)],
    "sparse": lambda _: torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("name", BAGGAGE)
def test_what_frameworks_leave_beside_weights_is_passed_over(name, old, tmp_path, monkeypatch):
    more = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "more": BAGGAGE[name](monkeypatch)}
    for protocol in (2, 4):
        torch.save(
            {"state_dict": weights(), **more},
            tmp_path / "w.pth",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=not old,
        )
        assert same(read_weights(tmp_path / "w.pth").tensors, weights())


PLACES = {
    "bare": lambda w: w,
    "parallel": lambda w: {f"module.{k}": v for k, v in w.items()},
    "compiled": lambda w: {"model": {f"_orig_mod.module.{k}": v for k, v in w.items()}},
    "nested": lambda w: {"checkpoint": None, "state_dict": {"model": w}, "model": {}},
    "defaultdict": lambda w: {"model": defaultdict(None, w)},
    "parameters": lambda w: {"model": {k: torch.nn.Parameter(v) for k, v in w.items()}},
    "self-distilled": lambda w: {"student": {"a": torch.ones(1)}, "teacher": w, "epoch": 3},
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_are_found_wherever_frameworks_put_them(place, tmp_path):
    torch.save(PLACES[place](weights()), tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth").tensors, weights())


def test_a_framework_s_own_dictionary_may_hold_the_weights(tmp_path, monkeypatch):
    torch.save(class_of(monkeypatch, "easydict", "EasyDict", dict)(model=weights()), tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth").tensors, weights())


def test_networks_beside_each_other_are_told_apart_by_their_names(tmp_path):
    torch.save(
        {"encoder": weights(), "decoder": {"w": torch.ones(1)}, "optimizer": weights()}, tmp_path / "w.pth"
    )
    found = read_weights(tmp_path / "w.pth").tensors
    assert same(found, {f"encoder.{k}": v for k, v in weights().items()} | {"decoder.w": torch.ones(1)})


def refused(path):
    with pytest.raises(ValueError) as error:
        read_weights(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and said.isprintable()
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"w": torch.ones(1).expand(2**33)}, "'w': expected a tensor with a number in every"),
        ({"w": torch.ones(9).as_strided((4, 4), (1, 1))}, "'w': expected a tensor with a number in every"),
        ({"w": torch.eye(3).to_sparse()}, "'w': expected a dense tensor, got a sparse_tensor"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "'w': expected a tensor of real numbers"),
        ({"w": torch.empty(2, device="meta")}, "'w': expected a dense tensor"),
        ({"w": torch.ones(1), "module.w": torch.ones(1)}, "expected one tensor w, got two"),
        ([torch.ones(1)], "expected a dictionary of tensors, got list; save the state_dict() alone"),
        (torch.nn.Linear(2, 2), "expected a dictionary of tensors, got torch.nn.modules.linear.Linear; save"),
        ({"w": [1, 2]}, "expected tensors by name, got 'w'"),
        ({}, "expected tensors by name, got nothing"),
    ],
)  # fmt: skip
def test_what_holds_no_plain_weights_is_one_line(state, said, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    assert said in refused(tmp_path / "w.pth")


def test_names_that_would_command_a_terminal_are_spelled_out(tmp_path):
    names = {"\x1b]0;owned\x07.w": r"\x1b]0;owned\x07.w", "a\u202eb": r"a\u202eb", "größe": "größe"}
    torch.save({name: torch.ones(1) for name in names}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth").tensors) == list(names.values())
    (tmp_path / "w.safetensors").write_bytes(pack_tensors({"\x1bw": torch.ones(1)}, {}))
    assert list(read_weights(tmp_path / "w.safetensors").tensors) == [r"\x1bw"]


def rewritten(path, change):
    """The archive with other records; checksums are those of what it holds then."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(records).items():
            kind = zipfile.ZIP_DEFLATED if isinstance(content, bytearray) else zipfile.ZIP_STORED
            archive.writestr(name, bytes(content), compress_type=kind)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r | {"w/data/0": bytearray(48)}, "refused: record 'w/data/0' is compressed"),
        (lambda r: r | {"w/bomb": bytearray(2**27)}, "refused: record 'w/bomb' is compressed"),
        (lambda r: r | {"w/data/0": bytes(44)}, "'stem.w': damaged: expected 48 bytes in record '0', got 44"),
        (lambda r: {k: v for k, v in r.items() if k != "w/data/0"}, "'stem.w': not a whole checkpoint (rec"),
        (lambda r: r | {"w/byteorder": b"big"}, "expected a file of a little-endian machine"),
        (lambda r: r | {"w/constants.pkl": b""}, "expected weights, got a program of torch.jit.save"),
        (lambda r: {"other": b"text"}, "not a whole checkpoint (torch.save did not write it)"),
        (lambda r: r | {"w/data.pkl": r["w/data.pkl"][:-30]}, "not a whole checkpoint (it ends too early)"),
    ],
)  # fmt: skip
def test_archives_that_were_tampered_with_are_refused_before_they_take_memory(change, said, tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    rewritten(tmp_path / "w.pth", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert said in refused(tmp_path / "w.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; the bomb has 128 MiB


def test_of_two_records_of_a_name_none_counts(tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w/data/0", archive.read("w/data/0")[::-1])
    assert "there are two records 'w/data/0'" in refused(tmp_path / "w.pth")


def test_weights_saved_on_a_card_are_read_without_one(tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    here, there = (len(name).to_bytes(4, "little") + name for name in (b"cpu", b"cuda:7"))
    rewritten(tmp_path / "w.pth", lambda r: r | {"w/data.pkl": r["w/data.pkl"].replace(here, there)})
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "w.pth", weights_only=True)
    read = read_weights(tmp_path / "w.pth").tensors
    assert same(read, weights()) and all(value.device.type == "cpu" for value in read.values())


def test_files_written_without_checksums_are_read(tmp_path):
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert same(read_weights(tmp_path / "w.pth").tensors, weights())


class Attack:
    """What a pickle says to call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("call", "known"),
    [
        ((os.system, "touch PWNED"), "posix.system"),
        ((eval, "open('PWNED', 'w')"), "__builtin__.eval"),
        ((exec, "open('PWNED', 'w')"), "__builtin__.exec"),
        ((subprocess.run, ["touch", "PWNED"]), "commands.run"),
        ((Path.touch, Path("PWNED")), ""),
        ((torch.hub.load, "a/b", "c"), ""),
        ((getattr, Path, "touch"), ""),
    ],
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before-1.6"])
def test_nothing_in_a_file_is_called(call, known, old, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": weights(), "x": Attack(*call)}, "w.pth", _use_new_zipfile_serialization=not old)
    if known:
        assert refused(Path("w.pth")) == f"refused: reading it would run {known}"
    else:
        assert same(read_weights(Path("w.pth")).tensors, weights())
    assert not Path("PWNED").exists()


LAUGHS = b"".join(b"\x86q" + bytes([i]) + b"h" + bytes([i]) for i in range(1, 250))
BOMBS = {
    "a key that takes 2^250 steps to hash": b"}q\x00NN" + LAUGHS + b"0K\x01s.",
    "a memory of a billion places": b"}r\xff\xff\xff\x3f.",
    "a text of 2^62 bytes": b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "bytes of 2^40": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a hundred thousand brackets": b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "ten thousand digits": b"I" + b"9" * 10_000 + b"\n.",
    "a name with an escape": b"c\x1b]0;owned\x07\nposix\n.",
    "a refused name with an escape": b"cos\n\x1b]0;owned\x07\n.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_small_pickles_do_not_take_time_or_memory(what, tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    rewritten(tmp_path / "w.pth", lambda records: records | {"w/data.pkl": b"\x80\x02" + BOMBS[what]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(tmp_path / "w.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_the_machine_knows_every_instruction_that_python_writes():
    from renderpretrain.storage import pickled

    known = {*pickled.PUSHED, *pickled.CONSTANTS, *pickled.CLASSES, *pickled.MEMORY, *pickled.INSTRUCTIONS}
    absent = {op.name for op in pickletools.opcodes} - known - {"PROTO", "FRAME", "STOP"}
    assert absent == {"EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
    for value in ([1], (1, 2, 3, 4), {"a": -1.5}, "é", b"\xff", 2**70, None, True):
        for protocol in range(6):
            stream = io.BytesIO(pickle.dumps(value, protocol))
            if not isinstance(value, bytes) or protocol > 2:
                assert pickled.read_pickle(stream) == value


def test_our_safetensors_are_the_same_bytes_and_refuse_every_flipped_bit(tmp_path, one_flipped_bit):
    path, text = tmp_path / "w.safetensors", {"format": "mine", "about": "x", "more": "y"}
    content = pack_tensors(weights(), text)
    assert content == pack_tensors(OrderedDict(reversed(weights().items())), dict(reversed(text.items())))
    path.write_bytes(content)
    read = read_weights(path)
    assert same(dict(sorted(read.tensors.items())), dict(sorted(weights().items())))
    assert {k: read.header[k] for k in text} == text
    for _ in one_flipped_bit(path, every=2):
        try:
            found = read_weights(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:  # the name of the digest itself
            assert DIGEST not in found.header and same(found.tensors, read.tensors)


def test_safetensors_of_others_are_read(tmp_path):
    save_file(weights(), tmp_path / "w.safetensors", {"format": "pt"})
    assert set(read_weights(tmp_path / "w.safetensors").tensors) == set(weights())


def test_weights_that_are_no_numbers_are_counted(tmp_path):
    check_finite({"a": torch.ones(3), "n": torch.tensor(3), "h": torch.ones(2).to(torch.float8_e4m3fn)}, "w")
    bad = {
        "a": torch.ones(3),
        "b": torch.tensor([1.0, float("nan"), float("inf")]),
        "c": torch.tensor(-torch.inf),
    }
    with pytest.raises(ValueError) as error:
        check_finite(bad, "w.pth: backbone", "do this")
    assert str(error.value) == (
        "w.pth: backbone: b: 2 of 3 numbers are NaN or infinite, and some in 1 more tensors; do this"
    )
    with pytest.raises(ValueError, match=r"^w: bn.running_var: 1 of 2 variances are below 0$"):
        check_finite({"bn.running_mean": -torch.ones(2), "bn.running_var": torch.tensor([0.0, -1e-9])}, "w")
