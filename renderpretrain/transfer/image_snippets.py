"""What an image network is called in other libraries, by its sizes."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from renderpretrain.transfer.encoder import Encoder

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""What our image networks are fed with, in the hosts' units of 0 to 255, RGB."""

NORMALIZATION = f"images are RGB, mean {MEAN}, std {STD} of values in 0 to 255; divide both by 255 for 0 to 1"
"""The same for whom feeds them."""

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

Sizes = Mapping[str, Any]


@dataclass(frozen=True)
class Words:
    """How others speak of one of our image networks.

    Attributes:
        arguments: Mmdetection's, given the sizes.
        published: What timm and torchvision call a model of these sizes; empty where there is none.
        unknown: Why mmdetection cannot build it; empty if it can.
    """

    arguments: Callable[[Sizes], dict[str, Any]]
    published: Callable[[Sizes], tuple[str, str]]
    unknown: Callable[[Sizes], str] = lambda _: ""


def image_arguments(encoder: Encoder) -> dict[str, Any]:
    """An image network's arguments in mmdetection's words."""
    return WORDS[encoder.kind].arguments(encoder.spec)


def image_summary(encoder: Encoder) -> str:
    """:func:`image_arguments` as Python has them between brackets."""
    return ", ".join(f"{name}={value!r}" for name, value in image_arguments(encoder).items())


def no_depth(encoder: Encoder) -> str:
    """A comment where mmdetection cannot build a network."""
    return WORDS[encoder.kind].unknown(encoder.spec)


def published_names(encoder: Encoder) -> tuple[str, str]:
    """What timm and torchvision call a model of an image network's sizes; empty where there is none."""
    return WORDS[encoder.kind].published(encoder.spec)


def _resnet(spec: Sizes) -> dict[str, Any]:
    style = "caffe" if spec["stride_first"] else "pytorch"
    found = {"type": "ResNet", "depth": _depth(spec), "base_channels": spec["width"], "style": style}
    stages = {"num_stages": len(spec["depths"])} if len(spec["depths"]) != 4 else {}
    return {**found, **stages, "out_indices": tuple(spec["out_indices"])}


def _published_resnet(spec: Sizes) -> tuple[str, str]:
    blocks = (tuple(spec["depths"]), spec["bottleneck"])
    depth = RESNETS.get(blocks) if spec["width"] == 64 else None
    return (f"resnet{depth}",) * 2 if depth else ("", "")


def _no_resnet(spec: Sizes) -> str:
    if _depth(spec):
        return ""
    kind = "bottlenecks" if spec["bottleneck"] else "basic blocks"
    sizes = ", ".join(map(str, RESNETS.values()))
    return f"# none of its ResNets ({sizes}) has stages of {spec['depths']} {kind}"


def _depth(spec: Sizes) -> int | None:
    """The depth of a published ResNet that begins with the same stages."""
    blocks = tuple(spec["depths"])
    begins = (
        n for (b, kind), n in RESNETS.items() if (b[: len(blocks)], kind) == (blocks, spec["bottleneck"])
    )
    return next(begins, None)


def _convnext(spec: Sizes) -> dict[str, Any]:
    arch = {"depths": spec["depths"], "channels": spec["widths"]}
    return {"type": "mmpretrain.ConvNeXt", "arch": arch, "gap_before_final_norm": False}


def _published_convnext(spec: Sizes) -> tuple[str, str]:
    doubled = all(b == 2 * a for a, b in itertools.pairwise(spec["widths"]))
    size = CONVNEXTS.get((tuple(spec["depths"]), spec["widths"][0])) if doubled else None
    return (f"convnext_{size}",) * 2 if size else ("", "")


def _swin(spec: Sizes) -> dict[str, Any]:
    return {
        "type": "SwinTransformer",
        "embed_dims": spec["width"],
        "depths": spec["depths"],
        "num_heads": [max(1, spec["width"] * 2**i // 32) for i in range(len(spec["depths"]))],
        "window_size": spec["window"],
        "out_indices": spec["out_indices"],
    }


def _published_swin(spec: Sizes) -> tuple[str, str]:
    size = SWINS.get((tuple(spec["depths"]), spec["width"])) if spec["window"] == 7 else None
    return (f"swin_{size}_patch4_window7_224", f"swin_{size[0]}") if size else ("", "")


def library_lines(encoder: Encoder, library: str, made: str) -> list[str]:
    """Lines that load a file into a library's model; ``made`` says how that is built, if it can be."""
    model = [f"model = {made}  # {image_summary(encoder)}"]
    if not made:
        model = [
            f"# no model of {library} has these sizes; build one: {image_summary(encoder)}",
            "model = ...",
        ]
    return [*model, "print(model.load_state_dict(torch.load('FILE', weights_only=True), strict=False))"]


WORDS = {
    "ResNet": Words(_resnet, _published_resnet, _no_resnet),
    "ConvNeXt": Words(_convnext, _published_convnext),
    "SwinTransformer": Words(_swin, _published_swin),
}
"""What is said of an image network, by its kind."""
