"""An encoder under a host's names, beside what the host itself has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from renderpretrain.encoders.key_tables import inverted, rename
from renderpretrain.transfer.architecture import role_of
from renderpretrain.transfer.columns import columns_of
from renderpretrain.transfer.encoder import Encoder
from renderpretrain.transfer.layouts import (
    Layout,
    Shape,
    Shapes,
    Tensors,
    convert_kernels,
    convert_shape,
    kernel_size,
)
from renderpretrain.transfer.part import Host, Part
from renderpretrain.transfer.report import NormReport, PartReport

HEADS = ("fc.", "head.", "classifier.")
"""Classifiers, which nobody takes along from or to an image network."""


@dataclass(frozen=True)
class Placed:
    """An encoder under a host's names and in its layout.

    Attributes:
        name: Ours.
        part: Its place there.
        tensors: By the host's keys, prefix included.
        ours: The key each comes from; absent for what was added.
        same: Keys whose numbers lie as they did.
        stock: Shapes of the host's own module.
        unused: What has no place there, by our keys.
        norm: Batch norm constants.
        columns: What it reads of a point, if it does.
    """

    name: str
    part: Part
    tensors: Tensors
    ours: Mapping[str, str]
    same: frozenset[str]
    stock: Shapes
    unused: Shapes
    norm: NormReport | None
    columns: tuple[str, ...] = ()


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shape of every tensor, by its key."""
    return {key: tuple(value.shape) for key, value in tensors.items()}


def place(name: str, encoder: Encoder, part: Part, host: Host) -> Placed:
    """Rename, reorder and convert an encoder's tensors into a host's."""
    names = {key: rename(key, part.table) for key in encoder.tensors}
    left = part.to_host({there: encoder.tensors[ours] for ours, there in names.items() if there is not None})
    stock = part.stock(shapes_of(left))
    own = Layout("KRSC", part.axes or "zyx")
    if part.axes is not None:
        left = convert_kernels(left, own, host.layout)
        stock = {k: convert_shape(s, own, host.layout) if len(s) == 5 else s for k, s in stock.items()}
    ours = {part.prefix + there: key for key, there in names.items() if there in left}
    full = {part.prefix + key: value for key, value in left.items()}
    return Placed(
        name,
        part,
        full,
        ours,
        frozenset(key for key, source in ours.items() if _same(full[key], encoder.tensors[source])),
        {part.prefix + key: shape for key, shape in stock.items()},
        {k: tuple(encoder.tensors[k].shape) for k in encoder.tensors if k not in ours.values()},
        _norm(encoder, part),
        columns_of(encoder),
    )


def compare(
    placed: Placed, host: Host, theirs: Shapes | None, checkpoint: Path | None
) -> tuple[Tensors, PartReport]:
    """What is written of an encoder, and the report on it.

    Args:
        placed: The encoder.
        host: Where it goes.
        theirs: Shapes of a checkpoint of the host's model; ``None`` compares with the stock module.
        checkpoint: Its file, for messages.

    Raises:
        ValueError: Naming the first key whose shapes differ, or that nothing lies where it should.
    """
    expected = placed.stock if theirs is None else _scope(placed, theirs, checkpoint)
    sparse = placed.part.axes is not None
    other = _other_layers(placed.tensors, expected, host.layout) if sparse else ()
    kept = {k: v for k, v in placed.tensors.items() if not k.startswith(tuple(other) or "\0")}
    _check_shapes(kept, expected, str(checkpoint or host.name), placed)
    unused = {s: tuple(placed.tensors[k].shape) for k, s in placed.ours.items() if k not in kept}
    shapes = shapes_of(kept)
    there = {k for k in kept if k in expected}
    report = PartReport(
        placed.name,
        placed.part.module,
        matched={k: shapes[k] for k in kept if k in there and k in placed.same},
        reshaped={k: shapes[k] for k in kept if k in there and k in placed.ours and k not in placed.same},
        added={k: shapes[k] for k in kept if k in there and k not in placed.ours},
        missing={k: s for k, s in expected.items() if k not in kept},
        unexpected={k: shapes[k] for k in kept if k not in there},
        unused=placed.unused | unused,
        norm=placed.norm,
    )
    return kept, report


