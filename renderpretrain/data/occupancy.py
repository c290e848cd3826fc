"""Which voxels are occupied, free or unknown: labels from the beams of several LiDAR frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.data.lidar_origin import doubtful_origin
from renderpretrain.data.scene import Boxes, OccupancyLabels, Scene
from renderpretrain.geometry import VoxelGrid, invert_pose, rotate, transform

BOX_MARGIN = 0.1
"""Metres that a box is grown by: annotators draw close, and returns are noisy."""

MOVING = 0.5
"""Metres per second from which a box counts as moving."""

PARTS = 2
"""A voxel is looked at in so many parts along each axis."""

FREE_PARTS = 0.8
"""Share of a voxel's parts that beams must pass before it counts as free. On synthetic streets with voxels of
0.4 m, beams that graze the ground call a fifth of all surface voxels free when one part is enough; so 2 %."""

SAME_OBJECT = 2.0
"""Metres between where a box should be by its velocity and the box of the key frame that is taken for it."""


def label_occupancy(
    frames: Sequence[Scene], key: int, grid: VoxelGrid, *, near: int | float = 0.0
) -> OccupancyLabels:
    """Label a grid in the key frame's world from the LiDAR beams of a window of frames.

    Every return is a beam from its sensor's origin (:func:`renderpretrain.ops.raycast_grid`). The voxel it
    ends in is occupied, whatever else passes there. A voxel is free where beams pass through at least 80 % of
    its parts (a half of it along each axis), for one that grazes a surface passes voxels that hold it. The
    rest is unknown. Returns outside the grid are not moved onto its border; their beams count.

    Moving objects need boxes. In the key frame they are labelled like everything else. From other frames
    their returns are carried along with the box to where the key frame has it, or left out where no box of
    the key frame is the same object; their beams stay free as far as they went. What other frames' beams say
    of the inside of the key frame's moving boxes is dropped: there was nothing then. Without boxes moving
    objects leave trails.

    This is the label of UniScene (https://arxiv.org/abs/2305.18829), section 3.3, with what its released
    code leaves out: beams, unknown voxels, moving objects, the sensor's origin, the exact voxel size.

    Args:
        frames: At least one; with ``world_to_global`` where there are several. Only their key sweeps count:
            of merged older sweeps the origin is not known.
        key: Which frame the grid belongs to.
        grid: In the world of that frame.
        near: Returns closer to the sensor than this say nothing, metres: the recording car itself.

    Raises:
        ValueError: If a frame has no pose, the key is none of them, or the points of the key frame say that
            its beams cannot start at its ``lidar_origin``.
    """
    if not 0 <= key < len(frames):
        raise ValueError(f"key: expected one of {len(frames)} frames, got {key}")
    now = frames[key]
    _check_origin(now)
    current = _moving(now.boxes)
    fine = VoxelGrid(grid.point_cloud_range, _divided(grid.voxel_size))
    hits = torch.zeros(fine.num_voxels, dtype=torch.bool, device=now.points.device)
    passed = hits.clone()
    protected = torch.zeros_like(hits)
    if current is not None:
        protected = _owner(current, fine.centers(now.points.device).reshape(-1, 3)) >= 0
    for index, frame in enumerate(frames):
        beams = _beams(frame, near)
        carried = None
        if index != key:
            beams, carried = _in_key_frame(beams, frame, now, current)
        beam_passed, beam_hits = _cast(beams, fine)
        passed |= beam_passed if index == key else beam_passed & ~protected
        hits |= beam_hits
        if carried is not None:
            hits[_flat(fine, carried)] = True
    occupied = _parts(hits, grid).any(-1)
    free = _parts(passed, grid).float().mean(-1) >= FREE_PARTS
    return OccupancyLabels(occupied, occupied | free)


def _check_origin(frame: Scene) -> None:
    """Free space is what beams passed: from a wrong place they run through the road."""
    returns = _beams(frame, 0.0)
    doubt = doubtful_origin(returns.ends.cpu().numpy(), returns.origin.cpu().numpy())
    if doubt is not None:
        raise ValueError(f"{frame.name}: lidar_origin: {doubt}")


def _divided(size: tuple[float, float, float]) -> tuple[float, float, float]:
    """The size of a part of a voxel."""
    x, y, z = (length / PARTS for length in size)
    return x, y, z


def _parts(fine: Bool[Tensor, " V"], grid: VoxelGrid) -> Bool[Tensor, "Z Y X parts"]:
    """The parts of every voxel, side by side."""
    z, y, x = grid.shape
    cut = fine.view(z, PARTS, y, PARTS, x, PARTS).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(z, y, x, PARTS**3)


@dataclass(frozen=True)
class _Beams:
    """Returns and where their beams began; ``static`` ones mark the voxel they end in."""

    origin: Float[Tensor, "3"]
    ends: Float[Tensor, "P 3"]
    static: Bool[Tensor, " P"]


def _beams(frame: Scene, near: int | float) -> _Beams:
    """The key sweep of a frame in its own world."""
    points = frame.points[frame.of_key_sweep, :3]
    points = points[(points - frame.lidar_origin).norm(dim=-1) >= near]
    return _Beams(frame.lidar_origin, points, torch.ones(len(points), dtype=torch.bool, device=points.device))


def _in_key_frame(
    beams: _Beams, frame: Scene, now: Scene, current: Boxes | None
) -> tuple[_Beams, Tensor | None]:
    """The beams of another frame in the key frame's world, and the returns that moved along with a box."""
    if frame.world_to_global is None or now.world_to_global is None:
        lacking = frame if frame.world_to_global is None else now
        raise ValueError(
            f"frames: scene {lacking.name!r} has no pose (world_to_global), needed to join frames"
        )
    to_now = invert_pose(now.world_to_global) @ frame.world_to_global
    boxes = _moving(frame.boxes)
    carried = None
    if boxes is not None:
        owner = _owner(boxes, beams.ends)
        if current is not None:
            seconds = now.timestamp - frame.timestamp
            carried = _carry(boxes, current, owner, beams.ends, to_now, seconds)
        beams = _Beams(beams.origin, beams.ends, owner < 0)
    moved = transform(to_now, torch.cat([beams.origin[None], beams.ends]))
    return _Beams(moved[0], moved[1:], beams.static), carried


def _moving(boxes: Boxes | None) -> Boxes | None:
    """The boxes that move, grown by the margin; ``None`` without any."""
    if boxes is None:
        return None
    chosen = torch.nonzero(boxes.velocities.norm(dim=-1) >= MOVING)[:, 0]
    if not len(chosen):
        return None
    return Boxes(
        boxes.centers[chosen],
        boxes.sizes[chosen] + 2 * BOX_MARGIN,
        boxes.yaws[chosen],
        boxes.labels[chosen],
        boxes.velocities[chosen],
    )


def _owner(boxes: Boxes, points: Float[Tensor, "P 3"]) -> Int[Tensor, " P"]:
    """Index of the box that holds each point, -1 for none; one box at a time, for there are few."""
    owner = torch.full((len(points),), -1, device=points.device)
    for k in range(len(boxes.centers)):
        inside = (_to_box(boxes, k, points).abs() * 2 < boxes.sizes[k]).all(-1)
        owner = torch.where(inside, k, owner)
    return owner


def _to_box(boxes: Boxes, k: int, points: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    """Points in the axes of box ``k``: forward, left, up from its centre."""
    return _turn(points - boxes.centers[k], -boxes.yaws[k])


def _turn(points: Float[Tensor, "P 3"], yaw: Float[Tensor, ""]) -> Float[Tensor, "P 3"]:
    """Turned about +z by ``yaw`` radians."""
    cosine, sine = yaw.cos(), yaw.sin()
    x, y, z = points.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], -1)


