"""Synthetic streets: six cameras and a spinning LiDAR on a car, with exact ground truth.

The world is the LiDAR's frame at the key moment: x right, y forward, z up, the road at z = -1.8 m.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random

import torch
from torch import Tensor

from renderpretrain.data.scene import Boxes, GroundTruth, Scene
from renderpretrain.data.synthetic.raycast import Solids, occupancy
from renderpretrain.data.synthetic.simulate import Pictures, Spinner, render_images
from renderpretrain.data.synthetic.street_layout import CAR, CLASS_NAMES, Street, build_street
from renderpretrain.geometry import Cameras, VoxelGrid, pose_from_yaw

LIDAR_HEIGHT = 1.8
"""Height above the road, in metres."""

SWEEP_SECONDS = 0.05
"""Between two turns of the LiDAR."""

FRAME_SECONDS = 0.5
"""Between two key moments of one street."""

FAR = 300.0
"""Metres; what lies beyond is sky."""

CAMERAS: tuple[tuple[str, float, float, tuple[float, float]], ...] = (
    ("front", 0.0, 70.0, (0.0, 0.9)),
    ("front_right", -55.0, 70.0, (0.5, 0.6)),
    ("back_right", -112.0, 70.0, (0.5, 0.1)),
    ("back", 180.0, 110.0, (0.0, -0.9)),
    ("back_left", 112.0, 70.0, (-0.5, 0.1)),
    ("front_left", 55.0, 70.0, (-0.5, 0.6)),
)
"""Name, heading from forward (left positive) and field of view in degrees, position (right, forward)."""

CAMERA_HEIGHT = 1.5
"""Height above the road, in metres."""


@dataclass(frozen=True)
class SyntheticStreet:
    """Streets drawn from ``(seed, index)`` and nothing else; the same index gives the same scene.

    Attributes:
        num_scenes: How many.
        seed: Another seed, other streets.
        image_size: ``(height, width)`` of every camera, pixels.
        num_beams: Beams of the LiDAR.
        points_per_beam: Firings per turn.
        sweeps: Turns merged into ``points``, the older ones with their time lag; movers are where they were.
        frames_per_street: Consecutive scenes that show one street, half a second apart.
        with_truth: Whether scenes carry :class:`GroundTruth`.
        grid: Where ``truth.occupancy`` is asked; voxels of 0.8 m over ``extent`` when absent.
    """

    num_scenes: int
    _: KW_ONLY
    seed: int = 0
    image_size: tuple[int, int] = (96, 160)
    num_beams: int = 32
    points_per_beam: int = 600
    sweeps: int = 1
    frames_per_street: int = 1
    with_truth: bool = True
    grid: VoxelGrid | None = None
    extent: tuple[float, float, float, float, float, float] = field(
        default=(-25.6, -25.6, -3.2, 25.6, 25.6, 4.8), init=False
    )
    class_names: tuple[str, ...] = field(default=CLASS_NAMES, init=False)
    camera_names: tuple[str, ...] = field(default=tuple(name for name, *_ in CAMERAS), init=False)

    def __post_init__(self) -> None:
        for name in ("num_scenes", "num_beams", "points_per_beam", "sweeps", "frames_per_street"):
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
        scene, solids = self._lidar_scene(index)
        cameras = ring_cameras(self.image_size)
        pictures = render_images(solids, cameras, far=FAR)
        truth = self._truth(solids, pictures) if self.with_truth else None
        return replace(scene, truth=truth).with_images(pictures.images, cameras, self.camera_names)

    def sequence(self, index: int) -> range:
        """The scenes that show the same street."""
        first = index - index % self.frames_per_street
        return range(first, min(first + self.frames_per_street, self.num_scenes))

    def without_images(self, index: int) -> Scene:
        """Scene ``index`` without pictures and truth, in a tenth of the time."""
        return self._lidar_scene(index)[0]

    def _lidar_scene(self, index: int) -> tuple[Scene, Solids]:
        """The scene without pictures and truth, and what they show."""
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"SyntheticStreet: expected an index in [0, {self.num_scenes}), got {index}")
        number, frame = divmod(index, self.frames_per_street)
        random = Random(f"street/{self.seed}/{number}")
        street = build_street(random, travel=10.0 * FRAME_SECONDS * (self.frames_per_street - 1))
        seconds = frame * FRAME_SECONDS
        world_to_street = _pose(street, seconds)
        solids = _nearby(
            Solids.stack(street.solids).at_time(seconds).moved(*_inverse(world_to_street, street.yaw))
        )
        points, labels, key = self._points(solids, street, Random(f"lidar/{self.seed}/{index}"))
        scene = Scene(
            name=f"street-{self.seed}-{index}",
            points=points,
            point_key=key if self.sweeps > 1 else None,
            lidar_origin=torch.zeros(3),
            world_to_global=world_to_street,
            timestamp=seconds,
            boxes=_boxes(street, seconds, world_to_street),
            point_labels=labels,
            class_names=self.class_names,
        )
        return scene, solids

    def _points(self, solids: Solids, street: Street, random: Random) -> tuple[Tensor, Tensor, Tensor]:
        """All sweeps in the world frame: five columns, each point's class, and which are of the newest."""
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        spinner = Spinner(self.num_beams, self.points_per_beam)
        velocity = torch.tensor([math.sin(street.yaw), math.cos(street.yaw), 0.0]) * street.ego_speed
        points, labels, newest = [], [], []
        for sweep in range(self.sweeps):
            lag = sweep * SWEEP_SECONDS
            measured, met = spinner.sweep(solids.at_time(-lag), -lag * velocity, generator)
            points.append(torch.cat([measured, torch.full((len(measured), 1), lag)], -1))
            labels.append(met)
            newest.append(torch.full((len(measured),), sweep == 0))
        return torch.cat(points), torch.cat(labels), torch.cat(newest)

    def _truth(self, solids: Solids, pictures: Pictures) -> GroundTruth:
        """Pictures and voxels of what was really there."""
        grid = self.grid or VoxelGrid(self.extent, (0.8, 0.8, 0.8))
        return GroundTruth(
            depth=pictures.depth,
            hit=pictures.hit,
            normals=pictures.normals,
            semantics=pictures.semantics,
            occupancy=occupancy(solids, grid),
            grid=grid,
            class_names=self.class_names,
        )


