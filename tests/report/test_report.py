import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from renderpretrain.cli import main
from renderpretrain.report import report_page, write_report
from renderpretrain.report.overview import repeating_command, typed_command
from renderpretrain.report.pictures import MOST_STEPS, pictures_that_fit
from renderpretrain.runs.lock import run_lock
from renderpretrain.runs.record import read_record
from renderpretrain.verbs.reporting import RunningPage, refresh_report
from renderpretrain.viz import save_sheet

VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """A page taken apart: every element that is opened must be closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.words.append(data)
        if self.rows and "tr" in self.open:
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*runs):
    return Page(report_page([read_record(run) for run in runs], written=datetime.now(timezone.utc)))


def charts_of(path):
    """The data of every chart of a page, by its title."""
    found = re.findall(r'<script type="application/json">(.+?)</script>', path.read_text())
    return {chart["title"]: chart for chart in map(json.loads, found)}


def failure(capsys, *arguments):
    """The one line of a command that does not end well."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


def change(run, **settings):
    """Change what the run's file says of its settings."""
    path = run / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["config"]["optimization"] |= settings
    path.write_text(yaml.safe_dump(tree))


def test_a_run_ends_with_a_page_of_all_that_it_left(trained):
    page = Page((trained / "report.html").read_text())
    for words in (
        "unipad-lidar tiny",
        "finished after step 2 of 2",
        "synthetic (3 scenes to train on, 1 held out)",
        "depth_in_blocks_abs_rel",
        "nearest point",
        "samples a second",
        "optimization.warmup_steps",
        "torch",
    ):
        assert words in page.text, words
    charts = charts_of(trained / "report.html")
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    (line,) = charts["loss"]["lines"]
    assert line["x"] == [1, 2] and line["y"] == pytest.approx(losses, rel=1e-4)  # five digits are kept
    assert len(charts["depth_abs_rel"]["lines"]) == 2  # with the nearest point
    over_range = charts["all rays, most of whose returns are in the input"]
    assert {line["name"] for line in over_range["lines"]} == {"before", "after", "nearest point"}
    assert "4-8 m" in over_range["labels"]
    assert "point_encoder/0" in str(charts["directions used (RankMe), share of the width"])
    assert "gradient of each term on point_encoder" in charts
    pictures = page.all("img")
    steps = {each.get("data-step") for each in pictures}
    assert steps == {None, "0", "1", "2"}  # the input is there once
    assert len(pictures) > 20 and all(each["alt"] for each in pictures)


def test_a_page_asks_for_nothing(trained):
    text = (trained / "report.html").read_text()
    page = Page(text)
    addresses = [
        value for _, each in page.elements for name, value in each.items() if name in ("src", "href")
    ]
    assert addresses and all(address.startswith(("data:image/", "#")) for address in addresses)
    script = re.search(r"<script>(.+?)</script>", text, re.DOTALL)[1]
    assert not re.search(r"fetch|XMLHttpRequest|import[ (]|WebSocket", script)
    assert "url(" not in re.search(r"<style>(.+?)</style>", text, re.DOTALL)[1]
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(text) < 5_000_000


def test_the_command_on_the_page_repeats_the_run(trained, capsys):
    record = read_record(trained)
    assert typed_command(record.environment).startswith(("renderpretrain ", "python "))
    assert typed_command(
        {"command": ["/x/renderpretrain/__main__.py", "pretrain", "a b"], "processes": 2}
    ) == ("torchrun --nproc-per-node 2 -m renderpretrain pretrain 'a b'")
    two_of_eight = {"command": ["train.py"], "processes": 16, "processes_per_node": 8}
    assert typed_command(two_of_eight) == "torchrun --nnodes 2 --nproc-per-node 8 train.py"
    again = repeating_command(replace(record, environment=two_of_eight))
    assert again.startswith("torchrun --nnodes 2 --nproc-per-node 8 -m renderpretrain pretrain ")
    command = shlex.split(repeating_command(record))
    with pytest.raises(SystemExit):
        main([*command[1:], "--dry-run"])
    said = capsys.readouterr().out
    tree, told = record.tree, yaml.safe_load(said[: said.index("\nscenes: 3 to train on")])
    assert told["config"] == tree["config"] and told["seed"] == tree["seed"] and told["data"] == tree["data"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"data": "object:Mine"}, "its scenes were handed in as objects"),
        ({"recipe": "__main__:Own"}, "its recipe, __main__:Own, is a class of a script or a notebook"),
        (
            {"encoder": {"point": {"factory": "renderpretrain.encoders:VolumeEncoder", "args": None}}},
            "its point encoder was handed in as a module",
        ),
        (
            {"encoder": {"image": {"factory": "__main__:maps", "args": {}}}},
            "its image encoder, __main__:maps, ",
        ),
    ],
)
def test_no_command_is_shown_that_cannot_run(trained, told, message):
    record = read_record(trained)
    said = repeating_command(replace(record, tree=record.tree | told))
    assert said.startswith(f"from Python alone: {message}")
    named = {"encoder": {"point": {"factory": "own:volumes", "args": {}}}}
    assert "--encoder point=own:volumes" in repeating_command(replace(record, tree=record.tree | named))


