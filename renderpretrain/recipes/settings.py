"""What recipes' settings are made of: values that can be meant, how it is optimised, where numbers are from.

A setting's source begins with ``paper``, ``code`` (a file and its lines in the authors' repository), ``ours``
(in brackets what paper or code have instead), or ``unused`` (and what turns it off in the preset that is
shown). A method's file lists them beside its presets.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

LARGEST = 1e9
"""No number of a setting is above it."""

MOST_PIXELS = 2**25
"""Of an image."""

MOST_VOXELS = {"voxel_size": 2**27, "encoder.voxel_size": 2**31 - 1}
"""Of a volume that is rendered, and of the sparse grids before it."""


class Settings(BaseModel):
    """A section of a configuration, which refuses unknown names, and texts and numbers past all use."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _numbers_are_no_truths(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        taken = handler(value)
        for given, got in zip(_leaves(value), _leaves(taken), strict=False):  # sections look at their own
            if isinstance(given, bool) and not isinstance(got, bool):
                raise PydanticCustomError("number", "expected something else than true or false")
        return taken

    @field_validator("*")
    @classmethod
    def _can_be_meant(cls, value: Any) -> Any:
        for part in _leaves(value):
            if isinstance(part, str) and not part.isprintable():
                raise PydanticCustomError("text", "expected text that can be printed")
            if isinstance(part, int | float) and abs(part) > LARGEST:
                raise PydanticCustomError(
                    "size", "expected numbers of at most {most}", {"most": f"{LARGEST:g}"}
                )
        return value

    @model_validator(mode="after")
    def _voxels_fit(self) -> "Settings":
        box = getattr(self, "point_cloud_range", None)
        for name, most in MOST_VOXELS.items() if box else ():
            section, _, field = name.rpartition(".")
            size = getattr(getattr(self, section, None) if section else self, field, None)
            if size and box and (count := _voxels(box, size)) > most:
                told = f"{name}: expected at most {most:.3g} voxels, got {count:.3g} of {size} m in {box}"
                raise PydanticCustomError("voxels", "{told}", {"told": told})
        return self


