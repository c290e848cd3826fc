"""``renderpretrain eval --probe finetune`` and ``decoder``: they go through, leave everything, and resume."""

import json
from dataclasses import replace

import pytest
import torch

from renderpretrain.cli import main
from renderpretrain.cli.fair_probing import _streets
from renderpretrain.cli.fair_report import fair_record, fair_tables, how_sure
from renderpretrain.data import SyntheticStreet
from renderpretrain.probes import FairPlan, ProbeScenes, depth, semseg
from renderpretrain.probes.fair import (
    Course,
    FairTrial,
    Interval,
    Job,
    Outcome,
    PairedGain,
    Schedule,
    Setting,
)
from renderpretrain.runs import describe_run

SMALL = [
    "--set", "image_size=[64, 96]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=8",
    "--set", "sampler.num_samples=12", "--set", "sampler.num_importance=4",
    "--set", "field.sdf_blocks=1", "--set", "field.rgb_blocks=1",
    "--holdout", "1", "--steps", "1", "--device", "cpu", "--scenes", "2",
]  # fmt: skip
FEW = [
    "--seeds", "1", "--search-seeds", "1", "--scenes", "2", "--test-scenes", "2", "--steps", "1",
    "--rates", "1e-3", "--every", "1",
]  # fmt: skip


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for recipe, flags in (("unipad-lidar", ["--set", "losses.rgb=0"]), ("unipad-camera", [])):
        assert run("pretrain", recipe, "--out", folder / recipe, *SMALL, *flags) == 0
    return folder


@pytest.mark.parametrize(
    ("recipe", "mode", "task", "metric", "labels", "settings"),
    [
        ("unipad-lidar", "finetune", "semseg", "miou", "2", 2),
        ("unipad-camera", "decoder", "depth", "abs_rel", "0.5", 1),
    ],
)
def test_training_leaves_a_table_curves_and_what_it_did(
    runs, capsys, recipe, mode, task, metric, labels, settings
):
    probe = [
        "eval",
        runs / recipe,
        "--probe",
        mode,
        "--task",
        task,
        "--split",
        "test",
        *FEW,
        "--labels",
        labels,
    ]
    assert run(*probe) == 0
    said = capsys.readouterr().out
    better = " (less is better)" if task == "depth" else ""
    assert (
        f"{metric}{better}, {mode}" in said
        and "gain [95 %]" in said
        and "opened, by this run 1 times" in said
    )
    assert "1 of 1 seeds" in said and "raise --steps" in said  # two steps are no training
    file = runs / recipe / "probe.json"
    record = json.loads(file.read_text())[f"{task}/{mode}/test"]
    counts = [2] if labels == "2" else [1]  # half of two
    assert [line["labelled"] for line in record["table"]] == counts
    assert record["split"] == "test" and record["validation_scenes"][0] == "street-2-0"
    trials = record["trials"]
    searched = 2 * settings + 1 if settings > 1 else 0  # hand-made numbers have no rate of encoders
    assert len(trials) == len(counts) * (searched + 3)  # of each arm, a search and a seed
    assert len(record["grid"]) == settings
    assert [bool(t["scores"]) for t in trials] == [False] * searched + [True] * 3
    assert all(score > 0 for trial in trials for _, score in trial["curve"])  # an error, too, as it is
    for trial in trials:
        assert [step for step, _ in trial["curve"]] == list(range(1, trial["steps"] + 1))
    line = record["table"][0]
    assert line["gain"]["gain"]["low"] <= line["gain"]["gain"]["mean"] <= line["gain"]["gain"]["high"]
    assert (
        line["over_handmade"]["after"] == line["gain"]["after"] == pytest.approx(line["pretrained"]["mean"])
    )
    assert line["over_handmade"]["before"] == pytest.approx(line["handmade"]["mean"])
    assert "hand-made" in said and "there is one pre-training run" in said
    sign = -1 if record["less_is_better"] else 1
    assert line["gain"]["gain"]["mean"] == pytest.approx(sign * line["difference"]["mean"])
    assert (runs / recipe / f"probe-{task}-{mode}.png").stat().st_size > 5000
    # Again, and nothing is trained anew.
    assert run(*probe) == 0
    said = capsys.readouterr().out
    assert said.count("(done before)") == len(trials) and "opened" not in said  # no score is new
    assert json.loads(file.read_text())[f"{task}/{mode}/test"] == record


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--probe", "linear", "--rates", "1e-3"], "rates: expected only with --probe finetune or decoder"),
        (["--every", "5"], "every: expected only with --probe, got 5"),
        (
            ["--probe", "decoder", "--encoder-rates", "1"],
            "encoder_rates: expected only with --probe finetune",
        ),
        (
            ["--probe", "finetune", "--labels", "0,5"],
            "labels: expected numbers of scenes or shares in (0, 1]",
        ),
        (
            ["--probe", "finetune", "--labels", "1.5"],
            "labels: expected numbers of scenes or shares in (0, 1]",
        ),
        (["--probe", "finetune", "--rates", "0"], "rates: expected numbers above 0 with commas"),
        (["--probe", "finetune", "--rates", "inf"], "rates: expected numbers above 0 with commas"),
        (["--probe", "finetune", *FEW, "--labels", "3"], "labeled: expected at most the 2 training scenes"),
        (["--probe", "finetune", *FEW, "--every", "9"], "longest: expected at least every=9, got 1"),
    ],
)
def test_a_mistake_is_one_line(runs, capsys, flags, message):
    assert run("eval", runs / "unipad-lidar", *flags) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def outcome(rates, converged=True, seeds=2, metric="miou"):
    settings = {arm: Setting(*rates) for arm in ("scratch", "pretrained")} | {"handmade": Setting(1e-2, 0.0)}
    scores = {"scratch": 0.5, "pretrained": 0.4, "handmade": 0.8}
    course = Course(50, 75, ((25, 0.5),), 25, converged)
    trials = [
        FairTrial(Job(arm, "final", 1, seed, settings[arm]), course, {metric: scores[arm]})
        for seed in range(seeds)
        for arm in settings
    ]
    gain = PairedGain(0.5, 0.55, Interval(0.05, 0.01, 0.09), Interval(0.1, 0.02, 0.18), 0.01, 0.01, seeds, 4)
    over = PairedGain(0.8, 0.4, Interval(0.4, 0.3, 0.5), Interval(0.5, 0.4, 0.6), 0.01, 0.01, seeds, 4)
    return Outcome(1, settings, gain, tuple(trials), over)


