"""The check of a GPU keeps to its minutes, writes as it goes, and says what it leaves out and why."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from renderpretrain.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(benchmark_module):
    return benchmark_module("gpu_check")


@pytest.mark.skipif("CUDA_VISIBLE_DEVICES" in os.environ, reason="would look at a GPU that is hidden anyway")
def test_without_a_gpu_every_part_is_skipped_with_its_reason(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--out", str(tmp_path)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=hidden, capture_output=True, text=True, check=True)
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert written["card"] is None and len(written["parts"]) == 12
    assert {part["skipped"] for part in written["parts"].values()} == {"torch finds no CUDA device"}
    assert done.stdout.count("skipped, torch finds no CUDA device") == 12
    assert "| train | skipped |  | torch finds no CUDA device |" in (tmp_path / "gpu_check.md").read_text()


def test_the_parts_leave_a_minute_of_eight_for_training(check, tmp_path):
    groups = check.grouped(check.parts(tmp_path))
    assert [part.name for part in groups[1]] == ["tests", "memcheck", "racecheck"]
    *before, (last,) = groups
    assert last.name == "train"
    assert sum(max(part.limit for part in group) for group in before) <= 420


def test_every_script_and_test_of_a_part_is_there(check, tmp_path):
    for part in check.parts(tmp_path):
        files = [word for word in part.command if word.startswith(("benchmarks/", "tests/"))]
        assert all((ROOT / file).is_file() for file in files), part.name
        if any(word.startswith("benchmarks/") for word in part.command):
            place = next(k for k, word in enumerate(part.command) if word.startswith("benchmarks/"))
            module = part.command[place].removeprefix("benchmarks/").removesuffix(".py")
            text = (ROOT / "benchmarks" / f"{module}.py").read_text()
            options = [word for word in part.command if word.startswith("--")]
            assert all(f'"{option}"' in text for option in options), part.name


def test_a_step_of_every_recipe_is_taken(benchmark_module):
    steps = benchmark_module("card_steps").VARIANTS
    assert {name.partition(":")[0] for name in steps} == set(RECIPES)


@pytest.mark.parametrize(
    ("program", "limit", "code", "last"),
    [
        ("print('one'); print('two')", 20, 0, "two"),
        ("raise SystemExit('broken')", 20, 1, "broken"),
        (
            "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "print('begun', flush=True); time.sleep(60)",  # whatever this process makes of an interrupt
            1.5,
            "ended after 2 s",
            "KeyboardInterrupt",
        ),
    ],
)
def test_a_part_ends_in_its_time_and_leaves_what_it_said(
    check, tmp_path, monkeypatch, program, limit, code, last
):
    monkeypatch.setattr(check, "LEAST_SECONDS", 1.0)
    begin = time.monotonic()
    found = check.execute(check.Part("one", [sys.executable, "-c", program], 60), tmp_path, limit)
    assert found["exit"] == code and found["last"][-1] == last
    assert time.monotonic() - begin < 20
    check.report(tmp_path, {"card": "a card", "date": "today", "commit": "0"}, {"one": found})
    assert f"| one | {code} |" in (tmp_path / "gpu_check.md").read_text()


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"tool": "no-such-program"}, "no-such-program is not installed"),
        ({"modules": ("json", "no_such_module")}, "no_such_module is not installed"),
    ],
)
def test_what_is_missing_here_is_named(check, tmp_path, part, reason):
    missing = check.Part("one", [sys.executable, "-c", "raise SystemExit(1)"], 60, **part)
    assert check.execute(missing, tmp_path, 60) == {"skipped": reason}
    assert check.execute(check.Part("one", ["true"], 60), tmp_path, 3) == {"skipped": "no time left"}


def test_missing_packages_are_named_with_what_to_carry(check, tmp_path, monkeypatch):
    assert check.missing(tmp_path) is None
    monkeypatch.setattr(check, "NEEDED", {"no_such_module": "no-such-package"})
    monkeypatch.setattr(check, "ROOT", tmp_path)
    told = check.missing(tmp_path)
    assert "\n" not in told and told.startswith(
        "not installed: no-such-package; carry their wheels in wheels/"
    )
    assert told.endswith("--dest wheels no-such-package")
