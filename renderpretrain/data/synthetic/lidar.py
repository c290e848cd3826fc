"""A simulated LiDAR: a spinning sensor of many beams, and weather that takes returns away."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.data.scene import LUMINANCE
from renderpretrain.data.synthetic.raycast import Hits
from renderpretrain.data.synthetic.simulate import surface_albedo
from renderpretrain.data.synthetic.stage import Stage


@dataclass(frozen=True)
class Weather:
    """What happens to light between the sensor and what it meets.

    Attributes:
        drop_out: Share of returns lost at any range.
        far_loss: Share that is lost besides at the longest range; it grows with the square of the range.
        grazing_loss: Share that is lost besides where the light grazes what it meets, as on a wet road.
        visibility: Metres over which the intensity falls to a third.
        gain: What all intensities are multiplied with.
        speckle: Standard deviation of an intensity over its mean.
        blind: Parts of the view from which nothing comes back, as behind dirt: azimuth to the right of
            forward and elevation of the middle, half the width, half the height, degrees.
    """

    drop_out: float = 0.05
    far_loss: float = 0.4
    grazing_loss: float = 0.0
    visibility: float = 300.0
    gain: float = 1.0
    speckle: float = 0.0
    blind: tuple[tuple[float, float, float, float], ...] = ()

    def keeps(
        self, directions: Float[Tensor, "R 3"], shares: Float[Tensor, " R"], incidence: Float[Tensor, " R"]
    ) -> Float[Tensor, " R"]:
        """Chance that a return survives.

        Args:
            directions: Unit vectors in the sensor's frame.
            shares: Ranges over the longest range.
            incidence: Cosine between ray and normal.
        """
        lost = self.drop_out + self.far_loss * shares.square() + self.grazing_loss * (1 - incidence).pow(4)
        azimuth = torch.rad2deg(torch.atan2(directions[:, 0], directions[:, 1]))
        elevation = torch.rad2deg(directions[:, 2].asin())
        hidden = torch.zeros_like(lost, dtype=torch.bool)
        for middle, height, wide, high in self.blind:
            turn = (azimuth - middle + 180) % 360 - 180
            hidden |= (turn.abs() < wide) & ((elevation - height).abs() < high)
        return torch.where(hidden, 0.0, 1 - lost)


@dataclass(frozen=True)
class Spinner:
    """A spinning multi-beam LiDAR.

    Attributes:
        num_beams: Beams, spread evenly in elevation.
        points_per_beam: Firings per turn.
        elevations: Lowest and highest beam, degrees above the horizon.
        max_range: Metres.
        range_noise: Standard deviation along the ray, metres.
        weather: What is lost, and how bright the rest is.
    """

    num_beams: int = 32
    points_per_beam: int = 600
    elevations: tuple[float, float] = (-30.0, 10.0)
    max_range: float = 60.0
    range_noise: float = 0.02
    weather: Weather = field(default_factory=Weather)

    def directions(self) -> Float[Tensor, "R 3"]:
        """Unit vectors of one turn in the sensor's frame, beam by beam."""
        low, high = (torch.deg2rad(torch.tensor(e)) for e in self.elevations)
        elevation = torch.linspace(float(low), float(high), self.num_beams)[:, None]
        azimuth = torch.arange(self.points_per_beam) * (2 * torch.pi / self.points_per_beam)
        x, y = elevation.cos() * azimuth.sin(), elevation.cos() * azimuth.cos()
        return torch.stack([x, y, elevation.sin().expand_as(x)], -1).reshape(-1, 3)

    def sweep(
        self, stage: Stage, pose: Float[Tensor, "4 4"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "P 4"], Int[Tensor, " P"]]:
        """One turn: ``x, y, z, intensity`` in the world frame, and the class of what each point lies on.

        Args:
            stage: What there is to meet.
            pose: From the sensor's frame to the world's.
            generator: Of noise and losses.
        """
        own = self.directions()
        directions, origin = own @ pose[:3, :3].T, pose[:3, 3]
        hits = stage.cast(origin, directions, far=self.max_range)
        incidence = (hits.normals * directions).sum(-1).abs()
        chance = torch.rand(len(directions), generator=generator)
        noise = torch.randn(2, len(directions), generator=generator)
        kept = hits.hit & (chance < self.weather.keeps(own, hits.t / self.max_range, incidence))
        points = origin + (hits.t + noise[0] * self.range_noise)[:, None] * directions
        bright = self._brightness(stage, hits, origin, directions) * incidence.sqrt()
        bright = bright * self.weather.gain * (-hits.t / self.weather.visibility).exp()
        intensity = (bright * (1 + self.weather.speckle * noise[1])).clamp(0, 1)
        return torch.cat([points, intensity[:, None]], -1)[kept], stage.solids.labels[hits.index[kept]]

    def _brightness(self, stage: Stage, hits: Hits, origin: Tensor, directions: Tensor) -> Tensor:
        """The material's reflectance, as much brighter or darker as its texture is than its plain colour."""
        luminance = torch.tensor(LUMINANCE)
        texture = surface_albedo(stage, hits, origin, directions, footprint=2e-3) @ luminance
        plain = (stage.solids.colors @ luminance).clamp(min=0.03)
        return stage.solids.reflectances[hits.index] * (texture / plain[hits.index]).clamp(0, 2.5)
