"""Wrong calibration on purpose: how much of it does a set-up stand?"""

import math
from dataclasses import KW_ONLY, dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data.scene import Scene, SceneDataset
from renderpretrain.geometry import pose_from_vectors


@dataclass(frozen=True)
class Miscalibrated:
    """The scenes of a data set with one camera that is not where the calibration says.

    Poses given are wrong, images, points and exact answers are not. The error is the same in all scenes, and
    in those before them: a turn about a random axis and a shift in a random direction, in the camera's axes.

    Attributes:
        dataset: Where the scenes come from.
        camera: Which camera, counted from 0.
        rotation_deg: Angle of the turn, degrees.
        translation_m: Length of the shift, metres.
        seed: Of axis and direction.
    """

    dataset: SceneDataset
    _: KW_ONLY
    camera: int = 0
    rotation_deg: int | float = 1.0
    translation_m: int | float = 0.2
    seed: int = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index`` with the wrong pose.

        Raises:
            ValueError: If it has no such camera.
        """
        return self._moved(self.dataset[index])

    @property
    def error(self) -> Float[Tensor, "4 4"]:
        """The motion in the camera's axes: ``camera_to_world @ error`` is what the scenes say."""
        generator = torch.Generator().manual_seed(self.seed)
        axes = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=-1)
        return pose_from_vectors(math.radians(self.rotation_deg) * axes[0], self.translation_m * axes[1])

    def _moved(self, scene: Scene) -> Scene:
        """A scene and those before and after it."""
        count = 0 if scene.cameras is None else scene.cameras.shape[0]
        if scene.cameras is None or not 0 <= self.camera < count:
            raise ValueError(
                f"camera: expected one of the {count} cameras of scene {scene.name!r}, got {self.camera}"
            )
        poses = scene.cameras.camera_to_world.clone()
        poses[self.camera] = poses[self.camera] @ self.error.to(poses)
        return replace(
            scene,
            cameras=replace(scene.cameras, camera_to_world=poses),
            previous=tuple(self._moved(before) for before in scene.previous),
            following=tuple(self._moved(after) for after in scene.following),
        )
