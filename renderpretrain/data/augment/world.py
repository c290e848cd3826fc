"""The world turned, mirrored, scaled and shifted, with all that stands in it and all that looks at it."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data.augment.draws import chance, uniform
from renderpretrain.data.augment.images import mirrored_images
from renderpretrain.data.scene import Boxes, Scene
from renderpretrain.geometry import Cameras


@dataclass(frozen=True)
class WorldChange:
    """How a scene's world may change.

    Attributes:
        turn: Largest angle about +z to either side, degrees.
        turned: Probability that it is turned at all.
        tilt: The largest angle about +x, and about +y.
        tilted: Probability that it is tilted at all.
        scale: Least and largest factor of all lengths.
        shift: Standard deviation along each axis, metres.
        mirror_x, mirror_y: Probability that x, or y, changes its sign.
    """

    turn: int | float = 0.0
    turned: int | float = 1.0
    tilt: int | float = 0.0
    tilted: int | float = 1.0
    scale: tuple[int | float, int | float] = (1.0, 1.0)
    shift: int | float = 0.0
    mirror_x: int | float = 0.0
    mirror_y: int | float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale: expected two factors above 0, the smaller first, got {self.scale}")
        for name in ("mirror_x", "mirror_y", "turned", "tilted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a probability, got {getattr(self, name)}")

    @property
    def does_nothing(self) -> bool:
        """Whether every scene stays as it is."""
        changes = (self.turn, self.tilt, self.shift, self.mirror_x, self.mirror_y)
        return not any(changes) and self.scale == (1.0, 1.0)

    def __call__(self, scene: Scene, draw: torch.Generator) -> Scene:
        """The scene in a world that is drawn; earlier scenes that it remembers change alike."""
        if self.does_nothing:
            return scene
        limits = ((self.tilt, self.tilted), (self.tilt, self.tilted), (self.turn, self.turned))
        angles = [uniform(draw, -limit, limit) * chance(draw, often) for limit, often in limits]
        mirror = [-1.0 if chance(draw, p) else 1.0 for p in (self.mirror_x, self.mirror_y)]
        scale = uniform(draw, *self.scale)
        shift = self.shift * torch.randn(3, generator=draw)
        return moved_world(scene, _rotation(*angles), (mirror[0], mirror[1]), scale, shift)


def moved_world(
    scene: Scene,
    rotation: Float[Tensor, "3 3"],
    mirror: tuple[int | float, int | float] = (1.0, 1.0),
    scale: int | float = 1.0,
    shift: Float[Tensor, "3"] | None = None,
) -> Scene:
    """A scene whose points ``p`` are at ``scale * rotation @ (mirror * p) + shift``, cameras and all.

    Where the world is mirrored its pictures are, too, so that they show the mirrored world: a camera stays a
    camera. Every point projects to the pixel that shows it, its depth along the axis times ``scale``. Exact
    answers of a simulator are left out, for they lie on a grid that stays.

    Args:
        scene: Without occupancy labels, which lie on a grid.
        rotation: Proper.
        mirror: Signs of x and y.
        scale: Factor of all lengths.
        shift: Metres; ``None`` for none.

    Raises:
        ValueError: If the scene has occupancy labels.
    """
    if scene.occupancy is not None:
        raise ValueError(
            f"scene {scene.name!r}: expected no labels of a grid where the world is turned, mirrored, scaled "
            "or shifted, got occupancy; set augment.world to nothing"
        )
    signs = torch.tensor([*mirror, 1.0])
    shift = torch.zeros(3) if shift is None else shift
    if mirror[0] * mirror[1] < 0:
        scene = mirrored_images(scene)
    unit = rotation * signs
    points = scene.points.clone()
    points[:, :3] = points[:, :3] @ (scale * unit).T + shift
    return replace(
        scene,
        points=points,
        normals=None if scene.normals is None else scene.normals @ unit.T,
        lidar_origin=scale * unit @ scene.lidar_origin + shift,
        cameras=None if scene.cameras is None else _moved_cameras(scene.cameras, unit, scale, shift),
        z_depths=None if scene.z_depths is None else scale * scene.z_depths,
        boxes=None if scene.boxes is None else _moved_boxes(scene.boxes, unit, scale, shift),
        world_to_global=_moved_pose(scene.world_to_global, unit, signs, scale, shift),
        truth=None,
        previous=tuple(moved_world(each, rotation, mirror, scale, shift) for each in scene.previous),
        following=tuple(moved_world(each, rotation, mirror, scale, shift) for each in scene.following),
    )


def _rotation(x: int | float, y: int | float, z: int | float) -> Float[Tensor, "3 3"]:
    """About z after y after x, degrees."""
    turned = torch.eye(3, dtype=torch.float64)
    for axis, degrees in enumerate((x, y, z)):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        one, other = (axis + 1) % 3, (axis + 2) % 3
        about = torch.eye(3, dtype=torch.float64)
        about[one, one] = about[other, other] = cosine
        about[one, other], about[other, one] = -sine, sine
        turned = about @ turned
    return turned.float()


def _moved_cameras(cameras: Cameras, unit: Tensor, scale: int | float, shift: Tensor) -> Cameras:
    """Cameras in the changed world; of a mirrored one the camera's own x axis is mirrored back."""
    pose = cameras.camera_to_world.clone()
    pose[..., :3, :3] = unit @ pose[..., :3, :3]
    if torch.linalg.det(unit) < 0:
        pose[..., :3, 0] = -pose[..., :3, 0]
    pose[..., :3, 3] = scale * pose[..., :3, 3] @ unit.T + shift
    return replace(cameras, camera_to_world=pose)


def _moved_boxes(boxes: Boxes, unit: Tensor, scale: int | float, shift: Tensor) -> Boxes:
    """Boxes in the changed world; they stand upright still, their heading that of their length."""
    heading = torch.stack([boxes.yaws.cos(), boxes.yaws.sin(), torch.zeros_like(boxes.yaws)], -1) @ unit.T
    return replace(
        boxes,
        centers=boxes.centers @ (scale * unit).T + shift,
        sizes=scale * boxes.sizes,
        yaws=torch.atan2(heading[..., 1], heading[..., 0]),
        velocities=boxes.velocities @ (scale * unit).T,
    )


def _moved_pose(
    pose: Tensor | None, unit: Tensor, signs: Tensor, scale: int | float, shift: Tensor
) -> Tensor | None:
    """From the changed world to a global frame that is mirrored and scaled with it: a rigid motion again."""
    if pose is None:
        return None
    moved = pose.clone()
    moved[:3, :3] = (signs[:, None] * pose[:3, :3]) @ unit.T
    moved[:3, 3] = scale * signs * pose[:3, 3] - moved[:3, :3] @ shift
    return moved
