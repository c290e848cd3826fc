"""Views of one room in pairs, each with what it says of its camera, and with a mistake in that mended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from renderpretrain.data.folder.consistency.mistakes import Mistake, spread
from renderpretrain.data.folder.schema import IndoorFolder
from renderpretrain.geometry import Cameras

Posed = TypeVar("Posed", bound="PosedView")


@dataclass(frozen=True)
class PosedView:
    """A camera's 4x4 pose in the room, and the camera at the origin of the world."""

    pose: np.ndarray
    camera: Cameras

    def mended(self: Posed, mistake: Mistake) -> Posed:
        """The view without a mistake, but for its depth."""
        pose = mistake.pose(self.pose) @ np.linalg.inv(mistake.own_axes)
        scale = torch.tensor([mistake.intrinsics, mistake.intrinsics, 1.0])[:, None]
        camera = replace(self.camera, intrinsics=self.camera.intrinsics * scale)
        return replace(self, pose=pose, camera=camera)

    def motion_to(self, other: "PosedView") -> torch.Tensor:
        """``(4, 4)`` float64, from this camera's axes to the other's."""
        return torch.from_numpy(np.linalg.inv(other.pose) @ self.pose)


def view_pairs(folder: IndoorFolder, starts: int, ahead: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Views of one room that lie near each other in the recording.

    Args:
        folder: Its parsed ``frames.json``.
        starts: How many views are compared with others.
        ahead: How many views ahead those lie.
    """
    frames = folder.frames
    for first in spread(len(frames), starts):
        for second in (first + step for step in ahead):
            if second < len(frames) and frames[second].scene == frames[first].scene:
                yield first, second
