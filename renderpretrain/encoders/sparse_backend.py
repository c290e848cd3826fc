"""Which code multiplies: spconv where it works on this machine, the built-in convolution elsewhere.

Parameters belong to our layers; spconv is an engine they are lent to. So the same module tree, keys and
weights serve both, and a checkpoint does not know which one trained it.
"""

import importlib
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.encoders.rulebook import (
    ConvSpec,
    Rulebook,
    chained_rulebooks,
    strided_rulebook,
    submanifold_rulebook,
)
from renderpretrain.encoders.sparse_tensor import SparseTensor

Backend = Literal["auto", "spconv", "builtin"]


def sparse_backend(device: torch.device | str) -> str:
    """What ``"auto"`` means on a device: ``"spconv"`` or ``"builtin"``.

    spconv on CUDA where its self-test passes. On a CPU always the built-in, :func:`ops.sparse_conv3d`: spconv
    takes half as long again and more there (OpenPCDet's encoder on 75 000 voxels, forward and backward, one
    thread: 1.1 against 0.6 s) and fails under a CPU's autocast in backward.
    """
    on_card = torch.device(device).type == "cuda"
    return "spconv" if on_card and spconv_status(device)["ok"] else "builtin"


def spconv_status(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Whether spconv computes right on a device; tried once per process, unless :func:`agree_on` was told.

    Args:
        device: Such as ``"cpu"`` or ``"cuda:1"``.

    Returns:
        ``ok``, and in ``why`` the version that works or what went wrong.
    """
    place = _numbered(device)
    if place not in _STATUS:
        _STATUS[place] = _tried(place)
    return _STATUS[place]


def agree_on(device: torch.device | str, status: dict[str, Any]) -> None:
    """Take another process's word for :func:`spconv_status`: those that train together compute alike."""
    _STATUS[_numbered(device)] = status


_STATUS: dict[torch.device, dict[str, Any]] = {}


def _numbered(device: torch.device | str) -> torch.device:
    """The device with its number, where CUDA is there to number them."""
    place = torch.device(device)
    if place.type == "cuda" and place.index is None and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return place


def _tried(place: torch.device) -> dict[str, Any]:
    """Whether spconv passes its self-test on a device, and why not."""
    if place.type == "cuda" and not torch.cuda.is_available():
        return {"ok": False, "why": "no CUDA device is visible to torch"}
    try:
        if place.type == "cuda":
            _try_in_a_process_of_its_own(place)
        else:
            self_test(str(place))
        return {"ok": True, "why": f"spconv {importlib.import_module('spconv').__version__} works"}
    except Exception as error:
        # Not only ImportError: a broken binary package raises anything.
        return {"ok": False, "why": f"{type(error).__name__}: {error}".splitlines()[0]}


def run_conv(
    x: SparseTensor, weight: Float[Tensor, "D kz ky kx C"], spec: ConvSpec, backend: Backend
) -> SparseTensor:
    """Convolve, in the precision of the weight; its features are the result's.

    Under a GPU's autocast the built-in convolution multiplies in autocast's type, with sums in float32; a
    CPU's is left alone.

    Args:
        x: Input. Differentiable in its features.
        weight: In spconv 2's layout, see :class:`SubMConv3d`. Differentiable.
        spec: Geometry of the convolution.
        backend: ``"auto"`` asks :func:`sparse_backend`; ``"spconv"`` raises ``RuntimeError`` where that does
            not work.
    """
    device_type = x.features.device.type
    narrow = device_type == "cuda" and torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type) if narrow else weight.dtype
    with torch.autocast(device_type, enabled=False):
        x = x.with_features(x.features.to(weight.dtype))
        if spec.pointwise:
            # spconv stores the matrix of a single cell as (in, out), whatever the shape says.
            matrix = weight.view(weight.shape[4], weight.shape[0])
            return x.with_features(x.features @ matrix)
        if _chosen(x, spec, backend) == "spconv":
            return _run_spconv(x, weight, spec)
        return _run_builtin(x, weight, spec, dtype)


