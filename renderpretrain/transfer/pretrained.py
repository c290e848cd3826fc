"""What a run is worth taking home: its encoders, without the code and the run they come from."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from renderpretrain.encoders import ENCODERS
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.checkpoint import has_ended, trained_checkpoint
from renderpretrain.storage.weights import check_finite
from renderpretrain.storage.yaml_text import read_yaml_mapping
from renderpretrain.transfer.architecture import build
from renderpretrain.transfer.encoder import Encoder, Pretrained, check_weights, choose_part, of_recipe
from renderpretrain.transfer.hosts.safetensors import read_file
from renderpretrain.transfer.recipe import build_recipe


def read_pretrained(path: Path | str) -> Pretrained:
    """The encoders of a run folder, or of a file that ``export`` or ``import`` wrote.

    A run's are those of its newest checkpoint. Where it has not ended, the running statistics of batch norms
    are those of masked scenes; :func:`~renderpretrain.encoders.norms.estimate_statistics` measures others.

    Raises:
        ValueError: If it is neither, damaged, of another recipe than its configuration says, or a run whose
            weights are NaN or infinite.
    """
    path = Path(path)
    if path.is_dir():
        return _read_run(path)
    run = path.absolute().parent.parent
    if path.suffix == ".pt" and (run / "config.yaml").is_file():
        raise ValueError(f"{path}: expected a run folder or a file of encoders; its run folder is {run}")
    return read_file(path)


def load_encoders(path: Path | str) -> dict[str, nn.Module]:
    """All encoders of a run folder or file, as modules with their weights, on the CPU.

    Raises:
        ValueError: See :func:`read_pretrained`; also if the weights do not fit what the header says.
    """
    pretrained = read_pretrained(path)
    return {name: encoder_module(name, pretrained) for name in pretrained.encoders}


def load_encoder(path: Path | str, part: str | None = None, *, into: nn.Module | None = None) -> nn.Module:
    """One encoder of a run folder or of an exported file, ready to be used and trained.

    Args:
        path: A run folder, or a ``.safetensors`` file that ``renderpretrain export`` or ``import`` wrote.
        part: Its name, such as ``point_encoder``; not needed where there is one alone.
        into: A module that takes the weights in place, and is returned; needed for classes that are not ours.

    Returns:
        The module. Its ``about`` is a mapping: ``columns``, what it reads of a point, where it does and they
        are known, and what :class:`Pretrained` knows of its training.

    Raises:
        ValueError: If there are several or none of that name, the weights do not fit the module, or only a
            recipe or you can build it; see also :func:`read_pretrained`.
    """
    pretrained = read_pretrained(path)
    chosen = choose_part(pretrained.encoders, part, f" in {path}")
    encoder = pretrained.encoders[chosen]
    if into is None:
        module = encoder_module(chosen, pretrained)
    else:
        module = into
        module.load_state_dict(_complete(module, encoder, f"{path}: {chosen}"))
    columns = {"columns": encoder.columns} if encoder.columns else {}
    vars(module)["about"] = {**pretrained.about, **columns}
    return module


def _read_run(folder: Path) -> Pretrained:
    """A run folder's encoders."""
    saved = _yaml(folder / "config.yaml")
    name = str(saved.get("recipe"))
    if name not in RECIPES:
        raise ValueError(f"{folder}: recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    path, state = trained_checkpoint(folder / "checkpoints")
    try:
        model = build_recipe(name, saved.get("config", {}))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.yaml'}: {error}") from error
    model.load_state_dict(check_weights(model, state["model"], f"{path}: not a checkpoint of {name}"))
    about = {k: saved.get(k) for k in ("recipe", "preset", "data", "config")}
    statistics = "whole" if has_ended(state) else "masked"
    about |= {"commit": _commit(folder), "step": int(state["step"]), "statistics": statistics}
    found = of_recipe(model, about)
    for part, encoder in found.encoders.items():
        check_finite(encoder.tensors, f"{path}: {part}", "the run diverged; train it again at a lower rate")
    return found


def encoder_module(name: str, pretrained: Pretrained) -> nn.Module:
    """One encoder with its weights."""
    encoder, about = pretrained.encoders[name], pretrained.about
    if encoder.kind in ENCODERS:
        module = build(encoder.spec)
    elif about.get("recipe") in RECIPES and about.get("config"):
        parts: Any = build_recipe(str(about["recipe"]), about["config"])
        module = parts.encoders()[name]
    else:
        raise ValueError(
            f"{name}: a {encoder.kind} is built by its recipe, which the file does not name, or by you: "
            "load_encoder(path, into=module)"
        )
    what = f"{name}: the file's weights are not those of {encoder.kind}"
    module.load_state_dict(_complete(module, encoder, what))
    return module


def _complete(module: nn.Module, encoder: Encoder, what: str) -> dict[str, Any]:
    """An encoder's weights, and the module's own where they start anew; checked to fit it."""
    own = module.state_dict()
    fresh = {key: own[key] for key in encoder.fresh if key in own}
    return check_weights(module, encoder.tensors | fresh, what)


def _yaml(path: Path) -> dict[str, Any]:
    """A run's configuration."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected a run folder with config.yaml, found none")
    tree = read_yaml_mapping(path)
    if not isinstance(tree.get("config", {}), dict):
        raise ValueError(f"{path}: config: expected settings, got {type(tree['config']).__name__}")
    return tree


def _commit(folder: Path) -> str | None:
    """The commit a run was made by, if it wrote it down."""
    path = folder / "environment.json"
    try:
        return json.loads(path.read_text()).get("commit")
    except (OSError, ValueError):
        return None