def test_encoders_and_pictures_are_told_in_words(trained):
    record = read_record(trained)
    made = {"factory": "mine:pillars", "args": {"width": 48, "norm": None}}
    own = {"encoder": {"point": made, "image": {"factory": "mine:Net", "args": None}}}
    changed = replace(record, tree=record.tree | own | {"data": "folder:lab?fit=pad"})
    text = Page(report_page([changed], written=datetime.now(timezone.utc))).text
    assert "point: mine:pillars(width=48, norm=null); image: mine:Net, handed in as a module" in text
    assert "to 32 x 64: scaled until all of it fits, black around (fit=pad)" in text


def test_hostile_words_stay_words(run):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    change(run, lr=evil)
    (run / "environment.json").write_text(json.dumps({"platform": evil, "command": ["x", evil, "\x1b[31m"]}))
    with open(run / "metrics.jsonl", "a") as file:
        for step in (3, 4):
            file.write(json.dumps({"step": step, f"loss/{evil}": 1.0}) + "\n")
    before, after = Page((run / "report.html").read_text()), page_of(run)
    assert len(after.all("img")) == len(before.all("img"))
    assert len(after.all("script")) == len(before.all("script")) + 1  # of the chart
    assert evil in after.text and "\x1b" not in after.text
    assert not any(name.startswith("on") for _, each in after.elements for name in each)


def test_two_runs_lie_side_by_side_with_the_settings_that_differ(trained, run, tmp_path, capsys):
    change(run, lr=0.5)
    with pytest.raises(SystemExit) as end:
        main(["report", str(trained), str(run)])
    assert end.value.code == 0
    path = trained.parent / "report.html"
    assert capsys.readouterr().out == f"report     {path}\n"
    text = path.read_text()
    differ = text[text.index('id="settings-that-differ"') : text.index('id="pictures"')]
    rows = Page(f"<section {differ}".rpartition("<section")[0]).rows
    names = [f"{each.parent.name}/street" for each in (trained, run)]  # the folders are called the same
    assert rows == [["", *names], ["optimization.lr", "0.002", "0.5"]]
    assert [line["name"] for line in charts_of(path)["loss"]["lines"]] == names
    same = page_of(trained, trained)
    assert "All settings are the same." in same.text


def test_a_run_that_goes_on_looks_again_and_one_that_was_stopped_does_not(run):
    with run_lock(run / "lock"):
        going = page_of(run)
    assert "running at step 2 of 2" in going.text and "data-running" in going.all("body")[0]
    change(run, steps=90)
    stopped = page_of(run)
    assert "stopped at step 2 of 90" in stopped.text and "data-running" not in stopped.all("body")[0]


