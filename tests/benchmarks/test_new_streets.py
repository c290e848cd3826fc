"""Several pre-trainings asked on streets that nothing else has opened."""

import json
from statistics import fmean
from types import SimpleNamespace

import pytest

from renderpretrain.cli import probe_scenes
from renderpretrain.runs.describing import describe_run

BOX = [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]


@pytest.fixture
def new_streets(benchmark_module):
    return benchmark_module("new_streets")


def test_streets_are_those_of_no_other_question(new_streets):
    """Runs learn from seed 0; what ``eval`` asks is drawn from seeds of its own."""
    taken = {0, probe_scenes.TRAIN_SEED, probe_scenes.VALIDATION_SEED, probe_scenes.TEST_SEED}
    seeds = [seed for seed, _ in new_streets.STREETS.values()]
    assert len(set(seeds)) == 3 and not taken & set(seeds)


@pytest.mark.slow
def test_seeds_of_all_runs_are_taken_together(new_streets, tmp_path, monkeypatch, capsys):
    """Runs have seeds of their own, and are compared on the same streets; what was done is not repeated."""
    runs = {}
    for seed in (100, 200):
        flags = {"data": "synthetic", "seed": seed}
        job = describe_run("unipad-lidar", flags, [{"point_cloud_range": BOX}], saved={})
        runs[f"run-{seed}"] = SimpleNamespace(description=job, weights=job.build().state_dict(), step=7)
        (tmp_path / f"run-{seed}").mkdir()
    monkeypatch.setattr(new_streets, "read_run", lambda run: SimpleNamespace(checked=lambda: runs[run.name]))
    monkeypatch.setattr(new_streets, "STREETS", {"train": (11, 2), "validation": (12, 1), "test": (13, 2)})
    out = tmp_path / "found.json"

    def found(*names):
        flags = ["--labeled", "1", "--seeds", "1", "--search-seeds", "1", "--steps", "1", "--out", str(out)]
        monkeypatch.setattr("sys.argv", ["new_streets.py", *(str(tmp_path / name) for name in names), *flags])
        new_streets.main()
        return json.loads(out.read_text())

    alone = found("run-100")
    assert alone["over scratch"]["seeds"] == 1
    capsys.readouterr()
    both = found("run-100", "run-200")
    said = capsys.readouterr().out
    assert "run-100: scratch, final 100" in said and "run-200: scratch, final 200" in said
    assert said.count("run-100: ") == said.count("(done before)") == said.count("run-200: ")
    assert [record["seeds"] for record in both["runs"].values()] == [[100], [200]]
    assert [record["search_seeds"] for record in both["runs"].values()] == [[1100], [1200]]
    assert both["runs"]["run-100"]["table"] == alone["runs"]["run-100"]["table"]
    assert both["over scratch"]["seeds"] == 2 and both["over scratch"]["scenes"] == 2
    for arm, told in (("scratch", "before"), ("pretrained", "after")):
        scores = [record["table"][0][arm]["mean"] for record in both["runs"].values()]
        assert both["over scratch"][told] == pytest.approx(fmean(scores)) and max(scores) > 0
