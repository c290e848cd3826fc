"""What reaches a terminal: control characters in names are shown, and what looks like markup is text."""

import io
import json
import logging
import os
import pty
import sys

import pytest
import torch
import yaml
from rich.console import Console
from torch.fx import _symbolic_trace

from renderpretrain.cli import main
from renderpretrain.cli.printed import print_table
from renderpretrain.data import SyntheticStreet, write_scene_folder
from renderpretrain.encoders import SparseEncoder
from renderpretrain.encoders.sparse_backend import self_test
from renderpretrain.terminal import GuardedStream, guard_terminal, printable
from renderpretrain.transfer import export_encoders, from_modules

TITLE = "\x1b]0;owned\x07"
"""Renames the window of most terminals."""

SHOWN = r"\x1b]0;owned\x07"


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code in (0, None)


@pytest.fixture
def recording(tmp_path):
    street = SyntheticStreet(1, image_size=(32, 64), points_per_beam=60, with_truth=False)
    write_scene_folder(tmp_path / "data", [street[0]])
    return tmp_path / "data"


def in_the_index(change):
    """A change of ``frames.json``'s first frame, and the command that meets it."""

    def arguments(recording, tmp_path):
        file = recording / "frames.json"
        content = json.loads(file.read_text())
        change(content["frames"][0])
        file.write_text(json.dumps(content))
        return ["pretrain", "unipad-lidar", "--data", f"folder:{recording}", "--dry-run"]

    return arguments


@in_the_index
def frame_id(frame):
    frame.update(frame_id=TITLE)
    frame["lidar"]["file"] = "nowhere.bin"


@in_the_index
def sweep_name(frame):
    frame["lidar"]["file"] = f"{TITLE}.bin"


@in_the_index
def camera_name(frame):
    frame["cameras"][TITLE] = {}


def key_of_a_checkpoint(recording, tmp_path):
    export_encoders(from_modules({"point_encoder": SparseEncoder(5)}), "mmdet3d-0.17", tmp_path / "host.pth")
    saved = torch.load(tmp_path / "host.pth", weights_only=True)
    saved["state_dict"][f"pts_middle_encoder.{TITLE}"] = torch.zeros(1)
    torch.save(saved, tmp_path / "host.pth")
    return ["import", tmp_path / "host.pth", "--from", "mmdet3d-0.17", "--out", tmp_path / "o.safetensors"]


def out_file(recording, tmp_path):
    return [*key_of_a_checkpoint(recording, tmp_path)[:-1], tmp_path / f"{TITLE}.safetensors"]


def weights_file(recording, tmp_path):
    return ["import", tmp_path / f"{TITLE}.pth", "--from", "timm", "--out", tmp_path / "o.safetensors"]


def data_folder(recording, tmp_path):
    return ["pretrain", "unipad-lidar", "--data", f"folder:{tmp_path / TITLE}", "--dry-run"]


def run_folder(recording, tmp_path):
    return ["render", tmp_path / TITLE]


def saved_recipe(recording, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"recipe": TITLE, "config": {}}))
    return ["export", tmp_path / "run", "--to", "openpcdet", "--out", tmp_path / "o.pth"]


def wrong_usage(recording, tmp_path):
    return ["pretrain", f"--{TITLE}"]


@pytest.mark.parametrize(
    "place",
    [
        frame_id,
        sweep_name,
        camera_name,
        key_of_a_checkpoint,
        out_file,
        weights_file,
        data_folder,
        run_folder,
        saved_recipe,
        wrong_usage,
    ],
)
def test_names_with_control_characters_are_shown(recording, tmp_path, capsys, place):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in place(recording, tmp_path)])
    assert end.value.code == {key_of_a_checkpoint: 0, out_file: 0, wrong_usage: 2}.get(place, 1)
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "\x07" not in said
    assert SHOWN in said.replace("\n", "")


@pytest.fixture
def drawn(monkeypatch):
    """A function: what a call draws on a terminal of 100 columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def draw(call):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            guard_terminal()
            call()
            stream.flush()
            written = os.read(ours, 100_000).decode()
        os.close(ours)
        return written

    return draw


def test_units_stay_in_a_table_on_a_terminal(drawn):
    rows = [["depth_rmse [m]", "1.0"], ["psnr [dB]", "2.0"]]
    table = drawn(lambda: print_table(["held-out scenes", f"[red]before{TITLE}"], rows))
    assert "depth_rmse [m]" in table and "psnr [dB]" in table and "[red]before" in table
    assert SHOWN in table and "\x1b]" not in table and "\x07" not in table


def test_rich_may_draw_and_words_may_not(drawn):
    assert "\x1b[31mred\x1b[0m" in drawn(lambda: Console().print("red", style="red"))
    assert drawn(lambda: print("\x1b[31mred\tend")) == "\\x1b[31mred\tend\r\n"


@pytest.mark.parametrize("text", ["\x1b", "\r", "\x00", "\x9b31m", "\u202e", "\u200b", "\udce9", "\x7f"])
def test_control_characters_are_escaped(text):
    assert printable(f"a{text}b") == f"a{text.encode('unicode_escape').decode()}b"


def test_other_text_stays():
    assert printable("depth [m]\tüber 数\n") == "depth [m]\tüber 数\n"
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("3 ± 1", file=GuardedStream(raw))
    raw.flush()
    assert raw.buffer.getvalue() == b"3 \\xb1 1\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--version"], "renderpretrain 0.1.0\n"),
        (["recipes"], "unipad-lidar "),
        (["recipes", "list"], "unipad-lidar "),
    ],
)
def test_what_needs_no_verb(capsys, arguments, line):
    run(*arguments)
    assert capsys.readouterr().out.startswith(line)


@pytest.mark.slow
def test_spconv_is_tried_without_a_warning_of_torch():
    pytest.importorskip("spconv", reason="its tensors cause the warning")
    said = io.StringIO()
    handler, logger = logging.StreamHandler(said), _symbolic_trace.log
    _symbolic_trace.is_fx_tracing_warning.cache_clear()  # it warns once per process
    logger.addHandler(handler)
    try:
        self_test("cpu")
        assert _symbolic_trace.is_fx_tracing_warning.cache_info().misses == 1
        logger.warning("another")
    finally:
        logger.removeHandler(handler)
    assert said.getvalue() == "another\n"
