"""What a run is worth taking home: its encoders, without the code and the run they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from safetensors.torch import save
from torch import nn

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.columns import Column, point_input
from renderpretrain.storage.checkpoint import has_ended, trained_checkpoint
from renderpretrain.storage.weights import Weights, read_weights
from renderpretrain.transfer.architecture import KINDS, Spec, build, describe
from renderpretrain.transfer.hosts import HOSTS
from renderpretrain.transfer.layouts import Tensors
from renderpretrain.transfer.recipe import build_recipe

FORMAT = "renderpretrain-encoders-2"
"""In the header of our files."""

POINT_KINDS = ("SparseEncoder", "VoxelBackBone8x", "SparseUNet")
"""Kinds that read voxels of points."""

XYZ = ("SparseUNet",)
"""Kinds whose kernels are ``(x, y, z)`` here, too."""


@dataclass(frozen=True)
class Encoder:
    """An encoder as plain values.

    Attributes:
        spec: What it is; see :mod:`architecture`.
        tensors: Its weights under our keys.
        fresh: Keys that a file it was imported from did not have; they start anew.
        columns: What it reads of a point, where that is known.
        largest: How far each of these went in training, where that is known; 0 is a column of zeros.
    """

    spec: Spec
    tensors: Tensors
    fresh: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    largest: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """Its class."""
        return str(self.spec["kind"])


@dataclass(frozen=True)
class Pretrained:
    """Encoders, and where they come from.

    Attributes:
        encoders: By the names that the recipe's ``encoders()`` gives them.
        about: ``recipe``, ``preset``, ``data``, ``commit``, ``step`` and ``config``, as far as known; and
            ``statistics``, those of batch norms: of ``whole`` scenes, or of ``masked`` ones where the run has
            not ended.
    """

    encoders: Mapping[str, Encoder]
    about: Mapping[str, Any] = field(default_factory=dict)


def of_modules(modules: Mapping[str, nn.Module], about: Mapping[str, Any] | None = None) -> Pretrained:
    """The encoders of a model in memory, for instance ``recipe.encoders()``; weights are copied."""
    encoders = {}
    for name, module in modules.items():
        state = {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
        encoders[name] = Encoder(describe(module), state)
    return Pretrained(encoders, dict(about or {}))


def of_recipe(recipe: nn.Module, about: Mapping[str, Any] | None = None) -> Pretrained:
    """The encoders of a recipe in memory, and what its point encoder reads; weights are copied."""
    parts: Any = recipe
    pretrained, read = of_modules(parts.encoders(), about), point_input(recipe)
    if read is None:
        return pretrained
    said: dict[str, Any] = {"columns": read.columns, "largest": tuple(read.largest.tolist())}
    encoders = {n: replace(e, **said) if e.kind in POINT_KINDS else e for n, e in pretrained.encoders.items()}
    return replace(pretrained, encoders=encoders)


def read_pretrained(path: Path | str) -> Pretrained:
    """The encoders of a run folder, or of a file that :func:`write_encoders` made.

    A run's are those of its newest checkpoint. Where it has not ended, the running statistics of batch norms
    are those of masked scenes; :func:`~renderpretrain.recipes.norms.estimate_statistics` measures others.

    Raises:
        ValueError: If it is neither, damaged, or of another recipe than its configuration says.
    """
    path = Path(path)
    return _read_run(path) if path.is_dir() else _read_file(path)


def load_encoders(path: Path | str) -> dict[str, nn.Module]:
    """All encoders of a run folder or file, as modules with their weights, on the CPU.

    Raises:
        ValueError: See :func:`read_pretrained`; also if the weights do not fit what the header says.
    """
    pretrained = read_pretrained(path)
    return {name: encoder_module(name, pretrained) for name in pretrained.encoders}


def load_encoder(path: Path | str, part: str | None = None) -> nn.Module:
    """One encoder of a run folder or of an exported file, ready to be used and trained.

    Args:
        path: A run folder, or a ``.safetensors`` file that ``renderpretrain export`` or ``import`` wrote.
        part: Its name, such as ``lidar_encoder``; not needed where there is one alone.

    Returns:
        The module. Its ``about`` is a mapping: ``columns``, what it reads of a point, where it does and they
        are known, and what :class:`Pretrained` knows of its training.

    Raises:
        ValueError: If there are several or none of that name; see also :func:`read_pretrained`.
    """
    pretrained = read_pretrained(path)
    names = list(pretrained.encoders)
    chosen = names[0] if part is None and len(names) == 1 else part
    if chosen not in names:
        raise ValueError(f"part: expected one of {', '.join(names)} in {path}, got {part}")
    module = encoder_module(chosen, pretrained)
    columns = pretrained.encoders[chosen].columns
    vars(module)["about"] = {**pretrained.about, **({"columns": columns} if columns else {})}
    return module


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
        "axes": json.dumps({n: "xyz" if e.kind in XYZ else "zyx" for n, e in pretrained.encoders.items()}),
        "encoders": json.dumps({n: e.spec for n, e in pretrained.encoders.items()}),
        "fresh": json.dumps({n: list(e.fresh) for n, e in pretrained.encoders.items() if e.fresh}),
        "columns": json.dumps({n: list(e.columns) for n, e in pretrained.encoders.items() if e.columns}),
        "largest": json.dumps({n: list(e.largest) for n, e in pretrained.encoders.items() if e.largest}),
    }
    return save(tensors, header | {k: json.dumps(v) for k, v in pretrained.about.items()})


def _read_file(path: Path) -> Pretrained:
    """One of our files."""
    run = path.absolute().parent.parent
    if path.suffix == ".pt" and (run / "config.yaml").is_file():
        raise ValueError(f"{path}: expected a run folder or a file of encoders; its run folder is {run}")
    foreign = read_weights(path)
    header = dict(foreign.header)
    if header.pop("format", None) != FORMAT or not {"encoders", "fresh"} <= set(header):
        raise ValueError(
            f"{path}: expected a run folder or a file of renderpretrain's encoders; "
            "bring another framework's checkpoint in with `renderpretrain import`"
        )
    known = ("recipe", "preset", "data", "commit", "step", "config", "source", "statistics")
    try:
        specs = json.loads(header.pop("encoders"))
        if not (isinstance(specs, dict) and specs):
            raise ValueError(f"encoders: expected some by name, got {specs}")
        fresh = {name: tuple(keys) for name, keys in json.loads(header.pop("fresh")).items()}
        about = {key: json.loads(value) for key, value in header.items() if key in known}
        if not isinstance(about.get("config") or {}, dict):
            raise ValueError(f"config: expected settings, got {about['config']}")
        encoders = {name: _encoder(name, spec, foreign, fresh.get(name, ())) for name, spec in specs.items()}
        columns, largest = (json.loads(header.get(key, "{}")) for key in ("columns", "largest"))
        encoders = {
            name: _reading(encoder, columns.get(name, ()), largest.get(name, ()))
            for name, encoder in encoders.items()
        }
    except (ValueError, AttributeError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(f"{path}: its header is damaged ({error})") from error
    return Pretrained(encoders, about)


def _encoder(name: str, spec: Any, foreign: Weights, fresh: tuple[str, ...]) -> Encoder:
    """An encoder in one of our files; the header must say what its tensors are."""
    found = {k.removeprefix(f"{name}."): v for k, v in foreign.tensors.items() if k.startswith(f"{name}.")}
    if not found:
        raise ValueError(f"expected tensors of {name}, found none")
    known = (*KINDS, *(part.kind for host in HOSTS.values() for part in host.parts))
    if not isinstance(spec, dict) or spec.get("kind") not in known:
        raise ValueError(f"{name}: expected the kind of an encoder, got {spec}")
    if spec["kind"] in KINDS:
        with torch.device("meta"):  # shapes alone
            module = build(spec)
        own = module.state_dict()
        check_weights(module, found | {key: own[key] for key in fresh if key in own}, name)
    return Encoder(spec, found, fresh)


def _reading(encoder: Encoder, columns: Sequence[str], largest: Sequence[float]) -> Encoder:
    """The encoder with what a header says of its columns."""
    count = int(encoder.spec.get("in_channels") or 0) if encoder.kind in POINT_KINDS else 0
    if len(columns) not in (0, count) or len(largest) not in (0, len(columns)):
        raise ValueError(f"columns: expected {count} names of what {encoder.kind} reads, got {columns}")
    if not set(columns) <= set(get_args(Column)):
        raise ValueError(f"columns: expected some of {', '.join(get_args(Column))}, got {columns}")
    return replace(encoder, columns=tuple(columns), largest=tuple(map(float, largest)))


def _read_run(folder: Path) -> Pretrained:
    """A run folder's encoders."""
    saved = _yaml(folder / "config.yaml")
    name = str(saved.get("recipe"))
    if name not in RECIPES:
        raise ValueError(f"{folder}: recipe: expected one of {', '.join(RECIPES)}, got {name}")
    path, state = trained_checkpoint(folder / "checkpoints")
    try:
        model = build_recipe(name, saved.get("config", {}))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.yaml'}: {error}") from error
    model.load_state_dict(check_weights(model, state["model"], f"{path}: not a checkpoint of {name}"))
    about = {k: saved.get(k) for k in ("recipe", "preset", "data", "config")}
    statistics = "whole" if has_ended(state) else "masked"
    about |= {"commit": _commit(folder), "step": int(state["step"]), "statistics": statistics}
    return of_recipe(model, about)


