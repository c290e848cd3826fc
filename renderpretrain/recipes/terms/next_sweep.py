"""What the LiDAR sees next, rendered from what it sees now."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.data import Batch
from renderpretrain.geometry import Rays, VoxelGrid, invert_pose, transform
from renderpretrain.geometry.poses import rotate
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import LidarBeams, Preference, RayTargets, in_range, seen_through

BEAMS, JITTER = "beams of the next sweep", "samples of the next sweep"
"""Purposes of seeds."""

CLOSEST = 1e-3
"""Metres that smaller depths count as where errors are taken relative to them."""


class NextSweepTerm(nn.Module):
    """Depth of the next sweep's returns along its own rays, of which this moment's volume knows nothing.

    As GASP (https://arxiv.org/abs/2503.15672) and TREND do, without a field of time: ego motion is given, and
    what moves by itself is a wrong target. No labels tell it: returns at places that this moment's sweep
    looked through are left out (:func:`~renderpretrain.samplers.seen_through`), and of the others the rays
    that fit badly lose weight (:func:`~renderpretrain.losses.inlier_weights`).

    Args:
        num_rays: Beams per sample.
        weight: Of the term, per metre.
        near_radius: Nearer returns in the plane do not count, metres.
        far_radius: Nor do those that are farther, metres.
        scale: Medians of a sample's errors at which a ray begins to lose weight.
    """

    def __init__(
        self,
        *,
        num_rays: int = 256,
        weight: int | float = 1.0,
        near_radius: int | float = 3.0,
        far_radius: int | float = 50.0,
        scale: int | float = 3.0,
    ) -> None:
        super().__init__()
        self.beams, self.weight, self.scale = LidarBeams(num_rays), weight, scale
        self.near_radius, self.far_radius = near_radius, far_radius

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``next_sweep``; 0 of a sample without a next moment."""
        seen, seeds = rendering_of(step, self), step.batch.seeds
        targets = self.targets(step.batch, seen.grid, step.preference)
        depth = seen.renderer(seen.volume, targets.rays, ops.fold_in(seeds, JITTER)).depth
        error = (depth - targets.depth) / targets.depth.clamp(min=CLOSEST)
        weights = losses.inlier_weights(error, targets.hit, scale=self.scale)
        return {
            "next_sweep": self.weight * losses.depth_l1(depth, targets.depth, targets.hit, inliers=weights)
        }

    def targets(self, batch: Batch, grid: VoxelGrid, preference: Preference | None = None) -> RayTargets:
        """Beams of the next sweep as this moment's world has them, drawn from the batch's seeds.

        Args:
            batch: With its next moment.
            grid: Where there is something to render.
            preference: Which of the next sweep's returns are likelier; all alike by default.

        Raises:
            ValueError: If there is no next moment, or a scene has no pose.
        """
        after = next_moment(batch)
        points = after.points.only(in_range(after.points, self.near_radius, self.far_radius))
        to_now = motion(after, batch)
        points = points.only(~seen_through(batch.points, transform(to_now, points.xyz)))
        beams = replace(self.beams, preference=preference)
        targets = beams(replace(after, points=points), ops.fold_in(batch.seeds, BEAMS))
        rays = Rays(transform(to_now, targets.rays.origins), rotate(to_now, targets.rays.directions))
        targets = replace(targets, rays=rays)
        followed = ops.constant([float(known) for known in batch.followed], targets.depth) > 0
        return replace(targets, hit=targets.hit & followed[:, None] & grid.contains(targets.ends))


def next_moment(batch: Batch) -> Batch:
    """The moment after a batch's own; raises a ``ValueError`` if it has none."""
    if not batch.following:
        raise ValueError(
            f"scene {batch.names[0]!r} has no next scene: terms.next_sweep needs "
            "FollowedScenes; set terms.next_sweep=0"
        )
    return batch.following[0]


def motion(a: Batch, b: Batch) -> Float[Tensor, "B 4 4"]:
    """From the world of one moment to that of another; raises a ``ValueError`` if a scene has no pose."""
    poses = torch.stack([pose_of(a), pose_of(b)])
    with torch.autocast(a.device.type, enabled=False):
        return invert_pose(poses[1]) @ poses[0]


def pose_of(batch: Batch) -> Float[Tensor, "B 4 4"]:
    """Where a moment's world is; raises a ``ValueError`` if a scene does not say."""
    if batch.world_to_global is None:
        raise ValueError(
            f"scene {batch.names[0]!r} has no pose (world_to_global), needed to see the next scene from this "
            "one; set terms.next_sweep=0"
        )
    return batch.world_to_global
