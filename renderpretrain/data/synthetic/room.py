"""Synthetic rooms: posed RGB-D views of furniture, with exact ground truth.

The world is the room's, turned about z by any angle and shifted: z is up, walls run in any direction, and
the floor lies at any height between -0.15 and 0.6 m, in steps in most rooms.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random

import torch
from torch import Tensor

from renderpretrain.data.scene import LUMINANCE, GroundTruth, Scene
from renderpretrain.data.synthetic.raycast import Solids, occupancy
from renderpretrain.data.synthetic.room_layout import CLASS_NAMES, COARSE, COARSE_NAMES, lay_room
from renderpretrain.data.synthetic.simulate import Pictures, render_images
from renderpretrain.data.synthetic.stage import Stage
from renderpretrain.geometry import Cameras, VoxelGrid, pose_from_yaw

VIEW = math.radians(75.0)
"""Horizontal field of view of the cameras, in radians."""

CLEARANCE = 0.5
"""Metres of free space a camera wants on all sides."""

CANDIDATES = 60
"""Random places of which the freest are taken."""

FAR = 20.0
"""Metres; more than any room's diagonal."""

EXPOSURE = 0.4
"""Brightness of a room at night."""

NIGHT_NOISE = 3.0
"""How much noisier its depth is."""


@dataclass(frozen=True)
class SyntheticRoom:
    """Rooms drawn from ``(seed, index)`` and nothing else; the same index gives the same scene.

    ``points`` are back-projected from the noisy depth images; their colour is the pixel's, their intensity
    its luminance, their normal exact and their time lag 0. ``lidar_origin`` is the mean of the camera
    centres: a stand-in, since each view has its own. ``pixel_labels`` and ``point_labels`` are exact.

    Attributes:
        num_scenes: How many.
        seed: Another seed, other rooms.
        num_views: Cameras per room.
        image_size: ``(height, width)`` of every camera, pixels.
        num_points: At most so many points per scene.
        night: Other rooms, as another data set has them: darker pictures, noisier depth and fewer, coarser
            classes.
        with_truth: Whether scenes carry :class:`GroundTruth`.
        grid: Where ``truth.occupancy`` is asked; voxels of 0.1 m over ``extent`` when absent.
        extent: Metres; corners of turned rooms lie up to a metre outside.
    """

    num_scenes: int
    _: KW_ONLY
    seed: int = 0
    num_views: int = 4
    image_size: tuple[int, int] = (96, 128)
    num_points: int = 8192
    night: bool = False
    with_truth: bool = True
    grid: VoxelGrid | None = None
    extent: tuple[float, float, float, float, float, float] = field(
        default=(-3.2, -3.2, -0.2, 3.2, 3.2, 3.0), init=False
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, ``"free"`` first."""
        return COARSE_NAMES if self.night else CLASS_NAMES

    def __post_init__(self) -> None:
        for name in ("num_scenes", "num_views", "num_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def __len__(self) -> int:
        return self.num_scenes

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``.

        Raises:
            IndexError: Outside ``range(num_scenes)``.
        """
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"SyntheticRoom: expected an index in [0, {self.num_scenes}), got {index}")
        kind = "night" if self.night else "room"
        random = Random(f"{kind}/{self.seed}/{index}")
        rows, size = lay_room(random)
        shift = (
            random.uniform(-0.4, 0.4),
            random.uniform(-0.4, 0.4),
            random.uniform(-0.15, min(0.6, 2.95 - size[2])),
        )
        pose = pose_from_yaw(random.uniform(0, 2 * math.pi), shift)
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        solids = Solids.stack(rows)
        cameras = _cameras(solids, size, self.num_views, self.image_size, generator)
        cameras = replace(cameras, camera_to_world=pose @ cameras.camera_to_world)
        solids = solids.moved(pose)
        pictures = render_images(Stage(solids), cameras, far=FAR)
        if self.night:
            pictures = _at_night(pictures)
        z_depths = _measured(pictures, generator, noise=NIGHT_NOISE if self.night else 1.0)
        chosen = self._measured_pixels(z_depths, generator)
        n, v, u = chosen.unbind(-1)
        scene = Scene(
            name=f"{kind}-{self.seed}-{index}",
            points=_points(cameras, pictures, z_depths, chosen),
            lidar_origin=cameras.centers.mean(0),
            world_to_global=torch.eye(4),
            point_labels=pictures.semantics[n, v, u],
            colors=pictures.images[n, :, v, u],
            normals=pictures.normals[n, :, v, u],
            pixel_labels=pictures.semantics.to(torch.int16),
            class_names=self.class_names,
            truth=self._truth(solids, pictures) if self.with_truth else None,
        )
        names = tuple(f"view_{n}" for n in range(self.num_views))
        return scene.with_images(pictures.images, cameras, names, z_depths)

    def _measured_pixels(self, z_depths: Tensor, generator: torch.Generator) -> Tensor:
        """``(view, v, u)`` of the pixels that become points."""
        measured = torch.nonzero(z_depths > 0)
        return measured[torch.randperm(len(measured), generator=generator)[: self.num_points]]

    def _truth(self, solids: Solids, pictures: Pictures) -> GroundTruth:
        """Pictures and voxels of what was really there."""
        grid = self.grid or VoxelGrid(self.extent, (0.1, 0.1, 0.1))
        occupied = occupancy(solids, grid)
        return GroundTruth(
            depth=pictures.depth,
            hit=pictures.hit,
            normals=pictures.normals,
            semantics=pictures.semantics,
            occupancy=torch.tensor(COARSE)[occupied] if self.night else occupied,
            grid=grid,
            class_names=self.class_names,
        )


