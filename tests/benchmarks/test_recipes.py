"""Every recipe is trained, and the table says what its run folder says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from renderpretrain.recipes import RECIPES
from renderpretrain.training import read_rows

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "recipes.py"


def test_every_recipe_is_trained(benchmark_module):
    assert set(benchmark_module("recipes").STEPS) == set(RECIPES)


@pytest.mark.slow
def test_a_run_is_summed_up(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--only", "unipad-lidar", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    file = tmp_path / "runs.json"
    done = subprocess.run(
        [*command, "--json", str(file)], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(file.read_text())[0]
    rows = read_rows(tmp_path / "unipad-lidar" / "metrics.jsonl")
    depths = [row["loss/depth"] for row in rows if "loss/depth" in row]
    assert found["steps"] == len(depths) == 2
    assert found["losses"]["loss/depth"] == [depths[0], sum(depths) / 2]
    scores = [row["eval/depth_abs_rel"] for row in rows if "eval/depth_abs_rel" in row]
    assert found["scores"]["depth_abs_rel"][:2] == [scores[0], scores[-1]]
    assert "| unipad-lidar | 2 |" in done.stdout
