"""Settings by their dotted names, and what is said of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

Listing = Mapping[str, str]
"""From a setting's dotted name to its source."""

OURS = (
    "accumulate betas sync_batch_norm gradient_norms_every log_every eval_every checkpoint_every "
    "checkpoint_minutes"
)
"""Settings of the optimisation of which no released configuration is known to say anything."""

WARM_UP = "warmup_steps warmup_ratio min_lr_ratio"
CYCLE = "cyclic_peak cyclic_end cyclic_up cyclic_momentum"
"""Settings of one schedule or the other."""


@dataclass(frozen=True)
class Unused:
    """Settings that nothing reads while others have certain values.

    Attributes:
        names: The settings.
        when: The values, all of which are needed, by the settings that have them.
    """

    names: tuple[str, ...]
    when: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """Of one recipe.

    Attributes:
        code: The authors' repository and the commit that was read.
        paper: The source of every setting that the ``paper`` preset uses.
        unused: What turns settings off.
        presets: Sources of the settings in which other published presets differ from ``paper``, or which it
            does not use, by preset.
    """

    code: str
    paper: Listing
    unused: tuple[Unused, ...]
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


def unused(names: str, section: str = "", *, when: Mapping[str, Any]) -> Unused:
    """Settings that nothing reads, from names with spaces between them.

    Args:
        names: Of the settings.
        section: What the names belong to, with a dot at its end.
        when: The values, by full names.
    """
    return Unused(tuple(section + name for name in names.split()), when)


CALIBRATION = {"calibration.refine": "ours"}
"""Learned camera poses, which no published system has."""

UNREFINED = unused(
    "num_cameras rotation_std_deg translation_std_m weight alignment",
    "calibration.",
    when={"calibration.refine": False},
)
"""Where poses can be learned."""

UNSCHEDULED = (
    unused("warmup_ratio", "optimization.", when={"optimization.warmup_steps": 0}),
    *(
        unused(names, "optimization.", when={"optimization.schedule": other})
        for names, others in (("min_lr_ratio", ("cyclic", "constant")), (CYCLE, ("cosine", "constant")))
        for other in others
    ),
)
"""What the schedules do not share."""


def settings_of(config: BaseModel, section: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting, in order; a section is none itself."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from settings_of(value, f"{section}{name}.")
        else:
            yield section + name, value


def unused_in(settings: Mapping[str, Any], rules: tuple[Unused, ...]) -> dict[str, str]:
    """Which settings nothing reads, and what turns each off."""
    found: dict[str, str] = {}
    for rule in rules:
        if all(settings[name] == value for name, value in rule.when.items()):
            why = ", ".join(f"{name} {_short(value)}" for name, value in rule.when.items())
            found = dict.fromkeys(rule.names, f"unused: {why}") | found
    return found


def sources_of(sources: Sources, presets: Mapping[str, BaseModel], preset: str) -> dict[str, str]:
    """Every setting of a preset with its source; where it is not published, what ``paper`` has instead.

    Args:
        sources: The recipe's.
        presets: The recipe's.
        preset: One of them.
    """
    published, shown = (dict(settings_of(presets[name])) for name in ("paper", preset))
    told = unused_in(shown, sources.unused) | dict(sources.presets.get(preset, {}))
    for name in shown.keys() - told.keys():
        source = sources.paper.get(name, "ours (unused in paper)")
        if name in sources.paper and shown[name] != published[name]:
            source = "ours" if source.startswith("ours") else f"ours (paper: {_short(published[name])})"
        told[name] = source
    return told


def _short(value: Any) -> str:
    """A number without digits that say nothing, a list or a truth as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(_short(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)
