"""``--encoder package.module:factory``: pre-trained in a recipe's place, saved by name, taken home."""

import json

import pytest
import torch
import yaml
from own import maps, volumes
from torch import nn

import renderpretrain as rp
from renderpretrain.cli import main
from renderpretrain.runs import read_run
from renderpretrain.transfer import export_encoders, from_modules, load_encoder

SMALL = [
    "--scenes", 2, "--holdout", 1, "--device", "cpu", "--set", "image_size=[64, 96]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]", "--set", "rays.per_view=8",
    "--set", "sampler.num_samples=16", "--set", "sampler.num_importance=8",
]  # fmt: skip


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "factory", "role", "make"),
    [("unipad-lidar", "own:volumes", "point", volumes), ("unipad-camera", "own:maps", "image", maps)],
)
def test_it_is_built_again_by_its_name_and_comes_home(recipe, factory, role, make, tmp_path, capsys):
    out, file = tmp_path / "run", tmp_path / "encoders.safetensors"
    own = ["--encoder", factory, "--set", "encoder.args.width=8"]
    assert run("pretrain", recipe, "--out", out, *SMALL, *own, "--steps", 1) == 0
    saved = yaml.safe_load((out / "config.yaml").read_text())["encoder"]
    assert saved[role]["factory"] == factory and saved[role]["args"]["width"] == 8
    assert run("pretrain", recipe, "--out", out, "--resume", "--steps", 2, "--device", "cpu") == 0
    assert run("eval", out, "--device", "cpu") == 0
    assert json.loads((out / "eval.json").read_text())["step"] == 2
    assert run("render", out, "--device", "cpu") == 0
    few = ["--labels", 1, "--seeds", 1, "--scenes", 1, "--test-scenes", 1, "--steps", 1, "--device", "cpu"]
    assert run("eval", out, "--probe", "linear", "--task", "occupancy", *few) == 0
    capsys.readouterr()
    assert run("export", out, "--to", "safetensors", "--out", file) == 0
    assert "into=...)" in capsys.readouterr().out
    name = {"point": "point_encoder", "image": "image_backbone"}[role]
    home, weights = load_encoder(file, name, into=make(width=8)), read_run(out).weights
    assert all(any(torch.equal(value, w) for w in weights.values()) for value in home.state_dict().values())
    with pytest.raises(ValueError, match="or by you: load_encoder"):  # a file runs no code
        load_encoder(file, name)
    built = load_encoder(out)  # a run folder names what makes it
    assert type(built.network) is type(home.network) and not built.training
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), home.parameters(), strict=True))
    columns = ("x", "y", "z", "intensity", "lag") if role == "point" else None
    assert home.about.get("columns") == built.about.get("columns") == columns
    for told in (["--set", "encoder.args.width=9"], ["--encoder", "own:Own"]):
        assert run("pretrain", recipe, "--out", out, "--resume", "--steps", 3, *told) == 1
        assert "the resumed run" in capsys.readouterr().err


OWN = ["--encoder", "own:volumes"]


