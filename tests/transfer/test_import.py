"""Published weights in: the authors' own numbers, the way there and back, and what is refused."""

import io
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from networks import second_encoder, shaken, unet, unipad_encoder
from torch.testing import assert_close

from renderpretrain.encoders import (
    FPN,
    LSSFPN,
    ConvNeXt,
    ResNet,
    SparseEncoder,
    SparseTensor,
    SparseUNet,
    SwinTransformer,
    VolumeNeck,
    spconv_status,
)
from renderpretrain.transfer import (
    HOSTS,
    SOURCES,
    ExportOptions,
    ImportOptions,
    export_encoders,
    from_modules,
    import_encoders,
    load_encoder,
    prepare_export,
    read_pretrained,
)
from renderpretrain.transfer.verify import read_as_host


def golden_state(numbers):
    return {k.removeprefix("state:"): v for k, v in numbers.items() if k.startswith("state:")}


def in_bytes(tensors):
    return {k: (v.dtype, tuple(v.shape), v.contiguous().numpy().tobytes()) for k, v in tensors.items()}


def test_openpcdets_own_backbone_comes_in_computes_and_goes_back_byte_by_byte(golden, tmp_path):
    numbers = golden("openpcdet_voxelbackbone8x.npz")
    theirs = {f"backbone_3d.{k}": v for k, v in golden_state(numbers).items()}
    head = {"dense_head.conv_cls.weight": torch.ones(4, 4)}
    torch.save({"model_state": theirs | head, "epoch": 80, "version": "pcdet+0.5.2"}, tmp_path / "theirs.pth")
    ours = tmp_path / "new folder" / "ours.safetensors"
    done = import_encoders(tmp_path / "theirs.pth", "openpcdet", ours)
    assert done.report.share == 1.0 and not done.report.parts[0].unused
    assert done.report.notes == ("left in the file: dense_head (1 tensors)",)
    encoder = load_encoder(ours).eval()
    x = SparseTensor(numbers["features"], numbers["coords_batch_z_y_x"], (24, 48, 64), 2)
    with torch.no_grad():
        volume = encoder(x)
    expected = numbers["out_dense_b_c_z_y_x"]
    assert_close(volume, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))  # the bar
    back = export_encoders(ours, "openpcdet", tmp_path / "back.pth", ExportOptions(verify=True))
    assert in_bytes(read_as_host(back.content, HOSTS["openpcdet"])) == in_bytes(theirs)
    assert back.report.parts[0].verified < 1e-4


def test_ponderv2s_own_unet_comes_in_computes_and_goes_back_byte_by_byte(golden, tmp_path):
    numbers = golden("ponder_spunet_tiny.npz")
    theirs = {f"backbone.{k}": v for k, v in golden_state(numbers).items()}
    torch.save(
        {"state_dict": OrderedDict((f"module.{k}", v) for k, v in theirs.items()), "epoch": 1},
        tmp_path / "theirs.pth",
    )
    done = import_encoders(tmp_path / "theirs.pth", "ponderv2", tmp_path / "ours.safetensors")
    assert done.report.share == 1.0
    encoder = load_encoder(tmp_path / "ours.safetensors").eval()
    coords = numbers["coords_batch_x_y_z"][:, [0, 3, 2, 1]]
    z, y, x = (int(n) + 1 for n in coords[:, 1:].amax(0))
    with torch.no_grad():
        out = encoder(SparseTensor(numbers["features"], coords, (z, y, x), 2)).features
    assert_close(
        out, numbers["out"], rtol=0, atol=1e-4 * float(numbers["out"].abs().max())
    )  # the bar
    back = prepare_export(
        read_pretrained(tmp_path / "ours.safetensors"), "pointcept", ExportOptions(verify=True)
    )
    assert in_bytes(read_as_host(back.content, HOSTS["pointcept"])) == in_bytes(theirs)


def test_unipads_own_image_network_comes_in_and_computes(golden, tmp_path):
    """Their names are mmpretrain's; their mask is True where seen."""
    numbers = golden("unipad_masked_convnext.npz")
    params = {k.removeprefix("param:"): v for k, v in numbers.items() if k.startswith("param:")}
    torch.save({"state_dict": {f"img_backbone.{k}": v for k, v in params.items()}}, tmp_path / "theirs.pth")
    done = import_encoders(tmp_path / "theirs.pth", "unipad", tmp_path / "ours.safetensors")
    assert done.report.share == 1.0
    with torch.no_grad():
        outs = load_encoder(tmp_path / "ours.safetensors")(numbers["images"], ~numbers["visible_b_1_h_w"])
    for i, out in enumerate(outs):
        expected = numbers[f"out{i}"]
        assert_close(out, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))  # float32, 12 layers
    back = prepare_export(read_pretrained(tmp_path / "ours.safetensors"), "mmdet3d-0.17", ExportOptions())
    sent = read_as_host(back.content, HOSTS["mmdet3d-0.17"])
    assert in_bytes(sent) == in_bytes({f"img_backbone.{k}": v for k, v in params.items()})