def with_strided(x: SparseTensor, convs: Sequence[tuple[ConvSpec, Backend]]) -> SparseTensor:
    """The tensor with :func:`with_rulebooks` of strided convolutions, where that spares waits for a GPU.

    Elsewhere a layer finds its own when it runs.

    Args:
        x: What the first one reads.
        convs: All of them in order, with the backend of each.
    """
    reading = [(spec, backend) for spec, backend in convs if not spec.pointwise]
    if not x.coords.is_cuda or len(reading) < 2:
        return x
    if any(_chosen(x, spec, backend) != "builtin" for spec, backend in reading):
        return x
    return with_rulebooks(x, [spec for spec, _ in reading])


def with_rulebooks(x: SparseTensor, specs: Sequence[ConvSpec]) -> SparseTensor:
    """The tensor with the rulebooks of strided convolutions, found together.

    Each of them reads the outputs of the one before, whatever runs between them keeps these voxels, and each
    has an ``indice_key`` of its own.
    """
    made = {book.spec.indice_key or "": book for book in chained_rulebooks(x, specs)}
    return replace(x, rulebooks={**x.rulebooks, "builtin": {**x.rulebooks.get("builtin", {}), **made}})


def self_test(device: str) -> None:
    """Raise unless spconv agrees with the built-in convolution on a small input, forward and backward.

    Values of a submanifold, a strided and the inverse convolution, and gradients by features and weights.
    """
    generator = torch.Generator().manual_seed(0)
    coords = torch.rand(2, 4, 4, 4, generator=generator).lt(0.5).nonzero().int()
    features = torch.rand(len(coords), 8, generator=generator)
    weight = torch.rand(8, 3, 3, 3, 8, generator=generator)
    strided = ConvSpec("strided", (3, 3, 3), (2, 2, 2), (1, 1, 1), "there")
    inverse = ConvSpec("inverse", (3, 3, 3), indice_key="there")
    for specs in ((ConvSpec("submanifold", (3, 3, 3)),), (strided,), (strided, inverse)):
        results = []
        for run, place in ((_run_spconv, device), (_run_builtin, "cpu")):
            x = SparseTensor(features.to(place), coords.to(place), (4, 4, 4), 2)
            results.append(_value_and_gradients(run, x, weight.to(place), specs))
        # Reduced precision (TF32) is fine, a wrong layout or a broken kernel is not.
        for what, ours, theirs in zip(
            ("", "gradient by features, ", "gradient by weights, "), *results, strict=True
        ):
            if not torch.allclose(ours, theirs, rtol=2e-2, atol=1e-2 * float(theirs.abs().max())):
                raise RuntimeError(f"spconv disagrees with the built-in convolution ({what}{specs[-1].kind})")


@torch.enable_grad()
def _value_and_gradients(
    run: Callable[[SparseTensor, Tensor, ConvSpec], SparseTensor],
    x: SparseTensor,
    weight: Tensor,
    specs: Sequence[ConvSpec],
) -> list[Tensor]:
    """Of convolutions one after the other, with the same weight: the volume, and gradients of its square."""
    features, weight = x.features.requires_grad_(), weight.requires_grad_()
    for spec in specs:
        x = run(x, weight, spec)
    volume = x.dense()
    grads = torch.autograd.grad(volume.square().sum(), (features, weight))
    return [tensor.detach().cpu() for tensor in (volume, *grads)]


def _chosen(x: SparseTensor, spec: ConvSpec, backend: Backend) -> str:
    """The backend of one call."""
    if spec.kind == "inverse":
        # The pairs to go back by lie where the strided convolution ran.
        return "spconv" if spec.indice_key in x.rulebooks.get("spconv", {}) else "builtin"
    if backend == "builtin" or len(x.coords) == 0:
        return "builtin"
    if backend == "auto":
        return sparse_backend(x.features.device)
    status = spconv_status(x.features.device)
    if not status["ok"]:
        raise RuntimeError(f"backend: expected spconv to work on {x.features.device}, got {status['why']}")
    return "spconv"


def _run_builtin(
    x: SparseTensor, weight: Tensor, spec: ConvSpec, dtype: torch.dtype | None = None
) -> SparseTensor:
    """Find the neighbours or take them from an earlier layer, then multiply, in ``dtype`` or as they are."""
    known = x.rulebooks.get("builtin", {})
    rulebook = _rulebook(x, spec, known.get(spec.indice_key or ""))
    kernel = weight.to(dtype or weight.dtype).flatten(1, 3).permute(1, 2, 0)
    features = x.features.to(kernel.dtype)
    features = ops.sparse_conv3d(features, kernel, rulebook.inputs, rulebook.outputs).to(weight.dtype)
    if spec.indice_key and spec.kind != "inverse":
        known = {**known, spec.indice_key: rulebook}
    rulebooks = {**x.rulebooks, "builtin": known}
    return SparseTensor(features, rulebook.out_coords, rulebook.out_shape, x.batch_size, rulebooks)


