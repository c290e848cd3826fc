"""Faults that many frames share, in one line each."""

import re
from collections.abc import Iterable, Sequence

OF_FRAME = re.compile(r"(?P<file>.*?): frame (?P<position>\d+)(?P<name> \(.*?\))?: (?P<words>.*)")
"""A line about one frame: the file, the frame, and what is wrong."""

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def grouped(lines: Iterable[str]) -> list[str]:
    """The lines, with those of several frames that differ in nothing but numbers and files as one.

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
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[re.Match[str] | str]) -> str:
    """One line for a group."""
    matches = [each for each in group if isinstance(each, re.Match)]
    frames = sorted({int(match["position"]) for match in matches})
    if len(frames) < 2:
        return group[0] if isinstance(group[0], str) else group[0][0]
    first = matches[0]
    files = first["file"] + (" ..." if len({match["file"] for match in matches}) > 1 else "")
    same = len({match["words"] for match in matches}) == 1
    of_first = "" if same else f" (the numbers are those of frame {first['position']})"
    return f"{files}: frames {spans(frames)}: {first['words']}{of_first}"


def spans(numbers: Sequence[int]) -> str:
    """Rising whole numbers in few words: ``0-3, 7, 9-12``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
