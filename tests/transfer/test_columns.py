"""Hosts read 3, 4, 5 or 6 columns of a point: encoders go there and come from there exactly or not at all."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from networks import UNET, second_encoder, shaken
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.encoders import SparseEncoder, SparseTensor, SparseUNet
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve
from renderpretrain.transfer import (
    ExportOptions,
    ImportOptions,
    export_encoders,
    from_modules,
    from_recipe,
    import_encoders,
    initialize_encoders,
    load_encoder,
    prepare_export,
    read_pretrained,
)
from renderpretrain.transfer.columns import drop_columns
from renderpretrain.transfer.restating.cells import random_voxels

NUSCENES = ("x", "y", "z", "intensity", "lag")
USED = "POINT_FEATURE_ENCODING: {used_feature_list"
KERNEL = "conv_input.0.weight"


def second(columns):
    """The encoder of OpenPCDet's size that reads so many columns."""
    return shaken(SparseEncoder(columns, 128, out_geometry=((3, 1, 1), (2, 1, 1), 0)))


def host_file(path, columns):
    """What OpenPCDet saves of such a one."""
    export_encoders(from_modules({"point_encoder": second(columns)}), "openpcdet", path)
    return path


def trained(sweeps=1, **changes):
    """A small recipe after a look at one street, its encoder as wide as OpenPCDet's."""
    encoder = {
        "channels": [[16, 16, 32], [32, 32, 64], [64, 64, 128], [128, 128]],
        "out_channels": 128,
        "voxel_size": [0.4, 0.4, 0.2],
    }
    small = {
        "modality": "lidar",
        "point_cloud_range": [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8],
        "voxel_size": [3.2, 3.2, 0.4],
        "encoder": encoder,
    }
    recipe = RECIPES["ns-mae"].build(resolve(RECIPES["ns-mae"].presets["tiny"], [small, changes]))
    streets = SyntheticStreet(1, num_beams=8, points_per_beam=100, sweeps=sweeps, with_truth=False)
    recipe.lidar(collate([streets.without_images(0)]))
    return recipe


@pytest.fixture
def voxels():
    """Voxels with as many columns as asked for, the fifth 0."""
    five = random_voxels(5, (24, 40, 32), torch.Generator().manual_seed(1))
    features = five.features.clone()
    features[:, 4] = 0
    return lambda count: SparseTensor(features[:, :count], five.coords, five.spatial_shape, 1)


def test_an_encoder_of_four_columns_fills_openpcdets_first_convolution():
    points = NUSCENES[:4]
    recipe = trained(points=list(points))
    done = prepare_export(from_recipe(recipe), "openpcdet", ExportOptions(verify=True))
    (part,) = done.report.parts
    assert done.report.share == 1.0 and part.verified < 1e-4
    assert part.matched[f"backbone_3d.{KERNEL}"] == (16, 3, 3, 3, 4)


def test_a_host_of_four_columns_takes_home_an_encoder_whose_fifth_was_always_0(tmp_path, voxels):
    """Refused with a way out; then the file computes what the encoder did where the lag is 0."""
    theirs = host_file(tmp_path / "four.pth", 4)
    pretrained = from_recipe(trained())
    options = {"host_checkpoint": theirs, "verify": True}
    with pytest.raises(ValueError, match=r"--drop-column lag .* points=\[x,y,z,intensity\] does without$"):
        export_encoders(pretrained, "openpcdet", tmp_path / "out.pth", ExportOptions(**options))
    options = ExportOptions(**options, drop_columns=("lag",))
    done = export_encoders(pretrained, "openpcdet", tmp_path / "out.pth", options)
    assert "point_encoder: lag is left out: it was 0 throughout training" in done.report.notes
    assert done.report.share == 1.0 and done.report.parts[0].verified < 1e-4
    assert "POINT_FEATURE_ENCODING: {used_feature_list: [x, y, z, intensity]}" in done.snippet
    export_encoders(
        pretrained, "safetensors", tmp_path / "o.safetensors", ExportOptions(drop_columns=("lag",))
    )
    dropped, whole = load_encoder(tmp_path / "o.safetensors"), second(5)
    assert dropped.about["columns"] == NUSCENES[:4]
    whole.load_state_dict(pretrained.encoders["point_encoder"].tensors)
    assert_close(dropped.eval()(voxels(4)), whole.eval()(voxels(5)), rtol=1e-5, atol=1e-5)


