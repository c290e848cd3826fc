"""Encoders to the file that a host reads, checked before anything is written."""

import io
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import renderpretrain
from renderpretrain.encoders.key_tables import dotted
from renderpretrain.runs import TrainedRun
from renderpretrain.storage import check_kept, check_target, write_atomically
from renderpretrain.storage.safetensors_file import pack_tensors
from renderpretrain.storage.weights import check_finite, read_weights
from renderpretrain.transfer.columns import columns_note, drop_columns
from renderpretrain.transfer.comparing import Placed, compare, fixed_sizes, place, shapes_of
from renderpretrain.transfer.encoder import Pretrained, choose_part
from renderpretrain.transfer.hosts import HOSTS
from renderpretrain.transfer.hosts.safetensors import snippet as own_snippet
from renderpretrain.transfer.hosts.safetensors import to_bytes
from renderpretrain.transfer.layouts import Layout, Shapes, Tensors
from renderpretrain.transfer.onnx_file import onnx_network
from renderpretrain.transfer.part import Host
from renderpretrain.transfer.pretrained import from_run, read_pretrained
from renderpretrain.transfer.report import PartReport, TransferReport
from renderpretrain.transfer.snippets import notes_for, snippet, unfinished, with_path
from renderpretrain.transfer.verify import TOLERANCE, verify_part


@dataclass(frozen=True)
class ExportOptions:
    """How strict an export is.

    Attributes:
        host_checkpoint: A checkpoint of the host's own model to compare with, instead of its stock module.
        prefix: Where the encoder lies in the host's model, if not where it usually does.
        part: Only this encoder, or these: ``image_backbone+image_neck``.
        min_match: Least share of the host's parameters that must be filled.
        verify: Run our encoder and a re-statement of the host's on the file, and compare.
        drop_columns: Columns of points that the host does not have and that were 0 in training.
    """

    host_checkpoint: Path | None = None
    prefix: str | None = None
    part: str | None = None
    min_match: int | float = 0.95
    verify: bool = False
    drop_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """A file about to be written, and what is to be known of it.

    Attributes:
        content: The file.
        report: What arrives.
        snippet: Lines of the host's configuration; ``FILE`` stands for a file that is not written yet.
        step: Of the checkpoint whose weights they are; ``None`` where there was none.
    """

    content: bytes = field(repr=False)
    report: TransferReport
    snippet: str
    step: int | None = None


def export_encoders(
    source: Path | str | Pretrained | TrainedRun,
    to: str,
    out: Path | str,
    options: ExportOptions | None = None,
) -> Export:
    """Write the encoders of a run for a host.

    Args:
        source: A run folder, also as :func:`~renderpretrain.runs.read_run` reads it; a file of our encoders;
            or encoders in memory.
        to: A key of :data:`~renderpretrain.transfer.HOSTS`, ``"safetensors"`` or ``"onnx"``.
        out: The file; what stood there stays unless everything went well.
        options: How strict to be.

    Raises:
        ValueError: If ``out`` is one of the files that are read or lies beside a run's checkpoints, its name
            is of another kind, the host has no place for any encoder, a column cannot be left out, shapes
            differ, too little matches, weights are NaN or infinite, or the outputs differ; nothing is
            written then.
    """
    out, options = Path(out), options or ExportOptions()
    check_target("out", out)
    check_kept("out", out, _read_from(source, options))
    plain = out.suffix == ".safetensors"
    if to in HOSTS and HOSTS[to].wrapper is not None and plain:
        raise ValueError(f"out: {to} reads what torch.save writes; expected a .pth file, got {out}")
    suffix = {"safetensors": ".safetensors", "onnx": ".onnx"}.get(to, out.suffix)
    if out.suffix != suffix:
        article = "an" if to == "onnx" else "a"
        raise ValueError(f"out: expected {article} {suffix} file, got {out}")
    pretrained = _encoders_of(source)
    done = prepare_export(pretrained, to, options, plain=plain)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(done.content))
    return replace(done, snippet=with_path(done.snippet, out), step=pretrained.about.get("step"))


def prepare_export(pretrained: Pretrained, to: str, options: ExportOptions, *, plain: bool = False) -> Export:
    """Everything but the writing; ``plain`` makes a safetensors file where the host reads bare tensors."""
    pretrained, dropped = drop_columns(_chosen(pretrained, options.part), options.drop_columns)
    for name, encoder in pretrained.encoders.items():
        check_finite(encoder.tensors, name, "such weights are not exported")
    if to == "safetensors":
        _check_ours(options)
        return _our_file(pretrained, dropped)
    if to == "onnx":
        _check_onnx(options)
        return Export(*onnx_network(pretrained))
    if to not in HOSTS:
        raise ValueError(f"to: expected one of {', '.join([*HOSTS, 'safetensors', 'onnx'])}, got {to!r}")
    host = HOSTS[to]
    prefix = dotted(options.prefix)
    placed, unplaced = _place_all(pretrained, host, prefix)
    theirs: Shapes | None = None
    if options.host_checkpoint is not None:
        theirs = shapes_of(read_weights(options.host_checkpoint).tensors)
    compared = [compare(part, host, theirs, options.host_checkpoint) for part in placed]
    reports = [report for _, report in compared]
    notes = (*dropped, *notes_for(pretrained, host))
    report = TransferReport(f"{host.name} ({host.title})", tuple(reports), unplaced, notes)
    report.check(options.min_match, "".join(map(fixed_sizes, placed)) if theirs is None else "")
    tensors = {key: value for kept, _ in compared for key, value in kept.items()}
    content = serialize(tensors, host, plain=plain)
    if options.verify:
        report = replace(report, parts=_verified(pretrained, host, content, reports, prefix))
    return Export(content, report, snippet(pretrained, host, tensors, plain=plain))


