"""Our own file of encoders, for plain PyTorch: its header says what they are and where they come from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from keyword import iskeyword
from pathlib import Path
from typing import Any, get_args

import torch

from renderpretrain.encoders import ENCODERS
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.columns import Column
from renderpretrain.storage.safetensors_file import DIGEST, pack_tensors
from renderpretrain.storage.weights import Weights, check_weights, read_weights
from renderpretrain.transfer.architecture import build
from renderpretrain.transfer.encoder import ROLES_OF_BEFORE, Encoder, Pretrained

FORMAT = "renderpretrain-encoders-3"
"""What the header of our files calls their format."""


def to_bytes(pretrained: Pretrained, layout: str = "KRSC") -> bytes:
    """Our file: safetensors, keys ``PART.KEY``, and a header that says everything else."""
    tensors = {
        f"{name}.{key}": value.contiguous()
        for name, encoder in pretrained.encoders.items()
        for key, value in encoder.tensors.items()
    }
    header = {
        "format": FORMAT,
        "layout": layout,
        "axes": json.dumps({n: e.role.kernel_axes for n, e in pretrained.encoders.items()}),
        "encoders": json.dumps({n: e.spec for n, e in pretrained.encoders.items()}),
        "fresh": json.dumps({n: list(e.fresh) for n, e in pretrained.encoders.items() if e.fresh}),
        "columns": json.dumps({n: list(e.columns) for n, e in pretrained.encoders.items() if e.columns}),
        "largest": json.dumps({n: list(e.largest) for n, e in pretrained.encoders.items() if e.largest}),
    }
    return pack_tensors(tensors, header | {k: json.dumps(v) for k, v in pretrained.about.items()})


def read_file(path: Path) -> Pretrained:
    """One of our files.

    Raises:
        ValueError: If it is none, damaged, or its header does not say what its tensors are.
    """
    weights = read_weights(path)
    header = dict(weights.header)
    if header.pop("format", None) != FORMAT or not {"encoders", "fresh"} <= set(header):
        raise ValueError(
            f"{path}: expected a run folder or a file of renderpretrain's encoders; "
            "bring another framework's checkpoint in with `renderpretrain import`"
        )
    if DIGEST not in header:
        raise ValueError(f"{path}: damaged: expected the digest of its weights in the header, found none")
    known = ("recipe", "preset", "data", "commit", "step", "config", "source", "statistics", "encoder")
    try:
        specs = json.loads(header.pop("encoders"))
        if not (isinstance(specs, dict) and specs):
            raise ValueError(f"encoders: expected some by name, got {specs}")
        fresh = {name: tuple(keys) for name, keys in json.loads(header.pop("fresh")).items()}
        about = {key: json.loads(value) for key, value in header.items() if key in known}
        if not isinstance(about.get("config") or {}, dict):
            raise ValueError(f"config: expected settings, got {about['config']}")
        encoders = {name: _encoder(name, spec, weights, fresh.get(name, ())) for name, spec in specs.items()}
        columns, largest = (json.loads(header.get(key, "{}")) for key in ("columns", "largest"))
        encoders = {
            name: _reading(encoder, columns.get(name, ()), largest.get(name, ()))
            for name, encoder in encoders.items()
        }
        now = {old: new for old, new in ROLES_OF_BEFORE.items() if new not in encoders}
        encoders = {now.get(n, n): replace(e, part=now.get(n, n)) for n, e in encoders.items()}
    except (ValueError, AttributeError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(f"{path}: its header is damaged ({error})") from error
    return Pretrained(encoders, about)


def _encoder(name: str, spec: Any, weights: Weights, fresh: tuple[str, ...]) -> Encoder:
    """An encoder in one of our files; the header must say what its tensors are."""
    found = {k.removeprefix(f"{name}."): v for k, v in weights.tensors.items() if k.startswith(f"{name}.")}
    if not found:
        raise ValueError(f"expected tensors of {name}, found none")
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str):
        raise ValueError(f"{name}: expected the kind of an encoder, got {spec}")
    if spec["kind"] in ENCODERS:
        with torch.device("meta"):  # shapes alone
            module = build(spec)
        own = module.state_dict()
        check_weights(module, found | {key: own[key] for key in fresh if key in own}, name)
    return Encoder(spec, found, fresh, part=name)


def _reading(encoder: Encoder, columns: Sequence[str], largest: Sequence[int | float]) -> Encoder:
    """The encoder with what a header says of its columns."""
    count = int(encoder.spec.get("in_channels") or 0) if encoder.role.reads == "points" else 0
    if encoder.kind not in ENCODERS and encoder.role.reads == "points":
        count = len(columns)  # nothing else says how many a network of the user's own reads
    if len(columns) not in (0, count) or len(largest) not in (0, len(columns)):
        raise ValueError(f"columns: expected {count} names of what {encoder.kind} reads, got {columns}")
    if not set(columns) <= set(get_args(Column)):
        raise ValueError(f"columns: expected some of {', '.join(get_args(Column))}, got {columns}")
    return replace(encoder, columns=tuple(columns), largest=tuple(map(float, largest)))


def snippet(pretrained: Pretrained) -> str:
    """Lines that load every encoder of our own file."""
    lines = ["from renderpretrain.transfer import load_encoder"]
    ours = pretrained.about.get("recipe") in RECIPES and not pretrained.about.get("encoder")
    for name, encoder in pretrained.encoders.items():
        variable = name if name.isidentifier() and not iskeyword(name) else "encoder"
        alone = encoder.kind in ENCODERS or (ours and bool(pretrained.about.get("config")))
        into = "" if alone else f", into=...)  # a {encoder.kind} of yours"
        lines.append(f"{variable} = load_encoder('FILE', {name!r}{into or ')'}")
    return "\n".join(lines) + "\n"