def test_what_is_not_exact_is_refused():
    pretrained = from_recipe(trained(sweeps=2))
    for name, said in (
        ("lag", r"point_encoder: lag: expected a column that was 0 .* it went to 0.05 in training, "),
        ("intensity", r"point_encoder: intensity: .*; pre-train with points=\[x,y,z,lag\]$"),
        ("r", "drop_column: expected one of x, y, z, intensity, lag, got 'r'"),
    ):
        with pytest.raises(ValueError, match=said):
            drop_columns(pretrained, [name])
    untold = from_modules({"point_encoder": second_encoder()})
    with pytest.raises(ValueError, match="nothing is known of its values in training"):
        drop_columns(untold, ["intensity"])
    _, (note,) = drop_columns(untold, ["lag"])
    assert "lag is left out: nothing is known of its training, and where the lag is 0" in note
    untold.encoders["point_encoder"].tensors[KERNEL][..., 3] = 0
    left, notes = drop_columns(untold, ["intensity", "lag"])
    assert notes[0] == "point_encoder: intensity is left out: its weights are 0"
    assert left.encoders["point_encoder"].tensors[KERNEL].shape[-1] == 3
    with pytest.raises(ValueError, match="drop_column: expected one of none, got 'lag'"):
        drop_columns(from_modules({"neck": torch.nn.Linear(2, 2)}), ["lag"])


def test_a_host_of_four_columns_comes_into_a_recipe_of_five(tmp_path, voxels):
    """Its fifth weights are 0: whatever the lag, it computes what it did."""
    path, out = host_file(tmp_path / "four.pth", 4), tmp_path / "in.safetensors"
    done = import_encoders(path, "openpcdet", out, ImportOptions(recipe="ns-mae"))
    assert done.report.share == 1.0
    assert done.report.parts[0].notes == (
        f"{KERNEL}: the file reads x, y, z, intensity of a point; the weights for lag are 0",
    )
    wide, narrow = load_encoder(out), load_encoder(_imported(path, tmp_path))
    assert wide.about["columns"] == NUSCENES and narrow.about["columns"] == NUSCENES[:4]
    some = voxels(5)
    some.features[:, 4] = 3.0
    assert_close(wide.eval()(some), narrow.eval()(voxels(4)), rtol=1e-5, atol=1e-5)


def _imported(path, folder):
    """The file in its own size."""
    import_encoders(path, "openpcdet", folder / "own.safetensors")
    return folder / "own.safetensors"


def test_a_run_begins_with_an_encoder_of_fewer_columns(tmp_path):
    own = _imported(host_file(tmp_path / "four.pth", 4), tmp_path)
    encoder = second(5)
    (line,) = initialize_encoders({"point_encoder": encoder}, own, columns=NUSCENES)
    assert line.endswith("; its weights for lag are 0")
    four = load_file(own)[f"point_encoder.{KERNEL}"]
    assert torch.equal(encoder.state_dict()[KERNEL][..., :4], four)
    assert not encoder.state_dict()[KERNEL][..., 4].any()
    (line,) = initialize_encoders(
        {"point_encoder": second(5)}, own, columns=("x", "y", "z", "lag", "intensity")
    )
    assert line.endswith("; its weights for lag are 0")
    with pytest.raises(ValueError, match=r"reads intensity of a point, which the recipe does not; pre-train"):
        initialize_encoders({"point_encoder": second(4)}, own, columns=("x", "y", "z", "lag"))


