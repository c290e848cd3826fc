"""Scenes whose cameras are put where another recording has them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from renderpretrain.data.scene import Recording, Scene
from renderpretrain.geometry import Cameras


@dataclass(frozen=True)
class ArrangedScenes:
    """The scenes of a recording with their cameras at other places.

    Attributes:
        recording: Where the scenes come from.
        camera_names: What stands at each place; ``""`` is a camera that the scenes lack.
    """

    recording: Recording
    camera_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.recording)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; raises ``IndexError`` outside the recording."""
        return arranged(self.recording[index], self.camera_names)

    def sequence(self, index: int) -> Sequence[int]:
        """The numbers of the scenes of a sequence, as the recording has them."""
        return self.recording.sequence(index)

    def without_images(self, index: int) -> Scene:
        """Scene ``index`` without its images, as the recording has it."""
        return self.recording.without_images(index)


def arranged(scene: Scene, names: tuple[str, ...]) -> Scene:
    """The scene with its cameras at the places of their names.

    Args:
        scene: Any; without cameras, or with these names already, it stays as it is.
        names: What stands at each place; ``""`` is a camera that the scene lacks.
    """
    if scene.cameras is None or not names or scene.camera_names == names:
        return scene
    blank = len(scene.camera_names)
    place = {name: n for n, name in enumerate(scene.camera_names) if name}
    order = [place.get(name, blank) for name in names]
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
        image_valid=rows(scene.image_valid),
    )
