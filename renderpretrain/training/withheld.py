"""Returns that are taken out of a scene's input, so that depth is scored where it was not given.

Places are withheld, not points: whole beams and blocks of azimuth and elevation, seen from the sensor of the
key sweep, and cubes of the world as masks hide them; of a depth camera blocks of its pixels. Every point that
lies in such a place leaves, whichever sweep or camera it is of, and so does what is closer to the place than
:data:`MARGIN`. A ray is scored by where it ends. Which places these are follows from the scene's points and
its seed alone, so every recipe is asked for the same ones.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.data import Scene
from renderpretrain.geometry import Cameras
from renderpretrain.training.beams import beam_edges, sensor_axis

MARGIN = 0.01
"""Metres around what is withheld that hold no point of the input either."""

GIVEN, BETWEEN_BEAMS, IN_BLOCKS = range(3)
"""What is known of a place: nothing is withheld, only a beam is, or all of a block is."""

EVERY = 8
"""One beam of so many neighbouring ones is withheld, never two side by side."""

SECTOR = (10.0, 5.0)
"""Degrees of azimuth and elevation of a block seen from the sensor."""

SECTORS, CUBES, PIXELS = 0.12, 0.1, 0.08
"""Shares of the blocks that are withheld: seen from the sensor, of the world, of a depth camera's pixels."""

CUBE, SMALL_CUBE = 1.6, 0.4
"""Metres along the edge of a cube of the world: around a LiDAR, and in a room."""

PERIODS = (64, 64, 32)
"""Cubes along x, y and z after which the same ones are withheld again."""

TILES = 8
"""Blocks of pixels along each side of a depth image."""

WIDEST = 2.0
"""How much farther than ``focal length * metres / depth`` a shift may move a pixel, in 120 degrees."""


OF_POINTS = ("points", "point_labels", "colors", "normals", "point_key")
"""What a scene knows of each of its points."""


@runtime_checkable
class Place(Protocol):
    """Part of the world that is withheld."""

    def holds(self, xyz: Float[Tensor, "P 3"], margin: float = 0.0) -> Bool[Tensor, " P"]:
        """Which positions lie in it, or closer to it than a margin in metres; a little more may, too."""


@dataclass(frozen=True)
class Beams:
    """Whole beams: cones around the sensor's axis, from halfway to one neighbour to halfway to the other.

    Attributes:
        origin: Of the sensor, metres.
        axis: Unit vector.
        edges: Elevations between the beams, radians, ascending.
        hidden: Which beams are withheld, one fewer than edges.
    """

    origin: Float[Tensor, "3"]
    axis: Float[Tensor, "3"]
    edges: Float[Tensor, " E"]
    hidden: Bool[Tensor, " _"]

    def holds(self, xyz: Float[Tensor, "P 3"], margin: float = 0.0) -> Bool[Tensor, " P"]:
        """Which positions lie in a withheld beam."""
        offsets = xyz.double() - self.origin.double()
        distance = offsets.norm(dim=-1).clamp(min=1e-9)
        elevation = torch.asin((offsets @ self.axis.double() / distance).clamp(-1, 1))
        aside = torch.asin((margin / distance).clamp(max=1))
        # Beam 0 and the last one are what lies below and above all of them.
        before = torch.nn.functional.pad(self.hidden.long(), (1, 1)).cumsum(0)
        before = torch.nn.functional.pad(before, (1, 0))
        first = torch.searchsorted(self.edges, elevation - aside, right=True)
        last = torch.searchsorted(self.edges, elevation + aside, right=True)
        return before[last + 1] > before[first]