def test_a_recipe_that_does_not_read_a_column_of_the_file_refuses_it(tmp_path):
    path = host_file(tmp_path / "five.pth", 5)
    config = RECIPES["ns-mae"].presets["paper"].model_dump(mode="json") | {"points": NUSCENES[:4]}
    with pytest.raises(
        ValueError, match=rf"backbone_3d.{KERNEL} reads lag of a point, .* import without --recipe keeps them"
    ):
        import_encoders(path, "openpcdet", options=ImportOptions(recipe="ns-mae", config=config))


def test_a_file_says_what_its_encoder_reads_and_how_far_it_went(tmp_path):
    path = tmp_path / "e.safetensors"
    pretrained = from_recipe(trained(points=["x", "y", "z", "lag"]))
    export_encoders(pretrained, "safetensors", path)
    encoder = read_pretrained(path).encoders["point_encoder"]
    assert encoder.columns == ("x", "y", "z", "lag")
    assert encoder.largest == pretrained.encoders["point_encoder"].largest
    assert encoder.largest[0] > 1 and encoder.largest[3] == 0
    with safe_open(path, "pt") as file:
        header = file.metadata()
    for columns in (["x", "y", "z"], ["x", "y", "z", "beam"], 5, {"a": 1}):
        # Whatever else the header holds of its own contents is left out: the columns are what is damaged.
        damaged = {k: v for k, v in header.items() if k in ("format", "encoders", "fresh", "layout", "axes")}
        damaged |= {"columns": json.dumps({"point_encoder": columns}), "largest": "{}"}
        save_file(load_file(path), tmp_path / "d.safetensors", damaged)
        with pytest.raises(ValueError, match=r"d.safetensors: "):
            read_pretrained(tmp_path / "d.safetensors")


@pytest.mark.parametrize(
    ("columns", "to", "line"),
    [
        (NUSCENES, "openpcdet", f"    {USED}: [x, y, z, intensity, timestamp]}}"),
        (("x", "y", "z"), "openpcdet", f"    {USED}: [x, y, z]}}"),
        (("x", "y", "z", "lag"), "mmdet3d", "# LoadPointsFromFile: use_dim=[0, 1, 2, 4]"),
        (
            NUSCENES[:4],
            "mmdet3d",
            "    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=4),",
        ),
        (NUSCENES[:4], "bevfusion", "use_dim: 4"),
    ],
)
def test_hosts_are_told_what_to_load(columns, to, line):
    pretrained = from_modules({"point_encoder": second(len(columns))})
    encoder = replace(pretrained.encoders["point_encoder"], columns=columns)
    pretrained = replace(pretrained, encoders={"point_encoder": encoder})
    said = prepare_export(pretrained, to, ExportOptions()).snippet.splitlines()
    assert line in said
    if to == "bevfusion":
        assert yaml.safe_load("\n".join(said))["model"]["encoders"]["lidar"]["backbone"]["in_channels"] == 4


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (4, "# in Collect: feat_keys=('coord', 'strength')"),
        (6, "# in Collect: feat_keys=('color', 'normal')"),
    ],
)
def test_pointcept_is_told_what_to_collect(count, line):
    """A room's six are colour and normal, a street's four place and intensity, as in its configurations."""
    pretrained = from_modules({"point_encoder": shaken(SparseUNet(count, **UNET))}, {"config": {}})
    done = prepare_export(pretrained, "pointcept", ExportOptions())
    assert line in done.snippet.splitlines()
    assert f"in_channels={count}, " in done.snippet


def test_units_and_scales_of_the_columns_are_said():
    unet = {"point_encoder": shaken(SparseUNet(4, **UNET))}
    about = {"config": {"input_scale": [10.0, 10.0, 2.0, 0.25]}}
    notes = prepare_export(from_modules(unet, about), "pointcept", ExportOptions()).report.notes
    assert (
        "a voxel is the mean of its points' x / 10, y / 10, z / 2, intensity in 0 to 1 (nuScenes stores 0 to "
        "255) / 0.25"
    ) in notes
