import resource
from pathlib import Path

import pytest
import torch

from renderpretrain.storage.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final


def state(step, size=10):
    return {"step": step, "model": {"weight": torch.full((size,), float(step))}, "config": {"a": [1, None]}}


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path, 3, state(3))
    loaded = load_checkpoint(path)
    assert loaded["config"] == {"a": [1, None]}
    assert torch.equal(loaded["model"]["weight"], torch.full((10,), 3.0))


def test_the_last_two_stay_and_latest_names_the_newest(tmp_path):
    for step in (2, 4, 10, 6):
        save_checkpoint(tmp_path, step, state(step))
    save_final(tmp_path, state(10))
    assert names(tmp_path) == ["final.pt", "latest", "step_000006.pt", "step_000010.pt"]
    assert newest_checkpoint(tmp_path).name == "step_000006.pt"


def test_without_the_file_that_latest_names_the_highest_step_counts(tmp_path):
    for step in (2, 4):
        save_checkpoint(tmp_path, step, state(step))
    (tmp_path / "step_000004.pt").unlink()
    assert newest_checkpoint(tmp_path).name == "step_000002.pt"
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["half", "empty", "text", "other"])
def test_a_damaged_checkpoint_gives_one_line_that_names_the_good_one(tmp_path, damage):
    for step in (2, 4):
        path = save_checkpoint(tmp_path, step, state(step, size=1000))
    whole = path.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        path.write_bytes(
            {"half": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint"}[damage]
        )
    with pytest.raises(ValueError, match=r"step_000004.pt: corrupt .*resume from step_000002.pt") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_loading_runs_no_code(tmp_path):
    torch.save({"step": 1, "model": {}, "code": Path("x")}, tmp_path / "step_000001.pt")
    with pytest.raises(ValueError, match=r"corrupt .* no other checkpoint is readable"):
        load_checkpoint(tmp_path / "step_000001.pt")


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 2, state(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let files grow past the limit, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"step_000004.pt: cannot be written .*step_000002.pt, is intact"):
            save_checkpoint(tmp_path, 4, state(4, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["latest", "step_000002.pt"]
    assert load_checkpoint(newest_checkpoint(tmp_path))["step"] == 2
