"""Simulated sensors: pictures with exact truth, and LiDAR sweeps, of a set of solids."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.data.synthetic.raycast import GROUND, Hits
from renderpretrain.data.synthetic.stage import Stage
from renderpretrain.data.synthetic.textures import GRASS, Surface, paint
from renderpretrain.geometry import Cameras


@dataclass(frozen=True)
class Light:
    """One sun and a sky that is brighter above.

    Attributes:
        sun: Unit vector towards it, in the frame of what is seen.
        direct: Share of the light that comes from it.
        diffuse: Share that comes from everywhere.
    """

    sun: tuple[float, float, float] = (0.48, -0.36, 0.8)
    direct: float = 0.5
    diffuse: float = 0.5


LIGHT = Light()
"""A bright day."""


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


def render_images(stage: Stage, cameras: Cameras, *, far: int | float, light: Light = LIGHT) -> Pictures:
    """Cast one ray per pixel centre of a row of cameras.

    Shading is Lambertian under one sun with a sky that is brighter above, without shadows: the colour
    of a point is the same from everywhere, which is what a field without view dependence can learn.

    Args:
        stage: What there is to see.
        cameras: ``(N,)`` cameras.
        far: What lies beyond this distance is sky, metres.
        light: Where the light comes from.
    """
    height, width = cameras.image_size
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u, v], -1).reshape(1, -1, 2).expand(cameras.shape[0], -1, -1)
    rays = cameras.rays(pixels)
    images, casts = [], []
    for n in range(cameras.shape[0]):
        directions = rays.directions[n]
        hits = stage.cast(rays.origins[n, 0], directions, far=far)
        pixel = 1 / cameras.intrinsics[n, 0, 0]
        albedo = surface_albedo(stage, hits, rays.origins[n, 0], directions, footprint=pixel)
        images.append(torch.where(hits.hit[:, None], shade(albedo, hits.normals, light), sky(directions)))
        casts.append(hits)
    depth = torch.stack([h.t for h in casts])
    hit = torch.stack([h.hit for h in casts])
    along_axis = (rays.directions * cameras.camera_to_world[:, None, :3, 2]).sum(-1)
    normals = torch.stack([h.normals for h in casts])
    semantics = torch.where(hit, stage.solids.labels[torch.stack([h.index for h in casts])], 0)
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
    stage: Stage, hits: Hits, origin: Tensor, directions: Tensor, *, footprint: float | Tensor
) -> Float[Tensor, "R 3"]:
    """Colour of the material at each hit, RGB in [0, 1], zeros elsewhere.

    Args:
        stage: What was cast.
        hits: The result of the cast.
        origin: Where the rays started, metres.
        directions: Unit vectors.
        footprint: Width of a pixel at one metre, metres.
    """
    colors = torch.zeros_like(directions)
    chosen = torch.nonzero(hits.hit)[:, 0]
    met = stage.solids[hits.index[chosen]]
    t, normals = hits.t[chosen], hits.normals[chosen]
    points = origin + t[:, None] * directions[chosen] - met.centers
    points, half_sizes = met.to_local(points), met.half_sizes
    if stage.ground is not None:
        flat = torch.nonzero((met.kinds == GROUND) & (met.patterns != GRASS))[:, 0]
        across, along, half = stage.ground.marked(points[flat, :2])
        points[flat] = torch.stack([across, along, torch.zeros_like(along)], -1)
        half_sizes[flat] = half[:, None].expand(-1, 3)
    slant = (normals * directions[chosen]).sum(-1).abs().clamp(min=0.15)
    surface = Surface(
        points=points,
        normals=met.to_local(normals),
        half_sizes=half_sizes,
        colors=met.colors,
        footprints=t * footprint / slant.sqrt(),
    )
    colors[chosen] = paint(surface, met.patterns)
    return colors


def shade(
    albedo: Float[Tensor, "*batch 3"], normals: Float[Tensor, "*batch 3"], light: Light
) -> Float[Tensor, "*batch 3"]:
    """Lambert's law for the sun, plus a sky that lights upward faces more."""
    sun = (normals * normals.new_tensor(light.sun)).sum(-1, keepdim=True).clamp(min=0)
    return (albedo * (light.diffuse + 0.12 * normals[..., 2:] + light.direct * sun)).clamp(0, 1)


def sky(directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """A pale horizon below a blue zenith."""
    up = directions[..., 2:].clamp(0, 1).sqrt()
    return torch.lerp(
        directions.new_tensor([0.86, 0.90, 0.95]), directions.new_tensor([0.36, 0.58, 0.88]), up
    )