def fixed_sizes(placed: Placed) -> str:
    """Why an encoder of other widths or stages than the host's code fixes fits none; empty if it fits.

    The last convolution does not count: with another kernel it is left out as another layer.
    """
    part, ours = placed.part, shapes_of(placed.tensors)
    last = f"{part.prefix}conv_out."
    differs = any(
        ours.get(k) != placed.stock.get(k) for k in {*ours, *placed.stock} if not k.startswith(last)
    )
    return f"; {part.fixed}" if part.fixed and differs else ""


def _same(after: Tensor, before: Tensor) -> bool:
    """Whether a tensor went through untouched."""
    return after.shape == before.shape and torch.equal(after, before)


def _norm(encoder: Encoder, part: Part) -> NormReport | None:
    """Batch norm constants of an encoder and of its host."""
    if part.norm is None or "momentum" not in encoder.spec:
        return None
    return NormReport((encoder.role.norm_eps, float(encoder.spec["momentum"])), part.norm)


def _scope(placed: Placed, theirs: Shapes, checkpoint: Path | None) -> Shapes:
    """The keys of a host's checkpoint that belong to a part."""
    part = placed.part
    if part.prefix:
        found = {k: s for k, s in theirs.items() if k.startswith(part.prefix)}
    else:
        way_back = inverted(part.table)
        mine = {k for k in theirs if rename(k, way_back) is not None and not k.startswith(HEADS)}
        found = {k: theirs[k] for k in theirs if k in mine}
    if not found:
        markers = [k for k in theirs if k.endswith("." + part.marker) or k == part.marker]
        where = (
            f"; {part.marker} lies under --prefix {markers[0].removesuffix(part.marker)!r}" if markers else ""
        )
        raise ValueError(f"{checkpoint}: no key begins with {part.prefix!r}{where}")
    return found


def _other_layers(tensors: Tensors, expected: Shapes, layout: Layout) -> list[str]:
    """Layers, by the beginning of their keys, that have another kernel in the host: not the same layer."""
    other = []
    for key, value in tensors.items():
        shape = expected.get(key, ())
        both = len(shape) == value.ndim == 5 and key.endswith("conv_out.0.weight")
        if both and kernel_size(tuple(value.shape), layout) != kernel_size(shape, layout):
            other.append(key.removesuffix("0.weight"))
    return other


def _columns_hint(key: str, ours: Shape, theirs: Shape, placed: Placed) -> str:
    """What to do where a host reads fewer columns of a point."""
    differing = [(a, b) for a, b in zip(ours, theirs, strict=False) if a != b]
    count, columns = len(placed.columns), placed.columns
    kernels = role_of(placed.part.kind).input_kernels
    if placed.ours.get(key) not in kernels or len(differing) != 1 or differing[0][0] != count:
        return ""
    there = differing[0][1]
    hint = f"; the host reads {there} columns of a point, {placed.name} {', '.join(columns)}"
    if there < count:
        hint += (
            f": --drop-column {columns[-1]} leaves one out that was 0 throughout training, "
            f"and pre-training with points=[{','.join(columns[:there])}] does without"
        )
    return hint


def _check_shapes(kept: Tensors, expected: Shapes, source: str, placed: Placed) -> None:
    """Raise on the first key that is there in another shape."""
    for key, value in kept.items():
        if key in expected and tuple(value.shape) != expected[key] and value.numel() > 1:
            hint = _columns_hint(key, tuple(value.shape), expected[key], placed)
            if value.ndim == 5 and sorted(value.shape) == sorted(expected[key]):
                hint = ": the kernels of two spconv versions; see --to mmdet3d and mmdet3d-0.17"
            raise ValueError(
                f"{source}: {key}: the host has {expected[key]}, {placed.name} {tuple(value.shape)}{hint}"
                f"{fixed_sizes(placed) if expected is placed.stock else ''}"
            )
