"""What a run prints: a bar with what stays in sight on a terminal, plain lines elsewhere."""

import io
import re
import sys
import time

import pytest
from rich.console import Console

from renderpretrain.terminal import GuardedStream
from renderpretrain.training import console
from renderpretrain.training.console import Status, clock_in, progress_report


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so, from half past ten in the morning on."""
    at = [0.0]
    morning = time.mktime((2026, 3, 2, 10, 30, 0, 0, 0, -1))
    monkeypatch.setattr(console.time, "monotonic", lambda: at[0])
    monkeypatch.setattr(console.time, "time", lambda: morning + at[0])
    monkeypatch.setattr(console.time, "localtime", lambda t=None, real=time.localtime: real(t or morning))
    return at


def test_plain_lines_say_once_when_a_long_run_ends(clock, capsys):
    with progress_report(100, quiet=False) as report:
        for step in range(4):
            clock[0] = 40.0 * step
            report(step, f"loss {step}" if step else "", "step", loss=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "[1/100] loss 1  66 min left",
        "[1/100] at this speed the run ends at 11:36",
        "[2/100] loss 2  65 min left",
        "[3/100] loss 3  65 min left",
    ]


def test_a_short_run_says_no_more_than_its_lines(clock, capsys):
    with progress_report(4, quiet=False) as report:
        report(0, "scores of held-out scenes take longer than a step")
        for step in (1, 2, 3):
            clock[0] = 200.0 + 30.0 * step
            report(step, f"loss {step}", "step", loss=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["[1/4] loss 1", "[2/4] loss 2  1 min left", "[3/4] loss 3"]


def test_another_day_is_named(clock):
    assert clock_in(3600) == "11:30"
    assert re.fullmatch(r"\S+ 03 \S+, 10:30", clock_in(24 * 3600))


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def test_what_is_drawn_reaches_a_guarded_terminal_and_what_is_said_does_not_command_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", GuardedStream(terminal))
    with progress_report(4, quiet=False) as report:
        report(1, "a scene called \x1b]0;owned\x07", "scores", loss=1.0)
    shown = terminal.getvalue()
    assert "\x1b[" in shown and "1/4" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert r"\x1b[" not in shown and r"\x1b]0;owned\x07" in shown and "\x1b]" not in shown


def test_a_terminal_keeps_the_loss_the_scores_and_every_warning_in_sight():
    shown = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    status = Status(shown, 40)
    status.report(3, "loss 2.125  lr 0.1", "step", loss=2.125)
    status.report(4, "", "step", loss=1.5)
    status.report(4, "held out: depth 0.5", "scores")
    status.report(4, "the encoder is [bold] collapsing", "warning")
    status.report(8, "held out: depth 0.25", "scores")
    scrolled = shown.file.getvalue()
    assert "[3/40] loss 2.125  lr 0.1" in scrolled and "[4/40]" in scrolled and "loss 1.5" not in scrolled
    with shown.capture() as captured:
        shown.print(status.renderable())
    below = re.sub(r"\x1b\[[0-9;]*m", "", captured.get())
    assert "8/40" in below and "loss 1.5" in below
    assert "[8/40] held out: depth 0.25" in below and "depth 0.5" not in below
    assert "[4/40] the encoder is [bold] collapsing" in below
