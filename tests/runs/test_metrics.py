import pytest

from renderpretrain.runs.metrics import Change, append_row, changes, drop_rows_after, read_rows


def test_rows_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_row(path, {"step": 1, "loss": 0.1})
    append_row(path, {"step": 2, "loss": float("nan"), "lr": 1e-3})
    assert read_rows(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "lr": 1e-3}]
    assert read_rows(tmp_path / "absent") == []


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_rows(path) == [{"step": 1}]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[1]", '{"loss": 1}',
     '{"step": "1"}', '{"step": 1.5}', '{"step": true}', '{"step": -1}',
     '{"step": 1, "loss": "low"}', '{"step": 1, "loss": null}',
     '{"step": ' + "9" * 5000 + "}", "[" * 100_000],
    ids=lambda line: line[:12],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"line 2: expected a JSON object of numbers with a step, got '"):
        read_rows(path)


def test_rows_past_a_checkpoint_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"st')
    assert drop_rows_after(path, 1) == [{"step": 0}, {"step": 1}]
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'


def test_the_table_takes_the_first_and_the_last_evaluation():
    rows = [
        {"step": 0, "eval/psnr": 9.0, "eval/depth_rmse": 8.0, "eval/baseline_psnr": 12.0},
        {"step": 1, "loss": 3.0, "eval/nearest_point_psnr": 13.0},
        {"step": 2, "eval/psnr": 13.0, "eval/depth_rmse": 5.0, "eval/over_range/depth/8-16/abs_rel": 0.2},
        {"step": 4, "eval/psnr": 15.0, "eval/depth_rmse": 4.0},
    ]
    assert changes(rows) == [
        Change("psnr", 9.0, 15.0, {"nearest_point": 13.0, "baseline": 12.0}),
        Change("depth_rmse", 8.0, 4.0, {}),
    ]
    assert changes([]) == []
