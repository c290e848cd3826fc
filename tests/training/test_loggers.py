"""Logs beside ``metrics.jsonl``: the same numbers, one log for a run that is resumed, closed in any case."""

import csv
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from stand_in import Points, StandIn, optimization

from renderpretrain.training import CsvLogger, RunOptions, TensorBoardLogger, fit, read_rows
from renderpretrain.training.loggers import LOGGERS, make_loggers


class Noted:
    """A logger of one's own."""

    def __init__(self):
        self.calls = []

    def open(self, folder, about, rows):
        self.calls.append(("open", folder.name, about["recipe"], [row["step"] for row in rows]))
        return "noted"

    def on_step(self, step, row):
        self.calls.append(("step", step))

    def on_evaluation(self, step, row):
        self.calls.append(("evaluation", step))

    def on_image(self, step, path):
        self.calls.append(("image", step))

    def close(self):
        self.calls.append(("close",))


def run(out, *loggers, stop=None, resume=False, steps=6):
    """A run of six steps in which a signal may ask it to stop after step ``stop``."""

    def on_step(step, row):
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    hooks = {"on_step": on_step, "loggers": loggers}
    options = RunOptions(holdout=2, device="cpu", resume=resume, evaluation_rays=8, **hooks)
    few = optimization(steps=steps, eval_every=3, checkpoint_every=6)
    return fit(StandIn(), Points(), few, out=out, options=options)


def test_a_logger_is_told_of_every_row_and_closed_after_a_signal(tmp_path, capsys):
    first, second = Noted(), Noted()
    stopped = run(tmp_path / "run", first, stop=1)
    assert stopped.stopped_by == "SIGTERM" and stopped.step < 6
    assert first.calls[:2] == [("open", "logs", "stand_in:StandIn", []), ("evaluation", 0)]
    steps = [("step", k) for k in range(1, stopped.step + 1)]
    assert [call for call in first.calls if call[0] == "step"] == steps and first.calls[-1] == ("close",)
    assert "[0/6] noted\n" in capsys.readouterr().out
    run(tmp_path / "run", second, resume=True)
    kept = [row["step"] for row in read_rows(stopped.folder.metrics) if row["step"] <= stopped.step]
    assert second.calls[0][3] == kept[: len(second.calls[0][3])] and second.calls[0][3][-1] == stopped.step
    assert second.calls[-1] == ("close",) and ("evaluation", 6) in second.calls


def table(path):
    """The numbers of a table, without cells that are empty."""
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in line.items() if v} for line in csv.DictReader(file)]


def test_csv_has_the_numbers_of_metrics_jsonl_also_of_a_resumed_run(tmp_path):
    # The first two steps were not logged: they are in the table, too.
    run(tmp_path / "run", stop=1)
    result = run(tmp_path / "run", CsvLogger(), resume=True)
    rows = read_rows(result.folder.metrics)
    assert table(result.folder.logs / "metrics.csv") == rows and len(rows) > 4


def test_a_new_number_is_a_new_column_and_one_that_is_not_finite_an_empty_cell(tmp_path):
    logger = CsvLogger()
    assert logger.open(tmp_path / "logs", {}, [{"step": 1, "loss": 2.0}]).endswith("metrics.csv")
    logger.on_step(2, {"step": 2, "loss": float("nan")})
    logger.on_evaluation(2, {"step": 2, "eval/rmse": 3.0})
    logger.close()
    assert (tmp_path / "logs" / "metrics.csv").read_text() == "step,loss,eval/rmse\n1,2.0,\n2,,\n2,,3.0\n"


