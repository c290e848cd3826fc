"""Simulated sensors: pictures with exact truth, and LiDAR sweeps, of a set of solids."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.data.scene import LUMINANCE
from renderpretrain.data.synthetic.raycast import Hits, Solids, cast
from renderpretrain.data.synthetic.textures import Surface, paint
from renderpretrain.geometry import Cameras

SUN = (0.48, -0.36, 0.8)
"""Unit vector towards the light, in the world frame of every scene."""


@dataclass(frozen=True)
class Pictures:
    """What ideal cameras see.

    Attributes:
        images: RGB in [0, 1].
        depth: Distance along the pixel's unit ray, metres; 0 without a hit.
        z_depth: The same along the optical axis.
        hit: False in the sky.
        normals: Outward unit normals in the world frame; zeros without a hit.
        semantics: Class index; 0 without a hit.
        cosines: Ray direction times normal: -1 head-on, 0 grazing or without a hit.
    """

    images: Float[Tensor, "N 3 H W"]
    depth: Float[Tensor, "N H W"]
    z_depth: Float[Tensor, "N H W"]
    hit: Bool[Tensor, "N H W"]
    normals: Float[Tensor, "N 3 H W"]
    semantics: Int[Tensor, "N H W"]
    cosines: Float[Tensor, "N H W"]


def render_images(solids: Solids, cameras: Cameras, *, far: float) -> Pictures:
    """Cast one ray per pixel centre of a row of cameras.

    Shading is Lambertian under one fixed sun with a sky that is brighter above, without shadows: the colour
    of a point is the same from everywhere, which is what a field without view dependence can learn.

    Args:
        solids: What there is to see.
        cameras: ``(N,)`` cameras.
        far: What lies beyond this distance is sky, metres.
    """
    height, width = cameras.image_size
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u, v], -1).reshape(1, -1, 2).expand(cameras.shape[0], -1, -1)
    rays = cameras.rays(pixels)
    images, casts = [], []
    for n in range(cameras.shape[0]):
        directions = rays.directions[n]
        hits = cast(solids, rays.origins[n, 0], directions, far=far)
        pixel = 1 / cameras.intrinsics[n, 0, 0]
        albedo = surface_albedo(solids, hits, rays.origins[n, 0], directions, footprint=pixel)
        images.append(torch.where(hits.hit[:, None], shade(albedo, hits.normals), sky(directions)))
        casts.append(hits)
    depth = torch.stack([h.t for h in casts])
    hit = torch.stack([h.hit for h in casts])
    along_axis = (rays.directions * cameras.camera_to_world[:, None, :3, 2]).sum(-1)
    normals = torch.stack([h.normals for h in casts])
    semantics = torch.where(hit, solids.labels[torch.stack([h.index for h in casts])], 0)
    shape = (cameras.shape[0], height, width)
    return Pictures(
        images=torch.stack(images).mT.reshape(shape[0], 3, height, width).contiguous(),
        depth=depth.reshape(shape),
        z_depth=(depth * along_axis).reshape(shape),
        hit=hit.reshape(shape),
        normals=normals.mT.reshape(shape[0], 3, height, width).contiguous(),
        semantics=semantics.reshape(shape),
        cosines=(rays.directions * normals).sum(-1).reshape(shape),
    )


def surface_albedo(
    solids: Solids, hits: Hits, origin: Tensor, directions: Tensor, *, footprint: float | Tensor
) -> Float[Tensor, "R 3"]:
    """Colour of the material at each hit, RGB in [0, 1], zeros elsewhere.

    Args:
        solids: What was cast.
        hits: The result of the cast.
        origin: Where the rays started, metres.
        directions: Unit vectors.
        footprint: Width of a pixel at one metre, metres.
    """
    colors = torch.zeros_like(directions)
    chosen = torch.nonzero(hits.hit)[:, 0]
    met = solids[hits.index[chosen]]
    t, normals = hits.t[chosen], hits.normals[chosen]
    points = origin + t[:, None] * directions[chosen] - met.centers
    slant = (normals * directions[chosen]).sum(-1).abs().clamp(min=0.15)
    surface = Surface(
        points=met.to_local(points),
        normals=met.to_local(normals),
        half_sizes=met.half_sizes,
        colors=met.colors,
        footprints=t * footprint / slant.sqrt(),
    )
    colors[chosen] = paint(surface, met.patterns)
    return colors


def shade(albedo: Float[Tensor, "*batch 3"], normals: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Lambert's law for the fixed sun, plus a sky that lights upward faces more."""
    sun = (normals * normals.new_tensor(SUN)).sum(-1, keepdim=True).clamp(min=0)
    return (albedo * (0.5 + 0.12 * normals[..., 2:] + 0.5 * sun)).clamp(0, 1)


def sky(directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """A pale horizon below a blue zenith."""
    up = directions[..., 2:].clamp(0, 1).sqrt()
    return torch.lerp(
        directions.new_tensor([0.86, 0.90, 0.95]), directions.new_tensor([0.36, 0.58, 0.88]), up
    )


@dataclass(frozen=True)
class Spinner:
    """A spinning multi-beam LiDAR.

    Attributes:
        num_beams: Beams, spread evenly in elevation.
        points_per_beam: Firings per turn.
        elevations: Lowest and highest beam, degrees above the horizon.
        max_range: Metres.
        range_noise: Standard deviation along the ray, metres.
        drop_out: Share of returns lost at any range; at ``max_range`` another 40 % are lost.
    """

    num_beams: int = 32
    points_per_beam: int = 600
    elevations: tuple[float, float] = (-30.0, 10.0)
    max_range: float = 60.0
    range_noise: float = 0.02
    drop_out: float = 0.05

    def directions(self) -> Float[Tensor, "R 3"]:
        """Unit vectors of one turn in the sensor's frame, beam by beam."""
        low, high = (torch.deg2rad(torch.tensor(e)) for e in self.elevations)
        elevation = torch.linspace(float(low), float(high), self.num_beams)[:, None]
        azimuth = torch.arange(self.points_per_beam) * (2 * torch.pi / self.points_per_beam)
        x, y = elevation.cos() * azimuth.sin(), elevation.cos() * azimuth.cos()
        return torch.stack([x, y, elevation.sin().expand_as(x)], -1).reshape(-1, 3)

    def sweep(
        self, solids: Solids, origin: Float[Tensor, "3"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "P 4"], Int[Tensor, " P"]]:
        """One turn: ``x, y, z, intensity`` in the world frame, and the class of what each point lies on.

        The intensity is the luminance of the material times the square root of the cosine of incidence.
        """
        directions = self.directions()
        hits = cast(solids, origin, directions, far=self.max_range)
        chance = torch.rand(len(directions), generator=generator)
        noise = torch.randn(len(directions), generator=generator) * self.range_noise
        kept = hits.hit & (chance >= self.drop_out + 0.4 * (hits.t / self.max_range).square())
        albedo = surface_albedo(solids, hits, origin, directions, footprint=2e-3)
        incidence = (hits.normals * directions).sum(-1).abs()
        intensity = (albedo * albedo.new_tensor(LUMINANCE)).sum(-1) * incidence.sqrt()
        points = origin + (hits.t + noise)[:, None] * directions
        return torch.cat([points, intensity[:, None]], -1)[kept], solids.labels[hits.index[kept]]
