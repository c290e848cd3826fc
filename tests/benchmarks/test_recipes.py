"""Every recipe is trained, and the table says what its run folder says."""

import json

import pytest

from renderpretrain.recipes import RECIPES

ROWS = [
    {"step": 0, "eval/depth_abs_rel": 0.5, "eval/baseline_depth_abs_rel": 0.25},
    *(
        {"step": k, "loss": 9.0 - k, "loss/depth": 8.0 - k, "loss/rgb": 1.0, "samples_per_second": 2.0 * k}
        for k in (1, 2, 3)
    ),
    {"step": 3, "eval/depth_abs_rel": 0.125},
]


def test_every_recipe_is_trained(benchmark_module):
    assert set(benchmark_module("recipes").STEPS) == set(RECIPES)


def test_a_run_is_summed_up(benchmark_module, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipes = benchmark_module("recipes")
    found = recipes.summary("unipad-lidar", tmp_path, 90.0)
    assert found["losses"] == {
        "loss/depth": (7.0, 6.0),
        "loss/rgb": (1.0, 1.0),
    }  # first, mean of the last ten
    assert found["scores"] == {"depth_abs_rel": (0.5, 0.125, 0.25)}
    assert (found["steps"], found["minutes"]) == (3, 1.5) and found["scene_s"] == pytest.approx(0.25)
    assert recipes.line(found) == (
        "| unipad-lidar | 3 | 1.5 | 0.25 | depth 7 -> 6, rgb 1 -> 1 | depth_abs_rel 0.5 -> 0.125 (0.25) |"
    )