def test_what_cannot_be_logged_is_one_line(monkeypatch):
    assert [type(logger) for logger in make_loggers(["csv", "csv"])] == [CsvLogger]
    with pytest.raises(ValueError, match=r"^log: expected tensorboard, wandb, csv, got 'tensorbord'$"):
        make_loggers(["csv,tensorbord"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for name, extra in (("wandb", "wandb"), ("tensorboard", "log")):
        with pytest.raises(ValueError, match=rf'^log: {name} needs pip install "renderpretrain\[{extra}\]"'):
            LOGGERS[name]()


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_shows_one_curve_of_a_run_that_is_taken_up_again(tmp_path, picture):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    begun, again = TensorBoardLogger(), TensorBoardLogger()
    logs, rows = tmp_path / "logs", [{"step": k, "loss": 1.0 / k} for k in (1, 2, 3)]
    assert f"tensorboard --logdir {logs / 'tensorboard'}" in begun.open(logs, {"recipe": "mine"}, [])
    for row in rows:
        begun.on_step(row["step"], row)
    begun.on_image(3, picture)
    begun.close()
    again.open(logs, {"recipe": "mine"}, rows[:2])  # from the checkpoint of step 2
    again.on_step(3, {"step": 3, "loss": 0.25})
    again.on_evaluation(3, {"step": 3, "eval/rmse": 4.0})
    again.close()
    found = EventAccumulator(str(logs / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert [(e.step, e.value) for e in found.Scalars("eval/rmse")] == [(3, 4.0)]
    assert "recipe: mine" in found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_gets_the_steps_that_it_was_left_out_of(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [{"step": k, "loss": 1.0 / k} for k in range(1, 8)]
    logs = tmp_path / "logs"
    for there, taken in (([], rows[:2]), (rows[:5], rows[5:])):  # steps 3 to 5 had no logger
        logger = TensorBoardLogger()
        logger.open(logs, {"recipe": "mine"}, there)
        for row in taken:
            logger.on_step(row["step"], row)
        logger.close()
    found = EventAccumulator(str(logs / "tensorboard")).Reload().Scalars("loss")
    assert [(e.step, e.value) for e in found] == [(k, pytest.approx(1.0 / k)) for k in range(1, 8)]


def test_wandb_gets_the_steps_that_it_was_left_out_of(tmp_path, monkeypatch):
    """With a library of our own in its place: what would be sent, and to which run."""
    sent, names = [], []

    def init(**given):
        names.append(given["id"])
        log = sent.append
        return SimpleNamespace(
            log=log, define_metric=lambda *a, **k: None, finish=lambda: None, url="", dir="d"
        )

    fake = SimpleNamespace(init=init, Settings=lambda **given: None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    rows = [{"step": k, "loss": 1.0 / k} for k in range(1, 8)]
    # Without a logger: steps 3 to 5. Killed past the checkpoint of step 6: step 7 is taken and sent again.
    for there, taken in (([], rows[:2]), (rows[:5], rows[5:]), (rows[:6], rows[6:])):
        [logger] = make_loggers(["wandb"])
        logger.open(tmp_path / "logs", {"recipe": "mine"}, there)
        for row in taken:
            logger.on_step(row["step"], row)
        logger.close()
    assert sent == [*rows, rows[6]] and len(set(names)) == 1


@pytest.mark.untyped  # it starts a process
def test_wandb_goes_on_in_the_same_run_and_needs_no_network(tmp_path, picture, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed", exc_type=Exception)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    [logger] = make_loggers(["wandb"])
    for rows in ([], [{"step": 1, "loss": 1.0}]):
        said = logger.open(tmp_path / "logs", {"recipe": "mine"}, rows)
        assert Path(said.removeprefix("wandb: ")).is_dir()
        logger.on_step(2, {"step": 2, "loss": 0.5})
        logger.on_evaluation(2, {"step": 2, "eval/rmse": 4.0})
        logger.on_image(2, picture)
        assert logger.run.summary["loss"] == 0.5 and logger.run.summary["eval/rmse"] == 4.0
        logger.close()
    name = (tmp_path / "logs" / "wandb_id").read_text().strip()
    files = list((tmp_path / "logs" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {file.name for file in files} == {f"run-{name}.wandb"}
    until = time.monotonic() + 20  # a process of its own writes them, on its first start after `finish`
    while any(file.stat().st_size <= 500 for file in files) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(file.stat().st_size > 500 for file in files)
