"""Faults that frames share are one line."""

from renderpretrain.data.folder.grouping import grouped, spans

PIXELS = "cameras.front: expected 960 x 540 pixels, got 480 x 270"


def of_frame(number, words, file="front/{}.jpg"):
    return f"/r/{file.format(number)}: frame {number} ({number}): {words}"


def test_the_same_of_several_frames_is_one_line():
    lines = [of_frame(k, PIXELS) for k in (0, 1, 2, 3, 5)]
    assert grouped(lines) == [f"/r/front/0.jpg ...: frames 0-3, 5: {PIXELS}"]
    assert grouped([of_frame(k, PIXELS, "frames.json") for k in (0, 1, 2)]) == [
        f"/r/frames.json: frames 0-2: {PIXELS}"
    ]


def test_numbers_that_differ_are_those_of_the_first():
    lines = [of_frame(k, f"intensity: got {80 + k}% above 1") for k in range(3)]
    (line,) = grouped(lines)
    assert line.endswith("frames 0-2: intensity: got 80% above 1 (the numbers are those of frame 0)")


def test_what_is_of_one_frame_or_of_none_stays_as_it_is():
    lines = ["/r: cameras: expected poses inverted", of_frame(1, "a"), of_frame(2, "b"), of_frame(2, PIXELS)]
    lines += [of_frame(3, PIXELS)]  # two are few
    assert grouped(lines) == lines


def test_spans():
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8" and spans([]) == ""
