"""How bright the LiDAR saw what rays meet, rendered."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.geometry import Points
from renderpretrain.recipes.terms.places import along_rays
from renderpretrain.recipes.terms.rendering import Rendering, rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import read_returns


class IntensityTerm(nn.Module):
    """Intensity of returns from the features that their rays see, compared by Huber's error.

    What comes back of a beam tells materials apart. It depends on the distance and on how steeply the beam
    falls, too: a small network sees the cosine of incidence and the depth beside the features. There is no
    gradient through these two, nor through how far a ray sees: geometry does not bend to explain brightness.

    Args:
        channels: Width of the rendered volume.
        weight: Of the term.
        hidden_channels: Width of the network.
        beta: Errors below count by their square; see :func:`~renderpretrain.losses.intensity_smooth_l1`.
    """

    def __init__(
        self,
        channels: int,
        *,
        weight: int | float = 1.0,
        hidden_channels: int = 32,
        beta: int | float = 0.1,
    ) -> None:
        super().__init__()
        self.weight, self.beta = weight, beta
        self.head = nn.Sequential(
            nn.Linear(channels + 2, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, 1)
        )

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``intensity``; 0 where sweeps do not say it."""
        seen = rendering_of(step, self)
        target, known = measured_intensity(step.batch, seen)
        return {
            "intensity": self.weight
            * losses.intensity_smooth_l1(self.rendered(seen), target, known, beta=self.beta)
        }

    def rendered(self, seen: Rendering) -> Float[Tensor, "B R"]:
        """The intensity that rays show, in [0, 1]. Differentiable."""
        features, normals = along_rays(seen.volume, seen.grid, seen), seen.rendered.normals
        with torch.autocast(features.device.type, enabled=False):
            depth = seen.rendered.depth.detach()
            steep = torch.zeros_like(depth)
            if normals is not None:
                steep = (normals.detach() * seen.targets.rays.directions).sum(-1).abs()
            far = max(abs(edge) for edge in (*seen.grid.lower, *seen.grid.upper))
            known = torch.cat([features, steep[..., None], depth[..., None] / far], -1)
            return torch.sigmoid(self.head(known)[..., 0])


def measured_intensity(batch: Batch, seen: Rendering) -> tuple[Float[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """Intensity of the returns that rays go to, and which rays have one.

    A sweep all of whose returns are equally bright was recorded without intensity.
    """
    target, found = read_returns(batch.points.intensity, seen.returns)
    return target, found & seen.targets.hit & _says_intensity(batch.points)[:, None]


def _says_intensity(points: Points) -> Bool[Tensor, " B"]:
    """Whether the returns of a key sweep differ in brightness."""
    if not points.xyz.shape[1]:
        return torch.zeros_like(points.origin[:, 0], dtype=torch.bool)
    brightest = torch.where(points.key, points.intensity, -torch.inf).amax(1)
    return brightest > torch.where(points.key, points.intensity, torch.inf).amin(1)
