"""What a user is told to paste names a model that the weights fit, or says that there is none."""

import pytest

from renderpretrain.encoders import FPN, ConvNeXt, ResNet, SwinTransformer
from renderpretrain.transfer import ExportOptions, of_modules, prepare_export


def lines(module, to, name="image_backbone"):
    return prepare_export(of_modules({name: module}), to, ExportOptions(min_match=0)).snippet.splitlines()


RESNETS = [
    (18, (2, 2, 2, 2), False),
    (34, (3, 4, 6, 3), False),
    (50, (3, 4, 6, 3), True),
    (101, (3, 4, 23, 3), True),
    (152, (3, 8, 36, 3), True),
]
"""Depth, blocks, bottlenecks: table 1 of https://arxiv.org/abs/1512.03385."""


@pytest.mark.parametrize(("depth", "blocks", "bottleneck"), RESNETS)
def test_a_resnet_goes_by_its_own_name(depth, blocks, bottleneck):
    assert (
        2 + sum(blocks) * (3 if bottleneck else 2) == depth
    )  # layers with weights: the stem and a classifier
    module = ResNet(blocks, bottleneck=bottleneck)
    made = {
        "timm": f"model = timm.create_model('resnet{depth}', pretrained=False)",
        "torchvision": f"model = torchvision.models.resnet{depth}()",
        "mmdet3d": f"    img_backbone=dict(type='ResNet', depth={depth}, base_channels=64, style='pytorch', ",
    }
    for to, start in made.items():
        assert any(line.startswith(start) for line in lines(module, to)), to


@pytest.mark.parametrize(
    "module",
    [
        ResNet((1, 1, 1, 1)),
        ResNet((2, 2, 2, 2), width=24),
        ResNet((2, 2, 2), out_indices=(1, 2)),
        ConvNeXt((1, 1, 2, 1), widths=(32, 64, 96, 128)),
        ConvNeXt((3, 3, 9, 3), widths=(8, 16, 32, 64)),
        SwinTransformer((2, 2), out_indices=(1,)),
        SwinTransformer((2, 2, 6, 2), width=32),
        SwinTransformer((2, 2, 6, 2), window=4),
    ],
    ids=lambda module: f"{type(module).__name__}",
)
@pytest.mark.parametrize("to", ["timm", "torchvision"])
def test_sizes_that_no_model_has_are_said_to_fit_none(module, to):
    said = lines(module, to)
    assert any(line.startswith(f"# no model of {to} has these sizes; build one: type=") for line in said)
    assert "model = ..." in said and not any(
        "create_model" in line or "torchvision.models" in line for line in said
    )


@pytest.mark.parametrize(
    ("module", "timm", "torchvision"),
    [
        (ConvNeXt(), "convnext_tiny", "convnext_tiny"),
        (SwinTransformer(), "swin_tiny_patch4_window7_224", "swin_t"),
    ],
)
def test_other_published_sizes_have_their_names(module, timm, torchvision):
    assert any(f"create_model('{timm}', " in line for line in lines(module, "timm"))
    assert any(f"torchvision.models.{torchvision}()" in line for line in lines(module, "torchvision"))


def test_mmdetection_is_told_stages_and_levels():
    (said,) = [x for x in lines(ResNet((2, 2, 2), out_indices=(1, 2)), "mmdet3d") if "ResNet" in x]
    assert "depth=18" in said and "num_stages=3, out_indices=(1, 2))" in said
    said = lines(ResNet((1, 1, 1, 1)), "mmdet3d")
    assert "    # none of its ResNets (18, 34, 50, 101, 152) has stages of [1, 1, 1, 1] basic blocks" in said
    assert any(line.startswith("    # img_backbone=dict(type='ResNet', depth=None") for line in said)
    said = lines(ResNet((1, 1, 1, 1)), "bevfusion")
    assert all(line.startswith("# ") for line in said if "depth=None" in line)
    neck = FPN((8, 16, 32), 16, start_level=1, num_outs=4, extra_convs=True)
    (said,) = [x for x in lines(neck, "mmdet3d", "image_neck") if "FPN" in x]
    assert "start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True)" in said
