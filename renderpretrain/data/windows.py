"""Scenes with their neighbours in time: labels from several frames, and frames to remember."""

from dataclasses import KW_ONLY, dataclass, replace

from renderpretrain.data.occupancy import label_occupancy
from renderpretrain.data.scene import Recording, Scene
from renderpretrain.geometry import VoxelGrid


@dataclass(frozen=True)
class SceneWindows:
    """The scenes of a recording, each with occupancy labels and the scenes before it.

    Attributes:
        recording: Where the scenes come from.
        grid: What is labelled, in each scene's own world.
        reach: Frames on either side whose beams label a scene, as far as the recording goes; the published
            UniScene takes 2.
        history: Scenes in ``previous``: the ones right before, and at the start of a recording its first
            scene as often as needed.
        near: Returns closer to the sensor than this label nothing, metres.
        holdout: The beams of the last so many scenes label none of the scenes before them.
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
        sequence = self.recording.sequence(index)
        border = len(self) - self.holdout
        end = min(sequence[-1] + 1, border) if index < border else sequence[-1] + 1
        near_by = range(max(sequence[0], index - self.reach), min(end, index + self.reach + 1))
        frames = [scene if k == index else self.recording.without_images(k) for k in near_by]
        before = [max(sequence[0], index - lag) for lag in range(self.history, 0, -1)]
        return replace(
            scene,
            occupancy=label_occupancy(frames, near_by.index(index), self.grid, near=self.near),
            previous=tuple(scene if k == index else self.recording[k] for k in before),
        )
