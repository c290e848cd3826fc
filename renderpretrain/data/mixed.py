"""Several data sets as one."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from renderpretrain.data.scene import Scene, SceneDataset
from renderpretrain.geometry import Cameras


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
    """

    def __init__(
        self, datasets: Sequence[SceneDataset], *, holdout: int = 0, shares: Sequence[int] | None = None
    ) -> None:
        self.datasets = tuple(datasets)
        self._holdout, self._shares = holdout, shares
        held_out = held_out_of_each(holdout, len(self.datasets))
        training = [len(dataset) - count for dataset, count in zip(self.datasets, held_out, strict=True)]
        if not self.datasets or min(training) < 1:
            raise ValueError(
                f"datasets: expected some, with scenes left to train on when {held_out} are held out, got "
                f"{[len(dataset) for dataset in self.datasets]} scenes"
            )
        if shares is not None and (len(shares) != len(self.datasets) or min(shares) < 1):
            raise ValueError(
                f"shares: expected {len(self.datasets)} numbers of at least 1, got {list(shares)}"
            )
        rest = [
            (k, training[k] + i)
            for i in range(max(held_out))
            for k, count in enumerate(held_out)
            if i < count
        ]
        self._places = _epoch(training, shares) + rest
        self._cameras = common_places([getattr(dataset, "camera_names", ()) for dataset in self.datasets])

    def __len__(self) -> int:
        return len(self._places)

    def of(self, datasets: Sequence[SceneDataset]) -> "MixedScenes":
        """The same mixture of other data sets."""
        return MixedScenes(datasets, holdout=self._holdout, shares=self._shares)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; raises ``IndexError`` outside ``range(len(self))``."""
        if not 0 <= index < len(self):
            raise IndexError(f"MixedScenes: expected an index in [0, {len(self)}), got {index}")
        domain, place = self._places[index]
        scene = self.datasets[domain][place]
        return replace(_arranged(scene, self._cameras[domain]), domain=domain)


def held_out_of_each(holdout: int, sets: int) -> list[int]:
    """How many scenes each data set holds out when they take turns."""
    return [len(range(k, holdout, sets)) for k in range(sets)]


def common_places(rigs: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The names at each rig's places when cameras of the same name share one; ``""`` at a place left free."""
    places: dict[str, int] = {}
    for rig in rigs:
        taken = {places[name] for name in rig if name in places}
        free = (place for place in count() if place not in taken)
        places |= {name: next(free) for name in rig if name not in places}
    arranged = []
    for rig in rigs:
        names = {places[name]: name for name in rig}
        arranged.append(tuple(names.get(place, "") for place in range(max(names, default=-1) + 1)))
    return arranged


def _arranged(scene: Scene, names: tuple[str, ...]) -> Scene:
    """The scene with its cameras at the places of their names; an empty name is a camera that it lacks."""
    if scene.cameras is None or not names or scene.camera_names == names:
        return scene
    blank = len(scene.camera_names)
    order = [scene.camera_names.index(name) if name else blank for name in names]
    valid = scene.camera_valid
    if valid is None:
        valid = torch.ones(blank, dtype=torch.bool)

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.cat([tensor, torch.zeros_like(tensor[:1])])[order]

    absent = Cameras(torch.eye(3), torch.eye(4), scene.cameras.image_size)
    padded = Cameras.stack([*(scene.cameras[n] for n in range(blank)), absent])
    return replace(
        scene,
        cameras=padded[order],
        camera_names=names,
        camera_valid=rows(valid),
        images=rows(scene.images),
        z_depths=rows(scene.z_depths),
        z_depth_valid=rows(scene.z_depth_valid),
        pixel_labels=rows(scene.pixel_labels),
    )


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
