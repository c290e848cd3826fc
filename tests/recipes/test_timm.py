"""Networks of timm by a setting; a small library of that name stands in for it where there is none."""

import sys

import pytest
from variants import batch_of, build, scenes_for

LIBRARY = """
from types import SimpleNamespace
from torch import nn

class Network(nn.Module):
    output_fmt = "NCHW"

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(i, o, 2, 2) for i, o in ((3, 4), (4, 6), (6, 8), (8, 9)))
        self.feature_info = SimpleNamespace(channels=lambda: [4, 6, 8, 9], reduction=lambda: [2, 4, 8, 16])

    def forward(self, x):
        return [x := stage(x) for stage in self.stages]

def create_model(name, features_only, **options):
    if name != "small":
        raise RuntimeError(f"Unknown model ({name})")
    return Network()
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


def test_frozen_norms_of_a_network_of_timm_need_weights(timm):
    with pytest.raises(ValueError, match=r"image\.frozen_norms: freezing needs"):
        build("uniscene", image={"backbone": "timm:small", "frozen_norms": True})
    build("uniscene", image={"backbone": "timm:small", "frozen_stages": 1})  # which timm's do not have