@dataclass(frozen=True)
class Sectors:
    """Blocks of azimuth and elevation, seen from a sensor.

    Attributes:
        origin: Of the sensor, metres.
        hidden: Which blocks are withheld, by azimuth from -180 and elevation from -90 degrees.
    """

    origin: Float[Tensor, "3"]
    hidden: Bool[Tensor, "A E"]

    def holds(self, xyz: Float[Tensor, "P 3"], margin: float = 0.0) -> Bool[Tensor, " P"]:
        """Which positions lie in a withheld block, or, with a margin, right above or below the sensor."""
        offsets = xyz.double() - self.origin.double()
        flat, distance = offsets[:, :2].norm(dim=-1), offsets.norm(dim=-1).clamp(min=1e-9)
        azimuth = torch.rad2deg(torch.atan2(offsets[:, 1], offsets[:, 0])) + 180
        elevation = torch.rad2deg(torch.asin((offsets[:, 2] / distance).clamp(-1, 1))) + 90
        sideways = torch.rad2deg(torch.asin((margin / flat.clamp(min=1e-9)).clamp(max=1)))
        upwards = torch.rad2deg(torch.asin((margin / distance).clamp(max=1)))
        near = (sideways >= SECTOR[0]) | (upwards >= SECTOR[1])
        columns, rows = self.hidden.shape
        held = near & bool(self.hidden.any())
        for a in (-1, 0, 1) if margin else (0,):
            for e in (-1, 0, 1) if margin else (0,):
                column = ((azimuth + a * sideways) / SECTOR[0]).floor().long() % columns
                row = ((elevation + e * upwards) / SECTOR[1]).floor().long().clamp(0, rows - 1)
                held = held | self.hidden[column, row]
        return held


@dataclass(frozen=True)
class CubesOfWorld:
    """Cubes of the world, as a mask of voxels hides them.

    Attributes:
        size: Metres along an edge.
        hidden: Which cubes are withheld; it repeats.
    """

    size: float
    hidden: Bool[Tensor, "X Y Z"]

    def holds(self, xyz: Float[Tensor, "P 3"], margin: float = 0.0) -> Bool[Tensor, " P"]:
        """Which positions lie in a withheld cube."""
        held = torch.zeros(len(xyz), dtype=torch.bool, device=xyz.device)
        shifts = torch.cartesian_prod(*[torch.tensor([-margin, margin])] * 3) if margin else torch.zeros(1, 3)
        periods = torch.tensor(self.hidden.shape, device=xyz.device)
        for shift in shifts.to(xyz.device):
            x, y, z = (((xyz.double() + shift) / self.size).floor().long() % periods).unbind(-1)
            held = held | self.hidden[x, y, z]
        return held


@dataclass(frozen=True)
class PixelBlocks:
    """Blocks of cameras' pixels, and all that lies behind them at whatever depth.

    Attributes:
        cameras: ``(N,)``.
        hidden: Which blocks of each are withheld.
    """

    cameras: Cameras
    hidden: Bool[Tensor, "N h w"]

    def holds(self, xyz: Float[Tensor, "P 3"], margin: float = 0.0) -> Bool[Tensor, " P"]:
        """Which positions some camera sees in a withheld block."""
        pixels, depth, inside = self.cameras.project(xyz[None])
        height, width = self.cameras.image_size
        rows, columns = self.hidden.shape[1:]
        focal = self.cameras.intrinsics[:, :2, :2].amax((1, 2))[:, None]
        shift = WIDEST * focal * margin / depth.clamp(min=1e-3)
        camera = torch.arange(len(self.hidden), device=xyz.device)[:, None].expand_as(depth)
        held = (shift > min(height / rows, width / columns)) & (depth > 0)
        near = (pixels[..., 0] > -shift) & (pixels[..., 0] < width + shift)
        near = near & (pixels[..., 1] > -shift) & (pixels[..., 1] < height + shift) & (depth > 0)
        for u in (-1, 0, 1) if margin else (0,):
            for v in (-1, 0, 1) if margin else (0,):
                column = ((pixels[..., 0] + u * shift) * columns / width).floor().long().clamp(0, columns - 1)
                row = ((pixels[..., 1] + v * shift) * rows / height).floor().long().clamp(0, rows - 1)
                held = held | ((near if margin else inside) & self.hidden[camera, row, column])
        return held.any(0)


