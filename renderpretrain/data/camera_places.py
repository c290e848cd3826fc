"""Cameras have places, told by their names: what is learned of one is never taken for another's."""

from collections.abc import Mapping, Sequence
from itertools import count


def common_places(
    rigs: Sequence[Sequence[str]], places: Mapping[str, int] | None = None
) -> list[tuple[str, ...]]:
    """The names at each rig's places when cameras of the same name share one; ``""`` at a place left free.

    Args:
        rigs: Names in the order in which each rig lists them.
        places: Those that are known already; other cameras take what their own rig leaves free.
    """
    known = dict(places or {})
    for rig in rigs:
        taken = {known[name] for name in rig if name in known}
        free = (place for place in count() if place not in taken)
        known |= {name: next(free) for name in rig if name and name not in known}
    arranged = []
    for rig in rigs:
        names = {known[name]: name for name in rig if name}
        arranged.append(tuple(names.get(place, "") for place in range(max(names, default=-1) + 1)))
    return arranged


def places_of(rigs: Sequence[Sequence[str]]) -> dict[str, int]:
    """The place of every name in rigs that are arranged; ``""`` is none."""
    return {name: place for rig in rigs for place, name in enumerate(rig) if name}
