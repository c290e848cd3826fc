"""What a run has learned follows from what it has measured, sentence by sentence."""

from pathlib import Path

import pytest

from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.record import RunRecord
from renderpretrain.runs.verdict import TRY, gain_of, verdict

BLOCKS, DEPTH = "depth_in_blocks_abs_rel", "depth_abs_rel"


def record(rows=(), probes=None, holdout=2):
    return RunRecord(
        RunFolder(Path("runs/x")), {"holdout": holdout, "config": {}}, {}, list(rows), "finished", {},
        {} if probes is None else probes, [], (),
    )  # fmt: skip


def said(*rows, **more):
    return [(each.tone, each.words) for each in verdict(record(rows, **more))]


def row(step, **scores):
    return {"step": step, **{f"eval/{name}": value for name, value in scores.items()}}


@pytest.mark.parametrize(
    ("before", "after", "beside", "tone", "words"),
    [
        (0.8, 0.3, {"nearest_point": 0.2, "row_median": 0.5, "best_row": 0.4}, "open",
         "better than the best fixed value of each image row (0.4), "
         "not yet better than the nearest input point (0.2)"),
        (0.8, 0.1, {"nearest_point": 0.2, "row_median": 0.5, "baseline": 0.6}, "better",
         "better than the median of each image row (0.5) and the nearest input point (0.2)"),
        (0.8, 0.7, {"nearest_point": 0.2, "baseline": 0.6}, "open",
         "not yet better than the mean of each image row (0.6) and the nearest input point (0.2)"),
        (0.3, 0.8, {"nearest_point": 0.2}, "worse",
         "worse than before training, not yet better than the nearest input point (0.2)"),
    ],
)  # fmt: skip
def test_depth_is_told_beside_what_learns_no_geometry(before, after, beside, tone, words):
    others = {f"{name}_{BLOCKS}": value for name, value in beside.items()}
    found = said(row(0, **{BLOCKS: before, DEPTH: 0.9}, **others), row(9, **{BLOCKS: after, DEPTH: 0.1}))
    line = f"Depth in hidden blocks, held out: AbsRel {before} -> {after} (less is better): {words}"
    assert found[0] == (tone, line)
    assert not any("Depth," in line for _, line in found)  # told where nothing was hidden


def test_beams_are_told_beside_blocks():
    beams = "depth_between_beams_abs_rel"
    others = {f"nearest_point_{BLOCKS}": 0.3, f"nearest_point_{beams}": 0.1}
    found = said(row(0, **{BLOCKS: 0.8, beams: 0.8}, **others), row(9, **{BLOCKS: 0.2, beams: 0.2}))
    assert [tone for tone, _ in found[:2]] == ["better", "open"]
    assert found[1][1].startswith("Depth at hidden beams") and "not yet better than the n" in found[1][1]


def test_of_colour_more_is_better():
    found = said(row(0, psnr=9.0, baseline_psnr=12.5), row(5, psnr=15.0))
    assert found[0] == (
        "better",
        "Colour, held out: PSNR 9 -> 15 dB (more is better): better than the mean of each image row (12.5)",
    )


def test_one_evaluation_is_no_change():
    assert said(row(0, **{DEPTH: 0.5}))[0] == (
        "open",
        "Depth, held out: AbsRel 0.5 (less is better), measured once so far",
    )


def test_what_was_not_measured_is_said():
    assert said()[0] == ("open", "Held-out scenes: not measured yet")
    assert "--holdout N leaves N" in said(holdout=0)[0][1]
    assert said()[1] == (
        "open",
        "Features: not probed; `renderpretrain eval runs/x --probe linear` says what they are worth",
    )


def line(fraction, scratch, pretrained, **more):
    arms = {"scratch": {"mean": scratch}, "pretrained": {"mean": pretrained}}
    return {"fraction": fraction, **arms, "relative": pretrained / scratch - 1, **more}


