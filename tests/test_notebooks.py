"""The notebooks are made of the files beside them, and their cells run to the end, at few steps."""

import json
import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "notebooks"
MAKER = runpy.run_path(str(FOLDER / "generate.py"))

pytestmark = pytest.mark.untyped

FEW = {"STEPS, LABELLED, SCORED": "1, 2, 1", "STEPS, FRAMES": "1, 3", "STEPS": "1"}
"""What the first cell sets, and what it is here."""

SMALL = {
    "scenes=16": "scenes=2",
    "holdout=2": "holdout=1",
    "25.6": "12.8",
    "[64, 96]": "[32, 48]",
    "[96, 160]": "[48, 80]",
    "(64, 96)": "(32, 48)",
    '"rays.per_view": 64': '"rays.per_view": 4, "sampler.num_samples": 8, "sampler.num_importance": 4',
}


def shortened(source):
    for name, value in FEW.items():
        source, changed = re.subn(rf"^{name} = .*$", f"{name} = {value}", source, flags=re.M)
        if changed:
            break
    for long, short in SMALL.items():
        source = source.replace(long, short)
    if "monitor_every" not in source:  # who does not ask for it needs no sheet of the features' health
        source = source.replace("    set={\n", '    set={"optimization.monitor_every": 0,\n')
    return source


def execute(name, folder, monkeypatch):
    """Run the code cells of the notebook, one after the other, with the same names; returns the names."""
    monkeypatch.chdir(folder)
    names = {}
    for cell in json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(shortened("".join(cell["source"])), f"{name}:{cell['id']}", "exec"), names)
    return names


@pytest.mark.parametrize("name", MAKER["NAMES"])
def test_a_notebook_is_what_is_generated(name):
    assert (FOLDER / f"{name}.ipynb").read_text() == MAKER["notebook"]((FOLDER / f"{name}.py").read_text())
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(MAKER["NAMES"])


@pytest.mark.slow
def test_an_encoder_of_ones_own_comes_home(tmp_path, monkeypatch, capsys):
    names = execute("own_encoder", tmp_path, monkeypatch)
    assert capsys.readouterr().out.endswith("True\n")
    assert names["result"].step == 1 and (names["OUT"] / "curves.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_recording_of_ones_own_is_checked_and_trained_on(tmp_path, monkeypatch, capsys):
    names = execute("own_data", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert said.startswith("0 problems") and "invert" in said
    assert names["result"].step == 1 and (names["OUT"] / "seen.png").stat().st_size > 5000


@pytest.mark.slow
def test_what_was_learned_is_looked_at(tmp_path, monkeypatch, capsys):
    names = execute("what_did_it_learn", tmp_path, monkeypatch)
    assert {trial.arm for trial in names["trials"]} >= {"scratch", "pretrained", "handmade"}
    assert "added to hand-made numbers" in capsys.readouterr().out
    assert len(names["ranks"]) > 3
