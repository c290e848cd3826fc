"""What recipes with cameras share: the batch's images, their normalisation, published weights."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.geometry import Cameras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""

NO_CAMERAS = "scene {!r} has no images: a recipe with cameras needs them; use unipad-lidar"


class Normalize(nn.Module):
    """RGB in [0, 1] as published image networks expect it. Differentiable; not part of the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
        """The images with ImageNet's mean at 0 and its deviation at 1."""
        return (images - self.mean) / self.std


class Views(NamedTuple):
    """What the cameras of a batch saw; as in :class:`~renderpretrain.data.Batch`, and surely there."""

    images: Float[Tensor, "B N 3 H W"]
    cameras: Cameras
    camera_valid: Bool[Tensor, "B N"]


def views_of(batch: Batch) -> Views:
    """The batch's images and cameras.

    Raises:
        ValueError: If it has none.
    """
    if batch.images is None or batch.cameras is None or batch.camera_valid is None:
        raise ValueError(NO_CAMERAS.format(batch.names[0]))
    return Views(batch.images, batch.cameras, batch.camera_valid)


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load published image weights; a classifier's head is left aside.

    Raises:
        ValueError: If the file cannot be read, or a parameter of the network itself is missing or of another
            shape.
    """
    try:
        read: dict[str, Any] = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        )
    except Exception as error:
        raise ValueError(
            f"image.weights: {path}: expected a file of tensors ({str(error).splitlines()[0]})"
        ) from error
    read = read.get("state_dict", read.get("model", read))
    ours = backbone.state_dict()
    wrong = [
        k for k, v in ours.items() if not k.startswith("norm") and (k not in read or read[k].shape != v.shape)
    ]
    if wrong:
        raise ValueError(
            f"image.weights: {path}: {len(wrong)} of {len(ours)} tensors are missing or differ: {wrong[0]}"
        )
    backbone.load_state_dict(
        {k: read[k] for k in ours if k in read and read[k].shape == ours[k].shape}, strict=False
    )
