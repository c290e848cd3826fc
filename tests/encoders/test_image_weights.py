"""``image.weights`` takes what people have: every library's names, any prefix, objects beside them."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from renderpretrain.encoders import ConvNeXt, ResNet, SwinTransformer
from renderpretrain.encoders.image_names import NAMINGS
from renderpretrain.encoders.image_tables import export_mm_swin, export_torchvision_swin, scale_as_map
from renderpretrain.encoders.image_weights import load_backbone
from renderpretrain.encoders.key_tables import rename
from renderpretrain.transfer import ImportOptions, import_encoders, load_encoder

NETWORKS = {
    "ResNet": lambda: ResNet((1, 1, 1, 1), width=4),
    "ConvNeXt": lambda: ConvNeXt((1, 1, 1, 1), (4, 8, 12, 16), out_indices=(1, 2)),
    "SwinTransformer": lambda: SwinTransformer((2, 1, 1, 1), 16, window=3, out_indices=(1, 3)),
}
VALUES = {
    ("torchvision", "ConvNeXt"): scale_as_map,
    ("torchvision", "SwinTransformer"): export_torchvision_swin,
    ("mmdetection", "SwinTransformer"): export_mm_swin,
}


def named(naming, network):
    """The weights as a library's file has them, with a classifier."""
    theirs = {rename(key, naming.table): value for key, value in network.state_dict().items()}
    theirs.pop(None, None)
    theirs = VALUES.get((naming.library, naming.kind), dict)(theirs)
    if naming.library == "its authors" and naming.kind == "SwinTransformer":
        theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 9, 9)
    return OrderedDict(theirs) | {"head.weight": torch.ones(10, 16)}


def same(network, other):
    """Whether two networks have the same weights, output norms apart, which not all libraries keep."""
    ours = {k: v for k, v in network.state_dict().items() if not k.startswith("norm")}
    return all(torch.equal(v, other.state_dict()[k]) for k, v in ours.items())


PREFIXES = ["", "module.", "model.", "module.img_backbone.", "encoder_q.net."]
NAMES_AND_PREFIXES = [
    # All prefixes with the first naming of each network, which say the same of the others: two with those.
    pytest.param(naming, prefix, id=f"{naming.kind}-{naming.library}-{prefix}")
    for k, naming in enumerate(NAMINGS)
    for prefix in (PREFIXES if naming.kind not in {n.kind for n in NAMINGS[:k]} else ("", PREFIXES[3]))
]


@pytest.mark.parametrize(("naming", "prefix"), NAMES_AND_PREFIXES)
def test_every_librarys_names_behind_any_prefix(naming, prefix, tmp_path):
    network, fresh = NETWORKS[naming.kind](), NETWORKS[naming.kind]()
    content = {prefix + k: v for k, v in named(naming, network).items()}
    torch.save({"state_dict": content, "epoch": np.int64(3)}, tmp_path / "w.pth")
    load_backbone(fresh, tmp_path / "w.pth")
    assert same(network, fresh)
    for library in ("timm", "torchvision"):
        done = import_encoders(tmp_path / "w.pth", library, tmp_path / "ours.safetensors")
        assert same(network, load_encoder(tmp_path / "ours.safetensors")) and len(done.report.parts) == 1
    again = NETWORKS[naming.kind]()
    load_backbone(again, tmp_path / "ours.safetensors")
    assert same(network, again)


def test_files_of_torch_that_did_not_count_batches(tmp_path):
    """torchvision's first ResNets are such."""
    network, fresh = NETWORKS["ResNet"](), NETWORKS["ResNet"]()
    kept = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(kept, tmp_path / "w.pth")
    load_backbone(fresh, tmp_path / "w.pth")
    assert same(network, fresh)
    import_encoders(tmp_path / "w.pth", "torchvision", tmp_path / "ours.safetensors")
    assert same(network, load_encoder(tmp_path / "ours.safetensors"))


def refused(network, content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_backbone(network, tmp_path / "w.pth")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    said, start = str(error.value), f"image.weights: {tmp_path / 'w.pth'}: "
    assert said.startswith(start) and "\n" not in said
    return said.removeprefix(start)


def test_what_does_not_fit_is_one_line(tmp_path):
    resnet, other = NETWORKS["ResNet"](), NETWORKS["ConvNeXt"]()
    state = resnet.state_dict()
    assert refused(resnet, other.state_dict(), tmp_path) == "expected a ResNet, got a ConvNeXt"
    assert refused(resnet, [1, 2], tmp_path).startswith("expected a dictionary of tensors, got list")
    assert refused(resnet, {3: torch.ones(1)}, tmp_path).endswith("got keys such as 3")
    assert refused(resnet, {f"{n}.{k}": v for n in "ab" for k, v in state.items()}, tmp_path).startswith(
        "expected one ResNet, found some below 'a.', 'b.'; bring one in with"
    )
    assert refused(resnet, ResNet((1, 1, 1, 1), width=8).state_dict(), tmp_path).endswith(
        "conv1.weight: expected (4, 3, 7, 7), got (8, 3, 7, 7) of torch.float32"
    )
    quantised = state | {"conv1.weight": state["conv1.weight"].to(torch.int8)}
    assert refused(resnet, quantised, tmp_path).endswith("got (4, 3, 7, 7) of torch.int8")
    odd = named(next(n for n in NAMINGS if n.library == "mmdetection"), NETWORKS["SwinTransformer"]())
    odd["stages.0.downsample.reduction.weight"] = torch.ones(7, 7)
    assert "expected a SwinTransformer below ''" in refused(NETWORKS["SwinTransformer"](), odd, tmp_path)


def test_weights_that_are_no_numbers_come_in_where_they_are_asked_for(tmp_path):
    network = NETWORKS["ResNet"]()
    with torch.no_grad():
        network.layer1[0].conv1.weight[0, 0, 0, 0] = torch.nan
    said = refused(NETWORKS["ResNet"](), network.state_dict(), tmp_path)
    assert said.startswith("layer1.0.conv1.weight: 1 of 144 numbers are NaN or infinite; bring it in")
    out = tmp_path / "ours.safetensors"
    with pytest.raises(ValueError, match=r"image_backbone: layer1.0.conv1.weight: 1 of 144 .*--allow-nan"):
        import_encoders(tmp_path / "w.pth", "timm", out)
    assert not out.exists()
    import_encoders(tmp_path / "w.pth", "timm", out, ImportOptions(allow_nan=True))
    fresh = NETWORKS["ResNet"]()
    load_backbone(fresh, out)
    assert fresh.layer1[0].conv1.weight.isnan().sum() == 1
