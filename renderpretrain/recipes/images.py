"""Images on their way into a network: settings of one, what it expects of colours, one with its neck."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from renderpretrain.encoders import (
    TIMM,
    ImageEncoder,
    ImageLevel,
    image_levels,
    image_network,
    own_image_encoder,
)
from renderpretrain.encoders.frozen import freeze
from renderpretrain.masking import hide_patches
from renderpretrain.recipes.recipe import Told
from renderpretrain.recipes.settings import (
    Count,
    Depths,
    Initial,
    Settings,
    Share,
    WeightsFile,
    Widths,
    unused,
)


def _check_backbone(name: str) -> str:
    """A network that can be built by name."""
    if name not in ("convnext", "resnet") and not (name.startswith(TIMM) and name.removeprefix(TIMM)):
        raise PydanticCustomError("backbone", "expected convnext, resnet or timm:NAME")
    return name


Backbone = Annotated[str, AfterValidator(_check_backbone)]
"""``convnext``, ``resnet``, or ``timm:`` and what timm calls it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""


class ImageConfig(Settings):
    """Settings of an image network and its neck."""

    backbone: Backbone = "convnext"
    weights: WeightsFile = None
    """Pre-trained backbone: a .pth or .safetensors file with timm's or torchvision's keys."""
    depths: Depths = Field((1, 1, 2, 1), description="Blocks per stage.")
    widths: Widths = (32, 64, 96, 128)
    """Channels per stage; a ResNet takes the first."""
    bottleneck: bool = Field(False, description="ResNet with bottleneck blocks, as in ResNet-50.")
    drop_path: Share = 0.0
    layer_scale: Initial = Field(1.0, gt=0, description="Initial weight of ConvNeXt's residual branches.")
    frozen_stages: Count = Field(0, ge=0)
    """Stages that keep their weights; 0 trains all, the stem included."""
    first_level: Count = Field(1, ge=0, description="First stage the pyramid uses; timm: from 4 pixels on.")
    num_levels: Count = Field(1, ge=1, description="Levels of the pyramid, finest first.")


IMAGE_RULES = (
    unused("image.bottleneck", when={"image.backbone": "convnext"}),
    unused("image.drop_path image.layer_scale", when={"image.backbone": "resnet"}),
    unused(
        "depths widths bottleneck drop_path layer_scale frozen_stages",
        "image.",
        when={"image.backbone": TIMM},
    ),
)
"""What turns settings of :class:`ImageConfig` off."""


def image_backbone(
    config: ImageConfig, image_size: tuple[int, int], own: nn.Module | None = None
) -> ImageEncoder:
    """The network of a section with its weights, as ``encoders.image_network`` makes it, or one's own.

    Raises:
        ValueError: If one's own does not meet the contract, or the section's cannot be made.
    """
    if own is not None:
        return own_image_encoder(own, image_size)
    return image_network(
        config.backbone,
        depths=config.depths,
        widths=config.widths,
        first_level=config.first_level,
        bottleneck=config.bottleneck,
        drop_path=config.drop_path,
        layer_scale=config.layer_scale,
        frozen_stages=config.frozen_stages,
        weights=config.weights,
        image_size=image_size,
    )


class ImageNormalization(nn.Module):
    """RGB in [0, 1] to what published image networks expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
        """Differentiable. On a GPU the channels come last in memory, as its convolutions want in bf16."""
        images = (images - self.mean) / self.std
        return channels_last(images) if images.is_cuda else images


def channels_last(images: Float[Tensor, "*batch C H W"]) -> Float[Tensor, "*batch C H W"]:
    """The same numbers in ``torch.channels_last`` memory, which every layer that follows keeps."""
    flat = images.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return flat.unflatten(0, images.shape[:-3])


class ImageNetwork(nn.Module):
    """An image network and what makes maps of one width of its own, shared by all cameras.

    Args:
        backbone: An :class:`~renderpretrain.encoders.ImageEncoder`; patches are hidden in the pixels.
        neck: From its maps to those that are lifted.
        frozen: Batch norms that stay as they are.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, *, frozen: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = freeze(frozen)
        self.neck = neck
        self.normalize = ImageNormalization()

    def train(self, mode: bool = True) -> "ImageNetwork":
        """Frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self,
        images: Float[Tensor, "B N 3 H W"],
        hidden: Bool[Tensor, "B N h w"] | None = None,
        told: Told = None,
    ) -> list[Float[Tensor, "B N C _ _"]]:
        """Feature maps, fine to coarse; hidden patches have the mean colour. Differentiable.

        Args:
            images: Colours in [0, 1].
            hidden: Which patches are, ``True`` = hidden; ``None`` for none.
            told: A list that is given all levels on the way.
        """
        if told is not None:
            told.extend(levels := self.levels(images, hidden))
            return [level.maps for level in levels if level.name.startswith("image_neck")]
        flat = self._left(images, hidden).flatten(0, 1)
        return [level.unflatten(0, images.shape[:2]) for level in self.neck(self.backbone(flat))]

    def levels(
        self, images: Float[Tensor, "B N 3 H W"], hidden: Bool[Tensor, "B N h w"] | None = None
    ) -> list[ImageLevel]:
        """All that backbone and neck say; the last ones are the maps of a call."""
        return image_levels(self.backbone, self.neck, self._left(images, hidden))

    def _left(self, images: Tensor, hidden: Tensor | None) -> Tensor:
        """Normalised images without what is hidden."""
        images = self.normalize(images)
        if hidden is None:
            return images
        return hide_patches(images.flatten(0, 1), hidden.flatten(0, 1)).unflatten(0, images.shape[:2])
