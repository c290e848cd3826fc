"""torchvision: keys, names of its models, and its networks said again."""

from functools import partial

from renderpretrain.encoders.image_tables import (
    TORCHVISION_CONVNEXT,
    TORCHVISION_SWIN,
    export_torchvision_swin,
    scale_as_map,
    scale_as_row,
    without_index,
)
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.image_snippets import library_lines, published_names
from renderpretrain.transfer.layouts import Layout, Tensors
from renderpretrain.transfer.part import IMAGE_NORM, Host, Part
from renderpretrain.transfer.restating.image_networks import (
    ConvNeXtNames,
    SwinNames,
    check_convnext,
    check_resnet,
    check_swin,
)

CONVNEXT = ConvNeXtNames(
    stem="features.0.",
    between="features.{s}.",
    block="features.{t}.{j}.",
    depthwise="block.0",
    norm="block.2",
    perceptron=("block.3", "block.5"),
)
SWIN = SwinNames(
    projection="features.0.0",
    norm="features.0.2",
    between="features.{s}.",
    block="features.{t}.{j}.",
    attention="attn.",
    perceptron=("mlp.0", "mlp.3"),
)


def snippet(pretrained: Pretrained, _: Tensors) -> list[str]:
    """Lines of Python that load the file into a network of torchvision."""
    encoder = next(e for e in pretrained.encoders.values() if e.role.reads == "images")
    name = published_names(encoder)[1]
    made = f"torchvision.models.{name}()" if name else ""
    return ["import torch, torchvision", *library_lines(encoder, "torchvision", made)]


PARTS = (
    Part(
        "ResNet",
        "",
        "ResNet",
        marker="layer1.0.conv1.weight",
        norm=IMAGE_NORM,
        check=partial(check_resnet, caffe=False),
    ),
    Part(
        "ConvNeXt",
        "",
        "ConvNeXt",
        marker="features.1.0.block.0.weight",
        table=TORCHVISION_CONVNEXT,
        to_host=scale_as_map,
        from_host=scale_as_row,
        check=partial(check_convnext, names=CONVNEXT),
    ),
    Part(
        "SwinTransformer",
        "",
        "SwinTransformer",
        marker="features.1.0.attn.qkv.weight",
        table=TORCHVISION_SWIN,
        to_host=export_torchvision_swin,
        from_host=without_index,
        check=partial(check_swin, names=SWIN),
    ),
)
TORCHVISION = Host("torchvision", "torchvision", None, Layout(), PARTS, snippet)
