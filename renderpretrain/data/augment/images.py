"""Pictures zoomed, cropped, mirrored and turned, with the cameras that took them."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from renderpretrain.data.augment.draws import chance, uniform
from renderpretrain.data.scene import Scene
from renderpretrain.geometry import Cameras


@dataclass(frozen=True)
class ImageChange:
    """How each picture of a scene may change; its size stays.

    Attributes:
        zoom: Least and largest factor of its sides; below 1 it is padded with pixels that no camera saw.
        mirror: Probability that left and right change places; the camera then has a negative focal length.
        turn: Largest angle to either side about the picture's middle, degrees; the corners that are left show
            what no camera saw.
    """

    zoom: tuple[int | float, int | float] = (1.0, 1.0)
    mirror: int | float = 0.0
    turn: int | float = 0.0

    def __post_init__(self) -> None:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom: expected two factors above 0, the smaller first, got {self.zoom}")
        if not 0 <= self.mirror <= 1:
            raise ValueError(f"mirror: expected a probability, got {self.mirror}")
        if not 0 <= self.turn < 90:
            raise ValueError(f"turn: expected degrees in [0, 90), got {self.turn}")

    @property
    def does_nothing(self) -> bool:
        """Whether every picture stays as it is."""
        return self.zoom == (1.0, 1.0) and not self.mirror and not self.turn

    def __call__(self, scene: Scene, draw: torch.Generator) -> Scene:
        """The scene with pictures that are drawn, each by itself; the windows keep the lower edge.

        As in NS-MAE's and BEVDet's pipelines: a window of the zoomed picture at its lower edge, anywhere
        from left to right.
        """
        if self.does_nothing or scene.cameras is None:
            return scene
        views = [self._changed(scene, n, draw) for n in range(len(scene.camera_names))]
        cameras = Cameras.stack([camera for camera, _ in views])
        names = {name for _, planes in views for name in planes}
        return replace(scene, cameras=cameras, **{name: _stacked(name, views) for name in names})

    def _changed(self, scene: Scene, n: int, draw: torch.Generator) -> tuple[Cameras, dict[str, Tensor]]:
        """One camera, and what it saw."""
        assert scene.cameras is not None
        camera, (height, width) = scene.cameras[n], scene.cameras.image_size
        factor, place, mirror = uniform(draw, *self.zoom), uniform(draw, 0, 1), chance(draw, self.mirror)
        angle = uniform(draw, -self.turn, self.turn)
        size = max(round(factor * height), 1), max(round(factor * width), 1)
        top, left = size[0] - height, round(place * (size[1] - width))
        planes = _planes(scene, n)
        if size[0] < height or size[1] < width or angle:
            planes.setdefault("image_valid", torch.ones(height, width, dtype=torch.bool))
        planes = {
            name: _window(_resized(name, plane, size), top, left, (height, width), name)
            for name, plane in planes.items()
        }
        camera = camera.resize(size).crop(top, left, (height, width))
        if mirror:
            camera, planes = camera.flip(), {name: plane.flip(-1) for name, plane in planes.items()}
        if angle:
            camera, planes = camera.turn(angle), _turned(planes, angle)
        return camera, planes


def mirrored_images(scene: Scene) -> Scene:
    """The scene with left and right of all pictures exchanged, as pictures of a mirrored world are.

    Unlike after :meth:`~renderpretrain.geometry.Cameras.flip` the focal length stays positive: the caller
    mirrors the world, too.
    """
    if scene.cameras is None:
        return scene
    cameras, width = scene.cameras, scene.cameras.image_size[1]
    matrix = cameras.intrinsics.clone()
    matrix[..., 0, 1] = -matrix[..., 0, 1]
    matrix[..., 0, 2] = width - matrix[..., 0, 2]
    lens = cameras.distortion
    if lens is not None:
        # p2 pulls to one side; of a fisheye the number in its place goes with the radius alone.
        pulls = torch.ones_like(lens)
        pulls[..., 3] = -1.0 if cameras.fisheye is None else torch.where(cameras.fisheye, 1.0, -1.0)
        lens = lens * pulls
    flipped: dict[str, Any] = {}
    for name in PLANES:
        if getattr(scene, name) is not None:
            flipped[name] = getattr(scene, name).flip(-1)
    return replace(scene, cameras=replace(cameras, intrinsics=matrix, distortion=lens), **flipped)


PLANES = ("images", "z_depths", "z_depth_valid", "pixel_labels", "image_valid")
"""What a scene knows of every pixel."""

NOTHING = {"pixel_labels": -1}
"""What stands in pixels that no camera saw, where it is not 0."""


def _stacked(name: str, views: list[tuple[Cameras, dict[str, Tensor]]]) -> Any:
    """A plane of all cameras; where some are padded, all of the others' pixels were seen."""
    size = views[0][0].image_size
    return torch.stack([planes.get(name, torch.ones(size, dtype=torch.bool)) for _, planes in views])


def _planes(scene: Scene, n: int) -> dict[str, Tensor]:
    """What a camera saw, by name; one axis for channels."""
    return {name: getattr(scene, name)[n] for name in PLANES if getattr(scene, name) is not None}


def _resized(name: str, plane: Tensor, size: tuple[int, int]) -> Tensor:
    """A plane of another size: colours averaged, everything else from the nearest pixel."""
    if tuple(plane.shape[-2:]) == size:
        return plane
    if name == "images":
        return torch.nn.functional.interpolate(plane[None], size, mode="bilinear", antialias=True)[0].clamp(
            0, 1
        )
    rows = ((torch.arange(size[0]) + 0.5) * plane.shape[0] / size[0]).long()
    columns = ((torch.arange(size[1]) + 0.5) * plane.shape[1] / size[1]).long()
    return plane[rows][:, columns]


def _turned(planes: dict[str, Tensor], degrees: float) -> dict[str, Tensor]:
    """Planes turned clockwise about their middle: colours between pixels, all else from the nearest one."""
    height, width = planes["image_valid"].shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right = torch.arange(width) + 0.5 - width / 2
    down = (torch.arange(height) + 0.5 - height / 2)[:, None]
    x, y = cos * right + sin * down + width / 2, cos * down - sin * right + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = x.long().clamp(0, width - 1), y.long().clamp(0, height - 1)
    turned = {}
    for name, plane in planes.items():
        if name == "images":
            places = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)[None]
            read = torch.nn.functional.grid_sample(
                plane[None], places, padding_mode="border", align_corners=False
            )
            turned[name] = read[0] * inside
        else:
            nothing = plane.new_tensor(NOTHING.get(name, 0))
            turned[name] = torch.where(inside, plane[row, column], nothing)
    return turned


def _window(plane: Tensor, top: int, left: int, size: tuple[int, int], name: str) -> Tensor:
    """A window of a plane; what lies outside of it is nothing."""
    height, width = plane.shape[-2:]
    window = plane.new_full((*plane.shape[:-2], *size), NOTHING.get(name, 0))
    rows = slice(max(top, 0), min(top + size[0], height))
    columns = slice(max(left, 0), min(left + size[1], width))
    there = plane[..., rows, columns]
    first_row, first_column = max(-top, 0), max(-left, 0)
    window[..., first_row : first_row + there.shape[-2], first_column : first_column + there.shape[-1]] = (
        there
    )
    return window
