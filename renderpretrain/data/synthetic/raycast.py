"""Exact ray casting of simple solids: boxes, upright elliptic cylinders and ellipsoids that may turn about z.

Every solid is a unit shape (cube, cylinder, ball of half size 1) stretched by ``half_sizes``, turned by
``yaws`` and moved to ``centers``. The map to the unit shape is affine, so the ray parameter survives it and
one intersection serves all sizes. A plane is the face of a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.geometry import VoxelGrid

BOX, CYLINDER, ELLIPSOID = range(3)

NO_HIT = 2**63 - 1
"""A key larger than that of any intersection."""


class Solid(NamedTuple):
    """One solid, as a scene builder writes it down; see :class:`Solids`."""

    kind: int
    center: tuple[float, float, float]
    half_size: tuple[float, float, float]
    label: int
    color: tuple[float, float, float]
    pattern: int = 0
    yaw: float = 0.0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Solids:
    """Opaque solids. Where two overlap, the later one counts as the occupant.

    Attributes:
        kinds: ``BOX``, ``CYLINDER`` (upright) or ``ELLIPSOID``.
        centers: Metres.
        half_sizes: Half the extent along the solid's own axes, metres, positive.
        yaws: Turn about +z, radians.
        labels: Class index.
        patterns: Index of the surface pattern.
        colors: RGB in [0, 1].
        velocities: Metres per second in the world frame.
    """

    kinds: Int[Tensor, " K"]
    centers: Float[Tensor, "K 3"]
    half_sizes: Float[Tensor, "K 3"]
    yaws: Float[Tensor, " K"]
    labels: Int[Tensor, " K"]
    patterns: Int[Tensor, " K"]
    colors: Float[Tensor, "K 3"]
    velocities: Float[Tensor, "K 3"]

    @staticmethod
    def stack(solids: Sequence[Solid]) -> "Solids":
        """The solids as tensors, in order."""
        return Solids(
            kinds=torch.tensor([s.kind for s in solids]),
            centers=torch.tensor([s.center for s in solids]),
            half_sizes=torch.tensor([s.half_size for s in solids]),
            yaws=torch.tensor([float(s.yaw) for s in solids]),
            labels=torch.tensor([s.label for s in solids]),
            patterns=torch.tensor([s.pattern for s in solids]),
            colors=torch.tensor([s.color for s in solids]),
            velocities=torch.tensor([s.velocity for s in solids]),
        )

    def __getitem__(self, index: Tensor) -> "Solids":
        """The solids that an index or a mask chooses."""
        return Solids(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def at_time(self, seconds: float) -> "Solids":
        """Where the solids are ``seconds`` later; negative is earlier."""
        return replace(self, centers=self.centers + seconds * self.velocities)

    def moved(self, yaw: float, translation: tuple[float, float, float]) -> "Solids":
        """The solids seen from another frame: turned about +z by radians, then shifted by metres."""
        turn = torch.full_like(self.yaws, yaw)
        return replace(
            self,
            centers=_turn(self.centers, turn) + self.centers.new_tensor(translation),
            yaws=self.yaws + yaw,
            velocities=_turn(self.velocities, turn),
        )

    def to_local(self, vectors: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
        """Turn one world vector per solid into the solid's own axes, metres."""
        return _turn(vectors, -self.yaws)

    def to_world(self, vectors: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
        """Turn vectors from the axes of the solids to those of the world; undoes :meth:`to_local`."""
        return _turn(vectors, self.yaws)

    def radii(self) -> Float[Tensor, " K"]:
        """Radius of a ball around the centre that holds the solid, metres."""
        ball = self.half_sizes.amax(-1)
        return torch.where(self.kinds == ELLIPSOID, ball, self.half_sizes.norm(dim=-1))


@dataclass(frozen=True)
class Hits:
    """Where rays meet solids first.

    Attributes:
        t: Distance along the unit ray, metres; 0 without a hit.
        index: Which solid; 0 without a hit.
        normals: Outward unit normals in the world frame; zeros without a hit.
        hit: Whether the ray meets anything.
    """

    t: Float[Tensor, " R"]
    index: Int[Tensor, " R"]
    normals: Float[Tensor, "R 3"]
    hit: Bool[Tensor, " R"]


def cast(
    solids: Solids, origin: Float[Tensor, "3"], directions: Float[Tensor, "R 3"], *, far: float = 1000.0
) -> Hits:
    """First entry of each ray into a solid.

    Pairs of ray and solid are dropped by the cone around the solid's bounding ball, which never drops a
    true hit; the rest are intersected exactly. A solid that contains the origin is not seen.

    Args:
        solids: What the rays may meet.
        origin: Where all rays start, metres.
        directions: Unit vectors.
        far: Hits beyond this distance do not count, metres.
    """
    offsets = solids.centers - origin
    distances, radii = offsets.norm(dim=-1), solids.radii()
    sines = radii / distances.clamp(min=1e-9)
    # 1e-5 covers the rounding of the cosines; inside the ball every direction is a candidate.
    cosines = torch.where(sines < 1, (1 - sines.square()).clamp(min=0).sqrt() - 1e-5, -2.0)
    towards = offsets / distances.clamp(min=1e-9)[:, None]
    starts = solids.to_local(-offsets) / solids.half_sizes
    facing = _in_view(towards, sines, directions)
    best = torch.full((len(directions),), NO_HIT)
    for kind, enter in ((BOX, _enter_box), (CYLINDER, _enter_cylinder), (ELLIPSOID, _enter_ball)):
        chosen = torch.nonzero(facing & (solids.kinds == kind))[:, 0]
        near = towards[chosen] @ directions.T >= cosines[chosen, None]
        which, ray = torch.nonzero(near, as_tuple=True)
        which = chosen[which]
        step = _turn(directions[ray], -solids.yaws[which]) / solids.half_sizes[which]
        t = enter(starts[which], torch.where(step.abs() < 1e-9, 1e-9, step))
        seen = (t > 0) & (t < far)
        # Positive floats sort like their bits, so one integer minimum finds the nearest solid and its index.
        keys = (t[seen].view(torch.int32).long() << 32) | which[seen]
        best.scatter_reduce_(0, ray[seen], keys, "amin")
    return _hits(solids, origin, directions, best)


def occupancy(solids: Solids, grid: VoxelGrid) -> Int[Tensor, "Z Y X"]:
    """Class index of the solid that contains each voxel centre; 0 where none does."""
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    centers = grid.centers()
    radii = solids.radii()[:, None]
    lower = grid.to_index(solids.centers - radii).ceil().long().clamp(min=0)
    upper = grid.to_index(solids.centers + radii).floor().long() + 1
    for k, ((x0, y0, z0), (x1, y1, z1)) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        window = (slice(z0, max(z1, z0)), slice(y0, max(y1, y0)), slice(x0, max(x1, x0)))
        points = centers[window]
        if points.numel():
            inside = contains(solids[torch.tensor([k])], points.reshape(-1, 3)).reshape(points.shape[:-1])
            labels[window][inside] = solids.labels[k]
    return labels


def contains(solid: Solids, points: Float[Tensor, "P 3"]) -> Bool[Tensor, " P"]:
    """Whether each point lies in the one given solid, its surface included."""
    local = _turn(points - solid.centers, -solid.yaws) / solid.half_sizes
    if int(solid.kinds) == BOX:
        return (local.abs() <= 1).all(-1)
    if int(solid.kinds) == CYLINDER:
        return (local[:, :2].square().sum(-1) <= 1) & (local[:, 2].abs() <= 1)
    return local.square().sum(-1) <= 1


def _in_view(towards: Tensor, sines: Tensor, directions: Tensor) -> Tensor:
    """Which solids may lie in the cone around all rays: a camera faces few of them."""
    axis = torch.nn.functional.normalize(directions.mean(0), dim=0)
    opening = (directions @ axis).min().clamp(-1, 1).acos()
    angles = (towards @ axis).clamp(-1, 1).acos()
    return (sines >= 1) | (angles <= opening + sines.clamp(max=1).asin() + 1e-3)


def _hits(solids: Solids, origin: Tensor, directions: Tensor, keys: Tensor) -> Hits:
    """Unpack the winning keys and add the normals."""
    hit = keys != NO_HIT
    t = torch.where(hit, keys >> 32, 0).int().view(torch.float32)
    index = torch.where(hit, keys & 0xFFFFFFFF, 0)
    met = solids[index]
    local = met.to_local(origin + t[:, None] * directions - met.centers) / met.half_sizes
    largest = torch.nn.functional.one_hot(local.abs().argmax(-1), 3)
    side = torch.cat([local[:, :2], torch.zeros_like(local[:, 2:])], -1)
    cap = local[:, 2:].abs() > side.norm(dim=-1, keepdim=True)
    cylinder = torch.where(cap, torch.tensor([0.0, 0.0, 1.0]) * local.sign(), side)
    kind = met.kinds[:, None]
    unit = torch.where(kind == BOX, largest * local.sign(), torch.where(kind == CYLINDER, cylinder, local))
    normals = met.to_world(torch.nn.functional.normalize(unit / met.half_sizes, dim=-1))
    return Hits(t, index, normals * hit[:, None], hit)


def _enter_box(start: Tensor, step: Tensor) -> Tensor:
    """Ray parameter where the unit cube is entered; negative where it is missed."""
    near, far = _slab(start, step)
    return _first(near.amax(-1), far.amin(-1))


def _enter_cylinder(start: Tensor, step: Tensor) -> Tensor:
    """Where rays enter the unit cylinder about z."""
    near, far = _chord(start[:, :2], step[:, :2])
    lower, upper = _slab(start[:, 2], step[:, 2])
    return _first(torch.maximum(near, lower), torch.minimum(far, upper))


def _enter_ball(start: Tensor, step: Tensor) -> Tensor:
    """Where rays enter the unit ball."""
    return _first(*_chord(start, step))


def _slab(start: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Where ``|start + t step| <= 1`` begins and ends."""
    a, b = (-1 - start) / step, (1 - start) / step
    return torch.minimum(a, b), torch.maximum(a, b)


def _chord(start: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Where the norm of ``start + t step`` is at most 1, about the nearest point: ``b^2 - ac`` cancels."""
    speed = step.square().sum(-1)
    middle = -(start * step).sum(-1) / speed
    left = 1 - (start + middle[:, None] * step).square().sum(-1)
    half = (left.clamp(min=0) / speed).sqrt()
    return torch.where(left > 0, middle - half, 1.0), torch.where(left > 0, middle + half, -1.0)


def _first(near: Tensor, far: Tensor) -> Tensor:
    """The entry of the interval, or -1 where it is empty."""
    return torch.where(near < far, near, -1.0)


def _turn(vectors: Tensor, yaws: Tensor) -> Tensor:
    """Rotate vectors about +z by radians."""
    c, s = yaws.cos(), yaws.sin()
    x, y, z = vectors.unbind(-1)
    return torch.stack([c * x - s * y, s * x + c * y, z], -1)
