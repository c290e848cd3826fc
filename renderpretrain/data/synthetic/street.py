"""Synthetic streets: six cameras and a spinning LiDAR on a car, with exact ground truth.

The world is the LiDAR's frame at the key moment: x right, y forward, z up, of a rig that is turned on the
car's roof by any angle, tilted by a few degrees, and mounted at any height from 1.3 to 2.7 m over a ground
that rises, falls and banks. Where a place is therefore says little about what is there.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from renderpretrain.data.scene import Boxes, GroundTruth, Scene
from renderpretrain.data.synthetic.lidar import Spinner, Weather
from renderpretrain.data.synthetic.raycast import Solids, about_z
from renderpretrain.data.synthetic.simulate import Light, Pictures, render_images
from renderpretrain.data.synthetic.stage import Stage
from renderpretrain.data.synthetic.street_layout import Street, build_street
from renderpretrain.data.synthetic.things import CAR, CLASS_NAMES, Standing, stand, upright
from renderpretrain.geometry import Cameras, VoxelGrid, pose_from_vectors, pose_from_yaw

SWEEP_SECONDS = 0.05
"""Between two turns of the LiDAR."""

FRAME_SECONDS = 0.5
"""Between two key moments of one street."""

FAR = 300.0
"""Metres; what lies beyond is sky."""

NEAR = 85.0
"""Solids farther than this from the recorder are left out, metres."""

CAMERAS: tuple[tuple[str, float, float, tuple[float, float]], ...] = (
    ("front", 0.0, 70.0, (0.0, 0.9)),
    ("front_right", -55.0, 70.0, (0.5, 0.6)),
    ("back_right", -112.0, 70.0, (0.5, 0.1)),
    ("back", 180.0, 110.0, (0.0, -0.9)),
    ("back_left", 112.0, 70.0, (-0.5, 0.1)),
    ("front_left", 55.0, 70.0, (-0.5, 0.6)),
)
"""Name, heading from forward (left positive) and field of view in degrees, position (right, forward)."""

CAMERA_DROP = 0.3
"""How far the cameras are below the LiDAR, metres."""


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
        default=(-25.6, -25.6, -4.0, 25.6, 25.6, 4.8), init=False
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
        scene, view = self._lidar_scene(index)
        cameras = ring_cameras(self.image_size)
        pictures = render_images(view.stage, cameras, far=FAR, light=view.light)
        truth = self._truth(view.stage, pictures) if self.with_truth else None
        return replace(scene, truth=truth).with_images(pictures.images, cameras, self.camera_names)

    def sequence(self, index: int) -> range:
        """The scenes that show the same street."""
        first = index - index % self.frames_per_street
        return range(first, min(first + self.frames_per_street, self.num_scenes))

    def without_images(self, index: int) -> Scene:
        """Scene ``index`` without pictures and truth, in a tenth of the time."""
        return self._lidar_scene(index)[0]

    def _lidar_scene(self, index: int) -> tuple[Scene, "_View"]:
        """The scene without pictures and truth, and what they show."""
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"SyntheticStreet: expected an index in [0, {self.num_scenes}), got {index}")
        number, frame = divmod(index, self.frames_per_street)
        random = Random(f"street/{self.seed}/{number}")
        street = build_street(random, FRAME_SECONDS * (self.frames_per_street - 1))
        rig, seconds = _draw_rig(random), frame * FRAME_SECONDS
        world_to_street = rig.pose(street, seconds)
        standing = stand(street.at_time(seconds), street.ground)
        stage = Stage(Solids.join(Solids.stack(street.surfaces), standing.solids), street.ground)
        stage = stage.moved(_inverse(world_to_street)).nearby(NEAR)
        poses = [
            _inverse(world_to_street) @ rig.pose(street, seconds - sweep * SWEEP_SECONDS)
            for sweep in range(self.sweeps)
        ]
        points, labels, key = self._points(stage, poses, rig, Random(f"lidar/{self.seed}/{index}"))
        scene = Scene(
            name=f"street-{self.seed}-{index}",
            points=points,
            point_key=key if self.sweeps > 1 else None,
            lidar_origin=torch.zeros(3),
            world_to_global=world_to_street,
            timestamp=seconds,
            boxes=_boxes(standing, world_to_street),
            point_labels=labels,
            class_names=self.class_names,
        )
        x, y, z = (torch.tensor(rig.light.sun) @ world_to_street[:3, :3]).tolist()
        return scene, _View(stage, replace(rig.light, sun=(x, y, z)))

    def _points(
        self, stage: Stage, poses: list[Tensor], rig: "_Rig", random: Random
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All sweeps in the world frame: five columns, each point's class, and which are of the newest."""
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        spinner = Spinner(self.num_beams, self.points_per_beam, weather=rig.weather)
        points, labels, newest = [], [], []
        for sweep, pose in enumerate(poses):
            lag = sweep * SWEEP_SECONDS
            measured, met = spinner.sweep(stage.at_time(-lag), pose, generator)
            points.append(torch.cat([measured, torch.full((len(measured), 1), lag)], -1))
            labels.append(met)
            newest.append(torch.full((len(measured),), sweep == 0))
        return torch.cat(points), torch.cat(labels), torch.cat(newest)

    def _truth(self, stage: Stage, pictures: Pictures) -> GroundTruth:
        """Pictures and voxels of what was really there."""
        grid = self.grid or VoxelGrid(self.extent, (0.8, 0.8, 0.8))
        return GroundTruth(
            depth=pictures.depth,
            hit=pictures.hit,
            normals=pictures.normals,
            semantics=pictures.semantics,
            occupancy=stage.occupancy(grid),
            grid=grid,
            class_names=self.class_names,
        )


