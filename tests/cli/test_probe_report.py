"""The sheet on which a probe's answers are drawn."""

import torch
from PIL import Image

from renderpretrain.cli.probe_report import Gallery
from renderpretrain.probes import Example, ProbeSamples, Trial
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
