import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_parallel import RUNS, STREAM_STEPS, check_same, short_run, stream_run

from renderpretrain.data import SyntheticStreet, open_data, write_scene_folder
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from renderpretrain.training import read_rows

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seven frames in shards of two or three: an epoch is three steps and a half of two samples."""
    path = tmp_path_factory.mktemp("shards")
    street = SyntheticStreet(7, image_size=(32, 48), points_per_beam=100, with_truth=False)
    write_scene_folder(path / "rec", [street[k] for k in range(7)], one_recording=True)
    recording = open_data(f"folder:{path / 'rec'}")
    prepare_recording(recording, Preparation(path / "out", "rec", packed=True, size=150_000))
    assert len(json.loads((path / "out" / "shards.json").read_text())["shards"]) > 1
    return path / "out"


@pytest.fixture(scope="module")
def of_two(shards, tmp_path_factory):
    """Where two processes left their runs, done one after the other in one ``torchrun``, and their words."""
    folder = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "data_parallel.py"), str(folder), str(shards)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), RUNS.items())
def test_two_processes_are_one_with_twice_the_batch(of_two, tmp_path, name, steps):
    folder, said = of_two
    assert said.count(f"[{steps}/{steps}] loss") == 1  # only the first process speaks
    short_run(tmp_path, 4, name)
    check_same(tmp_path, folder / name)
    looked = [row for row in read_rows(folder / name / "metrics.jsonl") if any("/rank" in key for key in row)]
    assert [row["step"] for row in looked] == [0, *range(2, steps + 1, 2)]


def seen_by(*files):
    """What each step saw: samples with their seeds and contents, those of all processes together."""
    steps = [json.loads(file.read_text()) for file in files]
    return [[sample for part in parts for sample in part] for parts in zip(*steps, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_within_an_epoch_on_another_number_of_ranks(of_two, shards, tmp_path, capsys, workers):
    stream_run(tmp_path / "whole", shards, 2, workers=0)
    whole = seen_by(tmp_path / "whole.0.seen")
    assert len(whole) == STREAM_STEPS
    folder, _ = of_two
    before = seen_by(folder / "stream.0.seen", folder / "stream.1.seen")
    shutil.copytree(folder / "stream", tmp_path / "parts")
    capsys.readouterr()
    resumed = stream_run(tmp_path / "parts", shards, 2, workers=workers, resume=True)
    after = seen_by(tmp_path / "parts.0.seen")
    assert 2 < len(before) < STREAM_STEPS and 2 * len(before) % 7  # stopped within an epoch
    assert before + after == whole and "global batch" not in capsys.readouterr().out
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    assert [row["step"] for row in rows[1]] == list(
        range(1, STREAM_STEPS + 1)
    ) and resumed.step == STREAM_STEPS
    # The same samples in the same steps; gradients are summed in another order, and the rate is 1e-2.
    for ours, theirs in zip(*rows, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)


@pytest.mark.long
def test_processes_leave_each_other_without_waiting_for_ever():
    """Without the pause before its end, gloo hung within 300 sessions in five of five tries."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    subprocess.run([*command, str(HERE / "sessions.py"), "600"], env=environment, check=True, timeout=300)