def test_a_table_shows_intervals_and_notes_say_what_to_doubt():
    plan = FairPlan(semseg(("free", "a")), lrs=(1e-3, 1e-2, 1e-1), schedule=Schedule(longest=50))
    tables = fair_tables(plan, [outcome((1e-2, 0.1))], "finetune")
    told, beside = (dict(zip(header, rows[0], strict=True)) for header, rows in tables)
    assert next(iter(told)) == "miou, finetune" and next(iter(beside)) == "miou, finetune, beside hand-made"
    assert told["gain [95 %]"] == "+0.0500 [+0.0100, +0.0900]"
    assert told["relative [95 %]"] == "+10.0 [+2.0, +18.0] %"
    assert told["steps"] == "75" and told["scratch's rates"] == "0.01, encoders x 0.1"
    assert beside["hand-made"] == "0.8000 ± 0.0000" and beside["pre-trained"] == "0.4000 ± 0.0000"
    assert beside["relative [95 %]"] == "+50.0 [+40.0, +60.0] %" and beside["hand-made's rates"] == "0.01"
    without = replace(outcome((1e-2, 0.1)), over_handmade=None)
    assert len(fair_tables(plan, [without], "finetune")) == 1
    assert how_sure(plan, [outcome((1e-2, 0.1))]) == []
    (going,) = how_sure(plan, [outcome((1e-2, 0.1), converged=False)])
    assert "cut off after 50 steps, before 50 had brought no gain, with 2 of 2 seeds (0, 1)" in going
    edges = how_sure(plan, [outcome((1e-1, 1.0))])
    assert [note.partition("rate of ")[2].partition(",")[0] for note in edges] == ["scratch", "pre-trained"]
    assert "one alone says nothing of others" in how_sure(plan, [outcome((1e-2, 0.1), seeds=1)])[0]


@pytest.mark.parametrize(("other", "sure"), [(0.49, False), (0.4, True)])
def test_a_rate_that_is_hardly_ahead_of_another_is_told(other, sure):
    """Both seeds that choose count: 0.5 in the mean beside what another rate has."""
    plan = FairPlan(semseg(("free", "a")), lrs=(1e-3, 1e-2, 1e-1))
    found = outcome((1e-2, 0.1))
    searched = [
        FairTrial(Job("scratch", "search", 1, seed, setting), Course(50, 75, ((25, best),), 25, True), {})
        for setting, scores in ((Setting(1e-2, 0.1), (0.6, 0.4)), (Setting(1e-3, 1.0), (other, other)))
        for seed, best in zip((100, 101), scores, strict=True)
    ]
    notes = how_sure(plan, [replace(found, trials=(*searched, *found.trials))])
    if sure:
        assert notes == []
    else:
        (note,) = notes
        assert "rate of scratch, 0.01, encoders x 0.1, is ahead of 0.001, encoders x 1 by less than" in note
        assert "with --search-seeds 2" in note and note.endswith("raise it")


def test_an_error_that_falls_is_a_gain():
    """From 0.5 to 0.4 is a fifth less, and half of what hand-made numbers have."""
    plan, scene = FairPlan(depth()), SyntheticStreet(2, image_size=(16, 32), with_truth=False)
    record = fair_record(
        plan, ProbeScenes([scene[0]], [scene[1]]), [outcome((1e-2, 1.0), metric="abs_rel")], "decoder"
    )
    (line,) = record["table"]
    assert line["difference"]["mean"] == pytest.approx(-0.1)
    assert line["relative"] == pytest.approx(0.2) and line["relative_to_handmade"] == pytest.approx(0.5)
    (header, _), _ = fair_tables(plan, [outcome((1e-2, 1.0), metric="abs_rel")], "decoder")
    assert header[0] == "abs_rel (less is better), decoder"


def test_frames_that_belong_together_are_known():
    plain, ahead, several = (
        describe_run(name, {}, changes, saved={})
        for name, changes in (
            ("unipad-lidar", []),
            ("unipad-lidar", [{"terms": {"next_sweep": 1.0}}]),  # looks at the frame that follows
            ("uniscene", []),
        )
    )
    assert _streets(plain, "synthetic", 5) == (0, 1, 2, 3, 4)
    assert _streets(ahead, "synthetic", 5) == _streets(several, "synthetic", 5) == (0, 0, 0, 0, 1)
    stretches = torch.tensor(_streets(plain, "folder:anywhere", 20))
    assert (
        torch.equal(stretches, stretches.sort().values) and stretches.bincount().tolist() == [3, 2, 3, 2] * 2
    )
    assert _streets(plain, "folder:anywhere", 3) == (0, 1, 2)
