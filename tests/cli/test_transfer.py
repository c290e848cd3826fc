"""``export``, ``import`` and ``pretrain --init`` as a user types them."""

import json
import shutil

import pytest
import torch

from renderpretrain.cli import main
from renderpretrain.encoders import SparseEncoder
from renderpretrain.storage.safetensors_file import pack_tensors
from renderpretrain.transfer import export_encoders, from_modules, load_encoder
from renderpretrain.transfer.hosts.safetensors import FORMAT

SMALL = [
    "--set", "image_size=[32, 64]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=8",
    "--set", "sampler.num_samples=12", "--set", "sampler.num_importance=4",
    "--set", "field.sdf_blocks=1", "--set", "field.rgb_blocks=1",
    "--set", "optimization.warmup_steps=0",
    "--scenes", "2", "--holdout", "1", "--device", "cpu",
]  # fmt: skip


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code in (0, None)


def failure(capsys, *arguments):
    """The one line of a command that does not end well."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps."""
    out = tmp_path_factory.mktemp("runs") / "run"
    run("pretrain", "unipad-lidar", "--out", out, *SMALL, "--steps", 2)
    return out


def test_a_run_goes_home_verified(trained, tmp_path, capsys):
    out = tmp_path / "encoder.pth"
    run("export", trained, "--to", "mmdet3d-0.17", "--out", out, "--verify")
    said = capsys.readouterr().out
    assert "mmdet3d-0.17 (mmdetection3d 0.x" in said and "100.0% of the parameters" in said
    assert "point_encoder -> SparseEncoder" in said and "point_neck -> SECOND3D" in said
    assert f"load_from = '{out}'" in said and said.rstrip().endswith(str(out))
    assert "sparse_shape=[22, 64, 64]" in said  # 8.8 m and 25.6 m in voxels of 0.4 m
    keys = set(torch.load(out, weights_only=True)["state_dict"])
    assert "pts_middle_encoder.conv_input.0.weight" in keys and "pts_neck.deblocks.2.0.weight" in keys


def test_a_column_that_was_constant_can_be_left_at_home(trained, tmp_path, capsys):
    """A run of single sweeps has a time lag of 0, and intensities that are not."""
    out = tmp_path / "encoder.pth"
    run("export", trained, "--to", "mmdet3d", "--out", out, "--drop-column", "lag", "--verify")
    said = capsys.readouterr().out
    assert "note: point_encoder: lag is left out: it was 0 throughout training" in said
    assert "in_channels=4," in said and "num_features=4" in said and "use_dim=[0, 1, 2, 3]" in said
    assert load_encoder(trained, "point_encoder").about["columns"] == ("x", "y", "z", "intensity", "lag")
    said = failure(capsys, "export", trained, "--to", "mmdet3d", "--out", out, "--drop-column", "intensity")
    assert "drop_column: point_encoder: intensity: expected a column that was 0 throughout training" in said


