"""What lifters ask of the feature maps and cameras they are given."""

from collections.abc import Sequence

from torch import Tensor

from renderpretrain.checks import check_bool, check_floating, check_shape
from renderpretrain.geometry import Cameras


def check_maps(levels: Sequence[Tensor], cameras: Cameras, camera_valid: Tensor, channels: int) -> None:
    """Raise ``ValueError`` unless there are feature maps of all cameras, level by level.

    Args:
        levels: ``(B, N, C, h, w)`` each.
        cameras: ``(B, N)`` of them.
        camera_valid: ``(B, N)``, False for padding.
        channels: ``C``.
    """
    if isinstance(levels, Tensor):
        raise ValueError(
            f"levels: expected a list of feature maps, got one tensor {tuple(levels.shape)}; a single one "
            "goes in brackets: [features]"
        )
    if not levels:
        raise ValueError("levels: expected at least one feature map, got none")
    sizes = check_shape("camera_valid", camera_valid, "B N")
    check_bool(camera_valid=camera_valid)
    if tuple(cameras.shape) != (sizes["B"], sizes["N"]):
        raise ValueError(
            f"cameras: expected a batch of {(sizes['B'], sizes['N'])} like camera_valid, "
            f"got {tuple(cameras.shape)}"
        )
    for level in levels:
        check_shape("levels", level, "B N C h w", C=channels, **sizes)
        check_floating(levels=level)
