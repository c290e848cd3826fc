"""The adapter's own logic with a library of two networks, and what it says where timm is missing."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders import ImageEncoder, TimmBackbone, timm_backbone


class Features(nn.Module):
    """Two levels of means over patches, with the attributes of timm's feature networks."""

    def __init__(self, out_indices, layout):
        super().__init__()
        self.out_indices, self.output_fmt = out_indices, layout
        self.scale = nn.Parameter(torch.ones(3))
        strides = [4 << i for i in out_indices]
        self.feature_info = SimpleNamespace(channels=lambda: [3] * len(strides), reduction=lambda: strides)

    def forward(self, images):
        maps = [nn.functional.avg_pool2d(images, n) for n in self.feature_info.reduction()]
        maps = [x.permute(0, 2, 3, 1) * self.scale for x in maps]
        return maps if self.output_fmt == "NHWC" else [x.permute(0, 3, 1, 2) for x in maps]


class Library:
    """What :func:`timm_backbone` uses of timm; it keeps what it was asked for."""

    def create_model(self, name, **given):
        if name not in ("convolutional", "transformer", "tokens"):
            raise RuntimeError(f"Unknown model ({name})")
        self.given = given
        layout = {"convolutional": "NCHW", "transformer": "NHWC", "tokens": "NLC"}[name]
        return Features(given["out_indices"], layout)


@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_maps_are_channels_first_whatever_the_network_computes_in(name):
    library = Library()
    backbone = timm_backbone(name, [0, 2], options={"img_size": 32}, library=library)
    assert library.given == {"features_only": True, "out_indices": (0, 2), "img_size": 32}
    assert (backbone.channels, backbone.strides) == ((3, 3), (4, 16))
    images = torch.randn(2, 3, 32, 48)
    fine, coarse = backbone(images)
    assert_close(fine, nn.functional.avg_pool2d(images, 4))
    assert_close(coarse, nn.functional.avg_pool2d(images, 16))
    assert set(backbone.state_dict()) == {"network.scale"}


def test_it_is_an_image_encoder_that_does_not_see_hidden_cells():
    backbone = timm_backbone("convolutional", [0, 1], library=Library())
    assert isinstance(backbone, ImageEncoder)
    images, hidden = torch.randn(2, 3, 32, 48), torch.rand(2, 1, 8, 12) < 0.5
    changed = torch.where(hidden.repeat_interleave(4, -1).repeat_interleave(4, -2), 9.0, images)
    for seen, same in zip(backbone(images, hidden), backbone(changed, hidden), strict=True):
        assert torch.equal(seen, same)
    assert not torch.equal(backbone(images)[0], backbone(changed)[0])


def test_weights_come_from_nowhere_from_timm_or_from_a_file(tmp_path):
    library, file = Library(), tmp_path / "weights.pth"
    file.touch()
    timm_backbone("convolutional", [0], library=library)
    assert "pretrained" not in library.given
    timm_backbone("convolutional", [0], "pretrained", library=library)
    assert library.given["pretrained"] and "pretrained_cfg_overlay" not in library.given
    timm_backbone("convolutional", [0], file, library=library)
    assert library.given["pretrained"]
    assert library.given["pretrained_cfg_overlay"] == {"file": str(file)}
    with pytest.raises(ValueError, match=r'weights: expected a file, "pretrained" or None, got .*absent.pth'):
        timm_backbone("convolutional", [0], tmp_path / "absent.pth", library=library)


def test_what_it_cannot_make_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"got 'nothing': RuntimeError: Unknown model \(nothing\)") as caught:
        timm_backbone("nothing", [0], library=Library())
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="network: expected feature maps in NCHW or NHWC, got NLC"):
        TimmBackbone(Features((0,), "NLC"))


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_a_missing_timm_is_said_with_the_way_to_get_it():
    with pytest.raises(ImportError, match=r'needs timm: pip install "renderpretrain\[image\]"') as caught:
        timm_backbone("swin_tiny_patch4_window7_224", [0, 1])
    assert "\n" not in str(caught.value)


def test_a_timm_that_breaks_while_it_is_imported_is_said_too(tmp_path, monkeypatch):
    """As one does whose torchvision was built for another torch."""
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ImportError, match="RuntimeError: operator torchvision::nms does not exist"):
        timm_backbone("swin_tiny_patch4_window7_224", [0, 1])


def test_with_timm_itself():
    pytest.importorskip("timm", reason="the extra image is not installed")
    backbone = timm_backbone("resnet18", (1, 2), options={"in_chans": 3})
    assert (backbone.channels, backbone.strides) == ((64, 128), (4, 8))
    shapes = [tuple(x.shape) for x in backbone(torch.randn(1, 3, 64, 96))]
    assert shapes == [(1, 64, 16, 24), (1, 128, 8, 12)]
    swin = timm_backbone("swin_tiny_patch4_window7_224", (0, 1), options={"img_size": (64, 96)})
    assert [tuple(x.shape) for x in swin(torch.randn(1, 3, 64, 96))] == [(1, 96, 16, 24), (1, 192, 8, 12)]
