"""What the tensors of an operator must be, checked where every call of it passes, whoever calls.

The Python function of an operator says more and says it better, but an operator may also be called by its
name, and C follows what it is given. So the implementation is behind a contract, one line per tensor::

    Contract("f(Tensor x, Tensor? valid) -> Tensor", {"x": "float ... S", "valid": "bool ... S"})

The first word is the type: ``float`` (float32 or float64, one of them for all), ``stored`` (the same, or
half precision beside float32), ``bool``, ``int32``, ``int64``, ``integer`` (any). A ``~`` behind it leaves
the order in memory to the implementation; every other tensor is made dense. The rest are axes as in
:func:`~renderpretrain.checks.check_shape`; ``S+1`` is one more than ``S``, the axes that ``...`` takes are
the same for all, and ``*`` is any shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_TYPES = {"bool": (torch.bool,), "int32": (torch.int32,), "int64": (torch.int64,), "integer": INTEGERS}


class _Entry(NamedTuple):
    """One line of a contract."""

    place: int
    name: str
    line: str
    kind: str
    dense: bool
    leading: bool
    optional: bool
    axes: tuple[tuple[str, int], ...] | None  # a name and what is added to its size, or no name and a size


def _entry(place: int, name: str, line: str, optional: bool) -> _Entry:
    kind, *words = line.split()
    leading = words[:1] == ["..."]
    axes = []
    for word in words[leading:]:
        axis, _, more = word.partition("+")
        axes.append(("", int(axis)) if axis.isdigit() else (axis, int(more or 0)))
    shape = None if words == ["*"] else tuple(axes)
    return _Entry(place, name, line, kind.rstrip("~"), not kind.endswith("~"), leading, optional, shape)


class Contract:
    """Checks the arguments of one operator, and makes its tensors dense."""

    def __init__(self, schema: str, tensors: Mapping[str, str]) -> None:
        self.operator = schema.split("(")[0]
        arguments = [text.split() for text in schema[: schema.index(") ->")].split("(", 1)[1].split(", ")]
        places = {name: place for place, (_, name) in enumerate(arguments)}
        wanted = {name: kind.endswith("?") for kind, name in arguments if kind.startswith("Tensor")}
        if set(wanted) != set(tensors):
            raise ValueError(f"{self.operator}: expected a line for each of {sorted(wanted)}, got {tensors}")
        entries = [_entry(places[name], name, line, wanted[name]) for name, line in tensors.items()]
        # The computing type is known before what is stored is compared with it.
        self.entries = sorted(entries, key=lambda entry: entry.kind != "float")

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        """The arguments with dense tensors.

        Raises:
            ValueError: If a tensor is not what its line says, lies on another device, or has lost its memory.
        """
        given, sizes = list(arguments), dict[str, Any]()
        dtype = device = None
        for entry in self.entries:
            tensor = given[entry.place]
            if tensor is None:  # PyTorch lets nothing pass for a tensor that is not there
                if entry.optional:
                    continue
                raise ValueError(f"{self.operator}: {entry.name}: expected a tensor, got nothing")
            if device is None:
                device = tensor.get_device()
            if entry.kind == "float" and dtype is None:
                dtype = tensor.dtype
            if not (
                _type_fits(entry.kind, tensor.dtype, dtype)
                and _shape_fits(entry, tensor.shape, sizes)
                and tensor.get_device() == device
                and _has_memory(tensor)
            ):
                raise self._refusal(entry, tensor, dtype, sizes, device)
            if entry.dense:
                given[entry.place] = tensor.contiguous()
        return given

    def check_without_numbers(self, arguments: Sequence[Any]) -> None:
        """Raise ``ValueError`` where a tensor has memory although another is on the meta device.

        Without numbers the operator says what shapes come out, and nobody fills them.
        """
        for entry in self.entries:
            tensor = arguments[entry.place]
            if type(tensor) is Tensor and not tensor.is_meta:
                where = f"{self.operator}: {entry.name}"
                raise ValueError(f"{where}: expected the device of the others, meta, got {tensor.device}")

    def _refusal(
        self, entry: _Entry, tensor: Tensor, dtype: torch.dtype | None, sizes: dict[str, Any], device: Any
    ) -> ValueError:
        """Why a tensor is not taken."""
        where = f"{self.operator}: {entry.name}"
        if tensor.get_device() != device:
            return ValueError(f"{where}: expected the device of the others, got {tensor.device}")
        if not _has_memory(tensor):
            return ValueError(
                f"{where}: expected a tensor with its memory, got one whose storage was resized"
            )
        known = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        beside = f" beside {dtype}" if entry.kind in ("float", "stored") and dtype is not None else ""
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        return ValueError(f"{where}: expected {entry.line}{beside}{' with ' * bool(known)}{known}, got {got}")


def _type_fits(kind: str, dtype: torch.dtype, computed: torch.dtype | None) -> bool:
    if kind == "float":
        return dtype == computed and dtype in FLOATS
    if kind == "stored":
        if dtype in HALF:
            return computed is None or computed == torch.float32
        return dtype in FLOATS and (computed is None or dtype == computed)
    return dtype in _TYPES[kind]


def _shape_fits(entry: _Entry, shape: torch.Size, sizes: dict[str, Any]) -> bool:
    if entry.axes is None:
        return True
    first = len(shape) - len(entry.axes)
    if first < 0 or (first > 0 and not entry.leading):
        return False
    if entry.leading and sizes.setdefault("...", shape[:first]) != shape[:first]:
        return False
    for (axis, more), size in zip(entry.axes, shape[first:], strict=True):
        if size != (sizes.setdefault(axis, size - more) + more if axis else more):
            return False
    return True


def _has_memory(tensor: Tensor) -> bool:
    """Whether the elements lie within the storage, which may have been resized under the tensor."""
    if tensor.numel() == 0:
        return True
    last = tensor.storage_offset() + tensor.numel()
    if not tensor.is_contiguous():
        reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        last = tensor.storage_offset() + reach + 1
    return bool(last * tensor.element_size() <= tensor.untyped_storage().nbytes())
