"""One reader for image networks, whichever library named their weights and wherever in a file they lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from renderpretrain.encoders.image_tables import (
    AUTHORS_SWIN,
    FEATURES_CONVNEXT,
    FEATURES_SWIN,
    MM_SWIN,
    TIMM_SWIN,
    TORCHVISION_CONVNEXT,
    TORCHVISION_SWIN,
    Tensors,
    authors_convnext,
    import_mm_swin,
    scale_as_row,
    without_index,
)
from renderpretrain.encoders.key_tables import SAME, Table, inverted, rename


def as_it_is(tensors: Tensors) -> Tensors:
    """Tensors without a change, for networks whose values need none."""
    return tensors


@dataclass(frozen=True)
class Naming:
    """How a library names one kind of image network.

    Attributes:
        library: What it is called.
        kind: Our class.
        marker: A key by which its files are recognised.
        table: Our keys and the library's.
        from_host: Values on the way in.
        absent: A key that its files do not have, where others have the same marker.
    """

    library: str
    kind: str
    marker: str
    table: Table = SAME
    from_host: Callable[[Tensors], Tensors] = as_it_is
    absent: str = ""

    def places(self, keys: Mapping[str, Tensor]) -> list[str]:
        """What stands before the keys of such networks in a file."""
        found = [key.removesuffix(self.marker) for key in keys if key.endswith(self.marker)]
        whole = [prefix for prefix in found if not prefix or prefix.endswith(".")]
        return [prefix for prefix in whole if not self.absent or prefix + self.absent not in keys]

    def read(self, tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
        """The weights below a prefix, by our keys; what has no place here is left out."""
        back = inverted(self.table)
        below = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        known = {key: value for key, value in below.items() if rename(key, back) is not None}
        return {str(rename(key, back)): value for key, value in self.from_host(known).items()}


TIMM_MARKER, SWIN_MARKER = "stages.0.blocks.0.conv_dw.weight", "layers.0.blocks.0.attn.qkv.weight"
FIRST_MERGING = "layers.0.downsample.reduction.weight"
NAMINGS = (
    Naming("torchvision, timm, mmdetection", "ResNet", "layer1.0.conv1.weight"),
    Naming("timm", "ConvNeXt", TIMM_MARKER),
    Naming("timm, features", "ConvNeXt", "stages_0.blocks.0.conv_dw.weight", FEATURES_CONVNEXT),
    Naming("its authors", "ConvNeXt", "stages.0.0.dwconv.weight", authors_convnext("dwconv", "pwconv")),
    Naming(
        "mmpretrain",
        "ConvNeXt",
        "stages.0.0.depthwise_conv.weight",
        authors_convnext("depthwise_conv", "pointwise_conv"),
    ),
    Naming("torchvision", "ConvNeXt", "features.1.0.block.0.weight", TORCHVISION_CONVNEXT, scale_as_row),
    Naming(
        "timm",
        "SwinTransformer",
        SWIN_MARKER,
        (*TIMM_SWIN, ("norm", "norm"), ("mask_token", "mask_token")),
        without_index,
        absent=FIRST_MERGING,
    ),
    Naming(
        "timm, features",
        "SwinTransformer",
        "layers_0.blocks.0.attn.qkv.weight",
        FEATURES_SWIN,
        without_index,
    ),
    Naming("its authors", "SwinTransformer", FIRST_MERGING, AUTHORS_SWIN, without_index),
    Naming(
        "mmdetection",
        "SwinTransformer",
        "stages.0.blocks.0.attn.w_msa.qkv.weight",
        MM_SWIN,
        import_mm_swin,
    ),
    Naming("torchvision", "SwinTransformer", "features.1.0.attn.qkv.weight", TORCHVISION_SWIN, without_index),
)
"""The names of every image network here; their markers exclude each other."""

USUAL = ("", "image_backbone.", "img_backbone.", "backbone.")
"""Where an image network lies in files that hold several."""


def read_image_network(kind: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The weights of an image network by our keys, whoever named them, behind whatever prefix they lie.

    Args:
        kind: Our class.
        tensors: A file's weights.

    Raises:
        ValueError: If there is none of that kind, several of equal right, or one that is damaged.
    """
    found = {(prefix, n) for n in NAMINGS for prefix in n.places(tensors)}
    mine = [(prefix, naming) for prefix, naming in found if naming.kind == kind]
    chosen = mine if len(mine) == 1 else [pair for name in USUAL for pair in mine if pair[0] == name]
    if not chosen:
        raise ValueError(_none_or_several(kind, tensors, mine, [n.kind for _, n in found]))
    prefix, naming = chosen[0]
    try:
        return naming.read(tensors, prefix)
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"expected a {kind} below {prefix!r}, got tensors of other shapes") from error


def _none_or_several(
    kind: str, tensors: Mapping[str, Tensor], mine: list[tuple[str, Naming]], others: list[str]
) -> str:
    """Why no network was chosen."""
    if mine:
        places = ", ".join(repr(prefix) for prefix in sorted(prefix for prefix, _ in mine))
        return (
            f"expected one {kind}, found some below {places}; bring one in with "
            "`renderpretrain import --from timm --prefix ...`"
        )
    if others:
        return f"expected a {kind}, got a {others[0]}"
    libraries = sorted({naming.library for naming in NAMINGS if naming.kind == kind})
    first = ", ".join(list(tensors)[:3])
    return f"expected a {kind} as named by {' or '.join(libraries)}, got keys such as {first}"