NETWORKS = {
    "unipad": lambda: {
        "point_encoder": unipad_encoder(),
        "point_neck": VolumeNeck(8, 12, channels=(8, 8, 16), num_blocks=1),
    },
    "second": lambda: {"point_encoder": second_encoder()},
    "unet": lambda: {"point_encoder": unet()},
    "prompted": lambda: {
        "point_encoder": SparseUNet(
            4, channels=(8, 12, 12, 8), depths=(1,) * 4, stem_channels=6, prompt=(3, 16)
        )
    },
    "resnet": lambda: {
        "image_backbone": ResNet((1, 2, 1, 1), bottleneck=True, width=8),
        "image_neck": FPN((32, 64, 128, 256), 12, num_outs=5, extra_convs=True),
    },
    "convnext": lambda: {
        "image_backbone": ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), layer_scale=0.5, out_indices=(1, 2, 3))
    },
    "swin": lambda: {
        "image_backbone": SwinTransformer((2, 2, 2, 2), 32, out_indices=(1, 2, 3)),
        "image_neck": LSSFPN((64, 128, 256), 12),
    },
}


@pytest.mark.parametrize("host", [h for h in SOURCES if h not in ("unipad", "nsmae", "uniscene", "ponderv2")])
@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back_is_exact(host, name, tmp_path):
    """Everything that a host takes comes back to the bit; what it does not take is named."""
    pretrained = from_modules({k: shaken(v) for k, v in NETWORKS[name]().items()})
    try:
        done = export_encoders(pretrained, host, tmp_path / "there.pth", ExportOptions(min_match=0.9))
    except ValueError as error:
        assert "has no place for" in str(error)
        return
    back = import_encoders(tmp_path / "there.pth", host).pretrained.encoders
    for part in done.report.parts:
        sent = {k: v for k, v in pretrained.encoders[part.name].tensors.items() if k not in part.unused}
        assert in_bytes(back[part.name].tensors) == in_bytes(sent)
        assert set(back[part.name].fresh) <= set(pretrained.encoders[part.name].tensors) | {
            "norm0.weight",
            "norm0.bias",
        }
    assert set(back) == {part.name for part in done.report.parts}


@pytest.mark.parametrize(("system", "host"), [("unipad", "mmdet3d-0.17"), ("nsmae", "bevfusion")])
def test_the_published_systems_files_are_those_of_their_hosts(system, host, tmp_path):
    pretrained = from_modules({"point_encoder": second_encoder()})
    export_encoders(pretrained, host, tmp_path / "e.pth")
    back = import_encoders(tmp_path / "e.pth", system).pretrained
    assert in_bytes(back.encoders["point_encoder"].tensors) == in_bytes(
        pretrained.encoders["point_encoder"].tensors
    )


def test_openpcdets_residual_biases_go_where_they_do_the_same(tmp_path):
    """Theirs have a bias before the norm, ours have none: the mean takes it."""
    if not spconv_status()["ok"]:
        pytest.skip(f"spconv: {spconv_status()['why']}")
    pretrained = from_modules({"point_encoder": second_encoder()})
    done = prepare_export(pretrained, "openpcdet", ExportOptions())
    theirs = read_as_host(done.content, HOSTS["openpcdet"])
    shifted = {
        k: torch.randn_like(v) if k.endswith(("conv1.bias", "conv2.bias")) else v for k, v in theirs.items()
    }
    torch.save({"model_state": shifted}, tmp_path / "theirs.pth")
    ours = import_encoders(tmp_path / "theirs.pth", "openpcdet", tmp_path / "ours.safetensors").pretrained
    from host_networks import VoxelResBackBone8x, ready
    from spconv import pytorch as spconv

    network = VoxelResBackBone8x(5)
    network.load_state_dict({k.removeprefix("backbone_3d."): v for k, v in shifted.items()})
    coords = (torch.rand(2, 24, 16, 16) < 0.03).nonzero()
    x = SparseTensor(torch.randn(len(coords), 5), coords, (24, 16, 16), 2)
    with torch.no_grad():
        expected = ready(network)(
            spconv.SparseConvTensor(x.features, coords.int().contiguous(), [25, 16, 16], 2)
        )
        actual = load_encoder(tmp_path / "ours.safetensors").eval()(x)
    assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert ours.encoders["point_encoder"].spec["out_geometry"] == [[3, 1, 1], [2, 1, 1], 0]