def _carry(
    boxes: Boxes, current: Boxes, owner: Tensor, points: Tensor, to_now: Tensor, seconds: int | float
) -> Float[Tensor, "Q 3"]:
    """Returns on moving objects where these are at the key moment, without those of unmatched objects.

    Boxes say a heading alone. Objects keep their tilt in the world, as on one slope or bank: they turn as the
    way from frame to frame says, and then about the vertical until the heading is that of the key moment.
    """
    expected = transform(to_now, boxes.centers) + rotate(to_now, boxes.velocities) * seconds
    carried = [points[:0]]
    for k in range(len(boxes.centers)):
        distance = (current.centers - expected[k]).norm(dim=-1)
        distance = torch.where(current.labels == boxes.labels[k], distance, torch.inf)
        match = int(distance.argmin())
        if distance[match] <= SAME_OBJECT:
            yaw = boxes.yaws[k]
            ahead = rotate(to_now, torch.stack([yaw.cos(), yaw.sin(), torch.zeros_like(yaw)])[None])[0]
            turned = rotate(to_now, points[owner == k] - boxes.centers[k])
            further = current.yaws[match] - torch.atan2(ahead[1], ahead[0])
            carried.append(_turn(turned, further) + current.centers[match])
    return torch.cat(carried)


def _cast(beams: _Beams, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """Which voxels the beams pass, and in which the static ones end."""
    origins = beams.origin.expand_as(beams.ends)[None]
    valid = torch.ones_like(beams.static)[None]
    passed, _ = ops.raycast_grid(origins, beams.ends[None], valid, grid.shape, grid.scale, grid.offset)
    hits = torch.zeros_like(passed, dtype=torch.bool).flatten()
    hits[_flat(grid, beams.ends[beams.static])] = True
    return passed.flatten() > 0, hits


def _flat(grid: VoxelGrid, points: Float[Tensor, "P 3"]) -> Int[Tensor, " Q"]:
    """Flat indices of the voxels of the points in the grid."""
    z, y, x = grid.cells(points[grid.contains(points)]).unbind(-1)
    return (z * grid.shape[1] + y) * grid.shape[2] + x
