"""torch-pointcloud's networks take our weights, and ours theirs; what theirs compute is what ours compute."""

import pytest
import torch
from networks import UNET, second_encoder, shaken, unet

from renderpretrain.encoders import SparseUNet, VoxelBackBone8x
from renderpretrain.transfer import (
    ExportOptions,
    ImportOptions,
    export_encoders,
    from_modules,
    import_encoders,
    load_encoder,
    prepare_export,
)

ENCODERS = {"residual": second_encoder, "plain": lambda: shaken(VoxelBackBone8x(4)), "unet": unet}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_an_encoder_goes_there_verified_and_comes_back(kind, ending, tmp_path):
    encoder, file = ENCODERS[kind]().eval(), tmp_path / f"theirs.{ending}"
    done = export_encoders(
        from_modules({"point_encoder": encoder}), "torch-pointcloud", file, ExportOptions(verify=True)
    )
    [part] = done.report.parts
    assert done.report.share == 1 and part.verified < 1e-5 and not part.unused
    import_encoders(file, "torch-pointcloud", tmp_path / "back.safetensors", ImportOptions())
    back = load_encoder(tmp_path / "back.safetensors")
    assert type(back) is type(encoder)
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("kind", ENCODERS)
def test_its_own_modules_have_exactly_these_keys(kind, tmp_path):
    second = pytest.importorskip(
        "torch_pointcloud.models.second", reason="torch-pointcloud is not installed", exc_type=Exception
    )
    file = tmp_path / "theirs.pth"
    done = export_encoders(from_modules({"e": ENCODERS[kind]()}), "torch-pointcloud", file)
    state = torch.load(file, weights_only=True)
    if kind == "unet":
        lines = done.snippet.replace("NUM_CLASSES", "0")
        exec(lines.replace("print(", "found = ("), loaded := {})
        assert loaded["found"] == [] and set(loaded["model"].state_dict()) == set(state)
        return
    model = second.VoxelResBackbone8x(5) if kind == "residual" else second.VoxelBackbone8x(4)
    model.load_state_dict({key.removeprefix("backbone_3d."): value for key, value in state.items()})


def test_a_network_for_several_data_sets_has_no_place_there():
    sizes = {**UNET, "prompt": (3, 16)}
    with pytest.raises(ValueError, match="has no place for a U-Net with norms for several"):
        prepare_export(from_modules({"e": SparseUNet(4, **sizes)}), "torch-pointcloud", ExportOptions())