class _View(NamedTuple):
    """What is seen, and by which light, in the world frame."""

    stage: Stage
    light: Light


class _Rig(NamedTuple):
    """How the sensors sit on the car, and the day.

    Attributes:
        mount: From the LiDAR's axes to the car's: x right, y forward, z up.
        height: Of the LiDAR over the ground, metres.
        weather: What the LiDAR loses.
        light: In the street's frame.
    """

    mount: Tensor
    height: float
    weather: Weather
    light: Light

    def pose(self, street: Street, seconds: int | float) -> Tensor:
        """From the LiDAR's frame to the street's; the car leans as the ground below it does."""
        at, heading, _ = street.recorder.place(seconds)
        place = torch.tensor([at])
        normal = street.ground.normals(place, reach=1.2)
        right = about_z(torch.tensor([heading - math.pi / 2]))[:, :, 0]
        car = upright(right, normal)[0]
        pose = torch.eye(4)
        pose[:3, :3] = car @ self.mount
        pose[:2, 3], pose[2, 3] = place[0], street.ground.height(place)[0]
        pose[:3, 3] += self.height * normal[0]
        return pose


def _draw_rig(random: Random) -> _Rig:
    """Any turn, small tilts, any height; a clear or a poor day."""
    lean = torch.tensor([random.gauss(0, 0.03), random.gauss(0, 0.03), 0.0])
    turn = pose_from_yaw(random.uniform(0, 2 * math.pi))
    mount = (pose_from_vectors(lean, torch.zeros(3)) @ turn)[:3, :3]
    blind = [
        (random.uniform(-180, 180), random.uniform(-20, 5), random.uniform(4, 16), random.uniform(3, 40))
        for _ in range(random.choice((0, 0, 1, 2, 3)))
    ]
    weather = Weather(
        drop_out=random.choice((0.03, random.uniform(0.03, 0.25))),
        far_loss=random.uniform(0.1, 0.6),
        grazing_loss=random.choice((0.0, random.uniform(0.1, 0.6))),
        visibility=random.choice((400.0, random.uniform(60, 200))),
        gain=random.uniform(0.7, 1.4),
        speckle=random.uniform(0.1, 0.35),
        blind=tuple(blind),
    )
    height, angle = random.uniform(0.45, 0.95), random.uniform(0, 2 * math.pi)
    flat = math.sqrt(1 - height**2)
    direct = random.uniform(0.15, 0.6)
    light = Light((flat * math.cos(angle), flat * math.sin(angle), height), direct, random.uniform(0.35, 0.5))
    return _Rig(mount, random.uniform(1.3, 2.7), weather, light)


def ring_cameras(image_size: tuple[int, int]) -> Cameras:
    """The six cameras around the car, in the LiDAR's frame."""
    height, width = image_size
    intrinsics, poses = [], []
    for _, heading, view, (right, forward) in CAMERAS:
        focal = width / 2 / math.tan(math.radians(view) / 2)
        intrinsics.append(torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]))
        turned = pose_from_yaw(math.radians(heading), (right, forward, -CAMERA_DROP))
        # Camera x is right, y is down, z is forward: the columns say where these axes point when looking
        # along +y.
        looking = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
        poses.append(turned @ looking)
    return Cameras(torch.stack(intrinsics), torch.stack(poses), image_size)


def _inverse(pose: Tensor) -> Tensor:
    """The motion back."""
    back = torch.eye(4)
    back[:3, :3] = pose[:3, :3].T
    back[:3, 3] = -(pose[:3, :3].T @ pose[:3, 3])
    return back


def _boxes(standing: Standing, world_to_street: Tensor) -> Boxes:
    """The cars within 80 m, in the world frame: the smallest upright box around each car, which leans."""
    turn = world_to_street[:3, :3].T
    axes = turn @ standing.rotations
    yaws = torch.atan2(axes[:, 1, 0], axes[:, 0, 0])
    # How far the leaning outline reaches along the axes of the upright box.
    reach = (about_z(-yaws) @ axes).abs() @ standing.sizes[:, :, None]
    boxes = Boxes(
        centers=(standing.centers - world_to_street[:3, 3]) @ turn.T,
        sizes=reach[:, :, 0],
        yaws=yaws,
        labels=torch.full((len(yaws),), CAR),
        velocities=standing.velocities @ turn.T,
    )
    near = torch.nonzero(boxes.centers.norm(dim=-1) < 80.0)[:, 0]
    chosen = {
        name: getattr(boxes, name)[near] for name in ("centers", "sizes", "yaws", "labels", "velocities")
    }
    return replace(boxes, **chosen)
