"""Camera poses that are learned beside everything else, where the calibration is not to be trusted.

What tells where a camera is:

* A depth camera's pixel (``ponder-indoor``) is a point that a wrong pose puts in a wrong place: depth,
  distance and colour along its ray all pull at the pose.
* A ray to a LiDAR return (UniPAD, NS-MAE) ends there whatever the pose. It feels a shift, through its origin,
  but no turn; its colour is that of the pixel it falls into, which jumps, and lifting takes places in the
  image for constants: neither has a gradient. Hence ``pose_depth`` (:meth:`Calibration.alignment`). It says
  little where the network also reads a depth image made with the same poses (NS-MAE with LiDAR).
* LiDAR points say where the world is. Without them all cameras may drift together, and only the prior holds.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.geometry import PoseRefinement
from renderpretrain.lifters import depth_log_likelihood, pose_coordinates
from renderpretrain.recipes.settings import Count, Settings
from renderpretrain.samplers import RayTargets


class CalibrationConfig(Settings):
    """Refinement of the cameras' poses; off, nothing of it exists."""

    refine: bool = Field(False, description="Learn a correction of every camera's pose, one for all scenes.")
    num_cameras: Count = Field(6, gt=0, description="Places in the rig; scenes may have fewer.")
    rotation_std_deg: float = Field(1.0, gt=0, description="Expected error per axis, degrees.")
    translation_std_m: float = Field(0.2, gt=0, description="Expected error per axis, metres.")
    weight: float = Field(0.1, ge=0, description="Of the prior in the loss.")
    alignment: float = Field(
        1.0, ge=0, description="Weight of the returns' likelihood under the depth that the images suggest."
    )

    @property
    def places(self) -> tuple[int, str] | None:
        """How many cameras have places of their own, and the setting that says so; ``None`` if none has."""
        return (self.num_cameras, "calibration.num_cameras") if self.refine else None


class Calibration(nn.Module):
    """A batch's cameras as the recipe believes them, and the loss term that keeps it modest.

    Parameters count in standard deviations of the prior (:class:`~renderpretrain.geometry.PoseRefinement`),
    so that a learning rate of 5e-3 turns a camera by about 0.005 degrees a step. They can have a rate of
    their own: ``optimization.lr_multipliers={"calibration": 2}``. What a recipe has not learned pulls at them
    too: in runs of a hundred steps refinement did not make depth better.

    Args:
        config: What is expected of the calibration, and whether it is refined at all.
    """

    def __init__(self, config: CalibrationConfig) -> None:
        super().__init__()
        self.config = config
        self.refinement: PoseRefinement | None = None
        if config.refine:
            self.refinement = PoseRefinement(
                config.num_cameras,
                rotation_std_deg=config.rotation_std_deg,
                translation_std_m=config.translation_std_m,
            )

    def forward(self, batch: Batch) -> Batch:
        """The batch with refined cameras, those of other moments too; itself where nothing is refined.

        Differentiable in the refinement.

        Raises:
            ValueError: If there are more cameras than places.
        """
        if self.refinement is None or batch.views is None:
            return batch
        count, most = batch.views.cameras.shape[1], len(self.refinement.deviations)
        if count > most:
            raise ValueError(
                f"calibration.num_cameras: expected at least {count}, as scene {batch.names[0]!r} has, "
                f"got {most}; set calibration.num_cameras={count}"
            )
        views = replace(batch.views, cameras=self.refinement(batch.views.cameras))
        previous, following = (tuple(map(self, moments)) for moments in (batch.previous, batch.following))
        return replace(batch, views=views, previous=previous, following=following)

    def prior(self) -> dict[str, Float[Tensor, ""]]:
        """``pose_prior``, weighted; nothing where nothing is refined."""
        if self.refinement is None:
            return {}
        return {"pose_prior": self.config.weight * self.refinement.prior()}

    def alignment(
        self,
        batch: Batch,
        targets: RayTargets,
        probabilities: list[Float[Tensor, "B N D _ _"]],
        depth_range: tuple[float, float],
    ) -> dict[str, Float[Tensor, ""]]:
        """``pose_depth``, weighted: measured depths' negative log likelihood under what the images suggest.

        Nothing where nothing is refined. Rays run to LiDAR returns whatever the camera's pose, so that
        nothing along them tells that it is turned; but then a return falls on the wrong pixel, and that one's
        depth is another surface's. The distributions are constants: the network does not learn from this.

        Args:
            batch: With the refined cameras.
            targets: Rays of these cameras, as many of each.
            probabilities: Depth distributions of the images' cells, one per level.
            depth_range: Nearest and farthest depth of their bins, metres.
        """
        if self.refinement is None or not self.config.alignment or batch.views is None:
            return {}
        cameras = batch.views.cameras
        shape = (*cameras.shape, -1)
        ends = targets.ends.detach().reshape(*shape, 3)
        coordinates, inside = pose_coordinates(cameras, ends, depth_range)
        valid = targets.hit.reshape(shape) & inside
        likely = [depth_log_likelihood(p.detach(), coordinates, valid) for p in probabilities]
        error = torch.stack([losses.masked_mean(-x, valid) for x in likely]).mean()
        return {"pose_depth": self.config.alignment * error}
