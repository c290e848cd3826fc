"""What a run is worth taking home: its encoders, without the code and the run they come from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from renderpretrain.encoders import ENCODERS, FlatEncoder, ImageMaps, VolumeEncoder
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.runs.building import build_saved
from renderpretrain.runs.own_encoders import OwnEncoder, saved_encoders
from renderpretrain.runs.trained import TrainedRun, read_run
from renderpretrain.storage.weights import check_finite, check_weights
from renderpretrain.transfer.architecture import build, describe
from renderpretrain.transfer.encoder import Encoder, Pretrained, choose_part, from_recipe
from renderpretrain.transfer.hosts.safetensors import read_file

ENCODERS_FILE = "model.safetensors"
"""Our file of encoders in a folder of a model hub."""

SENSOR_PARTS = {"point": "point_encoder", "image": "image_backbone"}
"""What recipes call the encoders that can be handed in, by what they read."""

ADAPTERS = (VolumeEncoder, FlatEncoder, ImageMaps)
"""What holds a ``network`` of the user's own, and no other weights."""


def read_pretrained(path: Path | str) -> Pretrained:
    """The encoders of a run folder, of a file that ``export`` or ``import`` wrote, or of a folder of a hub.

    A run's are those of its newest checkpoint. Where it has not ended, the running statistics of batch norms
    are those of masked scenes; :func:`~renderpretrain.encoders.norms.estimate_statistics` measures others.

    Raises:
        ValueError: If it is neither, damaged, of another recipe than its configuration says, or a run whose
            weights are NaN or infinite.
    """
    path = Path(path)
    run = path.absolute().parent.parent
    if path.parent.name == "checkpoints" and (run / "config.yaml").is_file():
        raise ValueError(f"{path}: expected a run folder or a file of encoders; its run folder is {run}")
    if (path / ENCODERS_FILE).is_file() and not (path / "config.yaml").is_file():
        return read_file(path / ENCODERS_FILE)
    return from_run(read_run(path)) if path.is_dir() else read_file(path)


def load_encoders(path: Path | str) -> dict[str, nn.Module]:
    """All encoders of a run folder or file, as modules with their weights, on the CPU, in ``eval()``.

    Raises:
        ValueError: See :func:`read_pretrained`; also if the weights do not fit what the header says.
    """
    pretrained = read_pretrained(path)
    own = _own_encoders(path, pretrained)
    return {name: encoder_module(name, pretrained, own).eval() for name in pretrained.encoders}


def load_encoder(path: Path | str, part: str | None = None, *, into: nn.Module | None = None) -> nn.Module:
    """One encoder of a run folder or of an exported file, ready to be used.

    Args:
        path: A run folder, a ``.safetensors`` file that ``renderpretrain export`` or ``import`` wrote, or a
            folder of :func:`renderpretrain.push_to_hub`.
        part: Its name, such as ``point_neck``. Without one it is the encoder that reads the sensor: points
            or images; where there are several of these it must be named.
        into: A module that takes the weights in place, and is returned in the mode it had; needed for classes
            that are not ours, but for a run that names what makes them (``--encoder``). Of a network that was
            trained in an adapter, such as ``VolumeEncoder``: the network, or both.

    Returns:
        The module on the CPU, in ``eval()``. Its ``about`` is a mapping: ``columns``, what it reads of a
        point, where it does and they are known, and what :class:`Pretrained` knows of its training. Of the
        encoders of this package ``out_channels`` and ``strides`` describe what a call gives: of an image
        network one number for each map, of a network on voxels the width of the volume and ``(z, y, x)``
        voxels a cell. ``levels`` gives the features of all resolutions, and ``level_channels`` and
        ``level_strides`` describe these.

    Raises:
        ValueError: If there are several or none of that name, the weights do not fit the module, or only a
            recipe or you can build it; see also :func:`read_pretrained`.
    """
    if into is not None and not isinstance(into, nn.Module):
        name = getattr(into, "__name__", type(into).__name__)
        raise ValueError(f"into: expected a module, such as {name}(...), got {into!r:.60}")
    pretrained = read_pretrained(path) if into is None else _read_for(Path(path), part, into)
    sensors = [n for n, e in pretrained.encoders.items() if e.role.reads in ("points", "images")]
    part = sensors[0] if part is None and len(sensors) == 1 else part
    chosen = choose_part(pretrained.encoders, part, f" in {path}")
    encoder = pretrained.encoders[chosen]
    if into is None:
        module = encoder_module(chosen, pretrained, _own_encoders(path, pretrained)).eval()
    else:
        module = into
        module.load_state_dict(_complete(module, _taken_out(encoder, module), f"{path}: {chosen}"))
    columns = {"columns": encoder.columns} if encoder.columns else {}
    vars(module)["about"] = {**pretrained.about, **columns}
    return module