@pytest.mark.parametrize(
    ("more", "gain"),
    [
        ({}, "worse"),
        ({"relative": 0.1}, "better"),  # an error that fell
        ({"deviations": -2.4}, "open"),  # Student's interval of three seeds, at 95 %: 2.48 to either side
        ({"deviations": -2.6}, "worse"),
        ({"deviations": 2.6}, "better"),
        ({"deviations": -3.0, "gain": {"gain": {"low": -0.1, "high": 0.01}}}, "open"),
        ({"deviations": None, "gain": {"gain": {"low": 0.1, "high": 0.2}}}, "better"),
        ({"gain": {"gain": {"low": None, "high": None}}}, "worse"),
    ],
)
def test_a_gain_counts_where_it_is_clear(more, gain):
    assert gain_of(line(0.1, 0.2, 0.18, **more), seeds=3) == gain


def test_few_seeds_have_to_gain_more():
    """Student's interval of a mean, in deviations of one seed."""
    for seeds, reach in ((2, 12.706 / 2**0.5), (5, 2.776 / 5**0.5), (20, 2.262 / 20**0.5)):
        assert gain_of(line(1.0, 0.2, 0.3, deviations=1.01 * reach), seeds) == "better"
        assert gain_of(line(1.0, 0.2, 0.3, deviations=0.99 * reach), seeds) == "open"


def probed(*table, **more):
    probe = {"metric": "miou", "seeds": [0], "table": list(table), **more}
    (found,) = [each for each in said(probes={"semseg/linear": probe}) if "Features" in each[1]]
    return found


def test_features_are_told_beside_fresh_weights():
    tone, words = probed(line(0.1, 0.21, 0.181), line(0.5, 0.1, 0.9), line(1.0, 0.203, 0.178))
    assert tone == "worse" and words == (
        "Features, semseg/linear (miou, more is better): 0.181 beside 0.21 of fresh weights with 10 % of the "
        "labels: worse; 0.178 beside 0.203 with 100 % of the labels: worse; of one seed, which says little; "
        f"{TRY}"
    )
    tone, words = probed(line(1.0, 0.2, 0.3), seeds=[0, 1])
    assert tone == "better" and words.endswith("with 100 % of the labels: better")
    assert probed(line(0.1, 0.2, 0.3), line(1.0, 0.3, 0.2))[0] == "open"  # now better, now worse
    assert (
        probed({"fraction": "many"})[1] == "Features, semseg/linear: what the probe has left cannot be read"
    )
    assert not any("Features" in words for _, words in said(probes={"semseg/linear/test": {"opened": 1}}))


def test_features_are_told_beside_what_needs_no_network():
    lower = line(0.1, 0.2, 0.3, handmade={"mean": 0.35})
    tone, words = probed(lower, line(1.0, 0.2, 0.5, handmade={"mean": 0.4}))
    assert tone == "open"  # better than fresh weights with all labels alone
    assert "10 % of the labels: better, worse than hand-made numbers alone (0.35)" in words
    assert "100 % of the labels: better, better than hand-made numbers alone (0.4)" in words
    error = line(1.0, 0.4, 0.3, handmade={"mean": 0.35, "deviation": 0.01}, deviations=3.0)
    assert probed(error, less_is_better=True, seeds=[0, 1, 2])[0] == "better"
    tone, words = probed(error, less_is_better=True, seeds=[0, 1])  # two seeds are not clear of 0.01
    assert tone == "open" and "no clear difference from hand-made numbers alone (0.35)" in words


def test_what_the_monitor_warned_of_is_told():
    level = {"rank": 1.0, "channels": 32, "dead": 0.0, "unit_std": 0.5}
    rows = [
        {"step": step, **{f"health/e/0/{name}": value for name, value in level.items()}} for step in (0, 5)
    ]
    tone, words = said(*rows)[-1]
    assert tone == "warning" and words.startswith("step 5: e is collapsing: e/0 uses 1.0 of 32 directions")
