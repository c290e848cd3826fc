"""What a user is told to paste names a model that the weights fit, or says that there is none."""

import pytest
import yaml

from renderpretrain.encoders import FPN, ConvNeXt, ResNet, SparseEncoder, SwinTransformer, VolumeNeck
from renderpretrain.recipes import RECIPES
from renderpretrain.transfer import HOSTS, ExportOptions, from_modules, prepare_export
from renderpretrain.transfer.architecture import describe
from renderpretrain.transfer.encoder import Encoder
from renderpretrain.transfer.image_snippets import image_arguments, published_names
from renderpretrain.transfer.verify import read_as_host


def lines(module, to, name="image_backbone"):
    return prepare_export(from_modules({name: module}), to, ExportOptions(min_match=0)).snippet.splitlines()


RESNETS = [
    (18, (2, 2, 2, 2), False),
    (34, (3, 4, 6, 3), False),
    (50, (3, 4, 6, 3), True),
    (101, (3, 4, 23, 3), True),
    (152, (3, 8, 36, 3), True),
]
"""Depth, blocks, bottlenecks: table 1 of https://arxiv.org/abs/1512.03385."""


@pytest.mark.parametrize(("depth", "blocks", "bottleneck"), RESNETS)
def test_a_resnet_is_known_by_its_blocks(depth, blocks, bottleneck):
    assert (
        2 + sum(blocks) * (3 if bottleneck else 2) == depth
    )  # layers with weights: the stem and a classifier
    encoder = Encoder(describe(ResNet((1, 1, 1, 1), bottleneck=bottleneck)) | {"depths": [*blocks]}, {})
    assert published_names(encoder) == (f"resnet{depth}",) * 2
    assert image_arguments(encoder)["depth"] == depth


@pytest.mark.parametrize(("depth", "blocks", "bottleneck"), [RESNETS[0], RESNETS[2]])
def test_a_resnet_goes_by_its_own_name(depth, blocks, bottleneck):
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


def places(keys, to):
    """Where a host's configuration speaks of the modules that have these keys."""
    if to.startswith("mmdet3d"):
        return {key.split(".")[0] for key in keys}
    if to == "bevfusion":
        return {".".join(key.split(".")[:3]) for key in keys}
    return {{"openpcdet": "BACKBONE_3D", "pointcept": "backbone = dict("}.get(to, "model = ")}


def dotted(tree, start=""):
    """Nested keys as ``a.b.c``."""
    if not isinstance(tree, dict):
        return set()
    return {start + k for k in tree} | {n for k, v in tree.items() for n in dotted(v, f"{start}{k}.")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_exported_part_has_its_lines(recipe):
    settings = RECIPES[recipe].presets["tiny"]
    about = {"recipe": recipe, "config": settings.model_dump(mode="json")}
    pretrained = from_modules(RECIPES[recipe].build(settings).encoders(), about)
    exported = 0
    for to, host in HOSTS.items():
        if not any(host.part(e.kind, e.tensors) for e in pretrained.encoders.values()):
            continue
        try:
            done = prepare_export(pretrained, to, ExportOptions(min_match=0))
        except ValueError as error:
            assert to in ("openpcdet", "torch-pointcloud") and "code fixes" in str(
                error
            )  # tiny sizes do not fit
            continue
        exported += 1
        for place in places(read_as_host(done.content, host), to):
            nested = to == "bevfusion" and f"model.{place}" in dotted(yaml.safe_load(done.snippet))
            assert nested or place in done.snippet, (to, place)
            if to == "bevfusion" and not nested:
                assert f"# model.{place}: " in done.snippet
        for part in done.report.parts:
            first, *others = part.module.replace(", or ", " and ").split(" and ")
            names = [first] if "or " in part.module else [first, *others]
            assert all(name in done.snippet for name in names), (to, part.module)
    assert exported


def test_the_volume_necks_lines_build_what_is_in_the_file():
    """UniPAD's modules, by their arguments: branches of (1, 3, 3), and the way back by their stride."""
    neck = VolumeNeck(24, 12, channels=(8, 16), strides=(1, 2), num_blocks=2)
    done = prepare_export(from_modules({"point_neck": neck}), "mmdet3d-0.17", ExportOptions())
    said = {}
    exec(done.snippet, said)
    down, up = said["model"]["pts_backbone"], said["model"]["pts_neck"]
    assert (down["type"], up["type"]) == ("SECOND3D", "SECOND3DFPN")
    expected = {}
    for i, (inside, width) in enumerate(zip(down["in_channels"], down["out_channels"], strict=True)):
        for j in range(1 + down["layer_nums"][i]):
            kernel = down["conv_cfg"]["kernel"]
            expected[f"pts_backbone.blocks.{i}.{3 * j}.weight"] = (width, width if j else inside, *kernel)
        step = up["upsample_strides"][i]
        ends = (width, up["out_channels"][i])
        ends = ends[::-1] if step == 1 and up["use_conv_for_no_stride"] else ends
        expected[f"pts_neck.deblocks.{i}.0.weight"] = (*ends, 1, step, step)
    found = read_as_host(done.content, HOSTS["mmdet3d-0.17"])
    assert {k: tuple(v.shape) for k, v in found.items() if v.ndim == 5} == expected
    assert down["layer_strides"] == up["upsample_strides"] == [1, 2]
    assert up["in_channels"] == down["out_channels"] and not down["is_cascade"]


@pytest.mark.parametrize(
    ("sizes", "paddings"),
    [
        ({}, [[1, 1, [1, 1, 1]], [1, 1, [1, 1, 1]], [1, 1, [1, 1, 0]], [1, 1]]),
        (
            {"channels": ((8, 16), (16, 16)), "strides": ((1, 2, 2),), "paddings": ((0, 1, 1),)},
            [[1, [1, 1, 0]], [1, 1]],
        ),
    ],
)
def test_bevfusion_is_told_paddings_along_x_y_z(sizes, paddings):
    """Its strided layers end a stage, and it orders their axes the other way than mmdetection3d."""
    pretrained = from_modules({"point_encoder": SparseEncoder(5, **sizes)})
    tree = yaml.safe_load(prepare_export(pretrained, "bevfusion", ExportOptions(min_match=0)).snippet)
    said = tree["model"]["encoders"]["lidar"]["backbone"]
    assert said["encoder_paddings"] == paddings
    assert [len(stage) for stage in said["encoder_channels"]] == [len(stage) for stage in paddings]
    given = {}
    exec(
        prepare_export(pretrained, "mmdet3d", ExportOptions(min_match=0)).snippet.replace(
            "[Z + 1, Y, X]", "0"
        ),
        given,
    )
    theirs = given["model"]["pts_middle_encoder"]["encoder_paddings"]
    assert [[p[::-1] if isinstance(p, list) else p for p in stage] for stage in theirs] == paddings