def test_kernels_of_either_spconv_are_recognised(tmp_path):
    """By the version where there is one, else by their shapes."""
    pretrained = from_modules({"point_encoder": second_encoder()})
    for to, read in (("mmdet3d", "mmdet3d-0.17"), ("mmdet3d-0.17", "mmdet3d"), ("mmdet3d", "mmdet3d")):
        export_encoders(pretrained, to, tmp_path / "e.pth")
        back = import_encoders(tmp_path / "e.pth", read).pretrained
        assert in_bytes(back.encoders["point_encoder"].tensors) == in_bytes(
            pretrained.encoders["point_encoder"].tensors
        )


def refused(path, source, tmp_path, **options):
    """The one line of a refused import; nothing is written."""
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError) as error:
        import_encoders(path, source, out, ImportOptions(**options))
    assert not out.exists() and "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def openpcdet_file(tmp_path):
    export_encoders(from_modules({"point_encoder": second_encoder()}), "openpcdet", tmp_path / "p.pth")
    return tmp_path / "p.pth"


def test_axes_in_the_other_order_are_noticed_where_a_kernel_shows_them(tmp_path):
    export_encoders(from_modules({"point_encoder": second_encoder()}), "bevfusion", tmp_path / "b.pth")
    state = torch.load(tmp_path / "b.pth", weights_only=True)["state_dict"]
    renamed = {k.replace("encoders.lidar.backbone.", "pts_middle_encoder."): v for k, v in state.items()}
    torch.save({"state_dict": renamed}, tmp_path / "c.pth")
    said = refused(tmp_path / "c.pth", "mmdet3d-0.17", tmp_path)
    assert "conv_out.0.weight: (1, 1, 3, 128, 128) is long along x" in said and "--from bevfusion" in said


def test_another_width_is_named_with_both_shapes(openpcdet_file, tmp_path):
    said = refused(openpcdet_file, "openpcdet", tmp_path, recipe="ponder-outdoor")
    assert "holds SparseEncoder, which ponder-outdoor does not have; it has SparseUNet" in said
    said = refused(openpcdet_file, "openpcdet", tmp_path, recipe="unipad-lidar", preset="tiny")
    assert "--min-match asks for 95%; first missing: encoder_layers.encoder_layer1.1.0.weight" in said
    assert said.endswith("; compared with unipad-lidar's preset tiny; --preset chooses another: paper")
    wide = SparseEncoder(7, 128, out_geometry=((3, 1, 1), (2, 1, 1), 0))
    export_encoders(from_modules({"point_encoder": wide}), "openpcdet", tmp_path / "n.pth")
    assert refused(tmp_path / "n.pth", "openpcdet", tmp_path, recipe="unipad-lidar") == (
        f"{tmp_path / 'n.pth'}: backbone_3d.conv_input.0.weight: the file has (16, 3, 3, 3, 7) for "
        "conv_input.0.weight, point_encoder (16, 3, 3, 3, 5) in unipad-lidar's preset paper; "
        "--preset chooses another: tiny"
    )


def test_the_file_itself_is_not_written_over(tmp_path):
    path = tmp_path / "theirs.safetensors"
    path.write_text("precious")
    with pytest.raises(
        ValueError, match=r"^out: expected a file outside of what is read, got .* read itself$"
    ):
        import_encoders(path, "openpcdet", path)
    assert path.read_text() == "precious"


def test_a_recipe_takes_what_fits_it_and_begins_the_rest_anew(openpcdet_file, tmp_path):
    """UniPAD's last convolution is another layer than OpenPCDet's."""
    out = tmp_path / "u.safetensors"
    done = import_encoders(openpcdet_file, "openpcdet", out, ImportOptions(recipe="unipad-lidar"))
    (part,) = done.report.parts
    assert {k.split(".")[0] for k in part.missing} == {"conv_out"}
    assert 0.98 < done.report.share < 1.0
    encoder = load_encoder(out)
    assert encoder.conv_out[0].weight.shape == (256, 1, 1, 1, 128)
    taken = done.pretrained.encoders["point_encoder"].tensors["conv_input.0.weight"]
    assert torch.equal(encoder.conv_input[0].weight, taken)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/renderpretrain_was_here",)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path):
    torch.save({"model_state": {"w": torch.ones(2)}, "more": Malicious()}, tmp_path / "p.pth")
    said = refused(tmp_path / "p.pth", "openpcdet", tmp_path)
    assert "refused: reading it would run posix.system" in said
    assert not os.path.exists("/tmp/renderpretrain_was_here")


