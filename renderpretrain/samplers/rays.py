"""Which rays to render, and what a sensor measured along them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.geometry import Cameras, Rays


@dataclass(frozen=True)
class RayTargets:
    """Rays with their supervision; a target counts only where its mask is True.

    Attributes:
        rays: World rays.
        depth: Measured distance along the ray, metres.
        hit: Where ``depth`` was measured.
        rgb: Colour of the pixel in [0, 1].
        rgb_valid: Where ``rgb`` was seen.
        camera: Index of the camera the ray belongs to, -1 for a LiDAR beam.
        pixels: ``(u, v)`` in that camera.
    """

    rays: Rays
    depth: Float[Tensor, "B R"]
    hit: Bool[Tensor, "B R"]
    rgb: Float[Tensor, "B R 3"]
    rgb_valid: Bool[Tensor, "B R"]
    camera: Int[Tensor, "B R"]
    pixels: Float[Tensor, "B R 2"]

    @property
    def ends(self) -> Float[Tensor, "B R 3"]:
        """Where the measured surface is, world; the ray's origin without a measurement."""
        return self.rays.at(self.depth[..., None])[..., 0, :]


def pixel_grid(
    cameras: Cameras, stride: int, *, top: float = 0.0
) -> tuple[Float[Tensor, "P 2"], tuple[int, int]]:
    """Every ``stride``-th pixel's centre in reading order, and the shape ``(h, w)`` of that picture.

    Args:
        cameras: Gives the image size and the device.
        stride: Pixels between neighbours.
        top: Share of the image height to leave out at the top (the sky).
    """
    height, width = cameras.image_size
    device = cameras.intrinsics.device
    v = torch.arange(int(height * top), height, stride, device=device) + 0.5
    u = torch.arange(0, width, stride, device=device) + 0.5
    grid = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], -1)
    return grid.reshape(-1, 2), (len(v), len(u))


def colours_at(
    images: Float[Tensor, "B N 3 H W"], pixels: Float[Tensor, "B N K 2"]
) -> Float[Tensor, "B N K 3"]:
    """Colour of the pixel that contains each position; positions outside read the border."""
    height, width = images.shape[-2:]
    u = pixels[..., 0].floor().long().clamp(0, width - 1)
    v = pixels[..., 1].floor().long().clamp(0, height - 1)
    index = (v * width + u)[:, :, None].expand(-1, -1, 3, -1)
    return images.flatten(3).gather(3, index).mT


