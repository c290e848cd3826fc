"""An image network by the name that a setting has for it."""

from collections.abc import Sequence
from pathlib import Path

from renderpretrain.encoders.convnext import ConvNeXt
from renderpretrain.encoders.image_weights import is_materialized, load_backbone
from renderpretrain.encoders.resnet import ResNet
from renderpretrain.encoders.timm_backbone import TimmBackbone, timm_backbone

TIMM = "timm:"
"""What the name of a network of timm begins with."""


def image_network(  # noqa: PLR0913  the networks' sizes
    name: str,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    first_level: int = 0,
    bottleneck: bool = False,
    drop_path: float = 0.0,
    layer_scale: float = 1.0,
    frozen_stages: int = 0,
    weights: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> ConvNeXt | ResNet | TimmBackbone:
    """An image encoder with its weights.

    Args:
        name: ``convnext``, ``resnet``, or ``timm:`` and what timm calls it, which sets all sizes.
        depths: Blocks per stage.
        widths: Channels per stage; a ResNet takes the first.
        first_level: First stage whose map is returned. Of timm: the last map of every size from
            ``4 * 2 ** first_level`` pixels per cell on.
        bottleneck: Bottleneck blocks of a ResNet.
        drop_path: Of a ConvNeXt.
        layer_scale: Of a ConvNeXt.
        frozen_stages: Stages that keep their weights.
        weights: A file, or ``None`` to begin at random.
        image_size: Height and width of the images, for networks of timm that are made for a size.

    Raises:
        ValueError: If timm is not installed or makes no such network, the weights do not fit, or stages are
            frozen that hold none.
    """
    if name.startswith(TIMM):
        return _of_timm(name, 4 * 2**first_level, weights, image_size)
    used = range(first_level, len(depths))
    backbone: ConvNeXt | ResNet
    if name == "resnet":
        backbone = ResNet(
            depths,
            bottleneck=bottleneck,
            width=widths[0],
            out_indices=used,
            frozen_stages=frozen_stages,
        )
    else:
        backbone = ConvNeXt(
            depths,
            widths,
            drop_path=drop_path,
            layer_scale=layer_scale,
            out_indices=used,
            frozen_stages=frozen_stages,
        )
    _fill(backbone, weights, frozen_stages)
    return backbone


def _fill(backbone: ConvNeXt | ResNet, weights: str | None, frozen_stages: int) -> None:
    """Load weights; raise ``ValueError`` if there are none for frozen stages."""
    if weights is not None:
        load_backbone(backbone, Path(weights))
    elif frozen_stages and is_materialized(backbone):
        raise ValueError(
            f"image.frozen_stages: freezing {frozen_stages} stages needs image.weights, a file of "
            "pre-trained weights; or set image.frozen_stages=0"
        )


def _of_timm(
    name: str, first_stride: int, weights: str | None, image_size: tuple[int, int] | None
) -> TimmBackbone:
    """A network of timm, or one line that says why there is none."""
    made = name.removeprefix(TIMM)
    try:
        return timm_backbone(made, weights=weights, first_stride=first_stride, image_size=image_size)
    except (ImportError, ValueError) as error:
        raise ValueError(f"image.backbone: {name}: {error}") from error