def test_objects_that_frameworks_leave_in_their_files_are_passed_over(tmp_path, monkeypatch):
    """mmengine keeps a history beside the weights, Pointcept a numpy number."""
    import sys
    import types

    import numpy as np

    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    history = module.HistoryBuffer()
    history.values = np.arange(3.0)
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = prepare_export(from_modules({"point_encoder": unet()}), "pointcept", ExportOptions()).content
    state = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
    torch.save({"state_dict": state, "message_hub": history, "best": np.float64(77.0)}, tmp_path / "p.pth")
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert import_encoders(tmp_path / "p.pth", "pointcept").report.share == 1.0


@pytest.mark.parametrize("text", ['{"a": 1}', "# Title\n\ntext", "recipe: unipad\nconfig: {}\n"])
def test_a_text_is_no_checkpoint_and_not_refused_as_one(text, tmp_path):
    (tmp_path / "t.pth").write_text(text)
    assert refused(tmp_path / "t.pth", "openpcdet", tmp_path) == (
        f"{tmp_path / 't.pth'}: not a whole checkpoint (torch.save did not write it)"
    )


@pytest.mark.parametrize("share", [0, 0.01, 0.03, 0.8])
def test_a_half_written_file_of_old_torch_says_that_it_ends(share, tmp_path):
    old = tmp_path / "old.pth"
    torch.save({"w": torch.ones(1000)}, old, _use_new_zipfile_serialization=False)
    old.write_bytes(old.read_bytes()[: int(share * old.stat().st_size)])
    said = refused(old, "openpcdet", tmp_path)
    assert said.startswith(f"{old}: not a whole checkpoint (")
    assert "it ends too early" in said or (share == 0.8 and "unexpected EOF" in said)


def test_a_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "p.pth").write_bytes(pickle.dumps({"more": Malicious()}))
    assert "refused: " in refused(tmp_path / "p.pth", "openpcdet", tmp_path)
    assert not os.path.exists("/tmp/renderpretrain_was_here")


@pytest.mark.parametrize(
    "name", ["half.pth", "half.safetensors", "text.pth", "empty.pth", "absent.pth", "list.pth"]
)
def test_files_that_are_no_checkpoints_are_one_line(openpcdet_file, name, tmp_path):
    path = tmp_path / name
    if name == "half.pth":
        path.write_bytes(openpcdet_file.read_bytes()[:5000])
    elif name == "half.safetensors":
        whole = tmp_path / "whole.safetensors"
        export_encoders(from_modules({"e": second_encoder()}), "safetensors", whole)
        path.write_bytes(whole.read_bytes()[:5000])
    elif name == "text.pth":
        path.write_text("not a checkpoint")
    elif name == "empty.pth":
        path.write_bytes(b"")
    elif name == "list.pth":
        torch.save([1, 2], path)
    assert refused(path, "openpcdet", tmp_path).startswith(f"{path}: ")


def test_an_encoder_that_lacks_its_first_layer_is_named(openpcdet_file, tmp_path):
    state = torch.load(openpcdet_file, weights_only=True)["model_state"]
    kept = {k: v for k, v in state.items() if "conv_input.0" not in k}
    torch.save({"model_state": kept}, tmp_path / "q.pth")
    said = refused(tmp_path / "q.pth", "openpcdet", tmp_path)
    assert "no SparseEncoder of ours (expected a tensor conv_input.0.weight, found none)" in said
    torch.save(
        {"model_state": state | {"backbone_3d.conv_input.0.weight": torch.ones(16)}}, tmp_path / "q.pth"
    )
    said = refused(tmp_path / "q.pth", "openpcdet", tmp_path)
    assert "(expected more than 4 dimensions of conv_input.0.weight, got (16,))" in said


def test_a_file_of_something_else_says_what_is_in_it(openpcdet_file, tmp_path):
    assert "expected an encoder of Pointcept" in refused(openpcdet_file, "pointcept", tmp_path)
    assert "from: expected one of openpcdet" in refused(openpcdet_file, "detectron", tmp_path)
    state = torch.load(openpcdet_file, weights_only=True)["model_state"]
    torch.save({"model_state": {f"model.{k}": v for k, v in state.items()}}, tmp_path / "q.pth")
    said = refused(tmp_path / "q.pth", "openpcdet", tmp_path)
    assert "lies under --prefix 'model.backbone_3d.'" in said
    found = import_encoders(tmp_path / "q.pth", "openpcdet", None, ImportOptions(prefix="model.backbone_3d"))
    assert found.report.share == 1.0
    with pytest.raises(ValueError, match=r"out: expected a \.safetensors file"):
        import_encoders(openpcdet_file, "openpcdet", tmp_path / "o.pth")
