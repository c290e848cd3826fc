"""Faults that many frames share, in one line each."""

import re
from collections.abc import Iterable, Sequence

OF_FRAME = re.compile(r"(?P<file>.*?): frame (?P<position>\d+)(?P<name> \(.*?\))?: (?P<words>.*)")
"""A line about one frame: the file, the frame, and what is wrong."""

FEWEST = 3
"""Frames that share a line."""

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def grouped(lines: Iterable[str]) -> list[str]:
    """The lines, with those of three frames or more that differ in nothing but numbers and files as one.

    ``F/0.npy: frame 0 (0): lidar.file: WORDS`` and the like of other frames become
    ``F/0.npy ...: frames 0-9: lidar.file: WORDS``; where numbers differ, the words are those of the first.

    Args:
        lines: One for each fault.
    """
    groups: dict[str, list[re.Match[str] | str]] = {}
    for line in lines:
        match = OF_FRAME.fullmatch(line)
        key = line if match is None else NUMBER.sub("#", f"{match['file']}: {match['words']}")
        groups.setdefault(key, []).append(match or line)
    return [line for group in groups.values() for line in _lines(group)]


def _lines(group: Sequence[re.Match[str] | str]) -> list[str]:
    """One line for a group of enough frames, else its own."""
    matches = [each for each in group if isinstance(each, re.Match)]
    frames = sorted({int(match["position"]) for match in matches})
    if len(frames) < FEWEST:
        return [each if isinstance(each, str) else each[0] for each in group]
    first = matches[0]
    files = first["file"] + (" ..." if len({match["file"] for match in matches}) > 1 else "")
    same = len({match["words"] for match in matches}) == 1
    of_first = "" if same else f" (the numbers are those of frame {first['position']})"
    return [f"{files}: frames {spans(frames)}: {first['words']}{of_first}"]


def spans(numbers: Sequence[int]) -> str:
    """Rising whole numbers in few words: ``0-3, 7, 9-12``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