def serialize(tensors: Tensors, host: Host, *, plain: bool = False) -> bytes:
    """The file a host reads: its wrapping, its prefix for parallel training, its layout's version."""
    state: OrderedDict[str, Any] = OrderedDict((host.outer + k, v.contiguous()) for k, v in tensors.items())
    if host.wrapper is None and plain:
        return pack_tensors(state, {})
    if host.versions:
        # As nn.Module.state_dict keeps it; the loader asks for the version of every sparse convolution.
        modules = {k.removesuffix(".weight") for k, v in state.items() if v.ndim == 5}
        state._metadata = OrderedDict({m: {"version": 2} for m in sorted(modules)})  # type: ignore[attr-defined]
    content = io.BytesIO()
    maker = f"renderpretrain {renderpretrain.__version__}"
    beside = {"version": maker} if host.wrapper == "model_state" else {"meta": {"made_by": maker}}
    torch.save(state if host.wrapper is None else {host.wrapper: state, **beside}, content)
    return content.getvalue()


def _encoders_of(source: Path | str | Pretrained | TrainedRun) -> Pretrained:
    """What is to be exported."""
    if isinstance(source, Pretrained):
        return source
    return from_run(source) if isinstance(source, TrainedRun) else read_pretrained(source)


def _read_from(source: Path | str | Pretrained | TrainedRun, options: ExportOptions) -> list[Path]:
    """The files and the folder of checkpoints that an export reads."""
    read = [] if options.host_checkpoint is None else [Path(options.host_checkpoint)]
    if isinstance(source, Pretrained):
        return read
    run = source.folder.path if isinstance(source, TrainedRun) else Path(source)
    parts = ("checkpoints", "config.yaml", "environment.json")
    return [*read, *(run / part for part in parts)] if run.is_dir() else [*read, run]


def _chosen(pretrained: Pretrained, part: str | None) -> Pretrained:
    """The encoders that the user asked for, one or several with ``+`` between."""
    if part is None:
        return pretrained
    chosen = {choose_part(pretrained.encoders, name) for name in part.split("+")}
    return replace(pretrained, encoders={n: e for n, e in pretrained.encoders.items() if n in chosen})


def _place_all(
    pretrained: Pretrained, host: Host, prefix: str | None
) -> tuple[list[Placed], Mapping[str, str]]:
    """Every encoder the host has a place for, and the kinds of the others."""
    homes = {name: host.part(encoder.kind, encoder.tensors) for name, encoder in pretrained.encoders.items()}
    placed = {name: part for name, part in homes.items() if part is not None}
    if not placed:
        kinds = ", ".join(f"{n} ({e.kind})" for n, e in pretrained.encoders.items())
        raise ValueError(
            f"to: {host.name} has no place for what this run trained: {kinds}; "
            f"it takes {', '.join(dict.fromkeys(part.kind for part in host.parts))}"
        )
    if prefix is not None:
        if len(placed) > 1:
            raise ValueError(f"prefix: expected one encoder, got {', '.join(placed)}; choose one with --part")
        placed = {name: replace(part, prefix=prefix) for name, part in placed.items()}
    done = [place(name, pretrained.encoders[name], part, host) for name, part in placed.items()]
    return done, {n: e.kind for n, e in pretrained.encoders.items() if n not in placed}


def _verified(
    pretrained: Pretrained, host: Host, content: bytes, reports: list[PartReport], prefix: str | None
) -> tuple[PartReport, ...]:
    """The reports with the largest difference of outputs, computed from the file alone."""
    done = []
    for report in reports:
        difference = verify_part(pretrained, report.name, host, content, prefix)
        if difference is not None and not difference <= TOLERANCE:
            raise ValueError(
                f"verify: {report.name}: the outputs of {report.module} from the file differ by "
                f"{difference:.1e} of the largest, expected at most {TOLERANCE:.0e}"
            )
        done.append(replace(report, verified=difference))
    return tuple(done)


def _check_ours(options: ExportOptions) -> None:
    """What compares with a host has no meaning for our own file."""
    asked = {
        "host_ckpt": (options.host_checkpoint is not None, "there is no host to compare with"),
        "prefix": (options.prefix is not None, "no key is renamed"),
        "verify": (options.verify, "there is no host whose outputs could differ"),
    }
    for name, (given, reason) in asked.items():
        if given:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{name}: drop {flag}, or name a host with --to: safetensors is our own format, which keeps "
                f"names and weights as they are, so {reason}"
            )


def _check_onnx(options: ExportOptions) -> None:
    """An ONNX file has no keys to rename, and is compared in any case."""
    for name, given in {"host_ckpt": options.host_checkpoint, "prefix": options.prefix}.items():
        if given is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{name}: drop {flag}: an ONNX file is the network itself, not a host's weights")


def _our_file(pretrained: Pretrained, dropped: tuple[str, ...]) -> Export:
    """Our own format: nothing is lost."""
    reports = []
    for name, encoder in pretrained.encoders.items():
        shapes = shapes_of(encoder.tensors)
        reports.append(PartReport(name, encoder.kind, matched={f"{name}.{k}": v for k, v in shapes.items()}))
    notes = (*dropped, *columns_note(pretrained), *unfinished(pretrained))
    report = TransferReport("safetensors (load_encoder)", tuple(reports), notes=notes)
    return Export(to_bytes(pretrained, Layout().kernels), report, own_snippet(pretrained))
