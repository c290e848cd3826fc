"""Published encoders in: a host's checkpoint becomes a file that :func:`load_encoder` and recipes take."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from renderpretrain.encoders import ENCODERS
from renderpretrain.encoders.key_tables import inverted, rename
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.columns import columns_read
from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.runs.building import build_saved
from renderpretrain.storage import check_kept, check_target, write_atomically
from renderpretrain.storage.weights import Weights, check_finite, read_weights
from renderpretrain.transfer.architecture import Spec, build, describe, role_of
from renderpretrain.transfer.columns import columns_of, enter_columns
from renderpretrain.transfer.comparing import shapes_of
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.finding import by_module, find_part, kernel_layout, nothing_found
from renderpretrain.transfer.hosts import SOURCES
from renderpretrain.transfer.hosts.safetensors import to_bytes
from renderpretrain.transfer.layouts import (
    Layout,
    Shapes,
    Tensors,
    convert_kernels,
    kernel_size,
)
from renderpretrain.transfer.part import Host, Part
from renderpretrain.transfer.report import PartReport, TransferReport

COUNTERS = ("num_batches_tracked", "relative_position_index")
"""Ends of keys whose values are whole numbers."""


@dataclass(frozen=True)
class ImportOptions:
    """What is brought in.

    Attributes:
        recipe: For its encoders, with their sizes; without, sizes are those of the file.
        preset: Of the recipe.
        config: Settings of the recipe instead of a preset's.
        prefix: Where the encoder lies in the file, if not where it usually does.
        min_match: Least share of our encoders' parameters that must be filled.
        allow_nan: Whether weights may be NaN or infinite.
    """

    recipe: str | None = None
    preset: str = "paper"
    config: Mapping[str, Any] | None = None
    prefix: str | None = None
    min_match: int | float = 0.95
    allow_nan: bool = False


@dataclass(frozen=True)
class Import:
    """Encoders that were brought in, and the report on them."""

    pretrained: Pretrained
    report: TransferReport


def import_encoders(
    path: Path | str, source: str, out: Path | str | None = None, options: ImportOptions | None = None
) -> Import:
    """Read a checkpoint of another framework.

    Args:
        path: The checkpoint.
        source: A key of :data:`~renderpretrain.transfer.SOURCES`.
        out: A ``.safetensors`` file to write, for :func:`load_encoder`, ``pretrain --init`` and
            ``image.weights``; ``None`` writes none.
        options: What to take.

    Raises:
        ValueError: If ``out`` is the file itself, or that cannot be read safely, holds no encoder that is
            known, or one of other sizes than the recipe's: the first key that differs, with both shapes; or
            weights that are NaN or infinite. Nothing is written then.
    """
    if source not in SOURCES:
        raise ValueError(f"from: expected one of {', '.join(SOURCES)}, got {source!r}")
    if out is not None:
        check_target("out", Path(out))
        check_kept("out", Path(out), [Path(path)])
        if Path(out).suffix != ".safetensors":
            raise ValueError(f"out: expected a .safetensors file, got {out}")
    options, host = options or ImportOptions(), SOURCES[source]
    foreign = read_weights(Path(path))
    wanted = _recipe_targets(options)
    found = [_import_part(part, foreign, host, wanted, (str(path), options.prefix)) for part in host.parts]
    done = [pair for pair in found if pair is not None]
    if not done:
        recipe = None if wanted is None else (str(options.recipe), list(wanted))
        raise ValueError(f"{path}: {nothing_found(foreign, host, options.prefix, recipe)}")
    taken = {key for _, _, keys in done for key in keys}
    rest = by_module({k: v for k, v in shapes_of(foreign.tensors).items() if k not in taken})
    notes = (f"left in the file: {rest}",) if rest else ()
    report = TransferReport(f"from {host.name} ({host.title})", tuple(r for _, r, _ in done), notes=notes)
    for encoder, part, _ in () if options.allow_nan else done:
        check_finite(encoder.tensors, f"{path}: {part.name}", "--allow-nan takes them as they are")
    report.check(options.min_match, f"; compared with {_origin(options)}" if options.recipe else "")
    about: dict[str, Any] = {"source": f"{host.name}: {Path(path).name}"}
    if options.recipe is not None:
        about |= {"recipe": options.recipe, "preset": options.preset, "config": _recipe_config(options)}
    pretrained = Pretrained({r.name: encoder for encoder, r, _ in done}, about)
    if out is not None:
        content = to_bytes(pretrained)
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(out), lambda file: file.write(content))
    return Import(pretrained, report)


@dataclass(frozen=True)
class _Target:
    """What an encoder of a file becomes.

    Attributes:
        name: Ours.
        spec: What it is.
        shapes: Of its weights.
        origin: Whose sizes those are, where a recipe was named.
        columns: What it reads of a point; empty where it reads none, or what the file does.
    """

    name: str
    spec: Spec
    shapes: Shapes
    origin: str = ""
    columns: tuple[str, ...] = ()


Targets = Mapping[str, _Target]
Found = tuple[Encoder, PartReport, set[str]]


def _recipe_config(options: ImportOptions) -> Mapping[str, Any]:
    """The settings of the recipe asked for."""
    if options.recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, got {options.recipe!r}")
    presets = RECIPES[options.recipe].presets
    if options.preset not in presets:
        raise ValueError(f"preset: expected one of {', '.join(presets)}, got {options.preset!r}")
    return options.config or presets[options.preset].model_dump(mode="json")


def _recipe_targets(options: ImportOptions) -> Targets | None:
    """The recipe's encoders by kind, or ``None`` without a recipe."""
    if options.recipe is None:
        return None
    recipe = build_saved(options.recipe, dict(_recipe_config(options)))
    targets, read = {}, columns_read(recipe)
    for name, module in encoders_of(recipe).items():
        spec, shapes = describe(module), shapes_of(module.state_dict())
        columns = read if role_of(spec["kind"]).reads == "points" else ()
        targets[spec["kind"]] = _Target(name, spec, shapes, _origin(options), columns)
    return targets