@dataclass(frozen=True)
class LidarGuidedRays:
    """Camera rays through LiDAR returns; pixels of a grid below the horizon fill up what is missing.

    UniPAD's depth-aware sampling (https://arxiv.org/abs/2310.08370, section 3.3). In every camera
    ``num_rays`` returns are drawn without replacement among those it sees; a camera that sees fewer fills up
    with pixels of the grid, which have a colour but no depth.

    Attributes:
        num_rays: Rays per camera.
        stride: Pixels between the filler's grid points.
        sky: Share of the image height, from the top, without filler.
    """

    num_rays: int = 512
    stride: int = 4
    sky: float = 0.4

    def __call__(
        self,
        points: Float[Tensor, "B P 3"],
        point_valid: Bool[Tensor, "B P"],
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
        images: Float[Tensor, "B N 3 H W"],
        seeds: Int[Tensor, " B"],
    ) -> RayTargets:
        """Draw ``N * num_rays`` rays per sample; nothing is differentiable."""
        batch, num_cameras = camera_valid.shape
        points, point_valid = _never_empty(points, point_valid)
        chosen, seen = self._returns(points, point_valid, cameras, camera_valid, ops.fork(seeds, 1))
        targets = (
            points[:, None].expand(-1, num_cameras, -1, -1).gather(2, chosen[..., None].expand(-1, -1, -1, 3))
        )
        filler = self._filler(cameras, ops.fork(seeds, 2))
        pixels = torch.where(seen[..., None], cameras.project(targets)[0], filler)
        through = Rays.through(cameras.centers[:, :, None].expand_as(targets), targets)
        origins = through.origins
        directions = torch.where(seen[..., None], through.directions, cameras.rays(filler).directions)
        depth = torch.where(seen, (targets - origins).norm(dim=-1), 0.0)
        camera = torch.arange(num_cameras, device=points.device)[None, :, None].expand(
            batch, -1, self.num_rays
        )
        return RayTargets(
            Rays(origins.flatten(1, 2), directions.flatten(1, 2)),
            depth.flatten(1),
            seen.flatten(1),
            colours_at(images, pixels).flatten(1, 2),
            camera_valid[..., None].expand(-1, -1, self.num_rays).flatten(1),
            camera.flatten(1),
            pixels.flatten(1, 2),
        )

    def _returns(
        self, points: Tensor, point_valid: Tensor, cameras: Cameras, camera_valid: Tensor, seeds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Indices ``(B, N, num_rays)`` of random visible returns, and which of these slots hold one."""
        visible = cameras.project(points[:, None])[2] & camera_valid[..., None] & point_valid[:, None]
        return draw(visible, self.num_rays, seeds)

    def _filler(self, cameras: Cameras, seeds: Tensor) -> Tensor:
        """Random grid pixels ``(B, N, num_rays, 2)`` below the sky."""
        grid, _ = pixel_grid(cameras, self.stride, top=self.sky)
        places = ops.uniform(seeds, (cameras.shape[1], self.num_rays))
        return grid[(places * len(grid)).long()]


@dataclass(frozen=True)
class LidarBeams:
    """The sensor's own beams: rays from the LiDAR to its returns, where there are no cameras.

    Attributes:
        num_rays: Rays per sample; slots that no return fills are marked as no hit.
    """

    num_rays: int = 2048

    def __call__(
        self,
        points: Float[Tensor, "B P 3"],
        point_valid: Bool[Tensor, "B P"],
        origins: Float[Tensor, "B 3"],
        seeds: Int[Tensor, " B"],
    ) -> RayTargets:
        """Draw ``num_rays`` beams per sample without replacement; nothing is differentiable."""
        check_shape("origins", origins, "B 3", B=len(points))
        points, point_valid = _never_empty(points, point_valid)
        chosen, hit = draw(point_valid, self.num_rays, seeds)
        targets = points.gather(1, chosen[..., None].expand(-1, -1, 3))
        starts = origins[:, None].expand_as(targets)
        forward = torch.tensor([1.0, 0.0, 0.0], device=points.device)
        targets = torch.where(hit[..., None], targets, starts + forward)
        zeros = torch.zeros_like(targets)
        return RayTargets(
            Rays.through(starts, targets),
            torch.where(hit, (targets - starts).norm(dim=-1), 0.0),
            hit,
            zeros,
            torch.zeros_like(hit),
            torch.full_like(chosen, -1),
            zeros[..., :2],
        )


def in_range(
    points: Float[Tensor, "B P 3"], origins: Float[Tensor, "B 3"], near: float, far: float
) -> Bool[Tensor, "B P"]:
    """Which returns are between ``near`` and ``far`` metres from their sensor in the plane."""
    radius = (points - origins[:, None])[..., :2].norm(dim=-1)
    return (radius > near) & (radius < far)


def _never_empty(points: Tensor, point_valid: Tensor) -> tuple[Tensor, Tensor]:
    """One more point that is not valid: a batch of empty sweeps has something to index."""
    return torch.nn.functional.pad(points, (0, 0, 0, 1)), torch.nn.functional.pad(point_valid, (0, 1))


def draw(
    candidates: Bool[Tensor, "B *lead P"], count: int, seeds: Int[Tensor, " B"]
) -> tuple[Int[Tensor, "B *lead K"], Bool[Tensor, "B *lead K"]]:
    """Draw ``count`` of the candidates along the last axis without replacement.

    Returns:
        Their indices, and which slots hold one: where there are fewer candidates, the rest of the slots is
        False and points at index 0.
    """
    keys = torch.where(candidates, ops.uniform(seeds, tuple(candidates.shape[1:])), 2.0)
    available = min(count, candidates.shape[-1])
    # A stable sort, so that neither padding nor ties change which ray gets which jitter.
    values, index = keys.sort(dim=-1, stable=True)
    missing = (0, count - available)
    found = torch.nn.functional.pad(values[..., :available] < 1.5, missing)
    return torch.where(found, torch.nn.functional.pad(index[..., :available], missing), 0), found
