"""Which columns of a point an encoder reads: told, dropped where that changes nothing, and added."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from renderpretrain.recipes.columns import SWEEPS, TOGETHER
from renderpretrain.transfer.architecture import role_of
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.layouts import Tensors

UNITS = {
    "intensity": "intensity in 0 to 1 (nuScenes stores 0 to 255)",
    "lag": "time lag in seconds",
    "b": "b in -1 to 1 (color / 127.5 - 1)",
    "nz": "nz of unit length",
}
"""What to know of a column, in the place of its name."""


def columns_by_number(kind: str, count: int) -> tuple[str, ...]:
    """What encoders of that kind read in the frameworks, where nobody says; empty where none is known.

    Three to five are x, y, z, intensity and the time lag in that order; six of a U-Net colour and normal.
    """
    return next((names for names in role_of(kind).columns if len(names) == count), ())


def columns_of(encoder: Encoder) -> tuple[str, ...]:
    """What an encoder reads of a point: as recorded, else as its number of inputs says."""
    if encoder.role.reads != "points":
        return ()
    return encoder.columns or columns_by_number(encoder.kind, int(encoder.spec.get("in_channels") or 0))


def input_kernel(kind: str, tensors: Mapping[str, Tensor]) -> str | None:
    """The key of the convolution that reads the columns."""
    return next((key for key in role_of(kind).input_kernels if key in tensors), None)


def with_columns(kernel: Tensor, have: Sequence[str], want: Sequence[str]) -> Tensor:
    """An input convolution for other columns: in their order, with weights 0 for those it did not have."""
    none = torch.zeros_like(kernel[..., 0])
    return torch.stack([kernel[..., have.index(name)] if name in have else none for name in want], -1)


def fit_columns(encoder: Encoder, want: Sequence[str], whose: str) -> tuple[Encoder, tuple[str, ...]]:
    """An encoder for a recipe that reads other columns, and the columns that were added.

    What is added has weights 0: the encoder computes what it did, until it is trained.

    Args:
        encoder: One of any kind; nothing happens to one that does not read points.
        want: The recipe's columns.
        whose: Begins the message.

    Raises:
        ValueError: If the encoder reads a column that the recipe does not.
    """
    have, key = columns_of(encoder), input_kernel(encoder.kind, encoder.tensors)
    if not have or not want or key is None or tuple(have) == tuple(want):
        return encoder, ()
    lost = [name for name in have if name not in want]
    if lost:
        raise ValueError(
            f"{whose} reads {', '.join(lost)} of a point, which the recipe does not; "
            f"pre-train with points=[{','.join(have)}], or leave out what was 0 with export --drop-column"
        )
    tensors = {**encoder.tensors, key: with_columns(encoder.tensors[key], have, want)}
    spec = {**encoder.spec, "in_channels": len(want)}
    added = tuple(name for name in want if name not in have)
    return replace(encoder, spec=spec, tensors=tensors, columns=tuple(want), largest=()), added


def enter_columns(
    kind: str, tensors: Tensors, want: Sequence[str], whose: str
) -> tuple[Tensors, tuple[str, ...]]:
    """Another framework's weights for the columns that a recipe reads, and what is to be said of that.

    Args:
        kind: Of the encoder.
        tensors: Its weights under our keys; their input convolution's size tells what it reads.
        want: The recipe's columns; empty leaves the weights as they are.
        whose: Begins the message.

    Raises:
        ValueError: See :func:`fit_columns`.
    """
    key = input_kernel(kind, tensors)
    if key is None or tensors[key].ndim != 5:
        return tensors, ()
    theirs = Encoder({"kind": kind, "in_channels": tensors[key].shape[-1]}, tensors)
    try:
        fitted, added = fit_columns(theirs, want, whose + key)
    except ValueError as error:
        raise ValueError(f"{error}; import without --recipe keeps them") from error
    have, names = ", ".join(columns_of(theirs)), ", ".join(added)
    said = f"{key}: the file reads {have} of a point; the weights for {names} are 0"
    return fitted.tensors, (said,) if added else ()


def drop_columns(pretrained: Pretrained, names: Sequence[str]) -> tuple[Pretrained, tuple[str, ...]]:
    """Encoders that no longer read some columns, and what is to be said of each.

    Args:
        pretrained: The encoders.
        names: The columns.

    Raises:
        ValueError: If no encoder reads a column of that name, or it could not be left out without changing
            what the encoder computes.
    """
    notes: list[str] = []
    for name in names:
        readers = {n: e for n, e in pretrained.encoders.items() if name in columns_of(e)}
        if not readers:
            there = [", ".join(columns_of(e)) for e in pretrained.encoders.values() if columns_of(e)]
            raise ValueError(f"drop_column: expected one of {'; '.join(there) or 'none'}, got {name!r}")
        encoders = dict(pretrained.encoders)
        for part, encoder in readers.items():
            notes.append(f"{part}: {name} is left out: {_why_exact(encoder, name, part)}")
            encoders[part] = _without(encoder, name)
        pretrained = replace(pretrained, encoders=encoders)
    return pretrained, tuple(notes)


def _why_exact(encoder: Encoder, name: str, part: str) -> str:
    """Why a column can be left out.

    Raises:
        ValueError: If it cannot.
    """
    have = columns_of(encoder)
    kernel = encoder.tensors[str(input_kernel(encoder.kind, encoder.tensors))]
    if not kernel[..., have.index(name)].any():
        return "its weights are 0"
    reach = dict(zip(have, encoder.largest, strict=False)).get(name)
    if reach == 0 and max(encoder.largest) > 0:
        return "it was 0 throughout training"
    if name == "lag" and reach is None:
        return (
            "nothing is known of its training, and where the lag is 0, as for a single sweep, the file "
            "computes what the encoder does"
        )
    known = (
        "nothing is known of its values in training" if not reach else f"it went to {reach:.3g} in training"
    )
    group: Sequence[str] = next((group for group in TOGETHER if name in group), (name,))
    left = ",".join(other for other in have if other not in group) or ",".join(TOGETHER[0])
    raise ValueError(
        f"drop_column: {part}: {name}: expected a column that was 0 throughout training, or weights of 0; "
        f"{known}, so the encoder would compute something else (a constant cannot be folded into a sparse "
        f"convolution either, which sums over the neighbours there are); pre-train with points=[{left}]"
    )


def _without(encoder: Encoder, name: str) -> Encoder:
    """The encoder without a column."""
    have, key = columns_of(encoder), str(input_kernel(encoder.kind, encoder.tensors))
    left = tuple(other for other in have if other != name)
    return replace(
        encoder,
        spec={**encoder.spec, "in_channels": len(left)},
        tensors={**encoder.tensors, key: with_columns(encoder.tensors[key], have, left)},
        columns=left,
        largest=tuple(v for other, v in zip(have, encoder.largest, strict=False) if other != name),
    )


def read_by(pretrained: Pretrained) -> tuple[str, ...]:
    """What the one encoder that reads points reads of them; empty without one."""
    return next((columns_of(e) for e in pretrained.encoders.values() if columns_of(e)), ())


def columns_note(pretrained: Pretrained) -> tuple[str, ...]:
    """What a voxel is the mean of, with units, which no loader checks."""
    columns = read_by(pretrained)
    if not columns:
        return ()
    config: Mapping[str, Any] = pretrained.about.get("config") or {}
    scale = dict(zip(SWEEPS, config.get("input_scale") or (), strict=False))
    words = [
        UNITS.get(name, name) + (f" / {scale[name]:g}" if scale.get(name, 1) != 1 else "") for name in columns
    ]
    return (f"a voxel is the mean of its points' {', '.join(words)}",)
