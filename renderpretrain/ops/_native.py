"""The compiled libraries, one per device, and the call of their functions.

They know nothing of torch: plain C functions over pointers and sizes, declared in ``csrc/renderpretrain.h``
and listed again in ``_signatures.py``. They are loaded once, when this module is imported.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from renderpretrain.ops._signatures import (
    CPU_SIGNATURES,
    CUDA_SIGNATURES,
    SIGNATURES,
    Box,
    Field,
    Frustum,
    Grid,
    Lift,
    MlpInputs,
    Rays,
    Window,
)

ABI_VERSION = 6
"""``RP_ABI_VERSION`` of ``csrc/renderpretrain.h``; a library with another was built from other sources."""


_LETTERS: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "n": ctypes.c_int64,
    "d": ctypes.c_double,
    "g": ctypes.POINTER(Grid),
    "b": ctypes.POINTER(Box),
    "f": ctypes.POINTER(Frustum),
    "l": ctypes.POINTER(Lift),
    "w": ctypes.POINTER(Window),
    "y": ctypes.POINTER(Rays),
    "s": ctypes.POINTER(Field),
    "m": ctypes.POINTER(MlpInputs),
}
TYPE_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int64: 4,
    torch.int32: 5,
}
"""``RP_FLOAT32`` and so on, for the functions that take the type of one of their arrays."""

OUT_OF_RANGE = -3
"""The error code ``RP_OUT_OF_RANGE`` of the kernels."""

INT32_LIMIT = 2**31
"""Points, rows, voxels and cells are numbered in 32 bits: there are fewer than this."""

HUGE_PAGES_FROM = 4 << 20
"""Bytes from which new memory is asked for in huge pages: below, the request costs what it saves."""

_FOLDER = Path(__file__).parent.parent / "_native"
_LEVELS = {"AVX512": ("cpu_avx512", "cpu_avx2", "cpu"), "AVX2": ("cpu_avx2", "cpu")}
"""Libraries a processor can run, best first, by what PyTorch calls its instruction set."""


class NativeStatus(NamedTuple):
    """Whether a device's kernels run, and why or why not in words for a person."""

    ok: bool
    why: str


class _Refused(Exception):
    """Why a library is not used."""


def _library(device_type: str) -> Path:
    """The file to open, the best this processor runs; ``RENDERPRETRAIN_NATIVE`` may name another folder."""
    asked = os.environ.get("RENDERPRETRAIN_NATIVE")
    if asked == "0":
        raise _Refused("switched off by RENDERPRETRAIN_NATIVE=0")
    names: tuple[str, ...] = (device_type,)
    if device_type == "cpu":
        names = _LEVELS.get(torch.backends.cpu.get_cpu_capability(), names)
    for name in names:
        path = Path(asked or _FOLDER) / f"librenderpretrain_{name}.so"
        if path.is_file():
            return path
    raise _Refused(f"{path.name} was not built")


def _open(device_type: str) -> dict[str, Callable[..., Any]]:
    """The native functions of a device by name."""
    path = _library(device_type)
    library = ctypes.CDLL(str(path))
    version = library.rp_abi_version()
    if version != ABI_VERSION:
        raise _Refused(f"{path.name} has version {version}, expected {ABI_VERSION}: build it again")
    library.rp_unusable.restype = library.rp_error_text.restype = ctypes.c_char_p
    reason = library.rp_unusable()
    if reason:
        raise _Refused(reason.decode())
    last = ctypes.c_void_p if device_type == "cuda" else ctypes.c_int64
    functions: dict[str, Callable[..., Any]] = {"error_text": library.rp_error_text}
    signatures = {**SIGNATURES, **(CPU_SIGNATURES if device_type == "cpu" else CUDA_SIGNATURES)}
    for name, letters in signatures.items():
        function = library[f"rp_{name}_{device_type}"]
        function.argtypes = [ctypes.c_int64, *(_LETTERS[letter] for letter in letters), last]
        functions[name] = function
    if device_type == "cpu":
        functions["prefer_huge_pages"] = library.rp_prefer_huge_pages_cpu
        library.rp_prefer_huge_pages_cpu.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    else:
        functions["has_code"] = library.rp_has_code_cuda
        library.rp_has_code_cuda.restype = ctypes.c_bool
    return functions


_FUNCTIONS: dict[str, dict[str, Callable[..., Any]]] = {}
_STATUS: dict[str, NativeStatus] = {}
for _device in ("cpu", "cuda"):
    try:
        _FUNCTIONS[_device] = _open(_device)
        _STATUS[_device] = NativeStatus(True, f"compiled kernels, {_library(_device).name}")
    except (_Refused, OSError, AttributeError) as _error:
        _STATUS[_device] = NativeStatus(False, f"plain PyTorch: {_error}")


