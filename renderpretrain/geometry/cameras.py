"""Cameras with OpenCV's lenses, pinhole or fisheye, in batches.

The camera looks along +z with x to the right and y down. Pixels are ``(u, v)`` = (right, down) with centres
at +0.5, so the image spans ``[0, W] x [0, H]``. ``world`` is the frame of the point cloud range.

The depth of a point is its distance along the optical axis. A fisheye (:mod:`renderpretrain.geometry.lenses`)
sees what is beside and behind the plane of its centre, where that is 0 and negative, so its depth is the
distance from its centre, along the ray: a positive number that grows away from every camera. Depth images,
bins of depth distributions and depth ranges are meant so, too; :meth:`Cameras.depth_per_meter` converts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_shape
from renderpretrain.geometry.lenses import bend, distort, unbend, undistort, within_fisheye
from renderpretrain.geometry.poses import apply_matrix, invert_pose, rotate, transform
from renderpretrain.geometry.rays import Rays

NEAREST_DEPTH = 1e-3
"""Metres of depth below which a point counts as behind the camera, or in a fisheye's centre."""


@dataclass(frozen=True)
class Cameras:
    """Any batch of cameras that share one image size.

    Attributes:
        intrinsics: ``(*batch, 3, 3)``, pixels, upper triangular, with centres at +0.5.
        camera_to_world: ``(*batch, 4, 4)``, metres.
        image_size: ``(height, width)``, pixels.
        distortion: OpenCV ``k1, k2, p1, p2, k3``, zeros mean none; of a fisheye ``k1, k2, k3, k4`` and a
            number that is not read.
        fisheye: True for a fisheye; ``None`` where all are pinholes. A rig may have both.
    """

    intrinsics: Float[Tensor, "*batch 3 3"]
    camera_to_world: Float[Tensor, "*batch 4 4"]
    image_size: tuple[int, int]
    distortion: Float[Tensor, "*batch 5"] | None = None
    fisheye: Bool[Tensor, "*batch"] | None = None

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
        check_bool(**{"Cameras.fisheye": self.fisheye})
        if self.fisheye is not None and (self.distortion is None or self.fisheye.shape != batch):
            raise ValueError(
                f"Cameras.fisheye: expected {tuple(batch)} and distortion (*batch, 5), k1, k2, k3, k4, 0 of "
                f"a fisheye, got {tuple(self.fisheye.shape)} and "
                f"{None if self.distortion is None else tuple(self.distortion.shape)}"
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
        """World rays with unit directions through the pixels ``(u, v)``.

        A pixel outside of a fisheye's image circle (:meth:`in_lens`) has its nearest ray within.
        """
        ones, plane = torch.ones_like(pixels[..., :1]), self._plane(pixels)
        lens, bent = self._pinhole_distortion, plane
        if lens is not None:
            plane = undistort(plane, lens)
        directions = torch.nn.functional.normalize(torch.cat([plane, ones], -1), dim=-1)
        if self.fisheye is not None and self.distortion is not None:
            wide = unbend(bent, self.distortion)
            directions = torch.where(self.fisheye[..., None, None], wide, directions)
        directions = rotate(self.camera_to_world, directions)
        return Rays(self.centers[..., None, :].expand_as(directions), directions)

    def in_lens(self, pixels: Float[Tensor, "*batch P 2"]) -> Bool[Tensor, "*batch P"]:
        """Whether a ray goes through the pixels ``(u, v)``: a fisheye's corners may lie outside of it."""
        if self.fisheye is None or self.distortion is None:
            return torch.ones_like(pixels[..., 0], dtype=torch.bool)
        return ~self.fisheye[..., None] | within_fisheye(self._plane(pixels), self.distortion)

    def depth_per_meter(self, directions: Float[Tensor, "*batch P 3"]) -> Float[Tensor, "*batch P"]:
        """How the depth, as :meth:`project` says it, grows along world rays with unit directions.

        The cosine to the optical axis; 1 of a fisheye.
        """
        cosines = (directions * self.camera_to_world[..., None, :3, 2]).sum(-1)
        return cosines if self.fisheye is None else torch.where(self.fisheye[..., None], 1.0, cosines)

    def project(
        self, points: Float[Tensor, "... P 3"]
    ) -> tuple[Float[Tensor, "*batch P 2"], Float[Tensor, "*batch P"], Bool[Tensor, "*batch P"]]:
        """Pixels of world points.

        Args:
            points: ``(*batch, P, 3)``, or anything that broadcasts to it, e.g. ``(B, 1, P, 3)``.
                Differentiable.

        Returns:
            Pixels ``(u, v)``; the depth in metres, along the optical axis or, of a fisheye, along the ray;
            and whether the point is in front of the camera, inside the image and inside the lens model (a
            strong polynomial folds back on itself far outside). Of a fisheye, everything but its centre
            counts as in front, and the lens model says what it sees.
        """
        camera = transform(self.world_to_camera, points)
        depth = camera[..., 2]
        front = depth > NEAREST_DEPTH
        plane = camera[..., :2] / torch.where(front, depth, 1.0)[..., None]
        valid, lens = front, self._pinhole_distortion
        if lens is not None:
            plane, unfolded = distort(plane, lens)
            valid = valid & unfolded
        if self.fisheye is not None and self.distortion is not None:
            wide, distance = self.fisheye[..., None], camera.norm(dim=-1)
            bent, seen = bend(camera, self.distortion)
            plane = torch.where(wide[..., None], bent, plane)
            valid = torch.where(wide, seen & (distance > NEAREST_DEPTH), valid)
            depth = torch.where(wide, distance, depth)
        homogeneous = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
        pixels = apply_matrix(self.intrinsics, homogeneous)[..., :2]
        size = ops.constant(self.image_size[::-1], pixels)
        return pixels, depth, valid & ((pixels >= 0) & (pixels < size)).all(-1)

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

    def turn(self, degrees: int | float) -> "Cameras":
        """The cameras of images that are turned clockwise about their middle, exact for every lens.

        What is left of the turn beside an upper triangular matrix is one of the camera about its axis. Pixels
        without equal sides get a skew by it.

        Args:
            degrees: Less than 90 to either side.
        """
        if not -90 < degrees < 90:
            raise ValueError(f"degrees: expected less than 90 to either side, got {degrees}")
        (height, width), angle = self.image_size, math.radians(degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = width / 2, height / 2
        rows = [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0.0, 0.0, 1.0]]
        matrix = ops.constant(rows, self.intrinsics) @ self.intrinsics
        # matrix = intrinsics @ roll, where roll turns the camera's x and y.
        length = matrix[..., 1, :2].norm(dim=-1)
        roll = torch.eye(4, dtype=matrix.dtype, device=matrix.device).repeat(*matrix.shape[:-2], 1, 1)
        roll[..., 0, 0] = roll[..., 1, 1] = matrix[..., 1, 1] / length
        roll[..., 1, 0] = matrix[..., 1, 0] / length
        roll[..., 0, 1] = -roll[..., 1, 0]
        intrinsics, lens = matrix @ roll[..., :3, :3].mT, self.distortion
        intrinsics[..., 1, 0] = 0.0  # but for rounding
        if lens is not None:
            pull = (roll[..., :2, :2] @ lens[..., [3, 2]][..., None])[..., 0]
            turned = torch.stack([*lens[..., :2].unbind(-1), pull[..., 1], pull[..., 0], lens[..., 4]], -1)
            lens = turned if self.fisheye is None else torch.where(self.fisheye[..., None], lens, turned)
        pose = self.camera_to_world @ roll.to(self.camera_to_world.dtype).mT
        return replace(self, intrinsics=intrinsics, camera_to_world=pose, distortion=lens)

    def moved(self, old_to_new: Float[Tensor, "*batch 4 4"]) -> "Cameras":
        """The same cameras seen from another world frame (a rigid motion)."""
        return replace(self, camera_to_world=old_to_new @ self.camera_to_world)

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def __getitem__(self, index: object) -> "Cameras":
        """The cameras that an index into the batch axes chooses."""
        return self._each(lambda tensor: tensor[index])  # type: ignore[index]

    @staticmethod
    def stack(cameras: list["Cameras"]) -> "Cameras":
        """One more batch axis in front. All image sizes must agree."""
        sizes = {c.image_size for c in cameras}
        if len(sizes) != 1:
            raise ValueError(f"Cameras.stack: expected one image size, got {sorted(sizes)}")
        lenses, fisheyes = [c.distortion for c in cameras], [c.fisheye for c in cameras]
        distortion, fisheye = None, None
        if any(lens is not None for lens in lenses):
            zeros = [c.intrinsics.new_zeros(*c.shape, 5) for c in cameras]
            distortion = torch.stack([z if c is None else c for c, z in zip(lenses, zeros, strict=True)])
        if any(wide is not None for wide in fisheyes):
            pinholes = [torch.zeros_like(c.intrinsics[..., 0, 0], dtype=torch.bool) for c in cameras]
            fisheye = torch.stack([p if c is None else c for c, p in zip(fisheyes, pinholes, strict=True)])
        return Cameras(
            torch.stack([c.intrinsics for c in cameras]),
            torch.stack([c.camera_to_world for c in cameras]),
            cameras[0].image_size,
            distortion,
            fisheye,
        )

    @property
    def _pinhole_distortion(self) -> Tensor | None:
        """Coefficients of the pinholes; a fisheye's row is 0."""
        if self.distortion is None or self.fisheye is None:
            return self.distortion
        return torch.where(self.fisheye[..., None], 0.0, self.distortion)

    def _plane(self, pixels: Tensor) -> Tensor:
        """Pixels ``(*batch, P, 2)`` without the intrinsics: where they are on the lens's plane."""
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1).mT
        return torch.linalg.solve_triangular(self.intrinsics, homogeneous, upper=True).mT[..., :2]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Cameras":
        """The cameras with every tensor changed."""
        return replace(
            self,
            intrinsics=change(self.intrinsics),
            camera_to_world=change(self.camera_to_world),
            distortion=None if self.distortion is None else change(self.distortion),
            fisheye=None if self.fisheye is None else change(self.fisheye),
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