def test_what_is_damaged_is_named_and_the_rest_is_shown(run):
    rows = (run / "metrics.jsonl").read_text().splitlines()
    rows[1:1] = [
        '{"step": 1, "loss": ',
        '{"step": 1, "loss": NaN, "lr": 1e999}',
        '{"step": 1, "health/a/rank": 1}',
        f'{{"step": {10**304}, "loss": 1}}',
    ]
    rows.append('{"step": 2, "health/a/rank": 1}')
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (run / "environment.json").write_text("{")
    over_range = {"depth/0-4/rays": 3, "depth/0-4/abs_rel": math.nan}
    scored = {"scores": {"depth_rmse": math.nan, "psnr": 12.5}, "over_range": {"recipe": over_range}}
    (run / "eval.json").write_text(json.dumps(scored | {"step": 2, "scenes": [0], "data": "folder:other"}))
    for name, box in (("endless", [0, 0, math.inf, 1]), ("empty", [5, 5, 5, 5])):
        about, panel = PngInfo(), {"row": "", "caption": "", "box": box}
        about.add_text("renderpretrain sheet", json.dumps({"panels": [panel], "legend": {}}))
        Image.new("RGB", (8, 8)).save(run / "pictures" / f"{name}.png", pnginfo=about)
    (run / "probe.json").write_text('{"semseg/linear": {"table": [{"fraction": "many"}]}}')
    (run / "pictures" / "step_000001.png").write_bytes(b"\x89PNG nothing")
    page = page_of(run)
    assert f"{run / 'metrics.jsonl'}, line 2: expected a JSON object of numbers with a step" in page.text
    assert f"{run / 'metrics.jsonl'}, line 5: expected a JSON object of numbers with a step" in page.text
    assert f"{run / 'environment.json'}: cannot be read" in page.text
    assert f"{run / 'pictures' / 'step_000001.png'}: no picture to show" in page.text
    for name in ("endless", "empty"):
        assert f"{run / 'pictures' / name}.png: no picture to show" in page.text
    assert ["renderpretrain eval, step 2, 1 scenes of folder:other", "score"] in page.rows
    assert ["depth_rmse [m] (less is better)", "nan"] in page.rows
    assert page.text.count("cannot be shown: ") == 2  # probes, and health without a width
    assert "depth_in_blocks_abs_rel" in page.text
    assert {each.get("data-step") for each in page.all("img")} == {None, "0", "2"}


def test_probes_and_exports_are_shown(run, tmp_path):
    spread = {"mean": 0.25, "deviation": 0.01}
    line = {"fraction": 0.05, "labelled": 3, "scratch": spread, "pretrained": {"mean": 0.3, "deviation": 0}}
    line |= {"difference": {"mean": 0.05, "deviation": 0.01}, "relative": 0.2}
    record = {
        "metric": "miou",
        "table": [line],
        "step": 2,
        "data": "synthetic",
        "seeds": [0, 1],
        "notes": ["one run"],
    }
    (run / "probe.json").write_text(json.dumps({"semseg/linear": record}))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "loss": 1}\n')  # a run that was stopped has logged more than it has saved
    for name in ("a", "b", "a"):
        with pytest.raises(SystemExit):
            main(["export", str(run), "--to", "safetensors", "--out", str(tmp_path / f"{name}.safetensors")])
    page = page_of(run)
    assert ["5 % (3)", "0.2500 ± 0.0100", "0.3000", "+0.0500 ± 0.0100", "+20.0 %", "better"] in page.rows
    assert "one run" in page.text and "100.0 % of the parameters, step 2" in page.text
    assert page.text.count("a.safetensors") == page.text.count("b.safetensors")  # each export once
    assert "load_encoder(" in page.text


def test_hand_made_numbers_stand_beside_both_encoders(run):
    arms = {"handmade": 0.21, "scratch": 0.2, "pretrained": 0.3, "scratch_handmade": 0.22}
    arms["pretrained_handmade"] = 0.31
    line = {"fraction": 1.0, "labelled": 8, "difference": {"mean": 0.1}, "relative": 0.5, "deviations": None}
    line |= {name: {"mean": mean} for name, mean in arms.items()}
    record = {"metric": "miou", "table": [line], "step": 2, "data": "synthetic", "seeds": [0]}
    (run / "probe.json").write_text(json.dumps({"semseg/linear": record}))
    rows = page_of(run).rows
    header = next(row for row in rows if row[0].startswith("miou"))
    shown = dict(zip(header, next(row for row in rows if row[0] == "100 % (8)"), strict=True))
    assert {name: float(shown[name]) for name in list(shown)[1:6]} == {
        "hand-made": 0.21,
        "scratch": 0.2,
        "pre-trained": 0.3,
        "scratch + hand-made": 0.22,
        "pre-trained + hand-made": 0.31,
    }


