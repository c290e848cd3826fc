"""``csrc/renderpretrain.h`` and what ctypes is told of it say the same: a wrong letter is a wild pointer."""

import ctypes
import re
from pathlib import Path

import pytest
import torch

from renderpretrain.ops import _native, _signatures
from renderpretrain.ops._cells import SORT_BINS, SORT_BLOCK
from renderpretrain.ops._sorted_voxels import MAX_KERNEL_ROWS
from renderpretrain.ops._tensor_cores import PARTS_PER_SLAB, ROW_GROUP
from renderpretrain.ops.composite import RAY_GROUP
from renderpretrain.ops.field_shape import MOST_HEADS
from renderpretrain.ops.fused_mlp import MOST_INPUTS
from renderpretrain.ops.injected_mlp import ACTIVATIONS
from renderpretrain.ops.neus import INTERVALS_PER_PART
from renderpretrain.ops.voxel_scatter import REDUCTIONS

HEADER = Path(__file__).parents[2] / "csrc" / "renderpretrain.h"
TEXT = re.sub(r"//[^\n]*", "", HEADER.read_text())
CONSTANTS = {name: int(value) for name, value in re.findall(r"#define RP_(\w+) \(?(-?\d+)\)?\s", TEXT)}
DECLARED = re.findall(r"RP_API ([\w ]+\*?) rp_(\w+)\(([^)]*)\);", TEXT)
STRUCTS = {name: body for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} rp_(\w+);", TEXT, re.S)}

OTHERS = {
    "abi_version": ("int", ["void"]),
    "error_text": ("const char*", ["int"]),
    "unusable": ("const char*", ["void"]),
    "has_code_cuda": ("bool", ["int", "int"]),
    "prefer_huge_pages_cpu": ("void", ["void*", "int64_t"]),
}
"""Functions that are no kernels; ``_native._open`` calls them as they are written here."""

ALONE = {"cpu": _signatures.CPU_SIGNATURES, "cuda": _signatures.CUDA_SIGNATURES}
"""What one device has and the other has not."""

LETTERS = {"int64_t": "n", "double": "d"} | {
    f"rp_{kind}*": letter
    for kind, letter in {
        "grid": "g",
        "box": "b",
        "frustum": "f",
        "lift": "l",
        "window": "w",
        "rays": "y",
        "field": "s",
        "mlp_inputs": "m",
    }.items()
}
TYPES = {"int64_t": ctypes.c_int64, "double": ctypes.c_double, "bool": ctypes.c_bool}
MIRRORS = {
    "grid": _signatures.Grid,
    "box": _signatures.Box,
    "frustum": _signatures.Frustum,
    "lift": _signatures.Lift,
    "window": _signatures.Window,
    "rays": _signatures.Rays,
    "mlp": _signatures.Mlp,
    "head": _signatures.Head,
    "field": _signatures.Field,
    "mlp_inputs": _signatures.MlpInputs,
}
TYPES |= {f"rp_{name}": MIRRORS[name] for name in ("grid", "mlp", "head")}


def arguments(text):
    """Types and names: ``const void* alphas, int64_t count`` gives ``void* alphas`` and ``int64_t count``."""
    pairs = []
    for argument in " ".join(text.split()).split(", "):
        kind, _, name = argument.removeprefix("const ").rpartition(" ")
        pairs.append((kind or name, name if kind else ""))
    return pairs


def letters_of(pairs):
    """What ctypes is told; a pointer to anything but a structure is a pointer."""
    return "".join(LETTERS.get(kind, "p" if kind.endswith("*") else f"<{kind}>") for kind, _ in pairs)


def fields_of(body):
    """Names and types of a structure's members, in order."""
    members = []
    for line in filter(None, (" ".join(line.split()) for line in body.split(";"))):
        kind, _, names = line.partition(" ")
        for name in names.split(", "):
            bare, _, count = name.rstrip("]").partition("[")
            size = CONSTANTS[count.removeprefix("RP_")] if count else 0
            members.append((bare, TYPES[kind] * size if size else TYPES[kind]))
    return members


def test_every_declaration_was_read():
    assert len(DECLARED) == TEXT.count("RP_API ") - 1  # the macro's own line
    assert set(STRUCTS) == set(MIRRORS) and TEXT.count("typedef") == len(STRUCTS)


@pytest.mark.parametrize("name", [name for _, name, _ in DECLARED])
def test_a_function_is_called_as_it_is_declared(name):
    returned, declared = next((r, arguments(a)) for r, n, a in DECLARED if n == name)
    if name in OTHERS:
        assert (returned, [kind for kind, _ in declared]) == OTHERS[name]
        return
    operator, _, device = name.rpartition("_")
    told = _signatures.SIGNATURES | ALONE[device]
    last = {"cpu": ("int64_t", "num_threads"), "cuda": ("void*", "stream")}[device]
    assert returned == "int" and declared[0] == ("int64_t", "type") and declared[-1] == last
    assert letters_of(declared[1:-1]) == told[operator]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_function_that_is_called_is_declared(device):
    told = set(_signatures.SIGNATURES) | set(ALONE[device])
    names = {name for _, name, _ in DECLARED} - set(OTHERS)
    assert told == {name.removesuffix(f"_{device}") for name in names if name.endswith(f"_{device}")}


@pytest.mark.parametrize("name", MIRRORS)
def test_a_structure_has_the_members_that_are_declared(name):
    def bare(member):
        return member.removeprefix("num_").removeprefix("size_")

    mirrored = [(bare(member), kind) for member, kind in MIRRORS[name]._fields_]
    assert mirrored == [(bare(member), kind) for member, kind in fields_of(STRUCTS[name])]


def test_letters_stand_for_what_the_header_names():
    structures = {
        letter: ctypes.POINTER(MIRRORS[kind[3:-1]]) for kind, letter in LETTERS.items() if "rp_" in kind
    }
    plain = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "d": ctypes.c_double}
    assert structures | plain == _native._LETTERS


def test_constants_are_those_of_the_header():
    types = {"FLOAT32": torch.float32, "FLOAT64": torch.float64, "FLOAT16": torch.float16}
    types |= {"BFLOAT16": torch.bfloat16, "INT64": torch.int64, "INT32": torch.int32}
    expected = {name: _native.TYPE_CODES[kind] for name, kind in types.items()} | {
        "ABI_VERSION": _native.ABI_VERSION,
        "OUT_OF_RANGE": _native.OUT_OF_RANGE,
        "RAY_GROUP": RAY_GROUP,
        "ROW_GROUP": ROW_GROUP,
        "PARTS_PER_SLAB": PARTS_PER_SLAB,
        "PART": INTERVALS_PER_PART,
        "SORT_BLOCK": SORT_BLOCK,
        "SORT_BINS": SORT_BINS,
        "MAX_KERNEL_ROWS": MAX_KERNEL_ROWS,
    }
    expected |= {name.upper(): code for name, code in REDUCTIONS.items()}
    # What Python has no use for: it raises for any code but OK.
    rest = {"OK": 0, "BAD_TYPE": -1, "TOO_LARGE": -2}
    expected |= {name.upper(): code for code, name in enumerate(ACTIVATIONS)}
    expected |= {"MOST_HEADS": MOST_HEADS, "MOST_INPUTS": MOST_INPUTS}
    assert expected | rest == CONSTANTS
