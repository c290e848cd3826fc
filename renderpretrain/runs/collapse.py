"""Which encoders of a run collapse, or learn from one term alone: said in words, each once.

What is known comes from rows of ``metrics.jsonl``: ``health/LEVEL/NAME`` are numbers of
:class:`~renderpretrain.training.health.Health`, ``gradient/TERM/ENCODER`` norms of gradients.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from renderpretrain.recipes.recipe import settings_of
from renderpretrain.recipes.settings import dotted_settings
from renderpretrain.runs.metrics import Row, without_ranges

HEALTH, GRADIENT = "health/", "gradient/"
"""What the names of the measured numbers begin with."""

FEW = 0.1
"""An encoder collapses if a level of it uses a smaller share of its directions than this."""

FELL = 0.25
"""Or a smaller share of the directions that it once used."""

MOST_DEAD = 0.5
"""Or if more of its channels are dead."""

ALIKE = 0.1
"""Or if all places look alike to it: rows of length 1 have a smaller ``unit_std``."""

ALONE = 100.0
"""A term has an encoder to itself if its gradient there is so many times that of every other term."""


class CollapseWatch:
    """Finds encoders that collapse, or learn from one term alone, and says each once.

    All that it remembers follows from the rows it was given, so a resumed run says nothing twice.

    Args:
        advice: What may help, for the sentences.
    """

    def __init__(self, advice: Sequence[str]) -> None:
        self.advice = advice
        self.highest: dict[str, float] = {}
        self.said: set[tuple[str, str]] = set()

    def replay(self, rows: Iterable[Row]) -> None:
        """Take in rows of before, of which everything has been said."""
        for row in rows:
            self.update(row)

    def update(self, row: Row) -> list[str]:
        """A sentence for each encoder in trouble of which none was said before."""
        symptoms: dict[str, str] = {}
        for level, found in levels_of(row).items():
            symptom = self._symptom(level, found)
            # What fresh weights make of scenes is no collapse: nothing has been learned.
            if symptom and row["step"] > 0:
                symptoms.setdefault(encoder_of(level), f"{level} {symptom}")
        sentences = [
            f"{encoder} is collapsing: {symptom}; try {', '.join(self.advice)}"
            for encoder, symptom in symptoms.items()
            if self._is_new("collapse", encoder)
        ]
        for encoder, norms in norms_of(row).items():
            alone = _alone(norms)
            if alone and self._is_new("gradient", encoder):
                sentences.append(f"{encoder} learns from {alone}: lower its weight, or raise the others'")
        return sentences

    def _symptom(self, level: str, found: Row) -> str:
        """What is wrong with a level; empty if nothing is."""
        rank, channels = found["rank"], found["channels"]
        highest = self.highest[level] = max(self.highest.get(level, 0.0), rank)
        if rank == 0:
            return "gives nothing but zeros"
        if rank < FEW * channels or rank < FELL * highest:
            return f"uses {rank:.1f} of {channels} directions (at most it used {highest:.1f})"
        if found["dead"] > MOST_DEAD:
            return f"has {100 * found['dead']:.0f} % dead channels"
        if found["unit_std"] < ALIKE:
            return f"says nearly the same of all places (unit_std {found['unit_std']:.2g})"
        return ""

    def _is_new(self, what: str, encoder: str) -> bool:
        """Whether this has not been said before; it counts as said from now on."""
        new = (what, encoder) not in self.said
        self.said.add((what, encoder))
        return new


def _alone(norms: Row) -> str:
    """The term that moves an encoder alone, in words; empty if none does."""
    pulling = sorted((norm, term) for term, norm in norms.items() if norm > 0)
    if len(pulling) < 2 or pulling[-1][0] < ALONE * pulling[-2][0]:
        return ""
    (second, _), (first, term) = pulling[-2:]
    return f"{term} alone, whose gradient is {first / second:.0f} times that of every other term"


def advice_for(recipe: nn.Module) -> tuple[str, ...]:
    """What may keep an encoder from collapsing, as far as a recipe has settings for it."""
    config = settings_of(recipe)
    return advice_of(dict(dotted_settings(config)) if config is not None else {})


def advice_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of settings by their dotted names."""
    variance = settings.get("collapse.variance")
    of_ours = "a render-distill recipe with collapse.variance=1"
    tries = [of_ours if variance is None else f"collapse.variance above {variance:g}"]
    if not settings.get("losses.rgb", True):
        tries.append("losses.rgb above 0")
    rate = settings.get("optimization.lr")
    return (*tries, "a lower learning rate" if rate is None else f"optimization.lr below {rate:g}")


def levels_of(row: Row) -> dict[str, Row]:
    """The numbers of every level in a row of ``metrics.jsonl``, by level."""
    levels: dict[str, Row] = {}
    for key, value in row.items():
        if key.startswith(HEALTH):
            level, _, name = key.removeprefix(HEALTH).rpartition("/")
            levels.setdefault(level, {})[name] = value
    return levels


def norms_of(row: Row) -> dict[str, Row]:
    """The norm of every term's gradient in a row of ``metrics.jsonl``, by encoder."""
    encoders: dict[str, Row] = {}
    for key, value in row.items():
        if key.startswith(GRADIENT):
            term, _, encoder = key.removeprefix(GRADIENT).rpartition("/")
            encoders.setdefault(encoder, {})[term] = value
    return encoders


def encoder_of(level: str) -> str:
    """The encoder that a level belongs to, as ``encoders()`` calls it."""
    return level.rpartition("/")[0] or level


def is_measured(row: Row) -> bool:
    """Whether a row holds held-out scores or health, rather than the losses of a step."""
    return any(key.startswith(("eval/", HEALTH)) for key in row)


def without_details(row: Row) -> Row:
    """What is left of a row for the console, where health and gradients have lines of their own."""
    left = without_ranges(row).items()
    return {key: value for key, value in left if not key.startswith((HEALTH, GRADIENT))}


def summary(row: Row) -> Iterator[str]:
    """Lines for the console: how many directions each level uses, and how hard each term pulls."""
    encoders: dict[str, list[str]] = {}
    for level, found in levels_of(row).items():
        words = f"{found['rank']:.1f} of {found['channels']}"
        encoders.setdefault(encoder_of(level), []).append(words)
    if encoders:
        yield "directions used: " + "; ".join(f"{name} {', '.join(w)}" for name, w in encoders.items())
    for encoder, terms in norms_of(row).items():
        yield f"gradient on {encoder}: " + "  ".join(f"{term} {norm:.3g}" for term, norm in terms.items())
