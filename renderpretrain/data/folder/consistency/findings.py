"""What trying out mistakes says of a recording: problems, and what could not be tested."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Finding:
    """One line about a recording's geometry.

    Attributes:
        line: A problem, or what could not be tested and why.
        is_problem: Which of the two.
    """

    line: str
    is_problem: bool = True


def untested(what: str, why: str) -> Finding:
    """A finding that something was not tested, and why."""
    return Finding(f"{what}: not tested: {why}", is_problem=False)


def within(until: float, items: Iterable[Item]) -> Iterator[Item]:
    """The items one after another for as long as there is time; the first one in any case.

    Args:
        until: As ``time.monotonic()`` counts, seconds.
        items: Any.
    """
    for number, item in enumerate(items):
        if number and time.monotonic() > until:
            return
        yield item


def fitting_best(scores: Mapping[str, float], alike: float) -> str:
    """The mistake with the highest score, and those that fit as well: a cause is not named before its equals.

    Args:
        scores: Of each mistake, by its name.
        alike: How much lower a score may be that counts as equal.
    """
    best = max(scores.values())
    names = sorted((name for name in scores if scores[name] >= best - alike), key=lambda name: -scores[name])
    return " or ".join(names)
