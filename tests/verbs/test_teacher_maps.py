"""``renderpretrain data maps``: a teacher's features of a run's images, then a run that learns from them."""

import json

import pytest
from own import image_teacher

from renderpretrain.cli import main
from renderpretrain.runs import describe_run
from renderpretrain.teachers import open_maps

NAME = "render-distill-lidar"
FLAGS = ["--scenes", 2, "--holdout", 1, "--set", "image_size=[64, 96]"]
SMALL = [
    *FLAGS, "--device", "cpu", "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=8", "--set", "sampler.num_samples=16", "--set", "sampler.num_importance=8",
]  # fmt: skip


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


def test_a_run_learns_from_the_maps_of_a_network_of_ones_own(tmp_path, capsys):
    maps, out = tmp_path / "maps", tmp_path / "run"
    assert run("data", "maps", maps, "--teacher", "own:image_teacher", *FLAGS, "--device", "cpu") == 0
    assert f"--set teacher.maps={maps}`" in capsys.readouterr().out
    flags = {"scenes": 2, "holdout": 1}
    scenes = describe_run(NAME, flags, [{"image_size": [64, 96]}], saved={}).open()
    stored = open_maps(maps, image_teacher())
    wide = image_teacher()(scenes[2].images)[0]
    few = stored.read(scenes[2].name, scenes[2].images)[0]
    # 64 directions of 80 hold nearly all of what three colours in 64 pixels of a street say.
    assert few.shape == (len(wide), 64, 8, 12)
    spread = (wide - wide.mean((0, 2, 3), keepdim=True)).square().sum()
    kept = (few - few.mean((0, 2, 3), keepdim=True)).square().sum()
    assert 0.95 * spread < kept <= 1.01 * spread

    assert run("pretrain", NAME, *SMALL, "--steps", 1, "--out", out, "--set", f"teacher.maps={maps}") == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("loss/point_features", 0) > 0 for row in rows), rows[0].keys()
    capsys.readouterr()
    for path in (maps / "maps").iterdir():
        path.unlink()
    again = [*SMALL, "--steps", 1, "--out", tmp_path / "again"]
    assert run("pretrain", NAME, *again, "--set", f"teacher.maps={maps}") == 1
    assert "`renderpretrain data maps` with the data of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["--teacher", "own:absent"], "teacher: own has no absent"),
        (["--teacher", "own:without_its_file"], "fails (FileNotFoundError: no dino.pth here)"),
        (["--teacher", "own:Sizes"], "expected own:Sizes to make a torch.nn.Module, got Sizes"),
        (["--teacher", "own:image_teacher", "--recipe", "uniscene"], "as render-distill-lidar, got uniscene"),
        (["--teacher", "own:image_teacher", "--scenes", "0"], "scenes"),
    ],
)
def test_what_is_wrong_is_one_line(told, message, tmp_path, capsys):
    assert run("data", "maps", tmp_path / "maps", *told, "--device", "cpu") in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "maps").exists()


def test_a_teacher_of_other_maps_leaves_them_as_they_are(tmp_path, capsys):
    maps = tmp_path / "maps"
    assert run("data", "maps", maps, "--teacher", "own:image_teacher", *FLAGS, "--device", "cpu") == 0
    before = {path: path.read_bytes() for path in maps.rglob("*.safetensors")}
    assert run("data", "maps", maps, "--teacher", "own:maps", *FLAGS, "--device", "cpu") == 1
    assert "expected maps of teacher" in capsys.readouterr().err
    assert run("data", "maps", maps, "--teacher", "own:image_teacher", *FLAGS, "--channels", 8) == 1
    assert "holds maps of 64 channels, got channels=8" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in maps.rglob("*.safetensors")} == before
    assert len(before) == 4