@dataclass(frozen=True)
class Withheld:
    """A scene without the returns of some places, and these places.

    Attributes:
        left: What an encoder may see: pictures, and the points that are not withheld. Depth images are empty
            and earlier moments have no points; later moments, labels of voxels and what a simulator knows are
            left out.
        beams: Where single beams are withheld.
        blocks: Where all is withheld.
        count: Points that were taken out.
    """

    left: Scene
    beams: tuple[Place, ...]
    blocks: tuple[Place, ...]
    count: int

    def kinds(self, xyz: Float[Tensor, "P 3"]) -> Int[Tensor, " P"]:
        """What is known of places: :data:`GIVEN`, :data:`BETWEEN_BEAMS` or :data:`IN_BLOCKS`."""
        kinds = torch.full((len(xyz),), GIVEN, device=xyz.device)
        for places, kind in ((self.beams, BETWEEN_BEAMS), (self.blocks, IN_BLOCKS)):
            for place in places:
                kinds = torch.where(place.holds(xyz), kind, kinds)
        return kinds


def withhold(scene: Scene, seed: Int[Tensor, "1"]) -> Withheld:
    """Take returns out of a scene's input.

    Args:
        scene: On the CPU.
        seed: Says with the scene's points which ones.
    """
    if scene.z_depths is None:
        size, beams, seen = CUBE, _beams(scene, ops.fold_in(seed, 1)), _sectors(scene, ops.fold_in(seed, 2))
    else:
        size, beams, seen = SMALL_CUBE, (), _pixel_blocks(scene, ops.fold_in(seed, 2))
    blocks = (*seen, CubesOfWorld(size, ops.uniform(ops.fold_in(seed, 3), PERIODS)[0] < CUBES))
    xyz = scene.points[:, :3]
    gone = torch.zeros(len(xyz), dtype=torch.bool)
    for place in (*beams, *blocks):
        gone = gone | place.holds(xyz, MARGIN)
    return Withheld(_without(scene, gone), beams, blocks, int(gone.sum()))


def _beams(scene: Scene, seed: Tensor) -> tuple[Place, ...]:
    """One of every few beams of the key sweep."""
    offsets = (scene.points[scene.of_key_sweep, :3] - scene.lidar_origin).double()
    directions = torch.nn.functional.normalize(offsets[offsets.norm(dim=-1) > 1], dim=-1)
    if not len(directions):
        return ()
    axis = sensor_axis(directions).double()
    edges = beam_edges(torch.asin((directions @ axis).clamp(-1, 1)))
    hidden = torch.zeros(len(edges) - 1, dtype=torch.bool)
    draws = ops.uniform(seed, (1 + len(hidden) // EVERY,))[0]
    # The last of the places that one may take stays free, so that its neighbour may be the next one's first.
    chosen = torch.arange(len(draws)) * EVERY + (draws * (EVERY - 1)).long()
    hidden[chosen[chosen < len(hidden)]] = True
    return (Beams(scene.lidar_origin, axis, edges, hidden),)


def _sectors(scene: Scene, seed: Tensor) -> tuple[Place, ...]:
    """A few blocks of azimuth and elevation."""
    counts = (round(360 / SECTOR[0]), round(180 / SECTOR[1]))
    return (Sectors(scene.lidar_origin, ops.uniform(seed, counts)[0] < SECTORS),)


def _pixel_blocks(scene: Scene, seed: Tensor) -> tuple[Place, ...]:
    """A few blocks of pixels of the cameras that are there."""
    if scene.cameras is None:
        return ()
    hidden = ops.uniform(seed, (len(scene.camera_names), TILES, TILES))[0] < PIXELS
    there = torch.zeros(len(hidden), dtype=torch.bool)
    there[scene.cameras_there] = True
    return (PixelBlocks(scene.cameras, hidden & there[:, None, None]),)


def _without(scene: Scene, gone: Bool[Tensor, " P"]) -> Scene:
    """What is left of a scene: see :class:`Withheld`."""
    rows = {name: getattr(scene, name) for name in OF_POINTS}
    kept = {name: values[~gone] for name, values in rows.items() if values is not None}
    depths, valid = scene.z_depths, scene.z_depth_valid
    return replace(
        scene,
        **kept,
        z_depths=None if depths is None else torch.zeros_like(depths),
        z_depth_valid=None if valid is None else torch.zeros_like(valid),
        previous=tuple(_without(moment, torch.ones_like(moment.of_key_sweep)) for moment in scene.previous),
        following=(),
        occupancy=None,
        truth=None,
    )
