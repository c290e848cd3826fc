"""A device ``cuda:0`` made of CPU memory: code for ``cuda`` runs where there is no card, kernels included.

``pytest -p pretended_cuda -m gpu``, or ``import pretended_cuda`` before ``renderpretrain`` in a script, with
``RENDERPRETRAIN_NATIVE`` naming what ``tests/emulated/build.py`` made (``tests/emulated/run.py --pretended``
does both). Tensors on ``cuda`` are CPU tensors under another name. They refuse to meet tensors of the CPU as
those of a card do, their kernels are the CUDA library's, and each time the host waits for them is seen:

- ``WAITS`` counts them by ``(what, "file:line")``, the innermost line of the package or of a test;
- ``waits_within()`` gives those of a block: ``with waits_within() as found: step()``;
- ``torch.cuda.set_sync_debug_mode("warn")`` warns of each as torch does with a card.

A wait is what torch stops for with a card: a number that is read, a size that depends on numbers, a copy
that is not asked to be ``non_blocking``; and a copy from memory that is not pinned. Half-precision
convolutions run in float32 and are rounded. It leans on private parts of torch and refuses versions it was
not tried with. Its tensors cannot be traced: neither ``torch.compile`` nor ``opcheck`` works on them.
"""

import ctypes
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TRIED = ("2.13.0",)
"""Versions of torch, without what follows a plus sign."""


def _load_guard():
    """Build and load guard.cpp, once per version of torch, before torch is imported."""
    base = Path(importlib.util.find_spec("torch").origin).parent
    text = (base / "version.py").read_text()
    version = re.search(r"__version__ = '([^']+)'", text)[1]
    if version.partition("+")[0] not in TRIED or not re.search(r"^cuda.* = None", text, re.MULTILINE):
        raise RuntimeError(f"pretended CUDA needs torch {TRIED[-1]} for the CPU, this is {version}")
    library = ROOT / "build" / "emulated" / f"guard-{version}.so"
    if not library.exists() or library.stat().st_mtime < (HERE / "guard.cpp").stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        command = [*os.environ.get("CXX", "g++").split(), "-std=c++20", "-O1", "-fPIC", "-shared"]
        command += [
            str(HERE / "guard.cpp"),
            f"-I{base / 'include'}",
            f"-L{base / 'lib'}",
            "-lc10",
            "-ltorch_cpu",
        ]
        subprocess.run([*command, f"-Wl,-rpath,{base / 'lib'}", "-o", str(partial)], check=True)
        partial.replace(library)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


_load_guard()

import pretended_tensors  # noqa: E402
import torch  # noqa: E402
from pretended_tensors import CUDA, IMPLEMENTATIONS, MODE, WAITS, Pretended, note, waits_within  # noqa: E402

__all__ = ["WAITS", "waits_within"]


class Event:
    """``torch.cuda.Event`` of a device that has always finished."""

    def __init__(self, *args, **kwargs): ...

    def record(self, stream=None): ...

    def wait(self, stream=None): ...

    def synchronize(self):
        note("event")

    def query(self):
        return True

    def elapsed_time(self, other):
        return 0.0


class Stream:
    """``torch.cuda.Stream``, of which there is one."""

    cuda_stream, device = 0, CUDA

    def __init__(self, *args, **kwargs): ...

    def wait_stream(self, other): ...

    def wait_event(self, event): ...

    def record_event(self, event=None):
        return event or Event()

    def synchronize(self):
        note("stream")


def set_sync_debug_mode(mode):
    """``torch.cuda.set_sync_debug_mode``, for the waits that are seen here."""
    modes = pretended_tensors.DEBUG_MODES
    pretended_tensors.debug_mode = modes.index(mode) if isinstance(mode, str) else mode


CARD = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "init": lambda: None,
    "_lazy_init": lambda: None,
    "_lazy_call": lambda function, **more: function(),
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "device": lambda device: nullcontext(),
    "get_device_name": lambda device=None: "a pretended card",
    "get_device_capability": lambda device=None: (9, 0),
    "is_bf16_supported": lambda including_emulation=True: True,
    "Event": Event,
    "Stream": Stream,
    "stream": lambda stream: nullcontext(),
    "current_stream": lambda device=None: Stream(),
    "default_stream": lambda device=None: Stream(),
    "synchronize": lambda device=None: note("synchronize"),
    "is_current_stream_capturing": lambda: False,
    "set_sync_debug_mode": set_sync_debug_mode,
    "get_sync_debug_mode": lambda: pretended_tensors.debug_mode,
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "get_rng_state": lambda device="cuda": torch.get_rng_state(),
    "set_rng_state": lambda state, device="cuda": None,
    "memory_allocated": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "empty_cache": lambda: None,
}
"""``torch.cuda`` of a machine with one card; drawn numbers are those of the CPU's generator."""


def pytest_collection_modifyitems(config, items):
    """Leave out what traces tensors, or asks one function hundreds of times."""

    def traces(item):
        names = set(item.function.__code__.co_names)
        return "check_operator" in item.fixturenames or names & {"gradcheck", "gradgradcheck", "compile"}

    config.hook.pytest_deselected(items=[item for item in items if traces(item)])
    items[:] = [item for item in items if not traces(item)]


def install():
    """Let torch believe in the card, before the operators are registered."""
    torch.autograd.set_multithreading_enabled(False)
    # torch.tensor(..., device="cuda") then makes a tensor of the CPU and sends it, where it is seen.
    torch._C._set_only_lift_cpu_tensors(True)
    # Else a parameter that moves would keep its object and lose what it wraps.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    for name, value in CARD.items():
        setattr(torch.cuda, name, value)
    register = torch.library.Library.impl

    def impl(self, name, function, key="", **more):
        if key in ("CUDA", "CompositeExplicitAutograd") and self.ns == "renderpretrain":
            IMPLEMENTATIONS[name] = function
        return register(self, name, function, key, **more)

    torch.library.Library.impl = impl
    MODE.__enter__()
    from renderpretrain import ops

    # It makes constants anew for tensors of another type, which stand for others while a graph is traced.
    sys.modules["renderpretrain.ops.constant"].Tensor = Pretended
    if not ops.has_native("cuda"):
        raise RuntimeError(f"no emulated kernels: {ops.native_status()['cuda'].why}")


install()
