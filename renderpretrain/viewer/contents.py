"""What is seen in space, as plain tensors on the CPU: made by pure functions, drawn by whoever can draw.

A scene is several layers, each shown or hidden as a whole: clouds of points, cameras with pictures, lines,
cells of a grid, surfaces. Places are world metres; colours are bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from renderpretrain.geometry import Cameras
from renderpretrain.viz.colors import HEIGHT_STOPS, ramp
from renderpretrain.viz.ply import Mesh

SHARES = (0.02, 0.98)
"""Quantiles of values that get the two ends of a colour ramp."""


@dataclass(frozen=True)
class Cloud:
    """Points, with the colours they can have.

    Attributes:
        points: World points.
        colors: RGB of each point, by what it stands for (``"height"``); at least one, the first by default.
        size: Of a point, metres.
    """

    points: Float[Tensor, "P 3"]
    colors: Mapping[str, UInt8[Tensor, "P 3"]]
    size: float


@dataclass(frozen=True)
class PicturedCamera:
    """A camera, and the pictures it can show.

    Attributes:
        name: As the recording has it.
        pose: Camera to world, x right, y down, z forward.
        field_of_view: Vertical, radians.
        pictures: RGB by what they show (``"picture"``); all of one shape of image, not of one size.
    """

    name: str
    pose: Float[Tensor, "4 4"]
    field_of_view: float
    pictures: Mapping[str, UInt8[Tensor, "_ _ 3"]]


@dataclass(frozen=True)
class Lines:
    """Straight lines.

    Attributes:
        segments: Both ends of each.
        colors: RGB of each.
    """

    segments: Float[Tensor, "L 2 3"]
    colors: UInt8[Tensor, "L 3"]


@dataclass(frozen=True)
class Cells:
    """Boxes along the axes of the world, all of one size.

    Attributes:
        centers: Their middles.
        size: Their sides along x, y and z, metres.
        colors: RGB of each.
    """

    centers: Float[Tensor, "K 3"]
    size: tuple[float, float, float]
    colors: UInt8[Tensor, "K 3"]


Thing = Cloud | PicturedCamera | Lines | Cells | Mesh
"""What a layer is made of."""


@dataclass(frozen=True)
class Layer:
    """Things that are shown together.

    Attributes:
        name: What a person reads beside its check box.
        things: What it holds; several cameras, else mostly one.
        shown: Whether it is shown unless told otherwise.
    """

    name: str
    things: tuple[Thing, ...]
    shown: bool = True


@dataclass(frozen=True)
class Contents:
    """All there is to see of a scene.

    Attributes:
        title: Which scene it is.
        layers: Each of another name, in the order of their check boxes.
        up: Unit direction that is up.
        eye: Where a browser looks from at first.
        target: What it looks at then.
        reach: How far what is worth seeing reaches, metres.
        remarks: What is not there, and why: a sentence each.
    """

    title: str
    layers: tuple[Layer, ...]
    up: Float[Tensor, "3"]
    eye: Float[Tensor, "3"]
    target: Float[Tensor, "3"]
    reach: float
    remarks: tuple[str, ...] = field(default=())


def rgb_bytes(colors: Float[Tensor, "*batch 3"]) -> UInt8[Tensor, "*batch 3"]:
    """Colours in [0, 1] as bytes on the CPU."""
    return (colors.detach().cpu().clamp(0, 1) * 255 + 0.5).byte()


def picture_bytes(picture: Float[Tensor, "3 H W"]) -> UInt8[Tensor, "H W 3"]:
    """A picture in [0, 1] as bytes on the CPU, channels last."""
    return rgb_bytes(picture.movedim(0, -1)).contiguous()


def value_colors(
    values: Float[Tensor, " P"], stops: tuple[tuple[float, float, float], ...] = HEIGHT_STOPS
) -> UInt8[Tensor, "P 3"]:
    """Colours of values between their outer quantiles, of which nothing is nearly constant."""
    if not len(values):
        return torch.zeros(0, 3, dtype=torch.uint8)
    ordered = values.detach().cpu().float().sort().values
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in SHARES)
    place = (values.detach().cpu().float() - low) / max(high - low, 1e-6)
    return rgb_bytes(ramp(place.clamp(0, 1)[None], stops)[:, 0].mT)


def pictured_camera(
    name: str, camera: Cameras, pictures: Mapping[str, Float[Tensor, "3 _ _"]]
) -> PicturedCamera:
    """One camera, without batch axes, and its pictures; a lens that bends is drawn as a pinhole."""
    height = camera.image_size[0]
    focal = float(camera.intrinsics[1, 1])
    angle = float(2 * torch.atan(torch.tensor(height / 2 / focal)))
    shown = {what: picture_bytes(picture) for what, picture in pictures.items()}
    return PicturedCamera(name, camera.camera_to_world.detach().cpu().float(), angle, shown)
