"""Pinhole cameras with OpenCV distortion, in batches.

The camera looks along +z with x to the right and y down. Pixels are ``(u, v)`` = (right, down) with centres
at +0.5, so the image spans ``[0, W] x [0, H]``. ``world`` is the frame of the point cloud range.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.geometry.poses import apply_matrix, invert_pose, rotate, transform
from renderpretrain.geometry.rays import Rays

UNDISTORT_STEPS = 20
"""Newton steps of the undistortion; a typical automotive lens converges below 1e-8 in three."""

FARTHEST_PLANE = 6.0
"""Largest coordinate on the plane z = 1 that undistortion returns: 80 degrees off the axis."""

LARGEST_STEP = 0.3
"""Longest Newton step on the plane z = 1; outside the lens model an unbounded one would overflow."""

NEAREST_DEPTH = 1e-3
"""Metres along the optical axis below which a point counts as behind the camera."""


@dataclass(frozen=True)
class Cameras:
    """Any batch of cameras that share one image size.

    Attributes:
        intrinsics: ``(*batch, 3, 3)``, pixels, upper triangular, with centres at +0.5.
        camera_to_world: ``(*batch, 4, 4)``, metres.
        image_size: ``(height, width)``, pixels.
        distortion: OpenCV ``k1, k2, p1, p2, k3``; zeros mean none.
    """

    intrinsics: Float[Tensor, "*batch 3 3"]
    camera_to_world: Float[Tensor, "*batch 4 4"]
    image_size: tuple[int, int]
    distortion: Float[Tensor, "*batch 5"] | None = None

    def __post_init__(self) -> None:
        check_shape("Cameras.intrinsics", self.intrinsics, "... 3 3")
        check_shape("Cameras.camera_to_world", self.camera_to_world, "... 4 4")
        batch = self.intrinsics.shape[:-2]
        distorted = batch if self.distortion is None else self.distortion.shape[:-1]
        if self.camera_to_world.shape[:-2] != batch or distorted != batch:
            raise ValueError(
                "Cameras: expected one batch shape, got intrinsics "
                f"{tuple(self.intrinsics.shape)}, camera_to_world {tuple(self.camera_to_world.shape)}, "
                f"distortion {None if self.distortion is None else tuple(self.distortion.shape)}"
            )

    @staticmethod
    def from_lidar2img(
        lidar2img: Float[Tensor, "*batch 4 4"], image_size: tuple[int, int], *, integer_centers: bool = True
    ) -> "Cameras":
        """Cameras from mmdetection3d's projection matrices, which map world points to ``(u d, v d, d, 1)``.

        Args:
            lidar2img: Projection matrices; resizing and cropping may already be multiplied in, mirroring may
                not (use :meth:`flip`).
            image_size: ``(height, width)`` of the images they project to.
            integer_centers: The matrices put the first pixel's centre at (0, 0), as OpenCV and the data sets
                do.

        Raises:
            ValueError: If a matrix is singular, not finite, or mirrors the world.
        """
        check_shape("lidar2img", lidar2img, "... 4 4")
        left = lidar2img[..., :3, :3]
        determinant = torch.linalg.det(left)
        if not bool((torch.isfinite(lidar2img).all() & (determinant > 1e-12).all()).item()):
            raise ValueError(
                "lidar2img: expected finite matrices whose left 3x3 block has a positive determinant, "
                f"got determinants {determinant.flatten().tolist()}"
            )
        intrinsics, rotation = _rq(left)
        translation = torch.linalg.solve(intrinsics, lidar2img[..., :3, 3:])
        bottom = torch.zeros_like(lidar2img[..., :1, :])
        bottom[..., 3] = 1
        world_to_camera = torch.cat([torch.cat([rotation, translation], -1), bottom], -2)
        intrinsics = intrinsics / intrinsics[..., 2:, 2:]
        if integer_centers:
            intrinsics = intrinsics + _principal_shift(intrinsics, 0.5, 0.5)
        return Cameras(intrinsics, invert_pose(world_to_camera), image_size)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the batch axes that all tensors begin with."""
        return self.intrinsics.shape[:-2]

    @property
    def centers(self) -> Float[Tensor, "*batch 3"]:
        """Where the cameras are, metres."""
        return self.camera_to_world[..., :3, 3]

    @property
    def world_to_camera(self) -> Float[Tensor, "*batch 4 4"]:
        """The inverse of ``camera_to_world``, 4x4."""
        return invert_pose(self.camera_to_world)

    def rays(self, pixels: Float[Tensor, "*batch P 2"]) -> Rays:
        """World rays with unit directions through the pixels ``(u, v)``."""
        ones = torch.ones_like(pixels[..., :1])
        plane = torch.linalg.solve_triangular(
            self.intrinsics, torch.cat([pixels, ones], -1).mT, upper=True
        ).mT[..., :2]
        if self.distortion is not None:
            plane = _undistort(plane, self.distortion)
        directions = torch.nn.functional.normalize(torch.cat([plane, ones], -1), dim=-1)
        directions = rotate(self.camera_to_world, directions)
        return Rays(self.centers[..., None, :].expand_as(directions), directions)

    def project(
        self, points: Float[Tensor, "... P 3"]
    ) -> tuple[Float[Tensor, "*batch P 2"], Float[Tensor, "*batch P"], Bool[Tensor, "*batch P"]]:
        """Pixels of world points.

        Args:
            points: ``(*batch, P, 3)``, or anything that broadcasts to it, e.g. ``(B, 1, P, 3)``.
                Differentiable.

        Returns:
            Pixels ``(u, v)``; depth along the optical axis in metres; and whether the point is in front of
            the camera, inside the image and inside the lens model (a strong polynomial folds back on itself
            far outside).
        """
        camera = transform(self.world_to_camera, points)
        z_depth = camera[..., 2]
        front = z_depth > NEAREST_DEPTH
        plane = camera[..., :2] / torch.where(front, z_depth, 1.0)[..., None]
        valid = front
        if self.distortion is not None:
            plane, unfolded = _distort(plane, self.distortion)
            valid = valid & unfolded
        homogeneous = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
        pixels = apply_matrix(self.intrinsics, homogeneous)[..., :2]
        size = ops.constant(self.image_size[::-1], pixels)
        return pixels, z_depth, valid & ((pixels >= 0) & (pixels < size)).all(-1)

    def resize(self, image_size: tuple[int, int]) -> "Cameras":
        """The cameras of images resampled to ``(height, width)``."""
        factors = [new / old for new, old in zip(image_size[::-1], self.image_size[::-1], strict=True)]
        # Row by row, for autocast would round a matrix product to bf16.
        scale = ops.constant([*factors, 1.0], self.intrinsics)[:, None]
        return replace(self, intrinsics=scale * self.intrinsics, image_size=image_size)

    def crop(self, top: int, left: int, image_size: tuple[int, int]) -> "Cameras":
        """The cameras of the window ``[top, top + height) x [left, left + width)``; negative offsets pad."""
        shift = _principal_shift(self.intrinsics, -float(left), -float(top))
        return replace(self, intrinsics=self.intrinsics + shift, image_size=image_size)

    def flip(self) -> "Cameras":
        """The cameras of horizontally mirrored images; the focal length in u turns negative."""
        mirror = ops.constant(
            [[-1.0, 0.0, self.image_size[1]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], self.intrinsics
        )
        return replace(self, intrinsics=mirror @ self.intrinsics)

    def moved(self, old_to_new: Float[Tensor, "*batch 4 4"]) -> "Cameras":
        """The same cameras seen from another world frame (a rigid motion)."""
        return replace(self, camera_to_world=old_to_new @ self.camera_to_world)

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        distortion = None if self.distortion is None else self.distortion.to(device)
        return replace(
            self,
            intrinsics=self.intrinsics.to(device),
            camera_to_world=self.camera_to_world.to(device),
            distortion=distortion,
        )

    def __getitem__(self, index: object) -> "Cameras":
        """The cameras that an index into the batch axes chooses."""
        return replace(
            self,
            intrinsics=self.intrinsics[index],  # type: ignore[index]
            camera_to_world=self.camera_to_world[index],  # type: ignore[index]
            distortion=None if self.distortion is None else self.distortion[index],  # type: ignore[index]
        )

    @staticmethod
    def stack(cameras: list["Cameras"]) -> "Cameras":
        """One more batch axis in front. All image sizes must agree."""
        sizes = {c.image_size for c in cameras}
        if len(sizes) != 1:
            raise ValueError(f"Cameras.stack: expected one image size, got {sorted(sizes)}")
        distortion = None
        if any(c.distortion is not None for c in cameras):
            zeros = [c.intrinsics.new_zeros(*c.shape, 5) for c in cameras]
            distortion = torch.stack(
                [z if c.distortion is None else c.distortion for c, z in zip(cameras, zeros, strict=True)]
            )
        return Cameras(
            torch.stack([c.intrinsics for c in cameras]),
            torch.stack([c.camera_to_world for c in cameras]),
            cameras[0].image_size,
            distortion,
        )


def _principal_shift(intrinsics: Tensor, u: int | float, v: int | float) -> Tensor:
    """A matrix to add to the intrinsics that moves the principal point by ``(u, v)`` pixels."""
    shift = torch.zeros_like(intrinsics)
    shift[..., 0, 2], shift[..., 1, 2] = u, v
    return shift


def _rq(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """``matrix = upper @ rotation`` with a positive diagonal: QR of the row-reversed transpose."""
    q, r = torch.linalg.qr(matrix.flip(-2).mT)
    upper, rotation = r.mT.flip(-1, -2), q.mT.flip(-2)
    signs = torch.sign(torch.diagonal(upper, dim1=-2, dim2=-1))
    return upper * signs[..., None, :], rotation * signs[..., :, None]


def _distort(plane: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """OpenCV's distortion on the plane z = 1, and where its radial part still increases."""
    k1, k2, p1, p2, k3 = (c[..., None] for c in coefficients.unbind(-1))
    x, y = plane.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    distorted = torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )
    return distorted, 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3)) > 0


def _undistort(distorted: Tensor, coefficients: Tensor) -> Tensor:
    """Invert :func:`_distort` by bounded Newton steps: 1e-6 inside the lens model, finite outside."""
    k1, k2, p1, p2, k3 = (c[..., None] for c in coefficients.unbind(-1))
    plane = distorted
    for _ in range(UNDISTORT_STEPS):
        x, y = plane.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = k1 + r2 * (2 * k2 + r2 * 3 * k3)
        error = _distort(plane, coefficients)[0] - distorted
        xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
        xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
        determinant = (xx * yy - xy * xy).clamp(min=1e-3)
        ex, ey = error.unbind(-1)
        step = torch.stack([yy * ex - xy * ey, xx * ey - xy * ex], -1) / determinant[..., None]
        plane = (plane - step.clamp(-LARGEST_STEP, LARGEST_STEP)).clamp(-FARTHEST_PLANE, FARTHEST_PLANE)
    return plane
