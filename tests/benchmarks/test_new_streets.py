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


def run_of(seed, **settings):
    """A run that begins with the fresh weights of its seed."""
    flags = {"data": "synthetic", "seed": seed}
    job = describe_run("unipad-lidar", flags, [{"point_cloud_range": BOX, **settings}], saved={})
    return SimpleNamespace(description=job, weights=job.build().state_dict(), step=7)


def ask(new_streets, monkeypatch, runs, *flags):
    """Call the script for runs by their folders."""
    monkeypatch.setattr(new_streets, "read_run", lambda run: SimpleNamespace(checked=lambda: runs[run]))
    monkeypatch.setattr("sys.argv", ["new_streets.py", *map(str, runs), *flags])
    new_streets.main()


@pytest.mark.slow
def test_seeds_of_all_runs_are_taken_together(new_streets, tmp_path, monkeypatch, capsys):
    """Runs have seeds of their own, and are compared on the same streets; what was done is not repeated."""
    runs = {tmp_path / f"run-{seed}": run_of(seed) for seed in (100, 200)}
    monkeypatch.setattr(new_streets, "STREETS", {"train": (11, 2), "validation": (12, 1), "test": (13, 2)})
    out = tmp_path / "found.json"
    flags = ["--labeled", "1", "--seeds", "1", "--search-seeds", "1", "--steps", "1", "--out", str(out)]
    ask(new_streets, monkeypatch, {tmp_path / "run-100": runs[tmp_path / "run-100"]}, *flags)
    alone = json.loads(out.read_text())
    assert alone["together"]["seeds"] == 1
    capsys.readouterr()
    ask(new_streets, monkeypatch, runs, *flags)
    both = json.loads(out.read_text())
    said = capsys.readouterr().out
    assert "run-100: scratch, final 100" in said and "run-200: scratch, final 200" in said
    assert said.count("run-100: ") == said.count("(done before)") == said.count("run-200: ")
    assert [record["seeds"] for record in both["runs"].values()] == [[100], [200]]
    assert [record["search_seeds"] for record in both["runs"].values()] == [[1100], [1200]]
    assert both["runs"]["run-100"]["table"] == alone["runs"]["run-100"]["table"]
    assert both["together"]["seeds"] == 2 and both["together"]["scenes"] == 2
    for arm, told in (("scratch", "before"), ("pretrained", "after")):
        scores = [record["table"][0][arm]["mean"] for record in both["runs"].values()]
        assert both["together"][told] == pytest.approx(fmean(scores)) and max(scores) > 0


def test_no_seed_counts_twice_and_runs_are_alike(new_streets, tmp_path, monkeypatch):
    first, near = run_of(100), run_of(105)
    longer = SimpleNamespace(**vars(run_of(200)) | {"step": 8})
    for other, name, said in (
        (near, "b", "expected seeds of their own, got 105, 106, 107, 108, 109 more than once"),
        (longer, "b", "b: expected recipe, settings and steps of .*a, got others"),
        (run_of(200, mask={"ratio": 0.25}), "b", "b: expected recipe, settings and steps of .*a, got others"),
        (run_of(200), "elsewhere/a", "expected names of their own, got a more than once"),
    ):
        with pytest.raises(SystemExit, match=said):
            ask(new_streets, monkeypatch, {tmp_path / "a": first, tmp_path / name: other})