def test_the_page_begins_with_what_the_run_has_learned(run):
    rows = [
        {"step": 0, "eval/depth_abs_rel": 0.8, "eval/nearest_point_depth_abs_rel": 0.2},
        {"step": 2, "eval/depth_abs_rel": 0.3, "eval/psnr": 15.0},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = report_page([read_record(run)], written=datetime.now(timezone.utc))
    first = Page("<section" + text.split("<section")[1].partition("</main>")[0]).text
    assert first.startswith("What it learned")
    assert "AbsRel 0.8 -> 0.3 (less is better): not yet better than the nearest input point (0.2)" in first
    assert f"<code>renderpretrain eval {run} --probe linear</code> says what they are worth" in text
    # Bold is the best of a row, be it ours or not; what stands alone is not.
    assert "<td>0.8</td><td>0.3</td><td><b>0.2</b></td>" in text
    assert "<b>15</b>" not in text


def test_features_that_fresh_weights_beat_are_marked_and_advised_on(run):
    line = {"fraction": 1.0, "labelled": 8, "scratch": {"mean": 0.2}, "pretrained": {"mean": 0.18}}
    line |= {"difference": {"mean": -0.02}, "relative": -0.1, "deviations": None}
    record = {"metric": "miou", "table": [line], "step": 2, "data": "synthetic", "seeds": [0]}
    (run / "probe.json").write_text(json.dumps({"semseg/linear": record}))
    text = report_page([read_record(run)], written=datetime.now(timezone.utc))
    assert '<span class="bad">-0.0200</span>' in text and '<span class="bad">-10.0 %</span>' in text
    assert (
        text.count("fresh weights did better: pre-train for more steps") == 2
    )  # at the top, below the table
    error = record | {"less_is_better": True, "table": [line | {"relative": 0.1}]}
    (run / "probe.json").write_text(json.dumps({"depth/linear": error}))
    text = report_page([read_record(run)], written=datetime.now(timezone.utc))
    assert '<span class="good">-0.0200</span>' in text and "fresh weights did better" not in text


def test_pictures_are_made_small_enough(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    paths = [tmp_path / f"step_{step:06d}.png" for step in range(10)]
    for path in paths:
        Image.fromarray(noise).save(path)
    whole, _ = pictures_that_fit(paths)
    small, _ = pictures_that_fit(paths, 60_000)
    assert len(whole) > 60_000 >= len(small) and small.count("<img") == whole.count("<img")
    steps = re.findall(r'value="([0-9])"', whole)
    assert len(steps) == 2 * MOST_STEPS and {"0", "9"} <= set(steps)  # to choose from, on both sides
    nothing, problems = pictures_that_fit(paths, 10)
    assert nothing == "" and "too large" in problems[0]


def test_rows_of_a_sheet_stay_rows_and_its_colours_are_explained(tmp_path):
    pictures = [(name, torch.full((3, 8, 12), 0.1 * k)) for k, name in enumerate(("truth", "scratch"))]
    rows = [("10 %", pictures), ("100 %", pictures)]
    save_sheet(tmp_path / "answers.png", "t", rows, legend={"road": torch.tensor([0.0, 1.0, 0.0])})
    shown, _ = pictures_that_fit([tmp_path / "answers.png"])
    page = Page(shown)
    assert [e for e in page.all("div") if e.get("class") == "panels aligned"] == [
        {"class": "panels aligned", "style": "--columns:2"}
    ] * 2
    assert page.text == "answers.png road 10 % truth scratch 100 % truth scratch"
    assert page.all("i")[0]["style"] == "background:rgb(0, 255, 0)"


def test_the_same_picture_of_two_runs_stands_side_by_side(run, tmp_path):
    black = torch.zeros(3, 8, 12)
    for step, value in ((1, 0.4), (2, 0.6)):
        panels = [("input", black), ("rendered", black + value)]
        save_sheet(run / "pictures" / f"step_{step:06d}.png", "t", [("front", panels)])
    (run / "pictures" / "step_000000.png").unlink()
    other = shutil.copytree(run, tmp_path / "other")
    save_sheet(other / "pictures" / "step_000002.png", "t", [("front", [*panels[:1], ("rendered", black)])])
    (other / "pictures" / "step_000001.png").unlink()
    text = report_page([read_record(each) for each in (run, other)], written=datetime.now(timezone.utc))
    page = Page(text)
    assert len([e for e in page.all("input") if e.get("class") == "wipe"]) == 1
    shown = text[text.index('id="pictures"') : text.index('id="held-out-scores"')]
    given, rendered = shown.split('class="group"')[1:]
    assert given.count("<img") == 1 and "all runs" in given  # the input of all is there once
    assert re.findall(r'data-step="(\d)"', rendered) == ["1", "2"] and rendered.count("<figure") == 2
    assert rendered.index("street") < rendered.index("other")
    assert "A run without pictures of a step is shown at the one before." in shown


def test_a_mistake_is_one_line(trained, tmp_path, capsys):
    (tmp_path / "text.html").write_text("precious")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.yaml").write_text("a: [")
    for arguments, message in (
        ([tmp_path], f"{tmp_path}: expected a run folder with config.yaml, found none"),
        ([trained, tmp_path / "none"], f"{tmp_path / 'none'}: expected a run folder"),
        ([tmp_path / "damaged"], f"{tmp_path / 'damaged' / 'config.yaml'}"),
        ([trained, "--out", tmp_path], f"out: expected a file to write, got the folder {tmp_path}"),
        ([trained, "--out", tmp_path / "x.txt"], "out: expected a name that ends in .html, got"),
        ([trained, "--out", tmp_path / "text.html" / "x.html"], "is a file"),
        ([trained, "--out", tmp_path / "text.html"], "out: expected a new file or an earlier report, got"),
    ):
        assert message in failure(capsys, "report", *arguments)
    assert (tmp_path / "text.html").read_text() == "precious"


def test_a_page_that_cannot_be_written_is_one_warning(run, tmp_path):
    told = []
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    page = RunningPage(run, told.append)
    page.finish()
    assert told == []  # the run never began: the folder may be another's
    for _ in range(2):
        page.refresh(4, {})
    page.finish()
    (warning,) = told
    assert warning.startswith(f"warning: no report of {run}: out: expected a file to write, got the folder")


def test_an_evaluation_whose_page_cannot_be_written_is_no_failure(run, capsys):
    (run / "report.html").write_text("precious")
    refresh_report(run)
    assert capsys.readouterr().err.startswith(f"warning: no report of {run}: out: expected a new file or an")
    assert (run / "report.html").read_text() == "precious"


def test_a_page_is_not_written_again_and_again(run):
    page, path = RunningPage(run, pytest.fail), run / "report.html"
    page.refresh()
    first = path.stat().st_ino  # every page is a new file that takes the old one's name
    page.refresh()
    assert path.stat().st_ino == first
    page.finish()
    assert path.stat().st_ino != first


def test_a_page_that_was_left_out_is_written_as_soon_as_it_is_time(run, monkeypatch):
    page, path, now = RunningPage(run, pytest.fail), run / "report.html", [0.0]
    monkeypatch.setattr("renderpretrain.verbs.reporting.time.monotonic", lambda: now[0])
    page.catch_up(1, {})
    monkeypatch.setattr(page, "_not_before", 50.0)
    before = path.stat().st_ino
    page.refresh()
    for seconds, is_new in ((49.0, False), (50.0, True)):
        now[0] = seconds
        page.catch_up(1, {})
        assert (path.stat().st_ino != before) == is_new
    before = path.stat().st_ino
    page.catch_up(2, {})
    assert path.stat().st_ino == before


def test_the_rates_of_most_steps_are_ones_that_were_measured(run):
    (run / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": k, "samples_per_second": rate}) + "\n" for k, rate in ((1, 1.0), (2, 2.0))
        )
    )
    assert "1.5 (most steps 1.1 to 1.9)" in page_of(run).text


def test_a_step_that_measured_gradients_tells_nothing_of_the_speed(run):
    rows = [{"step": k, "samples_per_second": 2.0} for k in (1, 2)]
    rows.append({"step": 3, "samples_per_second": 0.5, "gradient/depth/point_encoder": 1.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "2 (most steps 2 to 2)" in page_of(run).text and "time in steps 3 s" in page_of(run).text
    chart = charts_of(write_report([run]))["samples a second"]
    assert chart["lines"][0]["x"] == [1, 2]
    assert "without steps that also measured gradients" in page_of(run).text
    (run / "metrics.jsonl").write_text(json.dumps(rows[2]) + "\n")
    assert charts_of(write_report([run]))["samples a second"]["lines"][0]["x"] == [3]


def test_a_long_run_has_a_small_page(trained):
    """Of many steps each point is a mean."""
    long = shutil.copytree(trained, trained.parent / "long")
    row = json.loads((trained / "metrics.jsonl").read_text().splitlines()[1])
    with open(long / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row | {"step": step}) + "\n" for step in range(3, 20_000))
    path = write_report([long], trained.parent / "long.html")
    chart = charts_of(path)["loss"]
    assert len(chart["lines"][0]["x"]) <= 800 and chart["lines"][0]["x"][-1] == 19_999
    assert "Each point is the mean of 25 steps." in path.read_text()
    assert path.stat().st_size < 5_000_000
    beside = charts_of(write_report([long] * 4, path))["loss"]
    assert all(len(line["x"]) <= 200 and line["x"][-1] == 19_999 for line in beside["lines"])