def _origin(options: ImportOptions) -> str:
    """Which of a recipe's sizes a file is compared with, and how to choose others."""
    if options.config:
        return f"the given configuration of {options.recipe}"
    others = [name for name in RECIPES[str(options.recipe)].presets if name != options.preset]
    return f"{options.recipe}'s preset {options.preset}; --preset chooses another: {', '.join(others)}"


def _import_part(
    part: Part, foreign: Weights, host: Host, targets: Targets | None, where: tuple[str, str | None]
) -> Found | None:
    """One encoder of a file, its report, and the keys it took; ``None`` where the file has none such."""
    prefix = find_part(part, foreign.tensors, host, where[1])
    if prefix is None or part.kind not in (ENCODERS if targets is None else targets):
        return None
    below = {k.removeprefix(prefix): v for k, v in foreign.tensors.items() if k.startswith(prefix)}
    back = inverted(part.table)
    known = {key: value for key, value in below.items() if rename(key, back) is not None}
    try:
        layout = kernel_layout(part, known, foreign, (host, prefix))
    except ValueError as error:
        raise ValueError(f"{where[0]}: {error}") from error
    entered = _entered(part, known, layout, f"{where[0]}: {prefix}")
    ours = {str(rename(key, back)): value.contiguous() for key, value in entered.items()}
    target = _target_of_file(part, ours, f"{where[0]}: {prefix}") if targets is None else targets[part.kind]
    ours, notes = enter_columns(part.kind, ours, target.columns, f"{where[0]}: {prefix}")
    theirs = {str(rename(key, back)): key for key in entered}
    kept = _fitting(ours, theirs, target, f"{where[0]}: {prefix}")
    fresh = tuple(key for key in target.shapes if key not in kept)
    report = PartReport(
        target.name,
        f"{part.kind} (from {part.module}{f' below {prefix}' if prefix != part.prefix else ''})",
        matched={k: tuple(v.shape) for k, v in kept.items() if _untouched(v, known.get(theirs[k]))},
        reshaped={k: tuple(v.shape) for k, v in kept.items() if not _untouched(v, known.get(theirs[k]))},
        missing={key: target.shapes[key] for key in fresh},
        unused={
            prefix + k: tuple(v.shape)
            for k, v in below.items()
            if prefix and (k not in known or (k in entered and rename(k, back) not in kept))
        },
        notes=notes,
    )
    taken = below if prefix else [k for k in known if k not in entered or rename(k, back) in kept]
    encoder = Encoder(target.spec, kept, fresh, target.columns)
    return replace(encoder, columns=columns_of(encoder)), report, {prefix + k for k in taken}


def _entered(part: Part, known: Tensors, layout: Layout, where: str) -> Tensors:
    """Another framework's weights in our layout, still under its names."""
    for key, value in known.items():
        if not value.numel():
            raise ValueError(f"{where}{key}: expected numbers, got a tensor without any")
        if not value.is_floating_point() and not key.endswith(COUNTERS):
            raise ValueError(f"{where}{key}: expected floating-point numbers, got {value.dtype}")
    try:
        own = Layout("KRSC", part.axes or "zyx")
        return part.from_host(convert_kernels(known, layout, own) if part.axes else known)
    except (RuntimeError, IndexError, KeyError) as error:
        raise ValueError(f"{where}: no {part.kind}: tensors are missing or of other shapes") from error


def _untouched(value: Any, before: Any) -> bool:
    """Whether a tensor went through as it was."""
    return before is not None and value.shape == before.shape and bool((value == before).all())


def _target_of_file(part: Part, ours: Tensors, where: str) -> _Target:
    """An encoder of the file's own sizes."""
    try:
        spec = {"kind": part.kind, **ENCODERS[part.kind].sizes_of(ours)}
        if part.norm is not None:
            spec["momentum"] = part.norm[1]
        with torch.device("meta"):  # shapes alone
            return _Target(role_of(part.kind).name, spec, shapes_of(build(spec).state_dict()))
    except (ValueError, RuntimeError, LookupError, ArithmeticError, TypeError, StopIteration) as error:
        raise ValueError(f"{where}: no {part.kind} of ours ({error})") from error


def _fitting(ours: Tensors, theirs: Mapping[str, str], target: _Target, where: str) -> Tensors:
    """The weights that have a place here.

    Raises:
        ValueError: On the first of another shape; a last convolution of another kernel is another layer and
            left out.
    """
    last, own = "conv_out.0.weight", Layout()
    dropped = (
        last in ours
        and last in target.shapes
        and kernel_size(tuple(ours[last].shape), own) != kernel_size(target.shapes[last], own)
    )
    kept = {}
    for key, value in ours.items():
        if key not in target.shapes or (dropped and key.startswith("conv_out.")):
            continue
        if tuple(value.shape) != target.shapes[key]:
            raise ValueError(
                f"{where}{theirs[key]}: the file has {tuple(value.shape)} for {key}, "
                f"{target.name} {target.shapes[key]}{f' in {target.origin}' if target.origin else ''}"
            )
        kept[key] = value
    return kept
