"""What an image network is called in other libraries, by its sizes."""

import itertools
from collections.abc import Mapping
from typing import Any

from renderpretrain.transfer.encoder import Encoder

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""What our image networks are fed with, in the hosts' units of 0 to 255, RGB."""

IMAGE_KINDS = ("ResNet", "ConvNeXt", "SwinTransformer")
RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
"""Depth by blocks per stage, and whether they are bottlenecks."""

CONVNEXTS = {
    ((3, 3, 9, 3), 96): "tiny",
    ((3, 3, 27, 3), 96): "small",
    ((3, 3, 27, 3), 128): "base",
    ((3, 3, 27, 3), 192): "large",
}
SWINS = {((2, 2, 6, 2), 96): "tiny", ((2, 2, 18, 2), 96): "small", ((2, 2, 18, 2), 128): "base"}
"""Published size by blocks per stage and the first stage's width."""


def image_arguments(encoder: Encoder) -> dict[str, Any]:
    """An image network's arguments in mmdetection's words."""
    spec = encoder.spec
    if encoder.kind == "ResNet":
        style = "caffe" if spec["stride_first"] else "pytorch"
        found = {"type": "ResNet", "depth": _depth(spec), "base_channels": spec["width"], "style": style}
        stages = {"num_stages": len(spec["depths"])} if len(spec["depths"]) != 4 else {}
        return {**found, **stages, "out_indices": tuple(spec["out_indices"])}
    if encoder.kind == "ConvNeXt":
        arch = {"depths": spec["depths"], "channels": spec["widths"]}
        return {"type": "mmpretrain.ConvNeXt", "arch": arch, "gap_before_final_norm": False}
    return {
        "type": "SwinTransformer",
        "embed_dims": spec["width"],
        "depths": spec["depths"],
        "num_heads": [max(1, spec["width"] * 2**i // 32) for i in range(len(spec["depths"]))],
        "window_size": spec["window"],
        "out_indices": spec["out_indices"],
    }


def image_words(encoder: Encoder) -> str:
    """:func:`image_arguments` as Python has them between brackets."""
    return ", ".join(f"{name}={value!r}" for name, value in image_arguments(encoder).items())


def _depth(spec: Mapping[str, Any]) -> int | None:
    """The depth of a published ResNet that begins with the same stages."""
    blocks = tuple(spec["depths"])
    begins = (
        n for (b, kind), n in RESNETS.items() if (b[: len(blocks)], kind) == (blocks, spec["bottleneck"])
    )
    return next(begins, None)


def no_depth(encoder: Encoder) -> str:
    """A comment where mmdetection cannot build a ResNet."""
    spec = encoder.spec
    if encoder.kind != "ResNet" or _depth(spec):
        return ""
    kind = "bottlenecks" if spec["bottleneck"] else "basic blocks"
    sizes = ", ".join(map(str, RESNETS.values()))
    return f"# none of its ResNets ({sizes}) has stages of {spec['depths']} {kind}"


def published_names(encoder: Encoder) -> tuple[str, str]:
    """What timm and torchvision call a model of an image network's sizes; empty where there is none."""
    spec, depths = encoder.spec, tuple(encoder.spec["depths"])
    if encoder.kind == "ResNet":
        depth = RESNETS.get((depths, spec["bottleneck"])) if spec["width"] == 64 else None
        return (f"resnet{depth}",) * 2 if depth else ("", "")
    if encoder.kind == "ConvNeXt":
        doubled = all(b == 2 * a for a, b in itertools.pairwise(spec["widths"]))
        size = CONVNEXTS.get((depths, spec["widths"][0])) if doubled else None
        return (f"convnext_{size}",) * 2 if size else ("", "")
    size = SWINS.get((depths, spec["width"])) if spec["window"] == 7 else None
    return (f"swin_{size}_patch4_window7_224", f"swin_{size[0]}") if size else ("", "")