@pytest.mark.parametrize(
    ("recipe", "told", "message"),
    [
        ("unipad-lidar", ["--encoder", "own:absent"], "encoder: own has no absent"),
        (
            "unipad-lidar",
            ["--encoder", "own:volume_grid"],
            "encoder: own has no volume_grid; did you mean vol",
        ),
        ("unipad-lidar", ["--encoder", "own:toch"], "encoder: own has no toch\n"),
        (
            "unipad-lidar",
            ["--encoder", "./own.py:volumes"],
            "encoder: expected package.module:name, got './own.py:volumes'; did you mean own:volumes?",
        ),
        ("unipad-lidar", ["--encoder", "own:nothing"], "encoder: expected own:nothing to make a torch.nn"),
        (
            "unipad-lidar",
            ["--encoder", "own:unlicensed"],
            "encoder: own:unlicensed fails (RuntimeError: no l",
        ),
        ("unipad-lidar", ["--encoder", "own"], "encoder: expected package.module:name, got 'own'"),
        ("unipad-lidar", ["--encoder", "image=own:maps"], "encoder: expected one of point, as unipad-lidar "),
        ("unipad-fusion", OWN, "encoder: unipad-fusion has one of points and one of im"),
        ("unipad-lidar", ["--set", "encoder.args.width=8"], "encoder.args: expected an encoder of your own"),
        (
            "unipad-lidar",
            [*OWN, "--set", "encoder.args.widht=8"],
            "encoder.args.widht: unknown setting; did ",
        ),
        (
            "unipad-lidar",
            [*OWN, "--set", "encoder.args.stride=4"],
            "encoder: VolumeEncoder fails on 5 columns",
        ),
        (
            "unipad-lidar",
            ["--encoder", "own:as_fine"],
            "encoder: expected a volume of (11, 32, 32) cells, for voxel_size by encoder.voxel_size is a "
            "stride of 2 x 2 x 2 (z, y, x), got (22, 64, 64) of one that says stride=(1, 1, 1); if that is "
            "right, set encoder.voxel_size=[0.8, 0.8, 0.8]",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(recipe, told, message, tmp_path, capsys):
    assert run("pretrain", recipe, "--out", tmp_path / "run", *SMALL, *told) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_module_from_python_is_trained_in_place_and_handed_in_again(tmp_path, capsys):
    module, out = volumes(), tmp_path / "run"
    before = module.network.weight.clone()
    settings = {
        "image_size": [64, 96],
        "point_cloud_range": [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8],
        "rays.per_view": 8,
        "sampler.num_samples": 16,
        "sampler.num_importance": 8,
    }
    few = {"steps": 2, "scenes": 2, "holdout": 1, "device": "cpu"}
    result = rp.pretrain("unipad-lidar", out=out, set=settings, encoder=module, **few)
    assert result.step == 2 and result.table and not torch.equal(module.network.weight, before)
    with pytest.raises(ValueError, match=r"was handed in from Python; hand it in again: encoder=\.\.\."):
        rp.evaluate(out, device="cpu")
    fresh = volumes()
    scores = rp.evaluate(out, encoder=fresh, device="cpu")
    assert torch.equal(fresh.network.weight, module.network.weight)
    assert scores == json.loads((out / "eval.json").read_text())["scores"]
    rp.export(out, encoder=volumes(), to="safetensors", out=tmp_path / "e.safetensors")
    home = load_encoder(tmp_path / "e.safetensors", "point_encoder", into=volumes())
    assert torch.equal(home.network.weight, module.network.weight)
    for module_or_network in (volumes(), volumes().network):
        bare = load_encoder(out, into=module_or_network)
        assert torch.equal(getattr(bare, "network", bare).weight, module.network.weight)
    with pytest.raises(ValueError, match="into: expected one part of the names and shapes of this module, g"):
        load_encoder(out, into=nn.Conv3d(5, 7, 3))
    assert f"report {out / 'report.html'}\n" in capsys.readouterr().out


def test_weights_from_an_adapter_go_into_the_network_itself(tmp_path):
    trained, file = volumes(), tmp_path / "e.safetensors"
    export_encoders(from_modules({"mine": trained}), "safetensors", file)
    fresh = nn.Conv3d(5, 6, 3, stride=2, padding=1)
    assert load_encoder(file, into=fresh) is fresh and torch.equal(fresh.weight, trained.network.weight)
    with pytest.raises(ValueError, match=r"into: expected a module, such as Conv3d\(\.\.\.\), got <class"):
        load_encoder(file, into=nn.Conv3d)


def test_a_factory_is_named_or_called(tmp_path):
    with pytest.raises(
        ValueError, match=r"encoder: expected a module, or package\.module:factory .* got vol"
    ):
        rp.pretrain("unipad-lidar", out=tmp_path / "run", encoder=volumes)
    assert not (tmp_path / "run").exists()


def test_python_says_what_the_command_line_says(tmp_path, capsys):
    with pytest.raises(ValueError) as error:
        rp.pretrain("unipad-lidar", out=tmp_path / "run", set={"chanels": 5})
    assert run("pretrain", "unipad-lidar", "--out", tmp_path / "run", "--set", "chanels=5") == 1
    assert capsys.readouterr().err == f"error: {error.value}\n"