def _rulebook(x: SparseTensor, spec: ConvSpec, known: Rulebook | None) -> Rulebook:
    """The rulebook of one call."""
    if spec.kind == "strided":
        same = known is not None and known.in_coords is x.coords and known.in_shape == x.spatial_shape
        return known if known is not None and same and known.spec == spec else strided_rulebook(x, spec)
    if spec.kind == "submanifold" and known is None:
        return submanifold_rulebook(x, spec)
    rulebook = known.inverted() if known is not None and spec.kind == "inverse" else known
    fits = rulebook is not None and rulebook.spec.kernel_size == spec.kernel_size
    if rulebook is None or not fits or len(rulebook.in_coords) != len(x.coords):
        got = "none" if rulebook is None else f"{rulebook.spec.kernel_size} and {len(rulebook.in_coords)}"
        raise ValueError(
            f"indice_key: expected {spec.indice_key!r} to name pairs of kernel {spec.kernel_size} and "
            f"{len(x.coords)} voxels, got {got}"
        )
    return rulebook


def _run_spconv(x: SparseTensor, weight: Tensor, spec: ConvSpec) -> SparseTensor:
    """Run a convolution through spconv and give what our own code gives."""
    spconv = _import_spconv()
    engine = _engine(spec, weight.shape[4], weight.shape[0], x.features.device.type)
    known = x.rulebooks.get("spconv", {})
    if spec.kind == "strided":
        known = {key: value for key, value in known.items() if key != spec.indice_key}
    shape = list(x.spatial_shape)
    # spconv reads memory as rows without looking at strides, and torch.nonzero gives columns.
    features, coords = x.features.contiguous(), x.coords.int().contiguous()
    given = spconv.SparseConvTensor(features, coords, shape, x.batch_size, indice_dict=known)
    try:
        out = torch.func.functional_call(engine, {"weight": weight}, (given,))
    except ValueError as error:
        if "vanished" not in str(error):
            raise
        return _run_builtin(x, weight, spec)  # No output at all is an answer, not an error.
    rulebooks = {**x.rulebooks, "spconv": dict(out.indice_dict)}
    z, y, w = out.spatial_shape
    return SparseTensor(out.features, out.indices, (z, y, w), x.batch_size, rulebooks)


@cache
def _engine(spec: ConvSpec, in_channels: int, out_channels: int, device_type: str) -> nn.Module:
    """A module of spconv without memory of its own.

    In training mode and without bias it can always run backward.
    """
    spconv = _import_spconv()
    # The only algorithm spconv has on a CPU; on CUDA the default, implicit GEMM, is the fast one.
    algo = spconv.ConvAlgo.Native if device_type == "cpu" else None
    common = {"indice_key": spec.indice_key, "bias": False, "algo": algo}
    with torch.device("meta"):
        if spec.kind == "submanifold":
            padding = [k // 2 for k in spec.kernel_size]
            return spconv.SubMConv3d(
                in_channels, out_channels, list(spec.kernel_size), padding=padding, **common
            )
        if spec.kind == "inverse":
            return spconv.SparseInverseConv3d(in_channels, out_channels, list(spec.kernel_size), **common)
        return spconv.SparseConv3d(
            in_channels, out_channels, list(spec.kernel_size), list(spec.stride), list(spec.padding), **common
        )


@cache
def _import_spconv() -> Any:
    """``spconv.pytorch``; what its import warns of concerns its authors, not our users."""
    logging.getLogger("torch.fx._symbolic_trace").addFilter(_is_for_users)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("spconv.pytorch")


def _is_for_users(record: logging.LogRecord) -> bool:
    """Not the line about torch's own names that spconv's tensors cause; people take it for a fault."""
    return "is_fx_tracing will return true" not in record.getMessage()


def _try_in_a_process_of_its_own(place: torch.device) -> None:
    """Run the CUDA self-test where it may crash: a mismatched spconv ends the process instead of raising."""
    program = f"from renderpretrain.encoders.sparse_backend import self_test; self_test({str(place)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with signal {-done.returncode}"]
        raise RuntimeError(said[-1])