def _points(cameras: Cameras, pictures: Pictures, z_depths: Tensor, pixels: Tensor) -> Tensor:
    """Measured pixels ``(view, v, u)`` as points of the room, five columns."""
    n, v, u = pixels.unbind(-1)
    rays = cameras[n].rays(torch.stack([u, v], -1)[:, None] + 0.5)
    directions = rays.directions[:, 0]
    axes = cameras.camera_to_world[n, :3, 2]
    t = z_depths[n, v, u] / (directions * axes).sum(-1)
    points = rays.origins[:, 0] + t[:, None] * directions
    intensity = pictures.images[n, :, v, u] @ torch.tensor(LUMINANCE)
    return torch.cat([points, intensity[:, None], torch.zeros(len(points), 1)], -1)


def look_at(center: Tensor, target: Tensor) -> Tensor:
    """``camera_to_world`` of an upright camera that sees ``target`` in the middle of its image."""
    forward = torch.nn.functional.normalize(target - center, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0])), dim=0)
    pose = torch.eye(4)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
    pose[:3, 3] = center
    return pose


def _cameras(
    solids: Solids,
    size: tuple[float, float, float],
    num_views: int,
    image_size: tuple[int, int],
    generator: torch.Generator,
) -> Cameras:
    """Views from all around towards the middle, each from the freest of a few random places."""
    height, width = image_size
    focal = width / 2 / math.tan(VIEW / 2)
    share = torch.rand(num_views, CANDIDATES, 3, generator=generator)
    angles = (torch.arange(num_views)[:, None] + share[..., 0]) * (2 * math.pi / num_views)
    radius = 0.55 + 0.35 * share[..., 1]
    places = torch.stack(
        [radius * angles.cos() * size[0] / 2, radius * angles.sin() * size[1] / 2, 1.1 + 0.6 * share[..., 2]],
        -1,
    )
    free = _clearance(solids, places.reshape(-1, 3)).reshape(num_views, CANDIDATES)
    best = places[torch.arange(num_views), free.argmax(-1)]
    targets = torch.tensor([0.0, 0.0, 0.85]) + torch.randn(num_views, 3, generator=generator) * 0.3
    poses = [look_at(center, target) for center, target in zip(best, targets, strict=True)]
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Cameras(intrinsics.expand(num_views, 3, 3).clone(), torch.stack(poses), image_size)


def _clearance(solids: Solids, places: Tensor) -> Tensor:
    """A lower bound of the distance to the nearest solid's surrounding box, capped: enough is enough."""
    offsets = places[:, None] - solids.centers
    local = torch.einsum("pki,kij->pkj", offsets, solids.rotations)
    outside = (local.abs() - solids.half_sizes).amax(-1)
    return outside.amin(-1).clamp(max=CLEARANCE)


def _at_night(pictures: Pictures) -> Pictures:
    """The same room in the dark, with coarse classes."""
    semantics = torch.tensor(COARSE)[pictures.semantics]
    return replace(pictures, images=pictures.images * EXPOSURE, semantics=semantics)


def _measured(pictures: Pictures, generator: torch.Generator, *, noise: float) -> Tensor:
    """Depth images as a structured-light sensor gives them: 0 where it failed.

    The noise grows with the square of the distance (2 mm at 1 m, times ``noise``); 2 % of the pixels are
    lost, and all of those seen at a grazing angle.
    """
    z_depth = pictures.z_depth
    error = torch.randn(z_depth.shape, generator=generator) * 2e-3 * noise * z_depth.square()
    lost = torch.rand(z_depth.shape, generator=generator) < 0.02
    cosines = pictures.cosines.abs()
    return torch.where(pictures.hit & ~lost & (cosines > 0.12), (z_depth + error).clamp(min=0), 0.0)
