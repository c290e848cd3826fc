"""Exact ray casting of simple solids: boxes, elliptic cylinders and ellipsoids, turned in any way.

Every solid is a unit shape (cube, cylinder about z, ball of half size 1) stretched by ``half_sizes``, turned
by ``rotations`` and moved to ``centers``. The map to the unit shape is affine, so the ray parameter survives
it and one intersection serves all sizes. A plane is the face of a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.data.scene import LUMINANCE
from renderpretrain.geometry import VoxelGrid

BOX, CYLINDER, ELLIPSOID, GROUND = range(4)
"""Kinds of solids. ``GROUND`` is a surface of :class:`~renderpretrain.data.synthetic.ground.Ground`."""

NO_HIT = 2**63 - 1
"""A key larger than that of any intersection."""


class Solid(NamedTuple):
    """One solid, as a scene builder writes it down; see :class:`Solids`.

    It is turned about its own y by ``lean`` radians first, then about z by ``yaw``.
    """

    kind: int
    center: tuple[float, float, float]
    half_size: tuple[float, float, float]
    label: int
    color: tuple[float, float, float]
    pattern: int = 0
    yaw: float = 0.0
    reflectance: float | None = None
    lean: float = 0.0


@dataclass(frozen=True)
class Solids:
    """Opaque solids. Where two overlap, the later one counts as the occupant.

    Attributes:
        kinds: ``BOX``, ``CYLINDER`` (about its own z), ``ELLIPSOID`` or ``GROUND``, which has no shape here.
        centers: Metres.
        half_sizes: Half the extent along the solid's own axes, metres, positive.
        rotations: From the solid's own axes to those of the world.
        labels: Class index.
        patterns: Index of the surface pattern.
        colors: RGB in [0, 1].
        reflectances: Share of a laser's light that comes back, in [0, 1].
        velocities: Metres per second in the world frame.
    """

    kinds: Int[Tensor, " K"]
    centers: Float[Tensor, "K 3"]
    half_sizes: Float[Tensor, "K 3"]
    rotations: Float[Tensor, "K 3 3"]
    labels: Int[Tensor, " K"]
    patterns: Int[Tensor, " K"]
    colors: Float[Tensor, "K 3"]
    reflectances: Float[Tensor, " K"]
    velocities: Float[Tensor, "K 3"]

    @staticmethod
    def stack(solids: Sequence[Solid]) -> "Solids":
        """The solids as tensors, in order, at rest. Without a reflectance it is the colour's luminance."""
        colors = torch.tensor([s.color for s in solids], dtype=torch.float32)
        told = torch.tensor([-1.0 if s.reflectance is None else s.reflectance for s in solids])
        return Solids(
            kinds=torch.tensor([s.kind for s in solids]),
            centers=torch.tensor([s.center for s in solids], dtype=torch.float32),
            half_sizes=torch.tensor([s.half_size for s in solids], dtype=torch.float32),
            rotations=about_z(torch.tensor([float(s.yaw) for s in solids]))
            @ _about_y(torch.tensor([float(s.lean) for s in solids])),
            labels=torch.tensor([s.label for s in solids]),
            patterns=torch.tensor([s.pattern for s in solids]),
            colors=colors,
            reflectances=torch.where(told < 0, colors @ torch.tensor(LUMINANCE), told),
            velocities=torch.zeros(len(solids), 3),
        )

    @staticmethod
    def join(first: "Solids", second: "Solids") -> "Solids":
        """One row of solids after another."""
        names = [f.name for f in fields(Solids)]
        return Solids(**{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names})

    def __getitem__(self, index: Tensor) -> "Solids":
        """The solids that an index or a mask chooses."""
        rows = torch.nonzero(index)[:, 0] if index.dtype == torch.bool else index
        return Solids(**{f.name: getattr(self, f.name).index_select(0, rows) for f in fields(self)})

    def at_time(self, seconds: int | float) -> "Solids":
        """Where the solids are ``seconds`` later; negative is earlier."""
        return replace(self, centers=self.centers + seconds * self.velocities)

    def moved(self, pose: Float[Tensor, "4 4"]) -> "Solids":
        """The solids in another frame; the pose maps from theirs to that one."""
        turn = pose[:3, :3]
        return replace(
            self,
            centers=self.centers @ turn.T + pose[:3, 3],
            rotations=turn @ self.rotations,
            velocities=self.velocities @ turn.T,
        )

    def to_local(self, vectors: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
        """Turn one world vector per solid into the solid's own axes, metres."""
        return _turned(self.rotations.permute(2, 1, 0), vectors.T).T

    def to_world(self, vectors: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
        """Turn vectors from the axes of the solids to those of the world; undoes :meth:`to_local`."""
        return _turned(self.rotations.permute(1, 2, 0), vectors.T).T

    def radii(self) -> Float[Tensor, " K"]:
        """Radius of a ball around the centre that holds the solid, metres; infinite for the ground."""
        ball = self.half_sizes.amax(-1)
        balls = torch.where(self.kinds == ELLIPSOID, ball, self.half_sizes.norm(dim=-1))
        return torch.where(self.kinds == GROUND, torch.inf, balls)


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
    solids: Solids, origin: Float[Tensor, "3"], directions: Float[Tensor, "R 3"], *, far: int | float = 1000.0
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
    best = torch.full((len(directions),), NO_HIT)
    offsets = solids.centers - origin
    distances, radii = offsets.norm(dim=-1), solids.radii()
    shaped = torch.nonzero((distances - radii < far) & (solids.kinds != GROUND))[:, 0]
    offsets, distances, radii = offsets[shaped], distances[shaped], radii[shaped]
    near = solids[shaped]
    sines = radii / distances.clamp(min=1e-9)
    # 1e-5 covers the rounding of the cosines; inside the ball every direction is a candidate.
    cosines = torch.where(sines < 1, (1 - sines.square()).clamp(min=0).sqrt() - 1e-5, -2.0)
    cones = _Cones(offsets / distances.clamp(min=1e-9)[:, None], sines, cosines)
    # From the world to the unit shape: turned back, then shrunk.
    shrink = (near.rotations.mT / near.half_sizes[:, :, None]).permute(1, 2, 0).reshape(9, -1)
    starts, rows = _turned(shrink.view(3, 3, -1), -offsets.T), directions.T.contiguous()
    pairs = [cones.pairs(directions, rays) for rays in _bundles(directions)]
    which, ray = (torch.cat(part) for part in zip(*pairs, strict=True))
    kinds = near.kinds[which]
    for kind, enter in ((BOX, _enter_box), (CYLINDER, _enter_cylinder), (ELLIPSOID, _enter_ball)):
        chosen = torch.nonzero(kinds == kind)[:, 0]
        solid, own = which[chosen], ray[chosen]
        step = _turned(shrink.index_select(1, solid).view(3, 3, -1), rows.index_select(1, own))
        t = enter(starts.index_select(1, solid), torch.where(step.abs() < 1e-9, 1e-9, step))
        seen = torch.nonzero((t > 0) & (t < far))[:, 0]
        # Positive floats sort like their bits, so one integer minimum finds the nearest solid and its index.
        keys = (t[seen].view(torch.int32).long() << 32) | shaped[solid[seen]]
        best.scatter_reduce_(0, own[seen], keys, "amin")
    return _hits(solids, origin, directions, best)


def occupancy(solids: Solids, grid: VoxelGrid) -> Int[Tensor, "Z Y X"]:
    """Class index of the solid that contains each voxel centre; 0 where none does."""
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    centers = grid.centers()
    # How far the turned box around each solid reaches along the axes of the world.
    reach = (solids.rotations.abs() @ solids.half_sizes[:, :, None])[:, :, 0] + 1e-4
    reach = torch.where((solids.kinds == GROUND)[:, None], -1.0, reach)
    lower = grid.to_index(solids.centers - reach).ceil().long().clamp(min=0)
    upper = grid.to_index(solids.centers + reach).floor().long() + 1
    upper = torch.minimum(upper, torch.tensor(grid.shape[::-1]))
    for k in torch.nonzero((lower < upper).all(-1))[:, 0].tolist():
        (x0, y0, z0), (x1, y1, z1) = lower[k].tolist(), upper[k].tolist()
        window = (slice(z0, z1), slice(y0, y1), slice(x0, x1))
        points = centers[window]
        inside = contains(solids[torch.tensor([k])], points.reshape(-1, 3)).reshape(points.shape[:-1])
        labels[window][inside] = solids.labels[k]
    return labels


def contains(solid: Solids, points: Float[Tensor, "P 3"]) -> Bool[Tensor, " P"]:
    """Whether each point lies in the one given solid, its surface included."""
    local = (points - solid.centers) @ solid.rotations[0] / solid.half_sizes
    if int(solid.kinds) == BOX:
        return (local.abs() <= 1).all(-1)
    if int(solid.kinds) == CYLINDER:
        return (local[:, :2].square().sum(-1) <= 1) & (local[:, 2].abs() <= 1)
    return local.square().sum(-1) <= 1


class _Cones(NamedTuple):
    """Cones around the bounding balls of solids, seen from where rays start."""

    towards: Tensor
    sines: Tensor
    cosines: Tensor

    def in_view(self, directions: Tensor) -> Tensor:
        """Which solids may lie in the cone around all rays: a camera faces few of them."""
        axis = torch.nn.functional.normalize(directions.mean(0), dim=0)
        opening = (directions @ axis).min().clamp(-1, 1).acos()
        angles = (self.towards @ axis).clamp(-1, 1).acos()
        return (self.sines >= 1) | (angles <= opening + self.sines.clamp(max=1).asin() + 1e-3)

    def pairs(self, directions: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Solid and ray of all pairs in which the ray meets the solid's ball."""
        bundle = directions.index_select(0, rays)
        facing = torch.nonzero(self.in_view(bundle))[:, 0]
        which, ray = torch.nonzero(
            self.towards[facing] @ bundle.T >= self.cosines[facing, None], as_tuple=True
        )
        return facing[which], rays[ray]


def _bundles(directions: Tensor) -> list[Tensor]:
    """Rays in bundles that look one way: all of a camera, eight sectors of a sensor that looks around."""
    if not len(directions) or float(directions.mean(0).norm()) > 0.5:
        return [torch.arange(len(directions))]
    sectors = (torch.atan2(directions[:, 1], directions[:, 0]) * (4 / torch.pi)).floor().long()
    return [rays for k in range(-4, 5) if len(rays := torch.nonzero(sectors == k)[:, 0])]


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


def _turned(matrices: Tensor, vectors: Tensor) -> Tensor:
    """``(3, 3, P)`` matrices times ``(3, P)`` vectors, one each: faster than many small products."""
    first = torch.addcmul(matrices[:, 0] * vectors[0], matrices[:, 1], vectors[1])
    return torch.addcmul(first, matrices[:, 2], vectors[2])


def _enter_box(start: Tensor, step: Tensor) -> Tensor:
    """Ray parameter where the unit cube is entered, of components ``(3, P)``; negative where it is missed."""
    near, far = _slab(start, step)
    return _first(near.amax(0), far.amin(0))


def _enter_cylinder(start: Tensor, step: Tensor) -> Tensor:
    """Where rays enter the unit cylinder about z."""
    near, far = _chord(start[:2], step[:2])
    lower, upper = _slab(start[2], step[2])
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
    speed = step.square().sum(0)
    middle = -(start * step).sum(0) / speed
    left = 1 - (start + middle * step).square().sum(0)
    half = (left.clamp(min=0) / speed).sqrt()
    return torch.where(left > 0, middle - half, 1.0), torch.where(left > 0, middle + half, -1.0)


def _first(near: Tensor, far: Tensor) -> Tensor:
    """The entry of the interval, or -1 where it is empty."""
    return torch.where(near < far, near, -1.0)


def about_z(yaws: Float[Tensor, " K"]) -> Float[Tensor, "K 3 3"]:
    """Rotations about +z by radians, counter-clockwise seen from above."""
    c, s, one = yaws.cos(), yaws.sin(), torch.ones_like(yaws)
    zero = torch.zeros_like(yaws)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).view(-1, 3, 3)


def _about_y(angles: Tensor) -> Tensor:
    """Rotations about +y: x turns towards -z."""
    c, s, one = angles.cos(), angles.sin(), torch.ones_like(angles)
    zero = torch.zeros_like(angles)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).view(-1, 3, 3)
