"""timm: keys, names of its models, and its networks said again."""

from functools import partial

from renderpretrain.encoders.image_tables import TIMM_CONVNEXT, TIMM_SWIN, without_index
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
    stem="stem.",
    between="stages.{i}.downsample.",
    block="stages.{i}.blocks.{j}.",
    depthwise="conv_dw",
    norm="norm",
    perceptron=("mlp.fc1", "mlp.fc2"),
)
SWIN = SwinNames(
    projection="patch_embed.proj",
    norm="patch_embed.norm",
    between="layers.{i}.downsample.",
    block="layers.{i}.blocks.{j}.",
    attention="attn.",
    perceptron=("mlp.fc1", "mlp.fc2"),
)


def snippet(pretrained: Pretrained, _: Tensors) -> list[str]:
    """Lines of Python that load the file into a network of timm."""
    encoder = next(e for e in pretrained.encoders.values() if e.role.reads == "images")
    name = published_names(encoder)[0]
    made = f"timm.create_model('{name}', pretrained=False)" if name else ""
    return ["import timm, torch", *library_lines(encoder, "timm", made)]


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
        marker="stages.0.blocks.0.conv_dw.weight",
        table=TIMM_CONVNEXT,
        check=partial(check_convnext, names=CONVNEXT),
    ),
    Part(
        "SwinTransformer",
        "",
        "SwinTransformer",
        marker="layers.0.blocks.0.attn.qkv.weight",
        table=TIMM_SWIN,
        from_host=without_index,
        check=partial(check_swin, names=SWIN),
    ),
)
TIMM = Host("timm", "timm", None, Layout(), PARTS, snippet)
