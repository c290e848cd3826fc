"""A frozen network on images whose maps are targets, whoever wrote it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_images

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""


class ImageTeacher(nn.Module):
    """Maps of images by a frozen network.

    The network is any module that gives maps ``(B, C, h, w)``: one that gives a map or a list of maps when it
    is called, one with ``levels(images)`` as image encoders here have it
    (:class:`~renderpretrain.encoders.ImageLevels`), or one with ``get_intermediate_layers`` as DINOv2 and
    DINOv3 of ``torch.hub`` and the vision transformers of timm. The ConvNeXts of DINOv3 are
    ``encoders.image_network("convnext", ..., weights=FILE)``; its and DINOv2's transformers are
    ``encoders.timm_backbone("vit_small_patch14_dinov2", weights=FILE)``.

    Args:
        network: The network; it is frozen.
        layers: Which of its maps, as a list is indexed: the last two by default. Of one with
            ``get_intermediate_layers`` they are counted from the end.
        size: Height and width that images are resized to; their own by default.
        mean: Of RGB in [0, 1], what it expects.
        std: Of RGB in [0, 1], likewise.

    Raises:
        ValueError: If the network is none, or no layer is asked for.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[int] = (-2, -1),
        *,
        size: tuple[int, int] | None = None,
        mean: Sequence[int | float] = IMAGENET_MEAN,
        std: Sequence[int | float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
        self.network = network.requires_grad_(False).eval()
        self.layers, self.size = tuple(layers), size
        self.from_end = hasattr(network, "get_intermediate_layers")
        if not self.layers or (self.from_end and max(self.layers) >= 0):
            below = ", counted from the end: -1 is the last" if self.from_end else ""
            raise ValueError(f"layers: expected the indices of maps{below}; got {self.layers}")
        self.mean, self.std = tuple(mean), tuple(std)

    def train(self, mode: bool = True) -> "ImageTeacher":
        """Change the mode of this module; the network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """The maps of the layers, in float32.

        Args:
            images: RGB in [0, 1].

        Raises:
            ValueError: If the network does not take such images, or gives something else than maps.
        """
        check_images(images, "B 3 H W")
        mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (self.mean, self.std))
        seen = (images - mean) / std
        if self.size is not None:
            seen = nn.functional.interpolate(seen, self.size, mode="bilinear", antialias=True)
        try:
            maps = self._maps(seen)
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:140]
            raise ValueError(
                f"images: expected a size that the teacher's network takes, got {tuple(seen.shape[2:])} "
                f"({reason}); give another size"
            ) from error
        return [self._chosen(maps, layer, len(images)) for layer in self.layers]

    def _maps(self, images: Tensor) -> Sequence[Any]:
        """All maps that the network gives, or its last ones."""
        network: Any = self.network
        if self.from_end:
            return tuple(
                network.get_intermediate_layers(images, n=-min(self.layers), reshape=True, norm=False)
            )
        maps = network.levels(images) if hasattr(network, "levels") else network(images)
        return maps if isinstance(maps, list | tuple) else (maps,)

    def _chosen(self, maps: Sequence[Any], layer: int, count: int) -> Float[Tensor, "B C h w"]:
        """One of the maps, if there is such a one and it is one."""
        if not -len(maps) <= layer < len(maps):
            raise ValueError(f"layers: expected indices of {len(maps)} maps, got {layer}")
        chosen = maps[layer]
        if not isinstance(chosen, Tensor) or chosen.dim() != 4 or len(chosen) != count:
            came = tuple(chosen.shape) if isinstance(chosen, Tensor) else type(chosen).__name__
            raise ValueError(f"network: expected a map ({count}, C, h, w) of layer {layer}, got {came}")
        return chosen.float()

    def checksum(self) -> str:
        """SHA-256 of what decides on the maps: weights, layers, size, normalisation, the network's class."""
        settings = type(self.network).__qualname__, self.layers, self.size, self.mean, self.std
        hashed = hashlib.sha256(repr(settings).encode())
        for name, value in sorted(self.network.state_dict().items()):
            hashed.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return hashed.hexdigest()