def ring_cameras(image_size: tuple[int, int]) -> Cameras:
    """The six cameras around the car, in the LiDAR's frame."""
    height, width = image_size
    intrinsics, poses = [], []
    for _, heading, view, (right, forward) in CAMERAS:
        focal = width / 2 / math.tan(math.radians(view) / 2)
        intrinsics.append(torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]))
        turned = pose_from_yaw(math.radians(heading), (right, forward, CAMERA_HEIGHT - LIDAR_HEIGHT))
        # Camera x is right, y is down, z is forward: the columns say where these axes point when looking
        # along +y.
        looking = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
        poses.append(turned @ looking)
    return Cameras(torch.stack(intrinsics), torch.stack(poses), image_size)


def _pose(street: Street, seconds: float) -> Tensor:
    """World (LiDAR) to street: the recorder looks along +y of the street but for a small yaw."""
    return pose_from_yaw(street.yaw, (street.ego_x, street.ego_speed * seconds, LIDAR_HEIGHT))


def _inverse(pose: Tensor, yaw: float) -> tuple[float, tuple[float, float, float]]:
    """Yaw and translation of the inverse motion."""
    x, y, z = (-(pose[:3, :3].T @ pose[:3, 3])).tolist()
    return -yaw, (x, y, z)


def _nearby(solids: Solids) -> Solids:
    """Drop what is too far to matter; the ground is always near."""
    distance = solids.centers.norm(dim=-1) - solids.radii()
    return solids[torch.nonzero(distance < 90.0)[:, 0]]


def _boxes(street: Street, seconds: float, world_to_street: Tensor) -> Boxes:
    """The cars within 80 m, in the world frame."""
    outlines = street.boxes
    rotation = world_to_street[:3, :3]
    velocities = torch.tensor([b.velocity for b in outlines]).reshape(-1, 3)
    centers = torch.tensor([b.center for b in outlines]).reshape(-1, 3) + seconds * velocities
    boxes = Boxes(
        centers=(centers - world_to_street[:3, 3]) @ rotation,
        sizes=torch.tensor([b.size for b in outlines]).reshape(-1, 3),
        yaws=torch.tensor([b.yaw for b in outlines]) - street.yaw,
        labels=torch.full((len(outlines),), CAR),
        velocities=velocities @ rotation,
    )
    near = torch.nonzero(boxes.centers.norm(dim=-1) < 80.0)[:, 0]
    chosen = {
        name: getattr(boxes, name)[near] for name in ("centers", "sizes", "yaws", "labels", "velocities")
    }
    return replace(boxes, **chosen)
