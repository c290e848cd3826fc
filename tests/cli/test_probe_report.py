"""What a probe leaves: its tables, how often test scenes were opened, and the sheet of its answers."""

import json

import torch
from PIL import Image

from renderpretrain.cli.probe_records import Opening
from renderpretrain.cli.probe_report import Gallery, print_classes, print_comparison
from renderpretrain.probes import Example, Plan, ProbeSamples, Trial, compare, depth
from renderpretrain.viz.sheet import SWATCH

NAMES = ("free", "car", "road", "tree")
POINTS = torch.tensor([[float(x), float(y), 0.0] for x in range(10) for y in range(10)])
TRUTH = torch.full((100,), 2)


def told(gallery, arm, said, seed=0):
    """Add a trial whose head says one class everywhere."""
    outputs = torch.nn.functional.one_hot(torch.full((100,), said), 4).float()
    gallery.add(Trial(arm, 1.0, 5, seed, {}), Example(ProbeSamples(outputs, TRUTH, POINTS), outputs))


def pixels_of_colours(path):
    """Pixels of every colour that is none of a text."""
    with Image.open(path) as sheet:
        found = sheet.convert("RGB").getcolors(10**6)
    return sorted(count for count, colour in found if max(colour) - min(colour) > 100)


def test_a_class_has_one_colour_in_every_column(tmp_path):
    """Truth is all road; one arm says so, the other says car: two of three squares are of one colour."""
    gallery = Gallery(NAMES)
    told(gallery, "pretrained", 2)
    told(gallery, "scratch", 1)
    told(gallery, "scratch", 3, seed=1)  # only the first seed's is drawn
    assert gallery.save(tmp_path / "answers.png", "title") == tmp_path / "answers.png"
    car, road = pixels_of_colours(tmp_path / "answers.png")  # no tree
    swatch = (SWATCH - 1) ** 2  # in a frame
    assert road - swatch == 2 * (car - swatch) > 0


def test_nothing_is_drawn_where_places_are_not_points(tmp_path):
    gallery = Gallery(NAMES)
    outputs = torch.zeros(100, 4)
    gallery.add(Trial("scratch", 1.0, 5, 0, {}), Example(ProbeSamples(outputs, TRUTH), outputs))
    assert gallery.save(tmp_path / "answers.png", "title") is None
    assert not (tmp_path / "answers.png").exists()


def test_a_table_of_an_error_says_that_less_is_better_and_counts_what_it_falls_by(capsys):
    scores = {"scratch": 0.5, "pretrained": 0.4, "handmade": 0.8, "pretrained+handmade": 0.2}
    scores["scratch+handmade"] = 0.6
    trials = [Trial(arm, 1.0, 7, 0, {"abs_rel": score}) for arm, score in scores.items()]
    plan = Plan(depth(), (1.0,), (0,))
    print_comparison(plan, compare(trials, "abs_rel", less_is_better=True))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "abs_rel (less is better), linear scenes scratch pre-trained difference",
        "100 % 7 0.5000 0.4000 -0.1000 (+20.0 %)",
        "beside hand-made hand-made alone scratch + them pre-trained + them over them alone",
        "100 % 0.8000 0.6000 0.2000 +50.0 % alone, +75.0 % added",
    ]


def test_errors_of_hits_are_not_under_the_heading_of_precision(capsys):
    scores = {"map": 0.5, "ap@2": 0.6, "ate": 0.7, "aoe": 1.5, "ap/car": 0.5, "ate/car": 0.7, "aoe/car": 1.5}
    print_classes([Trial(arm, 1.0, 7, 0, scores) for arm in ("scratch", "pretrained")])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "AP, scratch -> pre-trained 100 %",
        "ap@2 0.600 -> 0.600",
        "car 0.500 -> 0.500",
        "error of hits (less is better), scratch -> pre-trained 100 %",
        "ate (m) 0.700 -> 0.700",
        "aoe (rad) 1.500 -> 1.500",
        "ate car 0.700 -> 0.700",
        "aoe car 1.500 -> 1.500",
    ]


def test_test_scenes_are_opened_by_the_first_score_that_is_shown(tmp_path):
    """What ends before that has opened nothing; a call counts once."""
    path, told = tmp_path / "probe.json", []
    for times in (1, 2):
        opening = Opening(path, "semseg/linear/test", {"step": 3})
        assert opening.times == times - 1 and path.exists() == (times > 1)
        for _ in range(3):
            opening.note(told.append)
        record = json.loads(path.read_text())["semseg/linear/test"]
        assert record == {"step": 3, "opened": times} and opening.times == times
    assert told == [f"test       opened, by this run {times} times in all" for times in (1, 2)]
