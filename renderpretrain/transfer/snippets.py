"""What to paste into a host's configuration, and what else its user must know."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from renderpretrain.transfer.columns import columns_note
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.image_snippets import MEAN, STD
from renderpretrain.transfer.layouts import Tensors
from renderpretrain.transfer.part import Host


def snippet(pretrained: Pretrained, host: Host, tensors: Tensors, *, plain: bool = False) -> str:
    """Lines of the host's configuration with which the exported encoders are built and loaded.

    Args:
        pretrained: The encoders.
        host: Where they go.
        tensors: What is written.
        plain: Whether that is a safetensors file.
    """
    housed = {n: e for n, e in pretrained.encoders.items() if host.part(e.kind, e.tensors) is not None}
    lines = host.snippet(replace(pretrained, encoders=housed), tensors)
    if plain and host.wrapper is None:
        lines = [line.replace("torch.load('FILE', weights_only=True)", "load_file('FILE')") for line in lines]
        lines.insert(0, "from safetensors.torch import load_file")
    return "\n".join(line for line in lines if line) + "\n"


def with_path(text: str, path: Path) -> str:
    """A snippet with the file's path where ``FILE`` stands for it."""
    return re.sub(
        r"'FILE'|\bFILE\b",
        lambda found: repr(str(path)) if found[0] == "'FILE'" else shlex.quote(str(path)),
        text,
    )


def grid_of(pretrained: Pretrained) -> tuple[Sequence[int | float] | None, Sequence[int | float] | None]:
    """The box and the encoder's voxels, where a run's configuration says them."""
    config: Mapping[str, Any] = pretrained.about.get("config") or {}
    for section in ("lidar", "encoder"):
        if "voxel_size" in config.get(section, {}):
            return config["point_cloud_range"], config[section]["voxel_size"]
    return config.get("point_cloud_range"), None


def notes_for(pretrained: Pretrained, host: Host) -> tuple[str, ...]:
    """What no loader checks: units of the inputs, and the host's own warning."""
    notes = [host.warning] if host.warning else []
    notes += columns_note(pretrained)
    if any(e.kind == "FPN" or e.role.reads == "images" for e in pretrained.encoders.values()):
        notes.append(f"images are RGB, mean {MEAN}, std {STD}")
    caffe = any(e.spec.get("stride_first") for e in pretrained.encoders.values())
    if caffe and host.wrapper is None:
        notes.append(f"{host.name}'s ResNet strides in its second convolutions, this one in its first")
    return (*notes, *unfinished(pretrained))


def unfinished(pretrained: Pretrained) -> tuple[str, ...]:
    """What is to be known of a run that has not ended, where it has batch norms."""
    normed = any(k.endswith("running_mean") for e in pretrained.encoders.values() for k in e.tensors)
    if pretrained.about.get("statistics") != "masked" or not normed:
        return ()
    step = pretrained.about.get("step", "(unknown)")
    return (
        f"the run stopped at step {step}: its batch norms' running statistics are those "
        "of masked inputs; `pretrain --resume` to its end measures them on whole ones",
    )
