"""ONNX files: onnxruntime computes what PyTorch computes, at other sizes too; what cannot be is said."""

import io
import sys

import pytest
import torch
from networks import second_encoder, shaken
from rich.console import Console
from torch import nn

from renderpretrain.encoders import FPN, LSSFPN, ConvNeXt, ResNet, SwinTransformer, VolumeNeck
from renderpretrain.transfer import (
    ExportOptions,
    Pretrained,
    export_encoders,
    from_modules,
    prepare_export,
    print_report,
)

runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed", exc_type=Exception)

ABOUT = {"config": {"image_size": [64, 96]}}


def small_resnet():
    return shaken(ResNet((1, 1, 1, 1), bottleneck=True, width=8, out_indices=(1, 3)))


NETWORKS = {
    "resnet": {"image_backbone": small_resnet},
    "convnext and pyramid": {
        "image_backbone": lambda: ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32)),
        "image_neck": lambda: FPN((8, 16, 24, 32), 12, num_outs=5),
    },
    "resnet and pyramid": {
        "image_backbone": lambda: shaken(ResNet((1, 1, 1, 1), width=8)),
        "image_neck": lambda: shaken(LSSFPN((8, 16, 32, 64), 12)),
    },
    "swin": {"image_backbone": lambda: SwinTransformer((2, 1), 32, window=5, out_indices=(0, 1))},
    "neck of maps": {"image_neck": lambda: shaken(LSSFPN((8, 16, 32), 12))},
    "neck of volumes": {
        "point_neck": lambda: shaken(VolumeNeck(8, 8, channels=(4, 8), strides=(1, 2), num_blocks=1))
    },
}


@pytest.mark.parametrize("network", NETWORKS)
def test_onnxruntime_computes_what_the_network_computes(network, tmp_path):
    modules = {name: make().eval() for name, make in NETWORKS[network].items()}
    done = export_encoders(from_modules(modules, ABOUT), "onnx", tmp_path / "net.onnx")
    [part] = done.report.parts
    assert part.name == "+".join(modules) and 0 <= part.verified < 1e-5 and done.report.share == 1
    # The lines to paste run as they are, and of three images there are three answers.
    lines = {}
    exec(done.snippet, lines)
    given = {each.name: each for each in lines["session"].get_inputs()}
    shapes = {n: [3, *(s if isinstance(s, int) else 64 for s in each.shape[1:])] for n, each in given.items()}
    if network == "neck of maps":
        shapes = {name: [*shape[:2], 64 >> i, 64 >> i] for i, (name, shape) in enumerate(shapes.items())}
    tensors = [torch.rand(shape) for shape in shapes.values()]
    fed = {name: tensor.numpy() for name, tensor in zip(given, tensors, strict=True)}
    first, *rest = modules.values()
    with torch.no_grad():
        ours = nn.Sequential(first, *rest)(tensors if len(tensors) > 1 else tensors[0])
    ours = [ours] if torch.is_tensor(ours) else ours
    theirs = lines["session"].run(None, fed)
    for a, b in zip(ours, theirs, strict=True):
        assert tuple(a.shape) == b.shape and float((a - torch.from_numpy(b)).abs().max()) < 1e-4
    # No two outputs share an axis but the batch: maps of a pyramid differ in size.
    sizes = [size for each in lines["session"].get_outputs() for size in each.shape[2:]]
    axes = [size for size in sizes if isinstance(size, str)]
    assert len(set(axes)) == len(axes) > 0


def test_how_far_apart_they_are_is_said():
    report = prepare_export(from_modules({"image_backbone": small_resnet()}, ABOUT), "onnx", ExportOptions())
    console = Console(file=io.StringIO(), width=200)
    print_report(report.report, console)
    assert "against PyTorch on (1, 3, 64, 96) and (2, 3, 64, 192): largest difference" in (
        console.file.getvalue()
    )


def test_an_encoder_that_computes_something_else_is_refused(monkeypatch):
    """Its file is compared, not trusted: here onnxruntime is told another bias."""
    real = runtime.InferenceSession

    class Session(real):
        def run(self, names, fed):
            first, *others = super().run(names, fed)
            return [first * 1.01, *others]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    with pytest.raises(ValueError, match=r"image_backbone: onnxruntime's outputs differ .* by 1.0e-02 of"):
        prepare_export(from_modules({"image_backbone": small_resnet()}, ABOUT), "onnx", ExportOptions())


def both():
    neck = VolumeNeck(8, 12, channels=(8, 16), strides=(1, 2), num_blocks=1)
    return from_modules({"point_encoder": second_encoder(), "point_neck": neck, "image_neck": FPN((8,), 8)})


MISTAKES = {
    "sparse": (
        lambda: from_modules({"point_encoder": second_encoder()}),
        {},
        r"^to: onnx takes image .* not point_encoder \(SparseEncoder: its sparse convolutions are no",
    ),
    "own": (lambda: from_modules({"mine": nn.Linear(2, 2)}), {}, r"not mine \(torch.*Linear: no network of"),
    "several": (both, {}, r"^part: expected image_neck or point_neck, for an ONNX file holds one network; "),
    "prefix": (both, {"prefix": "a"}, "^prefix: drop --prefix: an ONNX file is the network itself"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_written_is_one_line(mistake, tmp_path):
    make, options, said = MISTAKES[mistake]
    with pytest.raises(ValueError, match=said):
        export_encoders(make(), "onnx", tmp_path / "net.onnx", ExportOptions(**options))
    assert list(tmp_path.iterdir()) == []


def test_of_several_networks_one_is_chosen_and_what_is_left_out_is_said():
    assert isinstance(both(), Pretrained)
    report = prepare_export(both(), "onnx", ExportOptions(part="point_encoder+point_neck")).report
    assert [part.name for part in report.parts] == ["point_neck"] and set(report.unplaced) == {
        "point_encoder"
    }


def test_without_onnxruntime_it_is_said_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r'^to: onnx needs pip install "renderpretrain\[onnx\]"'):
        prepare_export(both(), "onnx", ExportOptions())
    with pytest.raises(ValueError, match=r"^out: expected an .onnx file"):
        export_encoders(both(), "onnx", tmp_path / "net.pth")
