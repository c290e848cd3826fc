"""The surface of a field as a mesh, and rendered depth as points."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.fields import LinearChannel, SurfaceField
from renderpretrain.geometry import Rays, RaySamples
from renderpretrain.renderers import Rendered
from renderpretrain.viz.ply import Mesh

AT_ONCE = 2**16
"""Points the field is asked at a time, which bounds the memory."""

OPAQUE = 0.5
"""Rays with less opacity meet nothing."""


@torch.no_grad()
def extract_mesh(field: SurfaceField, volume: Float[Tensor, "1 C Z Y X"], *, refine: int = 1) -> Mesh:
    """The zero level of a field between the outermost voxel centres, by marching cubes.

    Colours are the field's, seen along the inward normal. Needs scikit-image (``renderpretrain[mesh]``).

    Args:
        field: What is there.
        volume: Of one scene.
        refine: Steps per voxel and axis.

    Raises:
        ValueError: If there is no surface, ``refine`` is not positive, or scikit-image is missing.
    """
    if refine < 1:
        raise ValueError(f"refine: expected at least 1, got {refine}")
    polygonise = marching_cubes()
    axes = [
        torch.linspace(low + size / 2, high - size / 2, (count - 1) * refine + 1, device=volume.device)
        for low, high, size, count in zip(
            field.grid.lower, field.grid.upper, field.grid.voxel_size, field.grid.shape[::-1], strict=True
        )
    ]
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    points = torch.stack([x, y, z], -1).flatten(0, 2)
    parts = [field.surface(volume, part[None])[0] for part in points.split(AT_ONCE)]
    values = torch.cat(parts).view(z.shape)
    if not (values.amin() < 0 < values.amax()):
        where = "free" if values.amin() >= 0 else "solid"
        raise ValueError(f"mesh: expected a surface in {field.grid.shape} voxels, found none: all is {where}")
    steps = tuple(size / refine for size in field.grid.voxel_size[::-1])
    corners, faces, _, _ = polygonise(values.float().cpu().numpy(), 0.0, spacing=steps)
    first = torch.stack([axis[0] for axis in axes]).cpu()
    vertices = torch.from_numpy(corners.copy()).float().flip(-1) + first
    # The order of axes is turned around, which turns the triangles around, too.
    triangles = torch.from_numpy(faces.copy()).long().flip(-1)
    return Mesh(vertices, triangles, _colors(field, volume, vertices, vertex_normals(vertices, triangles)))


def vertex_normals(vertices: Float[Tensor, "V 3"], faces: Tensor) -> Float[Tensor, "V 3"]:
    """Unit normals: means over the triangles around, by their area; outward where these are."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = torch.zeros_like(vertices)
    across = torch.linalg.cross(b - a, c - a)
    for k in range(3):
        normals.index_add_(0, faces[:, k], across)
    return torch.nn.functional.normalize(normals, dim=-1)


def rendered_points(parts: Sequence[Rendered], rays: Rays) -> Mesh:
    """Where the rays of one scene end, with the colours seen there.

    Args:
        parts: The rays rendered a few at a time, in order: depth and opacity ``(1, R)`` of each, and colour
            ``(1, R, 3)`` or ``None``.
        rays: ``(1, R)``, all of them.

    Raises:
        ValueError: If no ray meets anything.
    """
    seen = torch.cat([part.opacity for part in parts], 1)[0] > OPAQUE
    if not seen.any():
        raise ValueError(f"points: expected rays that meet something, none of the {len(seen)} does")
    depth = torch.cat([part.depth for part in parts], 1)
    ends = rays.at(depth[..., None])[0, :, 0]
    colors = [part.rgb[0] for part in parts if part.rgb is not None]
    return Mesh(ends[seen], colors=torch.cat(colors)[seen] if colors else None)


def _colors(
    field: SurfaceField, volume: Tensor, vertices: Tensor, normals: Tensor
) -> Float[Tensor, "V 3"] | None:
    """The field's colours at vertices, looking inward; ``None`` where it has none."""
    size = min(field.grid.voxel_size)
    found = []
    for at, normal in zip(vertices.split(AT_ONCE), normals.split(AT_ONCE), strict=True):
        rays = Rays(at[None].to(volume.device), -normal[None].to(volume.device))
        half = torch.full((*rays.shape, 1), size / 2, device=volume.device)
        color = field(volume, rays, RaySamples(-half, half, torch.ones_like(half).bool())).channels.get("rgb")
        if color is None:
            return None
        color = color.at_samples() if isinstance(color, LinearChannel) else color
        found.append(color[0, :, 0].cpu())
    return torch.cat(found)


def marching_cubes() -> Any:
    """scikit-image's function.

    Raises:
        ValueError: If scikit-image is missing; says how to install it.
    """
    try:
        from skimage.measure import marching_cubes as cubes
    except Exception as error:  # broken installs raise more than ImportError
        raise ValueError(f"mesh: needs scikit-image ({error}): pip install 'renderpretrain[mesh]'") from error
    return cubes
