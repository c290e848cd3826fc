"""Tensors that say they are on ``cuda:0``, and what the host waits for; ``pretended_cuda`` is the way in."""

import re
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HERE = str(Path(__file__).resolve().parent)
CUDA = torch.device("cuda:0")
WAITS = Counter()
"""How often the host waited, by what for and the innermost line of the package or of a test."""

IMPLEMENTATIONS = {}
"""Our operators' functions for CUDA, by name."""

aten = torch.ops.aten
READS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "unique_dim"),
    *("is_nonzero", "equal", "bincount", "repeat_interleave", "item", "allclose"),
}
"""Operators whose result, or its size, is a number that the host must know."""

INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}
MEETS_CPU = {"copy_", "_to_copy", "set_", "equal"}
"""Operators that take tensors of the CPU beside those of CUDA; an index may be of the CPU, too."""

DEBUG_MODES = ("default", "warn", "error")
debug_mode = 0
"""Of these, by its place; ``torch.cuda.set_sync_debug_mode`` sets it."""


def _place():
    """File and line of the innermost frame of the package, else of a test, else of whoever calls."""
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(HERE)]
    for part in ("/renderpretrain/", "/tests/"):
        for frame in reversed(frames):
            if part in frame.filename and "/site-packages/" not in frame.filename:
                return frame.filename, frame.lineno
    return frames[-1].filename, frames[-1].lineno


def note(what):
    """Count a wait of the host."""
    filename, line = _place()
    short = re.sub(r".*/(renderpretrain|tests)/", "", filename)
    WAITS[what, f"{short}:{line}"] += 1
    message = f"called a synchronizing CUDA operation: {what} (pretended)"
    if debug_mode == DEBUG_MODES.index("error"):
        raise RuntimeError(message)
    if debug_mode:
        warnings.warn_explicit(message, UserWarning, filename, line)


@contextmanager
def waits_within():
    """Gives a counter that holds, once the block has ended, the waits within it."""
    before, found = WAITS.copy(), Counter()
    yield found
    found.update(WAITS - before)


class Pretended(Tensor):
    """A tensor that says it is on ``cuda:0``."""

    @staticmethod
    def __new__(cls, inner):
        strided = inner.layout == torch.strided
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride() if strided else None,
            storage_offset=inner.storage_offset() if strided else 0,
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
        )

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None):
        return f"Pretended({self.inner!r})"

    def data_ptr(self):
        return self.inner.data_ptr()

    def tolist(self):
        note("tolist")
        return self.inner.tolist()

    def numpy(self, *, force=False):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first (pretended)"
        )

    def is_pinned(self, device=None):
        return False

    def __deepcopy__(self, memo):
        copied = Pretended(self.inner.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied.detach(), self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)


def is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def is_cpu_tensor(value):
    return isinstance(value, Tensor) and not isinstance(value, Pretended)


def check_devices(func, name, args, kwargs):
    """Refuse tensors of the CPU, unless they are single numbers, as torch does with a card."""
    if name in INDEXES:
        args, kwargs = (args[0], *args[2:]), {}
    for value in tree_leaves((args, kwargs)):
        if is_cpu_tensor(value) and value.dim() > 0:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                f"{value.device}! ({func}, {tuple(value.shape)}, pretended)"
            )


def note_index(name, args):
    """What an index costs: a mask is counted first, and one on the CPU is copied."""
    indices = [index for index in args[1] if index is not None]
    if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
        note(f"{name} by a mask")
    elif any(is_cpu_tensor(index) for index in indices):
        note(f"{name} by an index on the CPU")


def note_copy(source, from_cuda, to_cuda, non_blocking):
    """Copies between the two memories wait, unless they need not; single numbers go with the launch."""
    if from_cuda == to_cuda or (source.dim() == 0 and to_cuda):
        return
    if not non_blocking:
        note("copy to the CPU" if from_cuda else "copy from the CPU")
    elif to_cuda and not source.is_pinned():
        note("copy from memory that is not pinned")


def note_waits(name, args, kwargs):
    """Count what torch would wait for with a card."""
    if name == "copy_":
        blocks = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        from_cuda, to_cuda = isinstance(args[1], Pretended), isinstance(args[0], Pretended)
        note_copy(args[1], from_cuda, to_cuda, not blocks)
    elif name == "_to_copy":
        from_cuda, device = isinstance(args[0], Pretended), kwargs.get("device")
        to_cuda = is_cuda(device) if device is not None else from_cuda
        note_copy(args[0], from_cuda, to_cuda, kwargs.get("non_blocking", False))
    elif name in INDEXES:
        note_index(name, args)
    elif name in READS and not (name == "repeat_interleave" and kwargs.get("output_size") is not None):
        note(name)


def on_cpu(value):
    """The tensor of the CPU below, and its device."""
    if isinstance(value, Pretended):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


def in_float32(func, args, kwargs):
    """A convolution of half precision, rounded once: torch has no such gradient on the CPU."""
    half = args[0].dtype
    wide = tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.dtype == half else x, args)
    return tree_map(lambda x: x.to(half) if isinstance(x, Tensor) else x, func(*wide, **kwargs))


def with_channels_apart(func, args, kwargs):
    """Batch normalisation of channels that lie behind one another.

    Rows and channels-last memory torch adds up in float32 on the CPU, one number after another.
    """
    like = args[0]

    def apart(x):
        alike = isinstance(x, Tensor) and x.shape == like.shape
        return x.movedim(1, 0).reshape(1, like.shape[1], -1) if alike else x

    def together(x):
        if not isinstance(x, Tensor) or x.dim() != 3:
            return x
        turned = x.reshape(like.shape[1], like.shape[0], *like.shape[2:]).movedim(0, 1)
        return torch.empty_like(like).copy_(turned)

    return tree_map(together, func(*tree_map(apart, args), **kwargs))


def result_on_cpu(func, name, args, kwargs):
    """What an operator gives for the tensors below."""
    args, kwargs = tree_map(on_cpu, args), tree_map(on_cpu, kwargs)
    if isinstance(kwargs.get("device"), str):
        kwargs["device"] = "cpu"
    kwargs.pop("pin_memory", None)
    if name in ("convolution", "convolution_backward") and args[0].dtype in (torch.bfloat16, torch.float16):
        return in_float32(func, args, kwargs)
    if "batch_norm" in name and args[0].dim() > 1 and args[0].dtype == torch.float32:
        return with_channels_apart(func, args, kwargs)
    out = func(*args, **kwargs)
    return out.clone() if name == "_to_copy" and out is args[0] else out


def run(func, args, kwargs):
    """An operator: ours by its function for CUDA, others on the CPU's tensors below."""
    space, name = func._schema.name.split("::")
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Pretended)]
    device = kwargs.get("device")
    if not given and not is_cuda(device):
        return func(*args, **kwargs)
    if space == "renderpretrain":
        with MODE:
            return IMPLEMENTATIONS[name](*args, **kwargs)
    if given and name not in MEETS_CPU:
        check_devices(func, name, args, kwargs)
    note_waits(name, args, kwargs)
    out = result_on_cpu(func, name, args, kwargs)
    if name == "copy_":
        return args[0]
    stays_on_cpu = given and device is not None and not is_cuda(device)
    known = {id(value.inner): value for value in given}

    def outer(value):
        if not is_cpu_tensor(value) or stays_on_cpu:
            return value
        return known[id(value)] if id(value) in known else Pretended(value)

    return tree_map(outer, out)


class Mode(TorchDispatchMode):
    """For what makes tensors on ``cuda`` out of nothing, and for what comes from the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


MODE = Mode()