def test_json_says_the_same(trained, tmp_path, capsys):
    out = tmp_path / "encoder.pth"
    run("export", trained, "--to", "mmdet3d-0.17", "--out", out, "--verify", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["share"] == 1.0 and told["file"] == str(out) and "load_from" in told["snippet"]
    first, second = told["parts"]
    assert (first["name"], second["name"]) == ("point_encoder", "point_neck")
    assert 0 <= first["verified"] < 1e-4 and first["filled"] == first["expected"]
    # Two decimal places of momentum: tiny trains with 0.1, hosts with 0.01.
    assert first["norm"] == {"ours": [0.001, 0.1], "host": [0.001, 0.01]}


@pytest.mark.parametrize("to", ["mmdet3d-0.17", "safetensors"])
def test_a_run_that_was_interrupted_says_whose_statistics_go_home(trained, tmp_path, capsys, to):
    stopped = tmp_path / "run"
    shutil.copytree(trained, stopped)
    (stopped / "checkpoints" / "final.pt").unlink()
    out = tmp_path / ("ours.safetensors" if to == "safetensors" else "theirs.pth")
    told = "note: the run stopped at step 2: its batch norms' running statistics are those of masked inputs"
    for folder in (trained, stopped):
        capsys.readouterr()
        run("export", folder, "--to", to, "--out", out)
        assert (told in capsys.readouterr().out) == (folder == stopped)
    if to == "safetensors":  # the file remembers it
        run("export", out, "--to", "mmdet3d-0.17", "--out", tmp_path / "theirs.pth")
        assert told in capsys.readouterr().out


def test_mistakes_are_one_line_and_write_nothing(trained, tmp_path, capsys):
    out = tmp_path / "encoder.pth"
    said = failure(capsys, "export", trained, "--to", "openpcdet", "--out", out)
    assert (
        "openpcdet (OpenPCDet): " in said and "--min-match asks for 95%; first missing: backbone_3d." in said
    )
    said = failure(capsys, "export", trained, "--to", "pointcept", "--out", out)
    assert said.startswith(
        "to: pointcept has no place for what this run trained: point_encoder (SparseEncoder)"
    )
    assert "expected one of openpcdet" in failure(capsys, "export", trained, "--to", "pcdet", "--out", out)
    assert "expected a run folder" in failure(capsys, "export", tmp_path, "--to", "openpcdet", "--out", out)
    assert "from: expected one of" in failure(
        capsys, "import", trained, "--from", "x", "--out", "y.safetensors"
    )
    assert list(tmp_path.iterdir()) == []


def test_weights_come_in_and_a_run_begins_with_them(trained, tmp_path, capsys):
    run("export", trained, "--to", "safetensors", "--out", tmp_path / "ours.safetensors")
    run("pretrain", "unipad-lidar", "--out", tmp_path / "again", *SMALL, "--steps", 1,
        "--set", "optimization.lr=1e-30", "--init", tmp_path / "ours.safetensors")  # fmt: skip
    assert "point_encoder: 54 of 54 tensors from" in capsys.readouterr().out
    before, after = (
        load_encoder(p, "point_encoder") for p in (tmp_path / "ours.safetensors", tmp_path / "again")
    )
    for mine, theirs in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_files_that_are_something_else_are_one_line(trained, tmp_path, capsys):
    files = {
        name: tmp_path / name for name in ("text.pth", "none.pth", "header.safetensors", "part.safetensors")
    }
    files["text.pth"].write_text("hello\n")
    torch.save({"state_dict": {}}, files["none.pth"])
    for name, encoders in (("header.safetensors", "{"), ("part.safetensors", '{"point_encoder": {}}')):
        header = {"format": FORMAT, "fresh": "{}", "encoders": encoders}
        files[name].write_bytes(pack_tensors({"a": torch.ones(2)}, header))
    out = tmp_path / "out.safetensors"
    final = trained / "checkpoints" / "final.pt"
    for file, message in (
        (files["text.pth"], "not a whole checkpoint (torch.save did not write it)"),
        (files["none.pth"], "expected tensors by name, got nothing"),
        (trained, "expected a checkpoint, found a folder"),
        (trained / "config.yaml", "not a whole checkpoint (torch.save did not write it)"),
    ):
        said = failure(capsys, "import", file, "--from", "openpcdet", "--out", out)
        assert said == f"{file}: {message}"
    for file, message in (
        (files["header.safetensors"], "its header is damaged (Expecting property name"),
        (files["part.safetensors"], "its header is damaged (expected tensors of point_encoder, found none)"),
        (final, f"expected a run folder or a file of encoders; its run folder is {trained}"),
    ):
        said = failure(capsys, "export", file, "--to", "safetensors", "--out", out)
        assert said.startswith(f"{file}: {message}")
        said = failure(capsys, "pretrain", "unipad-lidar", "--out", tmp_path / "run", *SMALL, "--init", file)
        assert said.startswith(f"{file}: {message}")
    assert not out.exists() and not (tmp_path / "run").exists()


def test_damaged_run_folders_are_one_line_that_names_the_file(trained, tmp_path, capsys):
    stopped, out = tmp_path / "run", tmp_path / "out.pth"
    shutil.copytree(trained, stopped)
    (stopped / "checkpoints" / "final.pt").unlink()
    (stopped / "checkpoints" / "latest").write_bytes(b"\xff\xfe")  # the newest is found without it
    run("export", stopped, "--to", "mmdet3d", "--out", out)
    out.unlink()
    for content in (
        b"\xff\xfe\x00",
        b"recipe: unipad-lidar\nconfig: 5\n",
        b"recipe: unipad-lidar\nconfig: {a: 5}\n",
    ):
        (stopped / "config.yaml").write_bytes(content)
        said = failure(capsys, "export", stopped, "--to", "mmdet3d", "--out", out)
        assert said.startswith(f"{stopped / 'config.yaml'}: ")
    assert not out.exists()


@pytest.mark.parametrize(
    "line",
    [
        "recipe: 5", "recipe: [a]", "preset: 5", "preset: [a]", "data: 5", "data: null", "scenes: x",
        "scenes: 0", "holdout: x", "holdout: -3", "holdout: true", "seed: x", "init: 5",
    ],
)  # fmt: skip
def test_a_damaged_value_of_a_run_is_named_with_file_and_field(trained, tmp_path, capsys, line):
    run_folder, name = tmp_path / "run", line.partition(":")[0]
    shutil.copytree(trained, run_folder)
    config = run_folder / "config.yaml"
    config.write_text(f"{config.read_text()}\n{line}\n")  # of two values YAML takes the last
    export = ["export", run_folder, "--to", "mmdet3d", "--out", tmp_path / "out.pth"]
    resumed = ["pretrain", "unipad-lidar", "--out", run_folder, "--resume"]
    for verb in (["eval", run_folder], resumed, export):
        assert failure(capsys, *verb).startswith(f"{config}: {name}: expected ")


@pytest.mark.parametrize("flags", [["--verify"], ["--prefix", "x"], ["--host-ckpt", "theirs.pth"]])
def test_our_own_file_is_compared_with_no_host(trained, tmp_path, capsys, flags):
    said = failure(
        capsys, "export", trained, "--to", "safetensors", "--out", tmp_path / "x.safetensors", *flags
    )
    name = flags[0].removeprefix("--").replace("-", "_")
    assert said.startswith(
        f"{name}: drop {flags[0]}, or name a host with --to: safetensors is our own format"
    )


def test_a_folder_is_no_file_to_write(trained, tmp_path, capsys):
    folder = tmp_path / "there.safetensors"
    folder.mkdir()
    (tmp_path / "file").write_text("")
    for out, message in (
        (folder, f"out: expected a file to write, got the folder {folder}"),
        (tmp_path / "file" / "x.safetensors", "but " + str(tmp_path / "file") + " is a file"),
    ):
        assert message in failure(capsys, "export", trained, "--to", "safetensors", "--out", out)
        assert message in failure(capsys, "export", trained, "--to", "mmdet3d", "--out", out)
        assert message in failure(capsys, "import", "theirs.pth", "--from", "openpcdet", "--out", out)
    assert list(folder.iterdir()) == []


def test_a_resumed_run_takes_no_other_weights(trained, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = ["pretrain", "unipad-lidar", "--out", out, "--resume", "--steps", 3, "--device", "cpu"]
    said = failure(capsys, *again, "--init", trained)
    assert said.startswith("init: a resumed run goes on with the weights of its checkpoint; leave out --init")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    begun = ["pretrain", "unipad-lidar", "--out", tmp_path / "begun", *SMALL, "--init", out, "--resume"]
    for steps, begins in (("1", True), ("2", False)):  # the same command starts and goes on
        run(*begun, "--steps", steps)
        assert ("so the run begins" in capsys.readouterr().out) == begins
    assert "init: expected a file" in failure(
        capsys, "pretrain", "unipad-lidar", "--init", tmp_path / "nowhere", "--dry-run"
    )


def test_a_probe_says_that_a_run_began_with_weights_that_scratch_has_not(trained, tmp_path, capsys):
    out = tmp_path / "run"
    run("pretrain", "unipad-lidar", "--out", out, *SMALL, "--steps", 1, "--init", trained)
    run("pretrain", "unipad-lidar", "--out", out, "--resume", "--steps", 2, "--device", "cpu")  # remembers it
    few = ["--probe", "linear", "--labels", 1, "--seeds", 1, "--scenes", 1, "--test-scenes", 1, "--steps", 2]
    began = f"began with the encoders of {trained} (--init), scratch did not"
    for folder, notes in ((trained, 0), (out, 1)):
        capsys.readouterr()
        run("eval", folder, *few)
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
        record = json.loads((folder / "probe.json").read_text())["semseg/linear"]
        assert [f"note: {note}" for note in record["notes"]] == said
        assert sum(began in note for note in said) == notes


def test_published_weights_come_in_by_name(tmp_path, capsys):
    encoder = SparseEncoder(5, 128, out_geometry=((3, 1, 1), (2, 1, 1), 0))
    export_encoders(from_modules({"point_encoder": encoder}), "openpcdet", tmp_path / "theirs.pth")
    out = tmp_path / "ours.safetensors"
    run("import", tmp_path / "theirs.pth", "--from", "openpcdet", "--out", out, "--recipe", "ns-mae")
    said = capsys.readouterr().out
    assert "from openpcdet (OpenPCDet): 100.0% of the parameters" in said and str(out) in said
    assert torch.equal(load_encoder(out).conv_input[0].weight, encoder.conv_input[0].weight)
    (tmp_path / "half.pth").write_bytes((tmp_path / "theirs.pth").read_bytes()[:999])
    half = ["import", tmp_path / "half.pth", "--from", "openpcdet", "--out", tmp_path / "no.safetensors"]
    assert "half.pth: not a whole checkpoint" in failure(capsys, *half)
    assert not (tmp_path / "no.safetensors").exists()


def test_image_weights_take_what_import_writes(tmp_path, capsys):
    """torchvision's names and our prefix: a recipe finds its backbone in the file."""
    from renderpretrain.encoders import ResNet
    from renderpretrain.recipes import RECIPES

    backbone = ResNet((1, 1, 1, 1), width=24)
    torch.save(backbone.state_dict() | {"fc.weight": torch.ones(10, 192)}, tmp_path / "theirs.pth")
    out = tmp_path / "ours.safetensors"
    run("import", tmp_path / "theirs.pth", "--from", "torchvision", "--out", out)
    assert "left in the file: fc (1 tensors)" in capsys.readouterr().out
    tiny = RECIPES["uniscene"].presets["tiny"]
    config = tiny.model_copy(update={"image": tiny.image.model_copy(update={"weights": str(out)})})
    recipe = RECIPES["uniscene"].build(config)
    assert torch.equal(recipe.images.backbone.conv1.weight, backbone.conv1.weight)
