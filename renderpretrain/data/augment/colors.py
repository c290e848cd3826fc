"""Pictures in another light: brightness, contrast, saturation and hue."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from renderpretrain.data.augment.draws import chance, uniform
from renderpretrain.data.scene import LUMINANCE, Scene

TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""From RGB to luminance and two axes of colour (FCC NTSC), in which a hue is an angle."""


@dataclass(frozen=True)
class ColorChange:
    """How the colours of a scene's pictures may change, all of them alike: they show one place.

    Attributes:
        brightness: Largest number that is added or taken away, of colours in [0, 1].
        contrast: Largest share by which differences from black grow or shrink.
        saturation: The same of differences from grey.
        hue: Largest angle to either side, degrees.
        each: Probability of each of them.
    """

    brightness: int | float = 0.0
    contrast: int | float = 0.0
    saturation: int | float = 0.0
    hue: int | float = 0.0
    each: int | float = 0.5

    @property
    def does_nothing(self) -> bool:
        """Whether all colours stay as they are."""
        return not any((self.brightness, self.contrast, self.saturation, self.hue)) or not self.each

    def __call__(self, scene: Scene, draw: torch.Generator) -> Scene:
        """The scene with colours that are drawn, and the same of the scenes that follow it.

        What compares pictures of two moments sees them in one light. Pixels that no camera saw stay black.
        """
        if self.does_nothing or scene.images is None:
            return scene
        happens = [chance(draw, self.each) for _ in range(4)]
        limits = (self.brightness, self.contrast, self.saturation, self.hue)
        amounts = [uniform(draw, -limit, limit) * there for limit, there in zip(limits, happens, strict=True)]
        return _in_light(scene, amounts)


def _in_light(scene: Scene, amounts: Sequence[int | float]) -> Scene:
    """A scene, and those that follow it, in another light."""
    following = tuple(_in_light(later, amounts) for later in scene.following)
    if scene.images is None:
        return replace(scene, following=following)
    images = _recolored(scene.images, amounts)
    if scene.image_valid is not None:
        images = images * scene.image_valid[:, None]
    return replace(scene, images=images, following=following)


def _recolored(images: Tensor, amounts: Sequence[int | float]) -> Tensor:
    """RGB in [0, 1] in another light: brighter, of more contrast and saturation, of another hue."""
    brightness, contrast, saturation, hue = amounts
    images = (images + brightness) * (1 + contrast)
    grey = (images * torch.tensor(LUMINANCE)[:, None, None]).sum(-3, keepdim=True)
    images = grey + (images - grey) * (1 + saturation)
    if hue:
        to = torch.tensor(TO_YIQ, dtype=torch.float64)
        cosine, sine = math.cos(math.radians(hue)), math.sin(math.radians(hue))
        turn = torch.tensor([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]], dtype=torch.float64)
        images = torch.einsum("ij,...jhw->...ihw", (torch.linalg.inv(to) @ turn @ to).float(), images)
    return images.clamp(0, 1)
