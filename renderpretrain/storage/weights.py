"""Weights from files of whatever framework: the one reader that all parts of the project use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.storage.inert import Inert, StoredTensor
from renderpretrain.storage.safetensors_file import unpack_tensors
from renderpretrain.storage.torch_file import TorchFile, named, open_torch_file

Tensors = dict[str, Tensor]

NAMES = ("model_state", "state_dict", "model", "pipeline", "network", "model_state_dict", "module", "net")
AVERAGED = ("teacher", "student", "state_dict_ema", "model_ema", "ema")
WRAPPERS = (*NAMES, *AVERAGED)
"""Where frameworks put the weights beside optimiser state and counters; the first that has some counts."""

PARALLEL = ("module.", "_orig_mod.")
"""What data parallel training and torch.compile put in front of keys."""

MOST_TENSORS = 1_000_000
"""How many tensors a file may hold."""


@dataclass(frozen=True)
class Weights:
    """The weights in a file.

    Attributes:
        tensors: By their keys, without a wrapping ``module.``; on the CPU.
        versions: Version of each module that has one, as ``state_dict`` objects carry it (``_metadata``).
        header: Text beside the tensors of a safetensors file.
    """

    tensors: Tensors = field(repr=False)
    versions: Mapping[str, int] = field(default_factory=dict, repr=False)
    header: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_weights(path: Path) -> Weights:
    """The weights in a ``.safetensors`` file or in what ``torch.save`` wrote; no code of it is run.

    Checksums are compared wherever a file has some. Objects of other frameworks are passed over.

    Raises:
        ValueError: If it is no such file, only half of one, damaged, names what runs commands, or holds no
            weights; names the file.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"{path}: expected a checkpoint, found {found}")
    try:
        if path.suffix == ".safetensors":
            tensors, header = unpack_tensors(path)
            return Weights(_bare_keys(tensors), header=header)
        with open_torch_file(path) as file:
            return _weights_of(file)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: {_first_line(error)}") from error


def check_finite(tensors: Mapping[str, Tensor], where: str, advice: str = "") -> None:
    """Refuse weights that are NaN or infinite, and variances below zero, which make everything NaN.

    Args:
        tensors: By name.
        where: Whose they are, for the message.
        advice: What to do about it, likewise.

    Raises:
        ValueError: Naming the first, and how many there are.
    """
    bad = {}
    for key, value in tensors.items():
        if value.is_floating_point() and not value.is_meta:
            wide = value if value.dtype.itemsize > 1 else value.float()
            count = value.numel() - int(torch.isfinite(wide).sum())
            if count:
                bad[key] = f"{count} of {value.numel()} numbers are NaN or infinite"
            elif key.endswith("running_var") and (count := int((wide < 0).sum())):
                bad[key] = f"{count} of {value.numel()} variances are below 0"
    if bad:
        key, fault = next(iter(bad.items()))
        more = f", and some in {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        hint = f"; {advice}" if advice else ""
        raise ValueError(f"{where}: {key}: {fault}{more}{hint}")


def _weights_of(file: TorchFile) -> Weights:
    """The weights of what ``torch.save`` wrote, wherever in it they lie."""
    tree = _mapping(file.tree)
    if tree is None:
        got = file.tree.kind if isinstance(file.tree, Inert) else type(file.tree).__name__
        raise ValueError(f"expected a dictionary of tensors, got {got}; save the state_dict() alone")
    state = _wrapped(tree, 3) or _flat(tree)
    found = {str(k): v for k, v in state.items() if _is_tensor(v)}
    if not found:
        inner = next((tree[key] for key in WRAPPERS if isinstance(tree.get(key), dict)), tree)
        got = ", ".join(repr(k) for k in islice(inner, 5)) or "nothing"
        raise ValueError(f"expected tensors by name, got {got}")
    tensors = {
        key: named(repr(key), file.tensor, value) for key, value in found.items() if _dense(key, value)
    }
    metadata = getattr(state, "_metadata", None) or {}
    versions = {_bare(str(k)): v.get("version") for k, v in metadata.items() if isinstance(v, dict)}
    return Weights(_bare_keys(tensors), {k: v for k, v in versions.items() if isinstance(v, int)})


def _mapping(value: Any) -> dict[Any, Any] | None:
    """What a value holds as a dictionary, if it is one or an object of a framework's that is one."""
    if isinstance(value, Inert):
        return value.items or None
    return value if isinstance(value, dict) else None


def _is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or of a kind of tensors that is refused."""
    return isinstance(value, StoredTensor) or (
        isinstance(value, Inert) and value.kind.startswith("torch._") and "_rebuild_" in value.kind
    )


def _dense(key: str, value: Any) -> bool:
    """True, or a ``ValueError`` for tensors that are sparse, quantised or otherwise no plain numbers."""
    if isinstance(value, Inert):
        kind = value.kind.rpartition("_rebuild_")[2]
        raise ValueError(
            f"{key!r}: expected a dense tensor, got a {kind}; call .to_dense() before torch.save"
        )
    return True


def _wrapped(tree: dict[Any, Any], depth: int) -> dict[Any, Any] | None:
    """The dictionary of weights that a framework wraps, or the one given if it is that itself."""
    for key in WRAPPERS if depth else ():
        inner = _mapping(tree.get(key))
        found = _wrapped(inner, depth - 1) if inner else None
        if found is not None:
            return found
    return tree if any(map(_is_tensor, tree.values())) else None


def _flat(tree: dict[Any, Any]) -> dict[Any, Any]:
    """Dictionaries of weights beside each other as one, by dotted keys; optimisers are left out."""
    flat: dict[Any, Any] = {}
    for outer, value in tree.items():
        inner = None if str(outer).startswith("optim") else _mapping(value)
        for key, tensor in (_wrapped(inner, 2) or {}).items() if inner else ():
            flat[f"{outer}.{key}"] = tensor
        if len(flat) > MOST_TENSORS:
            raise ValueError(f"expected at most {MOST_TENSORS} tensors, got more")
    return flat or tree


def _bare(key: str) -> str:
    """A key without what wraps whole models."""
    while key.startswith(PARALLEL):
        key = key.partition(".")[2]
    return key


def _bare_keys(tensors: Tensors) -> Tensors:
    """Tensors by keys without wrapping; what no terminal should be sent is spelled out in them."""
    bare: Tensors = {}
    for key, value in tensors.items():
        shown = _bare(key) if key.isprintable() else repr(_bare(key))[1:-1]
        if shown in bare:
            raise ValueError(f"expected one tensor {shown}, got two, of which one is wrapped")
        bare[shown] = value
    return bare


def _first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def check_weights(module: nn.Module, state: Tensors, what: str) -> Tensors:
    """The weights of a module, all of them and no others.

    Raises:
        ValueError: Beginning with ``what``, naming the first key that does not fit, and both shapes.
    """
    own = module.state_dict()
    for key, value in own.items():
        if key not in state or state[key].shape != value.shape:
            got = tuple(state[key].shape) if key in state else "nothing"
            raise ValueError(f"{what}: {key}: expected {tuple(value.shape)}, got {got}")
    extra = next((key for key in state if key not in own), None)
    if extra:
        raise ValueError(f"{what}: {extra}: expected no such key, got {tuple(state[extra].shape)}")
    return state
