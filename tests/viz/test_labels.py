"""Words on pictures: inside, legible and apart; and what a view from above holds."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from renderpretrain.viz.labels import Labels
from renderpretrain.viz.recording import FromAbove, save_recording_picture


def test_words_stay_inside_and_apart():
    image = Image.new("RGB", (300, 200), (255, 255, 255))
    labels = Labels(ImageDraw.Draw(image), image.size, ImageFont.load_default(16))
    for k in range(6):
        labels.write(f"camera_{k}", [(-50, 3 * k)], (90, 220, 255))
    labels.write("elsewhere", [(10, 5), (250, 150)], (90, 220, 255))
    labels.write("nowhere", [], (90, 220, 255))
    boxes = np.array(labels.taken)
    assert len(boxes) == 7 and boxes.min() >= 0 and boxes[:, 2].max() <= 300 and boxes[:, 3].max() <= 200
    for one in range(7):
        for other in range(one):
            apart = boxes[one, :2] >= boxes[other, 2:], boxes[other, :2] >= boxes[one, 2:]
            assert np.any(apart)
    # The second of two places, for the first is taken.
    assert boxes[6, 0] > 200
    # Letters stand on a rim that is dark, whatever is below.
    assert (np.asarray(image).sum(-1) < 100).any()


def test_boxes_are_in_the_view_from_above_unless_they_are_far(tmp_path):
    points = torch.randn(500, 3) * 5
    boxes = torch.tensor([[60.0, 0, 4, 2, 0], [0, -50, 4, 2, 0], [500, 0, 4, 2, 0]])
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    above = FromAbove(points, boxes, colors)
    sheet = np.asarray(Image.open(save_recording_picture(tmp_path / "a.png", "t", [], above)))
    red, green, blue = ((sheet == [255 * (k == c) for c in range(3)]).all(-1).sum() for k in range(3))
    assert red > 20 and green > 20 and blue == 0
