"""Scenes with their neighbours in time: labels from several frames, and frames to remember."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import islice

from renderpretrain.data.occupancy import label_occupancy
from renderpretrain.data.scene import Recording, Scene
from renderpretrain.geometry import VoxelGrid


@dataclass(frozen=True)
class FollowedScenes:
    """The scenes of a recording, each with the one right after it in time.

    The last scene of a recording is followed by itself, which
    :attr:`~renderpretrain.data.Batch.followed` tells.

    Attributes:
        recording: Where the scenes come from.
        holdout: The last so many scenes of the data set follow none of the others.
        images: Whether the next scenes have their pictures, which are the slow part.
    """

    recording: Recording
    _: KW_ONLY
    holdout: int = 0
    images: bool = False

    def __post_init__(self) -> None:
        if self.holdout < 0:
            raise ValueError(f"FollowedScenes: holdout: expected at least 0, got {self.holdout}")

    def __len__(self) -> int:
        return len(self.recording)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index`` and the next one; raises ``IndexError`` outside the recording."""
        scene, after = self.recording[index], self.next_of(index)
        if after is None:
            return replace(scene, following=(scene,))
        read = self.recording.__getitem__ if self.images else self.recording.without_images
        return replace(scene, following=(read(after),))

    def next_of(self, index: int) -> int | None:
        """The scene right after one in time, or ``None``."""
        sequence, border = self.recording.sequence(index), len(self) - self.holdout
        place = sequence.index(index) + 1
        known = place < len(sequence) and (index >= border or sequence[place] < border)
        return sequence[place] if known else None

    def sequence(self, index: int) -> Sequence[int]:
        """All scenes of the recording that a scene belongs to, in order of time."""
        return self.recording.sequence(index)

    def without_images(self, index: int) -> Scene:
        """Scene ``index`` without its pictures, and without the next one."""
        return self.recording.without_images(index)


@dataclass(frozen=True)
class SceneWindows:
    """The scenes of a recording, each with occupancy labels and the scenes before it.

    Attributes:
        recording: Where the scenes come from.
        grid: What is labelled, in each scene's own world.
        reach: Frames before and after in time whose beams label a scene, as far as the recording goes; the
            published UniScene takes 2.
        history: Scenes in ``previous``: the ones right before in time, and at the start of a recording its
            first scene as often as needed.
        near: Returns closer to the sensor than this label nothing, metres.
        holdout: The last so many scenes of the data set label none of the others, nor are remembered by them.
    """

    recording: Recording
    grid: VoxelGrid
    _: KW_ONLY
    reach: int = 2
    history: int = 0
    near: int | float = 0.0
    holdout: int = 0

    def __post_init__(self) -> None:
        for name in ("reach", "history", "near", "holdout"):
            if getattr(self, name) < 0:
                raise ValueError(f"SceneWindows: {name}: expected at least 0, got {getattr(self, name)}")

    def __len__(self) -> int:
        return len(self.recording)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``, labelled; raises ``IndexError`` outside the recording."""
        scene = self.recording[index]
        before, after = self._neighbours(index)
        labelling = [*before[: self.reach][::-1], index, *after]
        frames = [scene if k == index else self.recording.without_images(k) for k in labelling]
        past = before[: self.history]
        past += [before[-1] if before else index] * (self.history - len(past))
        return replace(
            scene,
            occupancy=label_occupancy(frames, labelling.index(index), self.grid, near=self.near),
            previous=tuple(scene if k == index else self.recording[k] for k in reversed(past)),
        )

    def _neighbours(self, index: int) -> tuple[list[int], list[int]]:
        """Scenes before and after one in time, the nearest first, as many as are needed."""
        sequence = self.recording.sequence(index)
        place, border = sequence.index(index), len(self) - self.holdout

        def nearest(places: range, count: int) -> list[int]:
            usable = (sequence[k] for k in places if index >= border or sequence[k] < border)
            return list(islice(usable, count))

        before = nearest(range(place - 1, -1, -1), max(self.reach, self.history))
        return before, nearest(range(place + 1, len(sequence)), self.reach)
