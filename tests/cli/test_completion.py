"""What a shell offers on tab, the examples of ``--help``, and a verb without what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from renderpretrain.cli import completing, main
from renderpretrain.cli.app import app
from renderpretrain.cli.examples import EXAMPLES
from renderpretrain.recipes import RECIPES
from renderpretrain.training.loggers import LOGGERS
from renderpretrain.transfer import HOSTS


def test_the_names_that_are_offered_are_those_there_are():
    assert {name: tuple(entry.presets) for name, entry in RECIPES.items()} == completing.RECIPE_PRESETS
    assert tuple(HOSTS) == completing.HOSTS and tuple(LOGGERS) == completing.LOGGERS


def offered(line, cwd, python=()):
    """What bash is told of a line that ends where tab was pressed."""
    words = line.split(" ")
    told = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_RENDERPRETRAIN_COMPLETE": "complete_bash",
    }
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, *python, "-m", "renderpretrain"],
        env={**os.environ, **told, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )
    return done.stdout.split(), done.stderr


@pytest.fixture
def folder(tmp_path):
    """A folder with a run, a folder of none, and a file of encoders."""
    (tmp_path / "runs" / "first" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.yaml").touch()
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / ".hidden").mkdir()
    (tmp_path / "runs" / "encoder.safetensors").touch()
    return tmp_path


def test_a_shell_is_told_what_fits_and_torch_is_not_imported(folder):
    found, said = offered("renderpretrain pretrain unipad-lidar --preset p", folder, ("-X", "importtime"))
    assert found == ["paper"]
    imported = [line.split("|")[-1].strip() for line in said.splitlines()]
    assert "typer" in imported and "torch" not in imported
    assert offered("renderpretrain export runs/", folder)[0] == [
        "runs/encoder.safetensors",
        "runs/first",
        "runs/other/",
    ]


def test_what_fits_is_found(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert completing.complete_recipe("unipad-l") == ["unipad-lidar"]
    assert completing.complete_run("") == ["runs/"] and completing.complete_run("runs/f") == ["runs/first"]
    assert completing.complete_run(f"{folder}/runs/o") == [f"{folder}/runs/other/"]
    assert completing.complete_run("nowhere/x") == []
    assert completing.complete_log("csv,t") == ["csv,tensorboard"]
    assert completing.complete_format("on") == ["onnx"]
    assert completing.complete_data("synthetic-") == ["synthetic-room"]


def verbs(command, *before):
    """Every verb by its words."""
    for name, verb in getattr(command, "commands", {}).items():
        if getattr(verb, "commands", None):
            yield from verbs(verb, *before, name)
        else:
            yield " ".join([*before, name]), verb


def test_every_verb_has_an_example_that_is_understood():
    found = dict(verbs(typer.main.get_command(app)))
    assert set(found) == set(EXAMPLES)
    for words, verb in found.items():
        example = EXAMPLES[words]
        assert verb.epilog == f"Example: renderpretrain {example}" and example.startswith(words)
        rest = example.removeprefix(words).split()
        context = verb.make_context(words, rest)  # raises where a word is not understood
        assert context.args == []
        recipe = context.params.get("recipe" if words == "pretrain" else "name")
        assert recipe is None or recipe in RECIPES


def test_pretrain_without_a_recipe_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        main(["pretrain"])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert [line.split()[0] for line in said.out.splitlines() if line.strip()] == list(RECIPES)
    assert said.err == "pretrain: expected one of these recipes, got none\n"


def test_help_ends_with_the_example(capsys):
    with pytest.raises(SystemExit):
        main(["recipes", "show", "--help"])
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Example: renderpretrain recipes show unipad-lidar --preset paper" in said
