"""What to paste into a host's configuration, and what else its user must know."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from keyword import iskeyword
from pathlib import Path

from renderpretrain.encoders import ENCODERS
from renderpretrain.transfer.columns import columns_note, openpcdet_names, pointcept_names, read_by
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.image_words import IMAGE_KINDS, MEAN, STD, image_words, published_names
from renderpretrain.transfer.layouts import Tensors
from renderpretrain.transfer.mm_snippets import bevfusion_lines, grid_of, mmdet3d_lines
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
    lines = SNIPPETS[host.name](replace(pretrained, encoders=housed), tensors)
    if plain and host.wrapper is None:
        lines = [line.replace("torch.load('FILE', weights_only=True)", "load_file('FILE')") for line in lines]
        lines.insert(0, "from safetensors.torch import load_file")
    return "\n".join(line for line in lines if line) + "\n"


def own_snippet(pretrained: Pretrained) -> str:
    """Lines that load every encoder of our own file."""
    lines = ["from renderpretrain.transfer import load_encoder"]
    for name, encoder in pretrained.encoders.items():
        variable = name if name.isidentifier() and not iskeyword(name) else "encoder"
        alone = encoder.kind in ENCODERS or bool(pretrained.about.get("config"))
        into = "" if alone else f", into=...)  # a {encoder.kind} of yours"
        lines.append(f"{variable} = load_encoder('FILE', {name!r}{into or ')'}")
    return "\n".join(lines) + "\n"


def with_path(text: str, path: Path) -> str:
    """A snippet with the file's path where ``FILE`` stands for it."""
    return re.sub(
        r"'FILE'|\bFILE\b",
        lambda found: repr(str(path)) if found[0] == "'FILE'" else shlex.quote(str(path)),
        text,
    )


def notes_for(pretrained: Pretrained, host: Host) -> tuple[str, ...]:
    """What no loader checks: units of the inputs, and the host's own trap."""
    notes = [host.trap] if host.trap else []
    notes += columns_note(pretrained)
    if any(e.kind == "FPN" or e.kind in IMAGE_KINDS for e in pretrained.encoders.values()):
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


def _openpcdet(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    box, size = grid_of(pretrained)
    residual = any(".conv1.weight" in key for key in tensors)
    columns = openpcdet_names(read_by(pretrained))
    return [
        "# tools/cfgs/<model>.yaml; then: python train.py --cfg_file <model>.yaml --pretrained_model FILE",
        "DATA_CONFIG:" if box or columns else "",
        f"    POINT_CLOUD_RANGE: {list(box)}" if box else "",
        f"    POINT_FEATURE_ENCODING: {{used_feature_list: [{', '.join(columns)}]}}" if columns else "",
        f"    # in DATA_PROCESSOR, transform_points_to_voxels: VOXEL_SIZE: {list(size)}" if size else "",
        "MODEL:",
        "    VFE: {NAME: MeanVFE}",
        f"    BACKBONE_3D: {{NAME: {'VoxelResBackBone8x' if residual else 'VoxelBackBone8x'}}}",
        "    # its batch norms have eps 1e-3 and momentum 0.01, fixed in the code",
    ]


def _pointcept(pretrained: Pretrained, _: Tensors) -> list[str]:
    spec = next(e.spec for e in pretrained.encoders.values() if e.kind == "SparseUNet")
    size = grid_of(pretrained)[1]
    read = pointcept_names(read_by(pretrained))
    kind = "SpUNet-v1m3" if spec.get("prompt") else "SpUNet-v1m1"
    return [
        "weight = 'FILE'",
        f"grid_size = {size[0]}  # of GridSample" if size else "",
        f"backbone = dict(type='{kind}', in_channels={spec['in_channels']}, num_classes=NUM_CLASSES,",
        f"    base_channels={spec['stem_channels']}, channels={tuple(spec['channels'])},",
        f"    layers={tuple(spec['depths'])})",
        f"# in Collect: feat_keys={read}" if read else "",
        "hooks = [dict(type='CheckpointLoader', keywords='module.', replacement='module.')]",
    ]


def _timm(pretrained: Pretrained, _: Tensors) -> list[str]:
    encoder = _image_encoder(pretrained)
    name = published_names(encoder)[0]
    made = f"timm.create_model('{name}', pretrained=False)" if name else ""
    return ["import timm, torch", *_loaded(encoder, "timm", made)]


def _torchvision(pretrained: Pretrained, _: Tensors) -> list[str]:
    encoder = _image_encoder(pretrained)
    name = published_names(encoder)[1]
    made = f"torchvision.models.{name}()" if name else ""
    return ["import torch, torchvision", *_loaded(encoder, "torchvision", made)]


def _loaded(encoder: Encoder, library: str, made: str) -> list[str]:
    """Lines that load the file into a library's model; ``made`` says how that is built, if it can be."""
    model = [f"model = {made}  # {image_words(encoder)}"]
    if not made:
        model = [f"# no model of {library} has these sizes; build one: {image_words(encoder)}", "model = ..."]
    return [*model, "print(model.load_state_dict(torch.load('FILE', weights_only=True), strict=False))"]


def _image_encoder(pretrained: Pretrained) -> Encoder:
    return next(e for e in pretrained.encoders.values() if e.kind in IMAGE_KINDS)


SNIPPETS: dict[str, Callable[[Pretrained, Tensors], list[str]]] = {
    "openpcdet": _openpcdet,
    "mmdet3d": mmdet3d_lines,
    "mmdet3d-0.17": mmdet3d_lines,
    "bevfusion": bevfusion_lines,
    "pointcept": _pointcept,
    "timm": _timm,
    "torchvision": _torchvision,
}
"""By host."""
