"""Which rays to render, and what a sensor measured along them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_floating, check_shape
from renderpretrain.geometry import Cameras, Points, Rays, Sensors, Views
from renderpretrain.samplers.curved import CANDIDATES, Preference, choose
from renderpretrain.samplers.pixels import (
    check_cameras,
    colors_at,
    draw,
    draw_pixels,
    nearest_per_pixel,
    pixel_candidates,
    pixel_grid,
    read_pixels,
)

RETURNS, FILLERS = 1, 2
"""Purposes of seeds: the choice among a camera's returns, and of pixels where there are too few."""


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
        returns: Row of the point that the ray goes to, -1 for none: what is known of points is read there
            (:func:`read_returns`). ``None`` where rays go to pixels.
        labels: Class of what the ray goes to, -1 for none; ``None`` where there are no classes.
    """

    rays: Rays
    depth: Float[Tensor, "B R"]
    hit: Bool[Tensor, "B R"]
    rgb: Float[Tensor, "B R 3"]
    rgb_valid: Bool[Tensor, "B R"]
    camera: Int[Tensor, "B R"]
    pixels: Float[Tensor, "B R 2"]
    returns: Int[Tensor, "B R"] | None = None
    labels: Int[Tensor, "B R"] | None = None

    def __post_init__(self) -> None:
        sizes = check_shape("RayTargets.rays", self.rays.origins, "B R 3")
        check_bool(hit=self.hit, rgb_valid=self.rgb_valid)
        check_floating(depth=self.depth, rgb=self.rgb)
        check_shape("RayTargets.rgb", self.rgb, "B R 3", **sizes)
        check_shape("RayTargets.pixels", self.pixels, "B R 2", **sizes)
        for name in ("depth", "hit", "rgb_valid", "camera"):
            check_shape(f"RayTargets.{name}", getattr(self, name), "B R", **sizes)
        for name in ("returns", "labels"):
            if getattr(self, name) is not None:
                check_shape(f"RayTargets.{name}", getattr(self, name), "B R", **sizes)

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
        preference: Which returns are likelier, such as :class:`CurvedReturns`; all alike by default.
    """

    num_rays: int = 512
    stride: int = 4
    sky: int | float = 0.4
    nearest: bool = False
    preference: Preference | None = None

    def __call__(self, batch: Sensors, seeds: Int[Tensor, " B"] | None = None) -> RayTargets:
        """Draw ``N * num_rays`` rays per sample to returns of the key sweep; nothing is differentiable.

        Args:
            batch: Points, views and seeds.
            seeds: One per sample, instead of the batch's.

        Raises:
            ValueError: If there are no views.
        """
        points, views = _never_empty(batch.points), views_of(batch, "LidarGuidedRays")
        num_cameras, seeds = views.valid.shape[1], seeds_of(batch, seeds, self)
        chosen, seen = self._returns(points, views, ops.fold_in(seeds, RETURNS))
        targets = (
            points.xyz[:, None]
            .expand(-1, num_cameras, -1, -1)
            .gather(2, chosen[..., None].expand(-1, -1, -1, 3))
        )
        cameras = views.cameras
        filler, found = self._filler(views, ops.fold_in(seeds, FILLERS))
        pixels = torch.where(seen[..., None], cameras.project(targets)[0], filler)
        through = Rays.through(cameras.centers[:, :, None].expand_as(targets), targets)
        origins = through.origins
        directions = torch.where(seen[..., None], through.directions, cameras.rays(filler).directions)
        depth = torch.where(seen, (targets - origins).norm(dim=-1), 0.0)
        return RayTargets(
            Rays(origins.flatten(1, 2), directions.flatten(1, 2)),
            depth.flatten(1),
            seen.flatten(1),
            colors_at(views.images, pixels).flatten(1, 2),
            (views.valid[..., None] & (seen | found)).flatten(1),
            _of_each_camera(seen),
            pixels.flatten(1, 2),
            torch.where(seen, chosen, -1).flatten(1),
            _labels(points.labels, chosen.flatten(1), seen.flatten(1)),
        )

    def _returns(self, points: Points, views: Views, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Indices ``(B, N, num_rays)`` of random visible returns, and which of these slots hold one."""
        pixels, z_depth, inside = views.cameras.project(points.xyz[:, None])
        visible = views.seen_at(pixels, inside & views.valid[..., None] & points.key[:, None])
        if self.nearest:
            visible = nearest_per_pixel(pixels, z_depth, visible, views.cameras.image_size)
        return _draw_returns(points, visible, self.num_rays, self.preference, seeds)

    def _filler(self, views: Views, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Random grid pixels ``(B, N, num_rays, 2)`` below the sky, and which slots hold one.

        A camera that saw all of its image has the same ones whether others did or not.
        """
        cameras = views.cameras
        places = ops.uniform(seeds, (cameras.shape[1], self.num_rays))
        if views.image_valid is None:
            grid, _ = pixel_grid(cameras, self.stride, top=self.sky)
            return grid[(places * len(grid)).long()], torch.ones_like(places, dtype=torch.bool)
        candidates = pixel_candidates(cameras, stride=self.stride, top=self.sky) & views.image_valid
        ends = candidates.flatten(2).cumsum(-1)
        cell = torch.searchsorted(ends, (places * ends[..., -1:]).long(), right=True)
        width = cameras.image_size[1]
        pixels = torch.stack([cell % width, cell // width], -1) + 0.5
        return pixels, (ends[..., -1:] > 0).expand_as(places)


@dataclass(frozen=True)
class PixelRays:
    """Camera rays through drawn pixels, with their colour and the depth that a depth camera measured there.

    Attributes:
        num_rays: Rays per camera; slots that no candidate fills are not valid.
        candidates: Cells that tile every image, True where pixels are drawn: a grid below the sky
            (:func:`pixel_candidates`), hidden patches (a mask), pixels with a depth. ``None`` takes the
            pixels that a depth camera measured, or all where there is none.
    """

    num_rays: int = 256
    candidates: Bool[Tensor, "B N h w"] | None = None

    def __call__(self, batch: Sensors, seeds: Int[Tensor, " B"] | None = None) -> RayTargets:
        """Draw ``N * num_rays`` rays per sample; see :func:`draw_pixels` for the candidates.

        Args:
            batch: Views and seeds.
            seeds: One per sample, instead of the batch's.

        Raises:
            ValueError: If there are no views, or the candidates do not tile their images.
        """
        views, seeds = views_of(batch, "PixelRays"), seeds_of(batch, seeds, self)
        candidates = self._among(views)
        size, count = views.valid.shape
        check_shape("candidates", candidates, "B N h w", B=size, N=count)
        if views.image_valid is not None and candidates.shape == views.image_valid.shape:
            candidates = candidates & views.image_valid
        pixels, found = draw_pixels(candidates, views.cameras.image_size, self.num_rays, seeds)
        found = views.seen_at(pixels, found)
        rays = views.cameras.rays(pixels)
        targets = RayTargets(
            Rays(rays.origins.flatten(1, 2), rays.directions.flatten(1, 2)),
            torch.zeros_like(pixels[..., 0]).flatten(1),
            torch.zeros_like(found).flatten(1),
            colors_at(views.images, pixels).flatten(1, 2),
            (found & views.valid[..., None]).flatten(1),
            _of_each_camera(found),
            pixels.flatten(1, 2),
        )
        depth = views.depth_images()
        return targets if depth is None else add_depth(targets, *depth, views.cameras)

    def _among(self, views: Views) -> Bool[Tensor, "B N h w"]:
        """The cells that are drawn from."""
        if self.candidates is not None:
            return self.candidates
        return pixel_candidates(views.cameras) if views.z_depth_valid is None else views.z_depth_valid


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
        z_depths: As ``Cameras.project`` gives depth, metres; anything where not valid.
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
    if cameras.fisheye is not None:
        cosines = torch.where(cameras.fisheye.gather(1, camera), 1.0, cosines)
    z_depth = read_pixels(z_depths, camera, targets.pixels)
    depth = torch.where(hit, z_depth / torch.where(hit, cosines, 1.0), 0.0)
    return replace(targets, depth=depth, hit=hit)


@dataclass(frozen=True)
class LidarBeams:
    """The sensor's own beams: rays from the LiDAR to its returns, where there are no cameras.

    Attributes:
        num_rays: Rays per sample; slots that no return fills are marked as no hit.
        preference: Which returns are likelier, such as :class:`CurvedReturns`; all alike by default.
    """

    num_rays: int = 2048
    preference: Preference | None = None

    def __call__(self, batch: Sensors, seeds: Int[Tensor, " B"] | None = None) -> RayTargets:
        """Draw ``num_rays`` beams of the key sweep per sample without replacement; nothing is differentiable.

        Args:
            batch: Points and seeds.
            seeds: One per sample, instead of the batch's.
        """
        points, seeds = _never_empty(batch.points), seeds_of(batch, seeds, self)
        chosen, hit = _draw_returns(points, points.key, self.num_rays, self.preference, seeds)
        targets = points.xyz.gather(1, chosen[..., None].expand(-1, -1, 3))
        starts = points.origin[:, None].expand_as(targets)
        forward = ops.constant([1.0, 0.0, 0.0], targets)
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
            torch.where(hit, chosen, -1),
            _labels(points.labels, chosen, hit),
        )


def read_returns(
    values: Shaped[Tensor, "B P *rest"], returns: Int[Tensor, "B R"]
) -> tuple[Shaped[Tensor, "B R *rest"], Bool[Tensor, "B R"]]:
    """What is known of the points that rays go to: intensity, features, anything with a row per point.

    Args:
        values: A row for every point of the batch.
        returns: As ``RayTargets.returns``.

    Returns:
        The rows, 0 for a ray without a return, and which rays have one. Differentiable in the values.
    """
    sizes = check_shape("values", values, "B P ...", B=len(returns))
    check_shape("returns", returns, "B R")
    found = returns >= 0
    rest = (1,) * (values.dim() - 2)
    padded = torch.cat([values, values.new_zeros(len(values), 1, *values.shape[2:])], 1)
    index = torch.where(found, returns, sizes["P"]).view(*returns.shape, *rest)
    return padded.gather(1, index.expand(*returns.shape, *values.shape[2:])), found


def in_range(points: Points, near: int | float, far: int | float) -> Bool[Tensor, "B P"]:
    """Which points are between ``near`` and ``far`` metres from their sensor in the plane."""
    radius = (points.xyz - points.origin[..., None, :])[..., :2].norm(dim=-1)
    return (radius > near) & (radius < far)


def views_of(batch: Sensors, sampler: str) -> Views:
    """The batch's views, or a ``ValueError`` of the sampler that needs them."""
    if batch.views is None:
        raise ValueError(f"batch: {sampler} draws rays of cameras, got no views; LidarBeams does without")
    sizes = check_shape("batch.points.xyz", batch.points.xyz, "B P 3")
    check_shape("batch.views.valid", batch.views.valid, "B N", B=sizes["B"])
    return batch.views


def seeds_of(batch: Sensors, seeds: Tensor | None, sampler: object) -> Int[Tensor, " B"]:
    """A sampler's own seeds: those that were given, or the batch's."""
    chosen = batch.seeds if seeds is None else seeds
    return ops.own_seeds(chosen, len(batch.points.xyz), type(sampler).__name__)


def _draw_returns(
    points: Points, among: Tensor, count: int, preference: Preference | None, seeds: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows of points ``(B, *lead, count)``, and which of these slots hold one."""
    if preference is None:
        return draw(among, count, seeds)
    candidates, found = draw(among, CANDIDATES * count, seeds)
    return choose(points, candidates, found, count, preference, seeds)


def _of_each_camera(slots: Shaped[Tensor, "B N K"]) -> Int[Tensor, "B R"]:
    """The camera of every ray."""
    cameras = torch.arange(slots.shape[1], device=slots.device)
    return cameras[None, :, None].expand_as(slots).flatten(1)


def _labels(labels: Tensor | None, chosen: Tensor, found: Tensor) -> Tensor | None:
    """Classes ``(B, R)`` of the chosen returns, -1 for slots that found none."""
    return None if labels is None else torch.where(found, labels.gather(1, chosen), -1)


def _never_empty(points: Points) -> Points:
    """One more point that is not valid: a batch of empty sweeps has something to index."""
    check_shape("batch.points.xyz", points.xyz, "B P 3")
    pad = torch.nn.functional.pad
    return Points(
        pad(points.xyz, (0, 0, 0, 1)),
        pad(points.intensity, (0, 1)),
        pad(points.lag, (0, 1)),
        pad(points.valid, (0, 1)),
        points.origin,
        None if points.labels is None else pad(points.labels, (0, 1), value=-1),
        key_sweep=pad(points.key, (0, 1)),
    )
