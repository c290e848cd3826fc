"""Cameras whose poses are learned: what the calibration got wrong, as one small motion per camera."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.geometry.cameras import Cameras
from renderpretrain.geometry.poses import pose_from_vectors


class PoseRefinement(nn.Module):
    r"""One learned rigid motion per camera of a rig, in the camera's own axes, the same in all scenes.

    .. math:: T'_n = T_n \exp(w_n, t_n), \quad w_n = \sigma_w a_n, \; t_n = \sigma_t b_n

    with :math:`T_n` a camera's ``camera_to_world``. A calibration error turns and moves a camera against its
    rig; on the right of the pose it stays what it is wherever the rig is and whatever frame is the world.
    Rotation and translation are apart, as in NeRF-- (https://arxiv.org/abs/2102.07064), learned with what is
    rendered, as there and in BARF (https://arxiv.org/abs/2104.06405); unlike there the poses given are nearly
    right, so their deviation has a prior.

    What is learned, ``deviations``, counts in standard deviations of that prior: an optimiser's step is then
    as likely a turn as it is a shift. It starts at zero, where the cameras are the given ones to the bit.

    Args:
        num_cameras: Places in the rig.
        rotation_std_deg: Expected error per axis, degrees.
        translation_std_m: Expected error per axis, metres.

    Raises:
        ValueError: If one of them is not positive.
    """

    def __init__(
        self, num_cameras: int, *, rotation_std_deg: int | float = 1.0, translation_std_m: int | float = 0.2
    ) -> None:
        super().__init__()
        given = {
            "num_cameras": num_cameras,
            "rotation_std_deg": rotation_std_deg,
            "translation_std_m": translation_std_m,
        }
        for name, value in given.items():
            if not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        self.rotation_std = math.radians(rotation_std_deg)
        self.translation_std = translation_std_m
        self.deviations = nn.Parameter(torch.zeros(num_cameras, 6))

    @property
    def rotations(self) -> Float[Tensor, "N 3"]:
        """Axis times angle of every camera, radians."""
        return self.rotation_std * self.deviations[:, :3]

    @property
    def translations(self) -> Float[Tensor, "N 3"]:
        """Metres along every camera's axes."""
        return self.translation_std * self.deviations[:, 3:]

    def forward(self, cameras: Cameras) -> Cameras:
        """The refined cameras; differentiable in ``deviations`` through everything they are asked.

        Args:
            cameras: ``(*batch, N)`` with ``N`` at most ``num_cameras``, in the order of the rig.

        Raises:
            ValueError: If there are more.
        """
        count, most = (cameras.shape or (0,))[-1], len(self.deviations)
        if not 0 < count <= most:
            raise ValueError(
                f"cameras: expected 1 to {most} in the last batch axis, got {tuple(cameras.shape)}"
            )
        pose = cameras.camera_to_world
        with torch.autocast(pose.device.type, enabled=False):
            motions = pose_from_vectors(self.rotations[:count], self.translations[:count]).to(pose.dtype)
            return replace(cameras, camera_to_world=pose @ motions)

    def prior(self) -> Float[Tensor, ""]:
        """Negative log density of the deviations, up to a constant: half their square, mean over cameras.

        Normal with mean zero and the given standard deviations. Differentiable.
        """
        return 0.5 * self.deviations.square().sum(-1).mean()
