import resource
from pathlib import Path

import pytest
import torch

from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final


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


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path, one_flipped_bit):
    """torch.load looks at none of the checksums that torch.save writes."""
    for step in (2, 4):
        path = save_checkpoint(tmp_path, step, state(step, size=300))
    whole, before, refused = path.read_bytes(), load_checkpoint(path), 0
    for _ in one_flipped_bit(path, every=7):
        try:
            loaded = load_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"checkpoint {path}: corrupt or half-written (")
            assert str(error).endswith("; delete it to resume from step_000002.pt, which is good")
            refused += 1
        else:
            assert loaded["step"] == before["step"] and loaded["config"] == before["config"]
            assert torch.equal(loaded["model"]["weight"], before["model"]["weight"])
    numbers = whole.index(torch.full((300,), 4.0).numpy().tobytes())
    damaged = bytearray(whole)
    damaged[numbers + 600] ^= 64
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"\(model.weight: damaged: record 'data/0' is not what was saved"):
        load_checkpoint(path)
    assert torch.load(path, weights_only=True)["step"] == 4  # what this test is about
    assert refused > 300 * 4 / 7  # every place among the numbers


def test_what_training_keeps_comes_back_as_torch_has_it(tmp_path):
    """Modules' versions, shared memory, optimisers, every type of number, shapes without numbers."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    base = torch.randn(100)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int32, torch.bool)
    saved = {
        "step": 1,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shared": (base[:50], base[10:]),
        "kinds": [torch.randn(3, 4).to(kind).T for kind in kinds],
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, None, 2.5, "x", True, -(2**40), ("a", {})],
    }
    save_final(tmp_path, saved)
    loaded = load_checkpoint(tmp_path / "final.pt")
    reference = torch.load(tmp_path / "final.pt", weights_only=True)
    assert loaded.pop("plain") == reference.pop("plain") == saved["plain"]
    torch.testing.assert_close(loaded, reference, rtol=0, atol=0)
    assert loaded["model"]._metadata == reference["model"]._metadata
    assert [v.stride() for v in loaded["kinds"]] == [v.stride() for v in reference["kinds"]]
    loaded["shared"][0][10] = 7.0
    assert loaded["shared"][1][0] == 7.0
    network.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])


@pytest.mark.parametrize("name", ["../other/step_000009.pt", "final.pt", "/etc/hostname", ".", "x" * 1000])
def test_latest_leads_nowhere_else(tmp_path, name):
    other = tmp_path / "other"
    other.mkdir()
    save_checkpoint(tmp_path / "other", 9, state(9))
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run", 3, state(3))
    save_final(tmp_path / "run", state(3))
    (tmp_path / "run" / "latest").write_text(name)
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run" / "step_000003.pt"


@pytest.mark.parametrize(
    "other",
    [{"step": "3"}, {"model": [1]}, {"model": {"weight": 1}}, {"step": None}, {"step": -1}, {"step": True}],
)
def test_what_is_no_step_or_no_weights_is_refused(tmp_path, other):
    path = save_checkpoint(tmp_path, 3, state(3) | other)
    with pytest.raises(ValueError, match=r"corrupt .*expected a number of steps and tensors by name"):
        load_checkpoint(path)


def test_loading_runs_no_code(tmp_path):
    torch.save({"step": 1, "model": {}, "code": Path("x")}, tmp_path / "step_000001.pt")
    with pytest.raises(ValueError, match=r"corrupt .* no other checkpoint is readable"):
        load_checkpoint(tmp_path / "step_000001.pt")


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 2, state(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let files grow past the limit, as a full disk does.
    try:
        for limit in (64, 100_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(
                OSError,
                match=r"step_000004.pt: cannot be written .*File too large: .*02.pt, is intact",
            ):
                save_checkpoint(tmp_path, 4, state(4, size=1_000_000))
            with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/final.pt'"):
                save_final(tmp_path, state(4, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["latest", "step_000002.pt"]
    assert load_checkpoint(newest_checkpoint(tmp_path))["step"] == 2