def _leaves(value: Any) -> Iterator[Any]:
    """Numbers and texts of a setting."""
    if isinstance(value, dict):
        value = (*value, *value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif not isinstance(value, BaseModel):
        yield value


def _voxels(box: tuple[float, ...], size: tuple[float, ...]) -> float:
    """How many voxels a box has."""
    return math.prod((high - low) / step for low, high, step in zip(box[:3], box[3:], size, strict=True))


def _rises(box: tuple[float, ...]) -> tuple[float, ...]:
    if not all(low < high for low, high in zip(box[: len(box) // 2], box[len(box) // 2 :], strict=True)):
        raise PydanticCustomError("order", "expected every minimum below its maximum")
    return box


def _is_small(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MOST_PIXELS:
        raise PydanticCustomError("pixels", "expected at most {most} pixels", {"most": MOST_PIXELS})
    return size


Meters = Annotated[float, Field(ge=-1e5, le=1e5)]
Distance = Annotated[float, Field(ge=0, le=1e5)]
Step = Annotated[float, Field(ge=1e-3, le=1e3)]

Box = Annotated[tuple[Meters, Meters, Meters, Meters, Meters, Meters], AfterValidator(_rises)]
"""``x_min, y_min, z_min, x_max, y_max, z_max`` in metres."""

Span = Annotated[tuple[Distance, Distance], AfterValidator(_rises)]
"""Two distances in metres, the nearer one first."""

VoxelSize = tuple[Step, Step, Step]
"""x, y, z in metres."""

_Side = Annotated[int, Field(gt=0, le=2**15)]
ImageSize = Annotated[tuple[_Side, _Side], AfterValidator(_is_small)]
"""Height and width in pixels."""

Width = Annotated[int, Field(gt=0, le=2**13)]
"""Channels."""

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
"""Channels per stage."""

Count = Annotated[int, Field(le=2**16)]
"""Of what there are a few of, or thousands."""

Blocks = Annotated[int, Field(ge=0, le=2**8)]
"""Layers that follow each other."""

Depths = Annotated[tuple[Annotated[int, Field(gt=0, le=2**8)], ...], Field(min_length=1, max_length=16)]
"""Layers per stage."""

_Edge = Annotated[int, Field(gt=0, le=2**10)]
Block = tuple[_Edge, _Edge, _Edge]
"""Voxels, z, y, x."""

AT_START = "at start"
"""Marks a setting that only fresh weights look at: a resumed run cannot change it."""

Initial = Annotated[float, AT_START]
"""A number that training changes from there."""

WeightsFile = Annotated[str | None, AT_START]
"""A path, or none."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""Of one, which it does not reach."""

Multiplier = Annotated[float, Field(ge=0, le=1e6)]
"""Of a learning rate."""

NUSCENES_SAMPLES = 28130
"""Samples of the nuScenes training split: what published epochs count."""


class OptimizationConfig(Settings):
    """An optimiser with a schedule; every published number has a field."""

    steps: int = Field(400, gt=0, description="Optimiser steps.")
    batch_size: int = Field(1, gt=0, le=2**16, description="Scenes per process and step.")
    accumulate: int = Field(
        1, gt=0, le=2**16, description="Batches whose gradients are summed into one step."
    )
    lr: float = Field(
        2e-4, gt=0, le=1e6, description="Learning rate; the start of the cycle for the cyclic schedule."
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="sgd is Nesterov's, with the first beta for its momentum."
    )
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    schedule: Literal["cosine", "cyclic", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    warmup_ratio: float = Field(1 / 3, gt=0, le=1, description="Learning rate at step 0 as a share of lr.")
    min_lr_ratio: float = Field(
        1e-3, ge=0, le=1, description="Final learning rate of the cosine as a share of lr."
    )
    cyclic_peak: float = Field(10.0, gt=0, description="Peak of the cyclic schedule as a multiple of lr.")
    cyclic_end: float = Field(1e-4, gt=0, description="End of the cyclic schedule as a multiple of lr.")
    cyclic_up: float = Field(0.4, gt=0, lt=1, description="Share of the steps that go up.")
    cyclic_momentum: tuple[Share, Share] | None = Field(
        (0.95, 0.85), description="First beta at the ends and at the peak of the cycle; null keeps betas."
    )
    clip_norm: float | None = Field(
        35.0, gt=0, description="L2 norm the gradient is clipped to; null never clips."
    )
    lr_multipliers: dict[str, Multiplier] = Field(
        default_factory=dict, description="Learning-rate factors by prefix of the parameter name."
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="Of a GPU's networks; tf32 for its convolutions alone. Rendering is always fp32."
    )
    cuda_graph: bool = Field(
        False,
        description="Record a GPU's step and replay it, without the host's part; only for recipes without "
        "voxels, whose steps have one shape.",
    )
    sync_batch_norm: bool = Field(False, description="Synchronise batch-norm statistics across GPUs.")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="What each of several processes keeps: ddp, a copy of all; fsdp, a part of weights, "
        "gradients and the optimiser's memory.",
    )
    gradient_norms_every: int = Field(
        0,
        ge=0,
        description="Steps between rows with the norm of every term's gradient on every encoder, at the cost "
        "of a backward pass per term; 0 never measures.",
    )
    monitor_every: int = Field(
        300,
        ge=0,
        description="Steps between looks at how healthy features are, which evaluations bring as well; with "
        "every fifth the gradient of every term. 0 never looks.",
    )
    log_every: int = Field(10, gt=0, description="Steps between console lines.")
    eval_every: int = Field(100, gt=0, description="Steps between evaluations of held-out scenes.")
    checkpoint_every: int = Field(200, gt=0, description="Steps between checkpoints.")
    checkpoint_minutes: float = Field(
        8.0,
        gt=0,
        le=10,
        description="Minutes until a checkpoint is written all the same; the first one comes after a tenth.",
    )


def tiny_optimization(lr: float) -> OptimizationConfig:
    """Of every ``tiny`` preset: minutes on two cores, a short warm-up, then a cosine; the rate is its own."""
    return OptimizationConfig(
        steps=400,
        batch_size=1,
        lr=lr,
        schedule="cosine",
        warmup_steps=20,
        min_lr_ratio=0.01,
        clip_norm=35,
    )


Listing = Mapping[str, str]
"""From a setting's dotted name to its source."""

OURS = (
    "accumulate betas cuda_graph sync_batch_norm parallel gradient_norms_every monitor_every log_every "
    "eval_every checkpoint_every checkpoint_minutes"
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
        when: The values, all of which are needed, by the settings that have them; one that ends in a colon
            stands for all that begin so.
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


def dotted_settings(config: BaseModel, section: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting, in order; a section is none itself."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from dotted_settings(value, f"{section}{name}.")
        else:
            yield section + name, value


def unused_in(settings: Mapping[str, Any], rules: tuple[Unused, ...]) -> dict[str, str]:
    """Which settings nothing reads, and what turns each off."""
    found: dict[str, str] = {}
    for rule in rules:
        if all(_is(settings[name], value) for name, value in rule.when.items()):
            why = ", ".join(f"{name} {_short(settings[name])}" for name in rule.when)
            found = dict.fromkeys(rule.names, f"unused: {why}") | found
    return found


def _is(value: Any, wanted: Any) -> bool:
    """Whether a setting has a value, or begins as it ends in a colon."""
    begins = isinstance(wanted, str) and wanted.endswith(":") and str(value).startswith(wanted)
    return bool(value == wanted) or begins


def sources_of(sources: Sources, presets: Mapping[str, BaseModel], preset: str) -> dict[str, str]:
    """Every setting of a preset with its source; where it is not published, what ``paper`` has instead.

    A recipe that nobody has published has ``base`` in its place.

    Args:
        sources: The recipe's.
        presets: The recipe's.
        preset: One of them.
    """
    known = "paper" if "paper" in presets else "base"
    published, shown = (dict(dotted_settings(presets[name])) for name in (known, preset))
    told = unused_in(shown, sources.unused) | dict(sources.presets.get(preset, {}))
    for name in shown.keys() - told.keys():
        source = sources.paper.get(name, f"ours (unused in {known})")
        if name in sources.paper and shown[name] != published[name]:
            source = "ours" if source.startswith("ours") else f"ours ({known}: {_short(published[name])})"
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


def moved(old: str, new: str, names: str) -> dict[str, str]:
    """Today's dotted names by former ones, of settings that went from one section to another.

    Args:
        old: The section they were in.
        new: The section they are in.
        names: With spaces between them; ``former:today`` where the name changed, too.
    """
    pairs = [name.split(":") for name in names.split()]
    return {f"{old}.{pair[0]}": f"{new}.{pair[-1]}" for pair in pairs}


def renamed(tree: Mapping[str, Any], former: Mapping[str, str]) -> dict[str, Any]:
    """Settings as they were saved, under the names they have today.

    Args:
        tree: Sections of settings, some of them perhaps.
        former: Today's dotted names by former ones. What is there under both keeps today's.
    """
    result = {name: renamed(part, {}) if isinstance(part, Mapping) else part for name, part in tree.items()}
    moved = {name: _taken(result, old.split(".")) for old, name in former.items() if _holds(result, old)}
    for name, value in moved.items():
        *sections, key = name.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
        place.setdefault(key, value)
    return result


def check_names(tree: Mapping[str, Any], former: Mapping[str, str]) -> None:
    """Raise ``ValueError`` if a setting is told by a name it no longer has."""
    for old, name in former.items():
        if _holds(tree, old):
            raise ValueError(f"{old}: is called {name}")


def _holds(tree: Any, name: str) -> bool:
    """Whether a setting is in a tree."""
    section, _, rest = name.partition(".")
    if not isinstance(tree, Mapping) or section not in tree:
        return False
    return _holds(tree[section], rest) if rest else True


def _taken(tree: dict[str, Any], path: list[str]) -> Any:
    """A setting out of a tree, with the sections that it leaves empty."""
    section, *rest = path
    if not rest:
        return tree.pop(section)
    value = _taken(tree[section], rest)
    if not tree[section]:
        del tree[section]
    return value
