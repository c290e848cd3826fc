"""Rigid motions as 4x4 matrices named ``a_to_b``: ``p_b = a_to_b @ p_a`` on column vectors, metres."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain import ops


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
    yaw: int | float, translation: tuple[int | float, int | float, int | float] = (0.0, 0.0, 0.0)
) -> Float[Tensor, "4 4"]:
    """The motion that turns by ``yaw`` radians about +z (counter-clockwise from above), then translates."""
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, z = translation
    return torch.tensor([[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]])


def pose_from_vectors(
    rotation: Float[Tensor, "*batch 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    r"""The motion that turns by a rotation vector, then translates.

    .. math:: R = I + \frac{\sin\theta}{\theta} [w]_\times + \frac{1 - \cos\theta}{\theta^2} [w]_\times^2

    Rodrigues' formula, the exponential of SO(3), with :math:`\theta = |w|`. Zero vectors give the identity to
    the bit. Differentiable in both everywhere, at zero too.

    Args:
        rotation: Axis times angle, radians.
        translation: Metres.
    """
    with torch.autocast(rotation.device.type, enabled=False):
        angle = rotation.norm(dim=-1)[..., None, None]
        x, y, z = rotation.unbind(-1)
        zero = torch.zeros_like(x)
        cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
        half = torch.sinc(angle / (2 * math.pi))
        turned = torch.sinc(angle / math.pi) * cross + 0.5 * half.square() * (cross @ cross)
        turned = turned + torch.eye(3, dtype=x.dtype, device=x.device)
    bottom = ops.constant([0.0, 0.0, 0.0, 1.0], turned).expand(*x.shape, 1, 4)
    return torch.cat([torch.cat([turned, translation[..., None]], -1), bottom], -2)