def from_run(run: TrainedRun) -> Pretrained:
    """A run's encoders.

    Args:
        run: See :func:`~renderpretrain.runs.read_run`.

    Raises:
        ValueError: If the weights are not the recipe's, or are NaN or infinite.
    """
    found = from_recipe(run.recipe(thawed=True), _about(run))
    for part, encoder in found.encoders.items():
        what = f"{run.checkpoint}: {part}"
        check_finite(encoder.tensors, what, "the run diverged; train it again at a lower rate")
    return found


def _about(run: TrainedRun) -> dict[str, Any]:
    """What is known of a run's training."""
    saved = run.description.as_tree()
    about = {key: saved[key] for key in ("recipe", "preset", "data", "config")}
    about |= {"encoder": saved["encoder"]} if "encoder" in saved else {}
    statistics = "whole" if run.has_ended else "masked"
    return about | {"commit": run.commit, "step": run.step, "statistics": statistics}


def encoder_module(
    name: str, pretrained: Pretrained, own: Mapping[str, OwnEncoder] | None = None
) -> nn.Module:
    """One encoder with its weights.

    Args:
        name: The part.
        pretrained: The encoders.
        own: What makes encoders of the user's own, by the part that they are.
    """
    encoder, about = pretrained.encoders[name], pretrained.about
    factory = (own or {}).get(name)
    if encoder.kind in ENCODERS:
        module = build(encoder.spec)
    elif factory is not None and factory.args is not None:
        module = factory.build()
    elif about.get("recipe") in RECIPES and about.get("config") and not about.get("encoder"):
        module = encoders_of(build_saved(str(about["recipe"]), about["config"]))[name]
    else:
        raise ValueError(
            f"{name}: a {encoder.kind} is built by its recipe, which the file does not name, or by you: "
            "load_encoder(path, into=module)"
        )
    what = f"{name}: the file's weights are not those of {encoder.kind}"
    module.load_state_dict(_complete(module, encoder, what))
    return module


def _own_encoders(path: Path | str, pretrained: Pretrained) -> dict[str, OwnEncoder]:
    """What makes a run's encoders; a file says it too, but runs no code: it may come from anywhere."""
    if not (Path(path) / "config.yaml").is_file():
        return {}
    return {SENSOR_PARTS[role]: own for role, own in saved_encoders(dict(pretrained.about)).items()}


def _read_for(path: Path, part: str | None, module: nn.Module) -> Pretrained:
    """The encoders, of which one is loaded into a module.

    Of a run whose encoder was handed in from Python, which nothing but that module can build, it is the part
    of the checkpoint that has the module's names and shapes.
    """
    if not (path / "config.yaml").is_file():
        return read_pretrained(path)
    run = read_run(path)
    handed = [SENSOR_PARTS[role] for role, own in run.description.encoder.items() if own.args is None]
    if not handed:
        return from_run(run)
    chosen = choose_part(handed, part, f" that were handed in, in {path}")
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    parts = {
        name: tensors
        for name, tensors in _parts(run.weights).items()
        if {key: tuple(value.shape) for key, value in tensors.items()} == own
    }
    if len(parts) != 1:
        got = ", ".join(parts) or "none"
        raise ValueError(
            f"{run.checkpoint}: into: expected one part of the names and shapes of this module, got {got}"
        )
    tensors = next(iter(parts.values()))
    check_finite(tensors, f"{run.checkpoint}: {chosen}", "the run diverged; train it again at a lower rate")
    return Pretrained({chosen: Encoder(describe(module), tensors, part=chosen)}, _about(run))


def _parts(weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every module's tensors by their names in it."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in weights.items():
        names = key.split(".")
        for end in range(1, len(names)):
            found.setdefault(".".join(names[:end]), {})[".".join(names[end:])] = value
    return found


def _taken_out(encoder: Encoder, module: nn.Module) -> Encoder:
    """The weights of the network in an adapter, where a module is that network alone."""
    if encoder.kind not in {adapter.__name__ for adapter in ADAPTERS} or isinstance(module, ADAPTERS):
        return encoder
    tensors = {key.removeprefix("network."): value for key, value in encoder.tensors.items()}
    return replace(encoder, tensors=tensors)


def _complete(module: nn.Module, encoder: Encoder, what: str) -> dict[str, Any]:
    """An encoder's weights, and the module's own where they start anew; checked to fit it."""
    own = module.state_dict()
    fresh = {key: own[key] for key in encoder.fresh if key in own}
    return check_weights(module, encoder.tensors | fresh, what)
