"""What there is to see in a simulated scene: solids, and the ground where it is not flat."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.data.synthetic import raycast
from renderpretrain.data.synthetic.ground import Ground
from renderpretrain.data.synthetic.raycast import GROUND, Hits, Solids
from renderpretrain.geometry import VoxelGrid


@dataclass(frozen=True)
class Stage:
    """Solids and a ground.

    Attributes:
        solids: Where there is a ground, the first three are its road, sidewalk and terrain (kind ``GROUND``);
            their centre and rotation say where the ground's frame is.
        ground: ``None`` where everything is a solid.
    """

    solids: Solids
    ground: Ground | None = None

    def moved(self, pose: Float[Tensor, "4 4"]) -> "Stage":
        """All of it in another frame; the pose maps from this one to that."""
        return replace(self, solids=self.solids.moved(pose))

    def at_time(self, seconds: int | float) -> "Stage":
        """Where the solids are ``seconds`` later; negative is earlier."""
        return replace(self, solids=self.solids.at_time(seconds))

    def cast(
        self, origin: Float[Tensor, "3"], directions: Float[Tensor, "R 3"], *, far: int | float = 1000.0
    ) -> Hits:
        """First entry of each unit ray into a solid or the ground; see :func:`raycast.cast`."""
        hits = raycast.cast(self.solids, origin, directions, far=far)
        if self.ground is None:
            return hits
        start, along = self._in_ground(origin[None])[0], directions @ self.solids.rotations[0]
        t = self.ground.cast(start, along, torch.where(hits.hit, hits.t, far))
        lower = torch.nonzero(t.isfinite())[:, 0]
        places = (start + t[lower, None] * along[lower])[:, :2]
        index, normals = hits.index.clone(), hits.normals.clone()
        index[lower] = self.ground.surfaces(places)
        normals[lower] = self.ground.normals(places) @ self.solids.rotations[0].T
        return Hits(torch.where(t.isfinite(), t, hits.t), index, normals, hits.hit | t.isfinite())

    def occupancy(self, grid: VoxelGrid) -> Int[Tensor, "Z Y X"]:
        """Class index of what fills each voxel centre, the ground below its surface; 0 where it is free."""
        labels = raycast.occupancy(self.solids, grid)
        if self.ground is None:
            return labels
        points = self._in_ground(grid.centers().view(-1, 3))
        places = points[:, :2]
        below = points[:, 2] <= self.ground.height(places)
        surface = self.solids.labels[self.ground.surfaces(places)]
        return torch.where(below.view(labels.shape) & (labels == 0), surface.view(labels.shape), labels)

    def nearby(self, distance: int | float) -> "Stage":
        """Without the solids that lie farther from the origin; the ground stays."""
        solids = self.solids
        near = (solids.centers.norm(dim=-1) - solids.radii() < distance) | (solids.kinds == GROUND)
        return replace(self, solids=solids[torch.nonzero(near)[:, 0]])

    def _in_ground(self, points: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        """Points in the frame of the ground."""
        return (points - self.solids.centers[0]) @ self.solids.rotations[0]
