"""The card of encoders on a model hub: what was trained on what, how well, and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

import renderpretrain
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.metrics import Change
from renderpretrain.transfer.columns import columns_note
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.image_snippets import NORMALIZATION
from renderpretrain.transfer.snippets import unfinished

READS = {
    "points": "points",
    "images": "images",
    "maps": "feature maps",
    "volume": "a volume",
    "": "its input",
}
"""What an encoder reads, in words."""


def model_card(
    pretrained: Pretrained, scores: Sequence[Change], *, name: str, license: str, remarks: str = ""
) -> str:
    """``README.md`` of a folder of encoders: front matter that a hub reads, then Markdown.

    Args:
        pretrained: The encoders.
        scores: Of held-out scenes before and after training; none where nothing was held out.
        name: What loads them: the name of a repository, or of the folder.
        license: Of the weights, as the hub names licences (``apache-2.0``, ``cc-by-nc-4.0``).
        remarks: Markdown of your own, which stands below the first paragraph.
    """
    about = pretrained.about
    trained = " ".join(str(about[key]) for key in ("recipe", "preset") if about.get(key)) or "encoders"
    tags = ["renderpretrain", "3d-perception", "self-supervised-learning", "neural-rendering"]
    front = {
        "license": license,
        "library_name": "renderpretrain",
        "tags": [*tags, *_sensors(pretrained)],
    }
    unstated = "" if license != "unknown" else " No licence was stated: ask before you use the weights."
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {trained}",
        _first_paragraph(about) + unstated,
        remarks.strip(),
        f"## Encoders\n\n{_encoders(pretrained)}",
        f"## Load\n\n```python\n{_loading(pretrained, name)}```",
        "\n".join(f"- {note}" for note in _notes(pretrained)),
        f"## Training\n\n{_training(about)}",
        f"## Scores on held-out scenes\n\n{_scores(scores)}" if scores else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sensors(pretrained: Pretrained) -> list[str]:
    """Tags of the sensors that are read."""
    read = {encoder.role.reads for encoder in pretrained.encoders.values()}
    return [tag for reads, tag in (("points", "lidar"), ("images", "camera")) if reads in read]


def _first_paragraph(about: Mapping[str, Any]) -> str:
    """What the encoders are, in a sentence or two."""
    entry = RECIPES.get(str(about.get("recipe")))
    told = f" {entry.summary}" if entry else ""
    return (
        "Encoders for 3D perception, pre-trained by neural rendering with "
        f"renderpretrain {renderpretrain.__version__}.{told}"
    )


def _encoders(pretrained: Pretrained) -> str:
    """A table of the encoders."""
    lines = ["| part | network | reads | parameters |", "|---|---|---|---:|"]
    for name, encoder in pretrained.encoders.items():
        reads = ", ".join(encoder.columns) or READS[encoder.role.reads]
        lines.append(f"| `{name}` | {encoder.kind} | {reads} | {_parameters(encoder):,} |")
    return "\n".join(lines)


def _parameters(encoder: Encoder) -> int:
    """Numbers of an encoder, without statistics of batch norms."""
    kept = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
    return sum(v.numel() for key, v in encoder.tensors.items() if not key.endswith(kept))


def _loading(pretrained: Pretrained, name: str) -> str:
    """Lines that load every encoder."""
    lines = ["from renderpretrain.transfer import from_pretrained", ""]
    lines += [f"{part} = from_pretrained({name!r}, {part!r})" for part in pretrained.encoders]
    return "\n".join(lines) + "\n"


def _notes(pretrained: Pretrained) -> list[str]:
    """What no loader checks: units of the inputs, and whether the run had ended."""
    images = any(e.role.reads in ("images", "maps") for e in pretrained.encoders.values())
    rgb = [NORMALIZATION] if images else []
    return [*columns_note(pretrained), *rgb, *unfinished(pretrained)]


def _training(about: Mapping[str, Any]) -> str:
    """What is known of the run, a line each."""
    config: Mapping[str, Any] = about.get("config") or {}
    optimization: Mapping[str, Any] = config.get("optimization") or {}
    told = {
        "recipe": about.get("recipe"),
        "preset": about.get("preset"),
        "data": about.get("data"),
        "steps": about.get("step"),
        "batch size": optimization.get("batch_size"),
        "learning rate": optimization.get("lr"),
        "point cloud range": config.get("point_cloud_range"),
        "image size": config.get("image_size"),
        "commit": about.get("commit"),
        "imported from": about.get("source"),
    }
    lines = [f"- {name}: {value}" for name, value in told.items() if value is not None]
    return "\n".join([*lines, "- all settings: `config.json`"])


def _scores(scores: Sequence[Change]) -> str:
    """A table of scores before and after, beside predictors that learn no geometry."""
    beside = list(dict.fromkeys(name for change in scores for name in change.beside))
    lines = [
        f"| {' | '.join(['score', 'before', 'after', *(name.replace('_', ' ') for name in beside)])} |",
        "|---|" + "---:|" * (2 + len(beside)),
    ]
    for change in scores:
        others = [f"{change.beside[name]:.3f}" if name in change.beside else "" for name in beside]
        cells = [change.metric, f"{change.before:.3f}", f"{change.after:.3f}", *others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