def encoder_module(name: str, pretrained: Pretrained) -> nn.Module:
    """One encoder with its weights."""
    encoder, about = pretrained.encoders[name], pretrained.about
    if encoder.kind in KINDS:
        module = build(encoder.spec)
    elif about.get("recipe") in RECIPES and about.get("config"):
        parts: Any = build_recipe(str(about["recipe"]), about["config"])
        module = parts.encoders()[name]
    else:
        raise ValueError(f"{name}: a {encoder.kind} is built by its recipe, which the file does not name")
    own = module.state_dict()
    state = encoder.tensors | {key: own[key] for key in encoder.fresh if key in own}
    what = f"{name}: the file's weights are not those of {encoder.kind}"
    module.load_state_dict(check_weights(module, state, what))
    return module


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


def _yaml(path: Path) -> dict[str, Any]:
    """A run's configuration."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected a run folder with config.yaml, found none")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected a YAML mapping, got {type(tree).__name__}")
    if not isinstance(tree.get("config", {}), dict):
        raise ValueError(f"{path}: config: expected settings, got {tree['config']}")
    return tree


def _commit(folder: Path) -> str | None:
    """The commit a run was made by, if it wrote it down."""
    path = folder / "environment.json"
    try:
        return json.loads(path.read_text()).get("commit")
    except (OSError, ValueError):
        return None
