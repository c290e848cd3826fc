"""A recipe of the user's own is what one of the package's is: trained, drawn, scored and taken home."""

import json

import pytest
import torch
import yaml
from own import Own
from torch import nn

import renderpretrain as rp
from renderpretrain.cli import main
from renderpretrain.data import SyntheticStreet
from renderpretrain.recipes import OptimizationConfig
from renderpretrain.runs import read_run
from renderpretrain.training import RunOptions, fit
from renderpretrain.transfer import load_encoder

OPTIMIZATION = OptimizationConfig(steps=2, lr=0.1)
SMALL = ["--scenes", 2, "--holdout", 1, "--device", "cpu", "--set", "image_size=[32, 48]"]


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.mark.parametrize("name", ["own:Own", "own:of_model"])
def test_it_is_trained_resumed_scored_drawn_and_exported_by_its_name(name, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("width: 8\noptimization: {steps: 2, lr: 0.1}\n")
    out, file = tmp_path / "run", tmp_path / "encoders.safetensors"
    assert run("pretrain", name, "--config", tmp_path / "own.yaml", "--out", out, *SMALL) == 0
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert (saved["recipe"], saved["preset"], saved["data"]) == (name, None, "synthetic")
    assert (saved["config"]["width"], saved["config"]["optimization"]["steps"]) == (8, 2)
    assert run("pretrain", name, "--out", out, "--resume", "--steps", 3, "--device", "cpu") == 0
    assert run("eval", out, "--device", "cpu") == 0
    assert json.loads((out / "eval.json").read_text())["step"] == 3
    assert run("render", out, "--device", "cpu") == 0 and (out / "pictures" / "frame_000002.png").is_file()
    assert run("export", out, "--to", "safetensors", "--out", file) == 0
    home = load_encoder(file, into=nn.Conv3d(1, 8, 1))
    assert torch.equal(home.weight, read_run(out).weights["encoder.weight"])
    assert "into=...)  # a torch.nn.modules.conv.Conv3d of yours" in capsys.readouterr().out


def test_a_recipe_that_cannot_be_drawn_is_trained_without_pictures(tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--holdout", 0, "--set", "optimization.warmup_steps=0", "--steps", 1]
    assert run("pretrain", "own:Bare", "--out", out, *SMALL, *settings) == 0
    assert "no pictures are drawn: recipe: a picture needs encode, " in capsys.readouterr().out
    assert list((out / "checkpoints").glob("*.pt")) and not list(out.glob("pictures/*"))


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("own:Owm", [], "recipe: own has no Owm; did you mean Own?"),
        ("absent_module:Own", [], "recipe: absent_module:Own: cannot import absent_module (ModuleNotFound"),
        ("os:system", [], "recipe: expected a class or function of yours, got os:system of Python itself"),
        ("own:Own", ["--set", "widht=3"], "widht: unknown setting; did you mean width?"),
        ("own:Own", ["--set", "width=many"], "width: input should be a valid integer"),
        ("own:Own", ["--preset", "paper"], "preset: own:Own has no presets"),
        ("own:nothing", [], "recipe: expected own:nothing to make a torch.nn.Module, got int"),
    ],
)
def test_mistakes_are_one_line(name, flags, message, tmp_path, capsys):
    assert run("pretrain", name, "--out", tmp_path / "run", *SMALL, *flags) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_fit_leaves_of_a_class_with_defaults_is_taken_by_the_verbs(tmp_path):
    streets = SyntheticStreet(3, image_size=(32, 48))
    fit(Own(), streets, OPTIMIZATION, out=tmp_path / "run", options=RunOptions(holdout=1, device="cpu"))
    description = read_run(tmp_path / "run").description
    assert (description.recipe, description.data, description.scenes) == ("own:Own", "synthetic", 2)
    assert description.settings.image_size == (32, 48)
    assert run("eval", tmp_path / "run", "--device", "cpu") == 0
    assert run("render", tmp_path / "run", "--device", "cpu") == 0
    file = tmp_path / "encoders.safetensors"
    assert run("export", tmp_path / "run", "--to", "safetensors", "--out", file) == 0


def test_what_cannot_be_built_again_is_handed_in(tmp_path, capsys):
    class Here(Own):
        """Not importable."""

    streets = SyntheticStreet(3, image_size=(32, 48), points_per_beam=100)  # no word opens these
    out, recipe = tmp_path / "run", Here(width=6)
    fit(recipe, streets, OPTIMIZATION, out=out, options=RunOptions(holdout=1, device="cpu"))
    home = ["--to", "safetensors", "--out", tmp_path / "e.safetensors"]
    for verb in (["eval"], ["render"], ["export", *home]):
        assert run(verb[0], out, *verb[1:]) == 1
        said = capsys.readouterr().err
        assert "Here cannot be imported again" in said and said.count("\n") == 1
        assert "hand in the recipe that was trained: renderpretrain.evaluate(run, recipe=...)" in said
    fresh = Here(width=6)
    with pytest.raises(ValueError, match="a SyntheticStreet that was handed in from Python"):
        rp.evaluate(out, recipe=fresh, device="cpu")
    scores = rp.evaluate(out, recipe=fresh, data=streets, test_scenes=1, device="cpu")
    assert scores == json.loads((out / "eval.json").read_text())["scores"] and "depth_abs_rel" in scores
    assert torch.equal(fresh.encoder.weight, recipe.encoder.weight)
    done = rp.export(out, recipe=Here(width=6), to="safetensors", out=tmp_path / "e.safetensors")
    assert done.report.parts[0].name == "point_encoder"
    with pytest.raises(ValueError, match=r"encoder.weight: expected \(4, 1"):
        rp.export(out, recipe=Here(), to="safetensors", out=tmp_path / "f.safetensors")
