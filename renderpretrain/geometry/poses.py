"""Rigid motions as 4x4 matrices named ``a_to_b``: ``p_b = a_to_b @ p_a`` on column vectors, metres."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def transform(
    a_to_b: Float[Tensor, "*#batch 4 4"], points: Float[Tensor, "*#batch P 3"]
) -> Float[Tensor, "... P 3"]:
    """Move points from frame ``a`` to frame ``b``. Leading axes broadcast; differentiable in both."""
    return rotate(a_to_b, points) + a_to_b[..., None, :3, 3]


def apply_matrix(
    matrix: Float[Tensor, "*#batch 3 3"], vectors: Float[Tensor, "*#batch P 3"]
) -> Float[Tensor, "... P 3"]:
    """``matrix @ v`` for every vector, at full precision: autocast would round metres to bf16."""
    with torch.autocast(vectors.device.type, enabled=False):
        return vectors @ matrix.mT


def rotate(
    a_to_b: Float[Tensor, "*#batch 4 4"], vectors: Float[Tensor, "*#batch P 3"]
) -> Float[Tensor, "... P 3"]:
    """Turn directions from frame ``a`` to frame ``b`` (no translation)."""
    return apply_matrix(a_to_b[..., :3, :3], vectors)


def invert_pose(a_to_b: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """``b_to_a``, by transposing the rotation: exact for rigid motions, and only for those."""
    rotation = a_to_b[..., :3, :3].mT
    translation = -apply_matrix(rotation, a_to_b[..., None, :3, 3]).mT
    bottom = a_to_b[..., 3:, :].detach()
    return torch.cat([torch.cat([rotation, translation], -1), bottom], -2)


def pose_from_yaw(
    yaw: float, translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float[Tensor, "4 4"]:
    """The motion that turns by ``yaw`` radians about +z (counter-clockwise from above), then translates."""
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, z = translation
    return torch.tensor([[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]])