def _look_at_cards() -> None:
    """Leave CUDA to plain PyTorch if the library has no code for one of the cards that PyTorch sees."""
    for card in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(card)
        if not _FUNCTIONS["cuda"]["has_code"](major, minor):
            why = f"plain PyTorch: {_library('cuda').name} has no code for {torch.cuda.get_device_name(card)}"
            _STATUS["cuda"] = NativeStatus(False, f"{why}, compute capability {major}.{minor}: build it anew")
            del _FUNCTIONS["cuda"]
            return


if "cuda" in _FUNCTIONS:
    torch.cuda._lazy_call(_look_at_cards)  # once CUDA starts: asking now would start it


def has_native(device_type: str) -> bool:
    """Whether tensors on this type of device (``"cpu"``, ``"cuda"``, ...) meet compiled kernels."""
    return device_type in _FUNCTIONS


def native_status() -> dict[str, NativeStatus]:
    """Per device type: whether its kernels run, and why or why not.

    Whether there is code for the cards is known once CUDA has started, as ``torch.cuda.init()`` does.
    """
    return dict(_STATUS)


def new_memory(like: Tensor, *shape: int | torch.SymInt, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory for a kernel to fill, on the device of ``like`` and, by default, of its type.

    A tensor that stands for others while a graph is traced (a subclass of ``Tensor``) has no memory; not even
    its size is looked at, for that would tie the graph to it.
    """
    out = like.new_empty(shape, dtype=dtype)
    if type(out) is Tensor and out.is_cpu and "cpu" in _FUNCTIONS:
        num_bytes = out.nbytes
        if num_bytes >= HUGE_PAGES_FROM:
            _FUNCTIONS["cpu"]["prefer_huge_pages"](out.data_ptr(), num_bytes)
    return out


def _check_together(name: str, first: Tensor, others: tuple[Any, ...]) -> None:
    """The last net before an address of one device is read on another."""
    index = first.get_device()
    for value in others:
        if isinstance(value, Tensor) and value.get_device() != index:
            raise ValueError(f"{name}: expected tensors on one device, got {first.device} and {value.device}")


def launch(name: str, first: Tensor, *others: Any) -> None:
    """Call the native function ``name`` on the device of its first argument.

    Tensors are passed as pointers, so they must be dense in the order the function reads; ``None`` is a null
    pointer; numbers and structures go as they are. On CUDA the call returns before the kernel ends.
    """
    code = _call(name, first, *others)
    if code != 0:
        text = _FUNCTIONS[first.device.type]["error_text"](code).decode()
        raise RuntimeError(f"renderpretrain: {name} failed on {first.device}: {text}")


def answer(name: str, first: Tensor, *others: Any) -> bool:
    """What a native function says of its arguments: false where something is out of range."""
    code = _call(name, first, *others)
    if code not in (0, OUT_OF_RANGE):
        raise RuntimeError(f"renderpretrain: {name} failed with code {code}")
    return code == 0


def scratch_size(name: str, like: Tensor, *others: Any) -> int:
    """How many numbers of working memory a native function asks for on the device of a tensor.

    Args:
        name: Of the function that says so; its first argument is where it writes the number.
        like: Of the device and the type of the numbers.
        others: Its further arguments.
    """
    count = ctypes.c_int64()
    code = _call_on(like, name, ctypes.addressof(count), *others)
    if code != 0:
        raise RuntimeError(f"renderpretrain: {name} failed with code {code}")
    return count.value


def _call(name: str, first: Tensor, *others: Any) -> int:
    """The error code of a native function."""
    if len(_FUNCTIONS) > 1:  # elsewhere there is one kind of memory
        _check_together(name, first, others)
    values = [value.data_ptr() if isinstance(value, Tensor) else value for value in others]
    return _call_on(first, name, first.data_ptr(), *values)


def _call_on(like: Tensor, name: str, *values: Any) -> int:
    """The error code of a native function for the device and the type of a tensor."""
    functions = _FUNCTIONS.get(like.device.type)
    if functions is None:  # an operator called by its name, where its Python function takes the reference
        raise RuntimeError(f"renderpretrain: {name} has no kernel here; {_STATUS[like.device.type].why}")
    arguments = (TYPE_CODES[like.dtype], *values)
    if like.is_cuda:
        with torch.cuda.device(like.device):
            return int(functions[name](*arguments, torch.cuda.current_stream().cuda_stream))
    return int(functions[name](*arguments, torch.get_num_threads()))
