"""Settings by their dotted names, and what is said of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

Listing = Mapping[str, str]
"""From a setting's dotted name to its source."""

OURS = "accumulate betas sync_batch_norm gradient_norms_every log_every eval_every checkpoint_every"
"""Settings of the optimisation of which no released configuration is known to say anything."""

WARM_UP = "warmup_steps warmup_ratio min_lr_ratio"
CYCLE = "cyclic_peak cyclic_end cyclic_up cyclic_momentum"
"""Settings of one schedule or the other."""


@dataclass(frozen=True)
class Sources:
    """Of one recipe.

    Attributes:
        code: The authors' repository and the commit that was read.
        paper: The source of every setting of the ``paper`` preset.
        presets: Sources of the settings in which other published presets differ from it, by preset.
    """

    code: str
    paper: Listing
    presets: Mapping[str, Listing] = field(default_factory=dict)


def listed(groups: Mapping[str, str], section: str = "") -> dict[str, str]:
    """A listing from names that share a source, with spaces between them.

    Args:
        groups: Names by source.
        section: What the names belong to, with a dot at its end.

    Raises:
        ValueError: If a name occurs twice.
    """
    listing: dict[str, str] = {}
    for source, names in groups.items():
        for name in names.split():
            if section + name in listing:
                raise ValueError(f"{section}{name}: expected one source, got two")
            listing[section + name] = source
    return listing


CALIBRATION = listed(
    {"ours": "refine num_cameras rotation_std_deg translation_std_m weight alignment"}, "calibration."
)
"""Learned camera poses, which no published system has."""


def settings_of(config: BaseModel, section: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting, in order; a section is none itself."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from settings_of(value, f"{section}{name}.")
        else:
            yield section + name, value


def sources_of(sources: Sources, presets: Mapping[str, BaseModel], preset: str) -> dict[str, str]:
    """Every setting of a preset with its source; where it is not published, what ``paper`` has instead.

    Args:
        sources: The recipe's.
        presets: The recipe's.
        preset: One of them.
    """
    published = dict(settings_of(presets["paper"]))
    known = dict(sources.paper) | dict(sources.presets.get(preset, {}))
    told = {}
    for name, value in settings_of(presets[preset]):
        source = known[name]
        if name not in sources.presets.get(preset, {}) and value != published[name]:
            ours = source.startswith(("ours", "unused"))
            source = "ours" if ours else f"ours (paper: {_short(published[name])})"
        told[name] = source
    return told


def _short(value: Any) -> str:
    """A number without digits that say nothing, a list as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(_short(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)
