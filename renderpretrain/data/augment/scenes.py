"""All changes of a scene, drawn from its sample's seed."""

from dataclasses import dataclass, field, replace

import torch

from renderpretrain.data.augment.colors import ColorChange
from renderpretrain.data.augment.draws import chance
from renderpretrain.data.augment.images import ImageChange
from renderpretrain.data.augment.world import WorldChange
from renderpretrain.data.scene import Scene


@dataclass(frozen=True)
class Augmentation:
    """How scenes change while they are trained on.

    The same seed makes the same scene, whoever prepares it; evaluation sees scenes as they are.

    Attributes:
        world: Turned, mirrored, scaled, shifted.
        images: Zoomed, cropped, mirrored.
        colors: Another light.
        without_colors: Probability that points have no colour in this sample: 0, as where none is known.
        without_intensity: The same of their intensity.
        without_cameras: Probability that each camera is missing; one at least stays.
    """

    world: WorldChange = field(default_factory=WorldChange)
    images: ImageChange = field(default_factory=ImageChange)
    colors: ColorChange = field(default_factory=ColorChange)
    without_colors: int | float = 0.0
    without_intensity: int | float = 0.0
    without_cameras: int | float = 0.0

    @property
    def does_nothing(self) -> bool:
        """Whether every scene stays as it is."""
        drops = (self.without_colors, self.without_intensity, self.without_cameras)
        parts = (self.world, self.images, self.colors)
        return not any(drops) and all(part.does_nothing for part in parts)

    def __call__(self, scene: Scene, seed: int) -> Scene:
        """The scene as this sample shows it.

        Args:
            scene: As recorded.
            seed: Of the sample, non-negative.
        """
        if self.does_nothing:
            return scene
        draw = torch.Generator().manual_seed(seed)
        for change in (self.world, self.images, self.colors):
            scene = change(scene, draw)
        return self._dropped(scene, draw)

    def _dropped(self, scene: Scene, draw: torch.Generator) -> Scene:
        """The scene without what this sample lacks."""
        no_colors, no_intensity = chance(draw, self.without_colors), chance(draw, self.without_intensity)
        if no_colors and scene.colors is not None:
            scene = replace(scene, colors=torch.zeros_like(scene.colors))
        if no_intensity:
            points = scene.points.clone()
            points[:, 3] = 0
            scene = replace(scene, points=points)
        if not self.without_cameras or scene.cameras is None:
            return scene
        return _without_some_cameras(scene, self.without_cameras, draw)


def _without_some_cameras(scene: Scene, probability: int | float, draw: torch.Generator) -> Scene:
    """The scene in which some cameras are missing, as ``camera_valid`` says."""
    there = scene.cameras_there
    stays = {n for n in there if not chance(draw, probability)}
    if not stays and there:
        stays = {there[int(torch.randint(len(there), (), generator=draw))]}
    valid = torch.tensor([n in stays for n in range(len(scene.camera_names))])
    images = None if scene.images is None else scene.images * valid[:, None, None, None]
    measured = None if scene.z_depth_valid is None else scene.z_depth_valid & valid[:, None, None]
    return replace(scene, camera_valid=valid, images=images, z_depth_valid=measured)
