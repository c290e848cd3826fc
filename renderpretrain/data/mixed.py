"""Several data sets as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from renderpretrain.data.arranged import arranged
from renderpretrain.data.camera_places import common_places, places_of
from renderpretrain.data.scene import Scene, SceneDataset

MOST_SHARES = 1000
"""The largest share of a data set: an epoch lists all its scenes."""


class MixedScenes:
    """The scenes of several data sets; each says in ``domain`` which one it comes from.

    Held-out scenes come last: the last ones of every set, in turn. All others come before them, set after
    set, since training shuffles them. Recordings that share cameras, by name, have them in the same places;
    other cameras take the places that their own recording leaves free.

    Args:
        datasets: In the order of their numbers.
        holdout: Scenes to hold out, over all sets.
        shares: How often each set occurs in an epoch, relative to the others: of ``(4, 2, 1)``, four sevenths
            of the scenes come from the first set. An epoch shows the first set once; the others are repeated
            or cut. By default it shows all of them once.
        places: Of cameras by their names, as another data set has them.
    """

    def __init__(
        self,
        datasets: Sequence[SceneDataset],
        *,
        holdout: int = 0,
        shares: Sequence[int] | None = None,
        places: Mapping[str, int] | None = None,
    ) -> None:
        self.datasets = tuple(datasets)
        self._holdout, self.shares, self._given = holdout, shares, places
        held_out = held_out_of_each(holdout, len(self.datasets))
        training = [len(dataset) - count for dataset, count in zip(self.datasets, held_out, strict=True)]
        if not self.datasets or min(training) < 1:
            raise ValueError(
                f"datasets: expected some, with scenes left to train on when {held_out} are held out, got "
                f"{[len(dataset) for dataset in self.datasets]} scenes"
            )
        fit = shares is None or (len(shares) == len(self.datasets) and min(shares) >= 1)
        if shares is not None and not (fit and max(shares) <= MOST_SHARES):
            raise ValueError(
                f"shares: expected {len(self.datasets)} numbers of at least 1 and at most {MOST_SHARES}, "
                f"got {list(shares)}"
            )
        rest = [
            (k, training[k] + i)
            for i in range(max(held_out))
            for k, count in enumerate(held_out)
            if i < count
        ]
        self._places = _epoch(training, shares) + rest
        rigs = [getattr(dataset, "camera_names", ()) for dataset in self.datasets]
        self._cameras = common_places(rigs, places)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, datasets: Sequence[SceneDataset]) -> "MixedScenes":
        """The same mixture of other data sets."""
        return MixedScenes(datasets, holdout=self._holdout, shares=self.shares, places=self._given)

    @property
    def camera_places(self) -> dict[str, int]:
        """Where each camera that has a name stands."""
        return places_of(self._cameras)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; raises ``IndexError`` outside ``range(len(self))``."""
        if not 0 <= index < len(self):
            raise IndexError(f"MixedScenes: expected an index in [0, {len(self)}), got {index}")
        domain, place = self._places[index]
        scene = self.datasets[domain][place]
        return replace(arranged(scene, self._cameras[domain]), domain=domain)


def held_out_of_each(holdout: int, sets: int) -> list[int]:
    """How many scenes each data set holds out when they take turns."""
    return [len(range(k, holdout, sets)) for k in range(sets)]


def _epoch(sizes: Sequence[int], shares: Sequence[int] | None) -> list[tuple[int, int]]:
    """Data set and place in it of the scenes of an epoch."""
    if shares is None:
        return [(k, i) for k, size in enumerate(sizes) for i in range(size)]
    rounds = -(-sizes[0] // shares[0])
    return [
        (k, i % size)
        for k, (size, share) in enumerate(zip(sizes, shares, strict=True))
        for i in range(rounds * share)
    ]
