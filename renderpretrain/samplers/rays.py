"""Which rays to render, and what a sensor measured along them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_floating, check_shape
from renderpretrain.geometry import Cameras, Rays
from renderpretrain.samplers.pixels import (
    check_cameras,
    check_images,
    colours_at,
    draw,
    draw_pixels,
    nearest_per_pixel,
    pixel_grid,
    read_pixels,
)


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
        labels: Class of the return the ray goes to, -1 for none; ``None`` where returns have no classes.
    """

    rays: Rays
    depth: Float[Tensor, "B R"]
    hit: Bool[Tensor, "B R"]
    rgb: Float[Tensor, "B R 3"]
    rgb_valid: Bool[Tensor, "B R"]
    camera: Int[Tensor, "B R"]
    pixels: Float[Tensor, "B R 2"]
    labels: Int[Tensor, "B R"] | None = None

    def __post_init__(self) -> None:
        sizes = check_shape("RayTargets.rays", self.rays.origins, "B R 3")
        check_bool(hit=self.hit, rgb_valid=self.rgb_valid)
        check_floating(depth=self.depth, rgb=self.rgb)
        check_shape("RayTargets.rgb", self.rgb, "B R 3", **sizes)
        check_shape("RayTargets.pixels", self.pixels, "B R 2", **sizes)
        for name in ("depth", "hit", "rgb_valid", "camera"):
            check_shape(f"RayTargets.{name}", getattr(self, name), "B R", **sizes)
        if self.labels is not None:
            check_shape("RayTargets.labels", self.labels, "B R", **sizes)

    @property
    def ends(self) -> Float[Tensor, "B R 3"]:
        """Where the measured surface is, world; the ray's origin without a measurement."""
        return self.rays.at(self.depth[..., None])[..., 0, :]


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
        nearest: Draw only among the nearest returns of each pixel, as PonderV2 does outdoors
            (https://arxiv.org/abs/2310.08586): the LiDAR sees past edges that hide things from the camera.
    """

    num_rays: int = 512
    stride: int = 4
    sky: int | float = 0.4
    nearest: bool = False

    def __call__(  # noqa: PLR0913  the returns, and the cameras that see them
        self,
        points: Float[Tensor, "B P 3"],
        point_valid: Bool[Tensor, "B P"],
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
        images: Float[Tensor, "B N 3 H W"],
        seeds: Int[Tensor, " B"],
        *,
        point_labels: Int[Tensor, "B P"] | None = None,
    ) -> RayTargets:
        """Draw ``N * num_rays`` rays per sample; nothing is differentiable."""
        batch, num_cameras = check_shape("camera_valid", camera_valid, "B N", B=len(points)).values()
        _check_returns(points, point_valid, point_labels)
        check_images(images, cameras, camera_valid)
        seeds = ops.own_seeds(seeds, batch, "LidarGuidedRays")
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
            _labels(point_labels, chosen.flatten(1), seen.flatten(1)),
        )

    def _returns(
        self, points: Tensor, point_valid: Tensor, cameras: Cameras, camera_valid: Tensor, seeds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Indices ``(B, N, num_rays)`` of random visible returns, and which of these slots hold one."""
        pixels, z_depth, inside = cameras.project(points[:, None])
        visible = inside & camera_valid[..., None] & point_valid[:, None]
        if self.nearest:
            visible = nearest_per_pixel(pixels, z_depth, visible, cameras.image_size)
        return draw(visible, self.num_rays, seeds)

    def _filler(self, cameras: Cameras, seeds: Tensor) -> Tensor:
        """Random grid pixels ``(B, N, num_rays, 2)`` below the sky."""
        grid, _ = pixel_grid(cameras, self.stride, top=self.sky)
        places = ops.uniform(seeds, (cameras.shape[1], self.num_rays))
        return grid[(places * len(grid)).long()]


@dataclass(frozen=True)
class PixelRays:
    """Camera rays through drawn pixels, with their colour and without depth; :func:`add_depth` adds that.

    The candidates decide which: all pixels, a grid below the sky (:func:`pixel_candidates`), hidden patches
    (a mask), or the pixels a depth camera measured.

    Attributes:
        num_rays: Rays per camera; slots that no candidate fills are not valid.
    """

    num_rays: int = 256

    def __call__(
        self,
        candidates: Bool[Tensor, "B N h w"],
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
        images: Float[Tensor, "B N 3 H W"],
        seeds: Int[Tensor, " B"],
    ) -> RayTargets:
        """Draw ``N * num_rays`` rays per sample; see :func:`draw_pixels` for the candidates."""
        sizes = check_shape("camera_valid", camera_valid, "B N")
        check_shape("candidates", candidates, "B N h w", **sizes)
        check_images(images, cameras, camera_valid)
        seeds = ops.own_seeds(seeds, sizes["B"], "PixelRays")
        pixels, found = draw_pixels(candidates, cameras.image_size, self.num_rays, seeds)
        rays = cameras.rays(pixels)
        camera = torch.arange(found.shape[1], device=found.device)[None, :, None].expand_as(found)
        return RayTargets(
            Rays(rays.origins.flatten(1, 2), rays.directions.flatten(1, 2)),
            torch.zeros_like(pixels[..., 0]).flatten(1),
            torch.zeros_like(found).flatten(1),
            colours_at(images, pixels).flatten(1, 2),
            (found & camera_valid[..., None]).flatten(1),
            camera.flatten(1),
            pixels.flatten(1, 2),
        )


def add_depth(
    targets: RayTargets,
    z_depths: Float[Tensor, "B N H W"],
    z_depth_valid: Bool[Tensor, "B N H W"],
    cameras: Cameras,
) -> RayTargets:
    """The same rays with the depth that a depth camera measured at their pixels.

    Rays whose colour does not count get no depth either, and neither do LiDAR beams.

    Args:
        targets: Camera rays.
        z_depths: Along the optical axis, metres; anything where not valid.
        z_depth_valid: Where the depth camera measured.
        cameras: The rays' cameras.
    """
    sizes = check_shape("z_depths", z_depths, "B N H W", B=len(targets.camera))
    check_shape("z_depth_valid", z_depth_valid, "B N H W", **sizes)
    check_floating(z_depths=z_depths)
    check_bool(z_depth_valid=z_depth_valid)
    check_cameras(cameras, sizes["B"], sizes["N"])
    if tuple(cameras.image_size) != tuple(z_depths.shape[2:]):
        raise ValueError(
            f"z_depths: expected images of {cameras.image_size}, as cameras.image_size says, got "
            f"{tuple(z_depths.shape[2:])}"
        )
    camera = targets.camera.clamp(min=0)
    hit = read_pixels(z_depth_valid, camera, targets.pixels) & targets.rgb_valid & (targets.camera >= 0)
    axes = cameras.camera_to_world[..., :3, 2].gather(1, camera[..., None].expand(-1, -1, 3))
    cosines = (targets.rays.directions * axes).sum(-1)
    z_depth = read_pixels(z_depths, camera, targets.pixels)
    depth = torch.where(hit, z_depth / torch.where(hit, cosines, 1.0), 0.0)
    return replace(targets, depth=depth, hit=hit)


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
        *,
        point_labels: Int[Tensor, "B P"] | None = None,
    ) -> RayTargets:
        """Draw ``num_rays`` beams per sample without replacement; nothing is differentiable."""
        _check_returns(points, point_valid, point_labels)
        check_shape("origins", origins, "B 3", B=len(points))
        seeds = ops.own_seeds(seeds, len(points), "LidarBeams")
        points, point_valid = _never_empty(points, point_valid)
        chosen, hit = draw(point_valid, self.num_rays, seeds)
        targets = points.gather(1, chosen[..., None].expand(-1, -1, 3))
        starts = origins[:, None].expand_as(targets)
        forward = ops.constant([1.0, 0.0, 0.0], points)
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
            _labels(point_labels, chosen, hit),
        )


