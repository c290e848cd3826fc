"""Networks of timm by a setting; a small library of that name stands in for it where there is none."""

import sys

import pytest
import torch
from variants import batch_of, build, scenes_for

from renderpretrain.transfer import export_encoders, load_encoder
from renderpretrain.transfer.encoder import from_recipe
from renderpretrain.transfer.pretrained import read_pretrained

LIBRARY = """
from types import SimpleNamespace
from torch import nn

class Network(nn.Module):
    output_fmt = "NCHW"

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(i, o, 2, 2) for i, o in ((3, 4), (4, 6), (6, 8), (8, 9)))
        self.feature_info = SimpleNamespace(channels=lambda: [4, 6, 8, 9], reduction=lambda: [2, 4, 8, 16])

    img_size = None

    def forward(self, x):
        assert self.img_size in (None, x.shape[-2:]), f"made for {self.img_size}"
        return [x := stage(x) for stage in self.stages]

def create_model(name, features_only, **options):
    network = Network()
    if name == "sized":
        network.img_size = options["img_size"]
    elif "img_size" in options:
        raise TypeError("unexpected keyword img_size")
    if name not in ("small", "sized"):
        raise RuntimeError(f"Unknown model ({name})")
    return network
"""


@pytest.fixture
def timm(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    yield
    sys.modules.pop("timm", None)


@pytest.mark.parametrize("variant", ["uniscene", "uniscene lss", "unipad-camera"])
def test_a_recipe_trains_a_network_of_timm(variant, timm):
    image = {"image": {"backbone": "timm:small"}}
    recipe = build(variant, **image)
    backbone = recipe.encoders()["image_backbone"]
    assert backbone.strides == (8, 16)  # first_level is 1
    sum(recipe(batch_of(scenes_for(variant, **image))).values()).backward()
    assert backbone.network.stages[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("variant", ["uniscene", "unipad-camera"])
def test_a_network_that_timm_does_not_have_is_said_in_one_line(variant, timm):
    with pytest.raises(
        ValueError, match=r"^image\.backbone: timm:other: .*Unknown model \(other\)$"
    ) as caught:
        build(variant, image={"backbone": "timm:other"})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^image\.backbone: "):
        build(variant, image={"backbone": "timm:"})


def test_its_weights_come_home_under_its_name(timm, tmp_path):
    recipe = build("unipad-camera", image={"backbone": "timm:small"})
    about = {"recipe": "unipad-camera", "config": recipe.config.model_dump(mode="json")}
    export_encoders(from_recipe(recipe, about), "safetensors", tmp_path / "small.safetensors")
    read = read_pretrained(tmp_path / "small.safetensors").encoders["image_backbone"]
    assert read.spec == {"kind": "TimmBackbone", "name": "small"}
    loaded = load_encoder(tmp_path / "small.safetensors", "image_backbone")
    assert loaded.strides == (8, 16)
    ours = recipe.encoders()["image_backbone"].state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in loaded.state_dict().items())


def test_a_network_for_one_size_is_made_for_the_images_and_refuses_others(timm):
    backbone = build("unipad-camera", image={"backbone": "timm:sized"}).camera.backbone
    assert backbone.network.img_size == (64, 96)
    with pytest.raises(ValueError, match=r"^images: expected a size .* got \(32, 64\): made for \(64, 96\)$"):
        backbone(torch.zeros(1, 3, 32, 64))


def test_frozen_norms_of_a_network_of_timm_need_weights(timm):
    with pytest.raises(ValueError, match=r"image\.frozen_norms: freezing needs"):
        build("uniscene", image={"backbone": "timm:small", "frozen_norms": True})
    build("uniscene", image={"backbone": "timm:small", "frozen_stages": 1})  # which timm's do not have
