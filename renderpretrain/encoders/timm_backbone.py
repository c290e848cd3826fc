"""Any image network of timm as a backbone; timm comes with the extra ``image``, imported when asked for."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.checks import check_images
from renderpretrain.encoders.masked import hide_cells

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class TimmBackbone(nn.Module):
    """A network of timm that returns features, with its maps channels first whatever it computes in.

    Keys are the network's own, under ``network``. What is hidden is hidden in the pixels.

    Args:
        network: Made by timm with ``features_only=True``.
        out_indices: Which of its maps are returned, in their order; all by default.
        name: What timm calls it, for files of its weights.

    Attributes:
        channels: Of every map returned; ``out_channels`` is the same.
        strides: Pixels per cell of every map returned.
        level_channels: Of every map that the network makes.
        level_strides: Pixels per cell of every map that the network makes.
    """

    def __init__(self, network: Any, out_indices: Sequence[int] | None = None, *, name: str = "") -> None:
        super().__init__()
        self.name = name
        layout = getattr(network, "output_fmt", "NCHW")
        self.layout = str(getattr(layout, "value", layout))
        if self.layout not in ("NCHW", "NHWC"):
            raise ValueError(f"network: expected feature maps in NCHW or NHWC, got {self.layout}")
        self.network = network
        channels, strides = network.feature_info.channels(), network.feature_info.reduction()
        self.level_channels = tuple(int(n) for n in channels)
        self.level_strides = tuple(int(n) for n in strides)
        self.out_indices = tuple(range(len(channels)) if out_indices is None else out_indices)
        self.channels = self.out_channels = tuple(self.level_channels[i] for i in self.out_indices)
        self.strides = tuple(self.level_strides[i] for i in self.out_indices)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Feature maps, fine to coarse. Differentiable.

        Args:
            images: Normalised images.
            hidden: Cells that become 0, the mean colour, in the pixels.
        """
        maps = self.levels(images, hidden)
        return [maps[i] for i in self.out_indices]

    def levels(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """All maps that the network makes, fine to coarse; a call gives those of ``out_indices``."""
        check_images(images, "B 3 H W")
        try:
            maps = self.network(hide_cells(images, hidden))
        except AssertionError as error:  # so it says that a size does not fit
            size = tuple(images.shape[-2:])
            raise ValueError(
                f"images: expected a size that timm's network takes, got {size}: {error}"
            ) from error
        return [x.permute(0, 3, 1, 2) for x in maps] if self.layout == "NHWC" else list(maps)


def timm_backbone(  # noqa: PLR0913  which maps, which weights, which images
    name: str,
    out_indices: Sequence[int] | None = None,
    weights: str | Path | None = None,
    *,
    first_stride: int | None = None,
    image_size: tuple[int, int] | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    library: Any = None,
) -> TimmBackbone:
    """A backbone by the name timm has for it.

    Args:
        name: For example ``"swin_tiny_patch4_window7_224"``.
        out_indices: Levels whose maps are returned, as timm counts them: a ResNet's stride 4 is level 1, a
            Swin's is level 0; those that timm returns by default.
        weights: File of weights, which timm fits to the network; ``"pretrained"`` for timm's own, which it
            downloads; ``None`` to begin at random.
        first_stride: Of the maps that timm returns, the last of every stride that is at least so many pixels
            per cell; all by default.
        image_size: Height and width of the images, where the network is one that is made for a size.
        options: Further arguments of ``timm.create_model``, for example ``img_size``.
        library: What stands for timm; by default timm, imported here.

    Raises:
        ImportError: timm cannot be imported; the message says how to install it.
        ValueError: There is no such file, or timm does not make such a network.
    """
    given: dict[str, Any] = {**options, "features_only": True}
    if out_indices is not None:
        given["out_indices"] = tuple(out_indices)
    if weights == "pretrained":
        given["pretrained"] = True
    elif weights is not None:
        if not Path(weights).is_file():
            raise ValueError(f'weights: expected a file, "pretrained" or None, got {str(weights)!r}')
        given |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    library = _import_timm() if library is None else library
    try:
        network = _made(library, name, image_size, given)
    except Exception as error:
        # timm lets asserts, KeyErrors and errors of its own through.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"name: expected a network timm can make with {given}, got {name!r}: {reason}"
        raise ValueError(message) from error
    if first_stride is None:
        return TimmBackbone(network, name=name)
    strides = [int(n) for n in network.feature_info.reduction()]
    levels = sorted({stride: i for i, stride in enumerate(strides) if stride >= first_stride}.values())
    if not levels:
        raise ValueError(
            f"name: expected maps of {first_stride} pixels per cell or more, got {strides} of {name!r}"
        )
    return TimmBackbone(network, levels, name=name)


def _made(library: Any, name: str, image_size: tuple[int, int] | None, given: dict[str, Any]) -> Any:
    """A network of timm, for images of a size if it wants to know."""
    if image_size is not None:
        try:
            return library.create_model(name, img_size=tuple(image_size), **given)
        except TypeError:  # it takes images of any size
            pass
    return library.create_model(name, **given)


def _import_timm() -> Any:
    """timm, or one line that says how to get it."""
    try:
        return importlib.import_module("timm")
    except Exception as error:
        # Not only ImportError: a torchvision that does not fit its torch raises RuntimeError.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImportError(
            f'timm_backbone: needs timm: pip install "renderpretrain[image]" ({reason})', name="timm"
        ) from error