def in_range(
    points: Float[Tensor, "B P 3"], origins: Float[Tensor, "B 3"], near: int | float, far: int | float
) -> Bool[Tensor, "B P"]:
    """Which returns are between ``near`` and ``far`` metres from their sensor in the plane."""
    sizes = check_shape("points", points, "B P 3")
    check_shape("origins", origins, "B 3", B=sizes["B"])
    radius = (points - origins[:, None])[..., :2].norm(dim=-1)
    return (radius > near) & (radius < far)


def _check_returns(points: Tensor, point_valid: Tensor, point_labels: Tensor | None) -> None:
    """Raise ``ValueError`` unless there is a place, a mark and, if any, a class for every return."""
    if isinstance(points, Tensor) and points.dim() == 3 and points.shape[2] > 3:
        raise ValueError(
            f"points: expected (B, P, 3), x, y, z alone, got {tuple(points.shape)}; leave the other columns "
            "out: points[..., :3]"
        )
    sizes = check_shape("points", points, "B P 3")
    check_shape("point_valid", point_valid, "B P", **sizes)
    check_bool(point_valid=point_valid)
    if point_labels is not None:
        check_shape("point_labels", point_labels, "B P", **sizes)


def _labels(point_labels: Tensor | None, chosen: Tensor, found: Tensor) -> Tensor | None:
    """Classes ``(B, R)`` of the chosen returns, -1 for slots that found none."""
    if point_labels is None:
        return None
    padded = torch.nn.functional.pad(point_labels, (0, 1), value=-1)
    return torch.where(found, padded.gather(1, chosen), -1)


def _never_empty(points: Tensor, point_valid: Tensor) -> tuple[Tensor, Tensor]:
    """One more point that is not valid: a batch of empty sweeps has something to index."""
    return torch.nn.functional.pad(points, (0, 0, 0, 1)), torch.nn.functional.pad(point_valid, (0, 1))
