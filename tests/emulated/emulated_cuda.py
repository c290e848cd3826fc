"""``pytest -p emulated_cuda``: operators on CPU tensors run the CUDA kernels that ``build.py`` compiled.

``RENDERPRETRAIN_NATIVE`` names the folder that it wrote. Memory that the operators ask for is filled with NaN
first. ``CALLS`` counts the calls of every native function of the CUDA library.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import torch
from torch import Tensor

from renderpretrain import ops
from renderpretrain.ops import _native, _tensor_cores
from renderpretrain.ops.neus import num_parts

CALLS = Counter()
"""By name of a native function."""

_call, _call_on, _new_memory = _native._call, _native._call_on, _native.new_memory
NO_SCRATCH = {"composite_backward": 4, "neus_render_backward": 14, "sparse_conv3d": 7}
"""Functions, and which of their arguments is working memory on the CPU and nothing on CUDA."""


def as_on_cuda(name, first, others):
    """The arguments that the wrappers give on CUDA, where they need other working memory than on the CPU."""
    others = list(others)
    if name in NO_SCRATCH:
        others[NO_SCRATCH[name]] = None
    if name == "composite_values_backward":
        others[11] = poisoned(torch.empty_like(first))
    if name == "neus_render_backward":
        others[18] = poisoned(torch.empty(num_parts(first.numel()), dtype=torch.float64))
    return others


def call(name, first, *others):
    """``_native._call``, with the arguments of the CUDA library's functions on tensors of the CPU."""
    if name in _native._FUNCTIONS["cuda"]:
        others = as_on_cuda(name, first, others)
    return _call(name, first, *others)


def call_on(like, name, *values):
    """``_native._call_on``, which finds a function, with those of the CUDA library where it has one."""
    function = _native._FUNCTIONS["cuda"].get(name)
    if function is None:
        return _call_on(like, name, *values)
    CALLS[name] += 1
    return function(_native.TYPE_CODES[like.dtype], *values, None)


def poisoned(memory):
    """Memory full of numbers that spoil what reads them before it writes."""
    if memory.dtype == torch.bool:
        return memory.fill_(True)
    return memory.fill_(float("nan") if memory.is_floating_point() else -(2**30))


def new_memory(like, *shape, dtype=None):
    """``_native.new_memory``, poisoned."""
    memory = _new_memory(like, *shape, dtype=dtype)
    return poisoned(memory) if type(memory) is Tensor and memory.is_cpu else memory


def pytest_addoption(parser):
    parser.addoption("--most", type=int, default=0, help="sets of parameters per test, evenly chosen; 0: all")


def runs_kernels(item):
    """Whether a test runs our kernels on a device, and not PyTorch's checks, which repeat others' calls."""
    repeats = {"gradcheck", "gradgradcheck"} & set(item.function.__code__.co_names)
    if item.path.parent == Path(__file__).parent:
        return True
    if repeats or "check_operator" in item.fixturenames or not hasattr(item, "callspec"):
        return False
    return item.callspec.params.get("device") == "cpu" and "reference" not in item.callspec.id


def pytest_collection_modifyitems(config, items):
    """Leave the tests that run kernels, and so many sets of parameters of each as were asked for."""
    most, tests = config.getoption("--most"), defaultdict(list)
    for item in filter(runs_kernels, items):
        tests[item.path, item.originalname].append(item)
    kept = set()
    for same in tests.values():
        count = min(most or len(same), len(same))
        kept |= {same[i * len(same) // count] for i in range(count)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def has_tensor_cores(tensor):
    """``_tensor_cores.has_tensor_cores``, of the card that is emulated."""
    return tensor.dtype != torch.float64


REPLACED = {"new_memory": new_memory, "has_tensor_cores": has_tensor_cores}
"""Functions of the package, by name, that answer for a card here."""


def install():
    """Let operators on the CPU run the CUDA library's kernels."""
    if not ops.has_native("cuda"):
        raise RuntimeError(
            f"RENDERPRETRAIN_NATIVE has no emulated kernels: {ops.native_status()['cuda'].why}"
        )
    _native._call, _native._call_on = call, call_on
    before = {"new_memory": _new_memory, "has_tensor_cores": _tensor_cores.has_tensor_cores}
    for place, module in list(sys.modules.items()):
        for name, ours in REPLACED.items():
            if place.startswith("renderpretrain") and getattr(module, name, None) is before[name]:
                setattr(module, name, ours)


install()
