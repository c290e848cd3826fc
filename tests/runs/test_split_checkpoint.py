"""Checkpoints of which each process writes its part; several do in ``training/test_split_runs.py``."""

import json
import os
import resource
import shutil
import warnings
import zlib

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from renderpretrain.runs.split_checkpoint import PART
from renderpretrain.storage.files import remove

ONLY = PART.format(1)
WEIGHT = torch.arange(12.0).view(3, 4)


@pytest.fixture
def split():
    """Makes a part of a tensor, in a group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    yield lambda tensor: distribute_tensor(tensor, mesh, [Shard(0)])
    dist.destroy_process_group()


def state(step, split):
    """With tensors of every kind a run has."""
    model = {"deep.weight": split(WEIGHT + step), "scale": torch.tensor(2.5), "seen": torch.tensor([True])}
    model |= {"half": split(WEIGHT.bfloat16()), "none": split(torch.empty(0, 3))}
    kept = {"exp_avg": split(2 * WEIGHT), "step": torch.tensor(float(step)), "buffer": None}
    optimizer = {"optimizer": "adamw", "moments": {"deep.weight": kept}}
    return {"step": step, "model": model, "optimizer": optimizer, "config": {"a": [1, None, "é"]}, "seed": -7}


def check_equal(loaded, saved):
    for part in ("model", "moments"):
        ours, theirs = ((s["model"] if part == "model" else s["optimizer"]["moments"]["deep.weight"])
                        for s in (loaded, saved))  # fmt: skip
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            whole = value.full_tensor() if hasattr(value, "full_tensor") else value
            assert (ours[name] is None) if whole is None else (ours[name].dtype == whole.dtype)
            assert whole is None or torch.equal(ours[name], whole)
    for name in ("step", "config", "seed"):
        assert loaded[name] == saved[name]
    assert loaded["optimizer"]["optimizer"] == "adamw"


def test_parts_are_read_whole_and_as_parts(tmp_path, split):
    saved = state(3, split)
    path = save_checkpoint(tmp_path, 3, saved)
    assert path == newest_checkpoint(tmp_path) == tmp_path / "step_000003"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_equal(load_checkpoint(path), saved)
    parts = load_checkpoint(path, saved["model"])
    assert parts["model"]["deep.weight"].placements == parts["optimizer"]["moments"]["deep.weight"][
        "exp_avg"
    ].placements  # fmt: skip
    assert torch.equal(parts["model"]["deep.weight"].to_local(), WEIGHT + 3)
    assert not hasattr(parts["model"]["scale"], "placements")


def test_the_last_two_stay_among_files_and_folders(tmp_path, split):
    save_checkpoint(tmp_path, 2, {"step": 2, "model": {"w": WEIGHT}})
    for step in (4, 6, 6):
        save_checkpoint(tmp_path, step, state(step, split))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step_000004", "step_000006"]
    check_equal(load_checkpoint(tmp_path / "step_000006"), state(6, split))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: (path / ONLY).unlink(), f"{ONLY} is missing"),
        (lambda path: os.truncate(path / ONLY, 100), "damaged: .* checksum differs"),
        (lambda path: flip(path / ONLY), "damaged: .* checksum differs"),
        (lambda path: shutil.copy(path / ONLY, path / PART.format(2)), "is not one of its files"),
        (lambda path: (path / "checkpoint.json").write_text("[]"), "expected the files of processes"),
        (lambda path: (path / "checkpoint.json").write_text('{"step": '), "Expecting value"),
        (lambda path: renamed(path, f"../{ONLY}"), "expected the files of processes"),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line_that_names_the_good_one(tmp_path, split, damage, said):
    for step in (2, 4):
        path = save_checkpoint(tmp_path, step, state(step, split))
    damage(path)
    for like in ({}, state(4, split)["model"]):
        with pytest.raises(
            ValueError, match=rf"step_000004: corrupt .*{said}.*resume from step_000002,"
        ) as met:
            load_checkpoint(path, like)
        assert "\n" not in str(met.value)


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 16
    file.write_bytes(content)


def renamed(path, name):
    index = json.loads((path / "checkpoint.json").read_text())
    index["files"] = {name: next(iter(index["files"].values()))}
    (path / "checkpoint.json").write_text(json.dumps(index))


def test_a_part_that_is_missing_within_the_files_is_told(tmp_path, split):
    """As where a process's file was written by another run, with sums of its own."""
    path = save_checkpoint(tmp_path, 4, state(4, split))
    content = (path / ONLY).read_bytes()
    assert content.count(rb"[0, 0]") >= 3  # where each part begins
    (path / ONLY).write_bytes(content.replace(rb"[0, 0]", rb"[1, 0]"))
    index = json.loads((path / "checkpoint.json").read_text())
    index["files"][ONLY][1] = zlib.crc32((path / ONLY).read_bytes())
    (path / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"expected parts that make up a tensor of shape \(4, 4\)"):
        load_checkpoint(path)


def test_a_folder_without_its_last_file_is_no_checkpoint(tmp_path, split):
    for step in (2, 4):
        path = save_checkpoint(tmp_path, step, state(step, split))
    (path / "checkpoint.json").unlink()
    assert newest_checkpoint(tmp_path).name == "step_000002"


def test_a_full_disk_leaves_the_previous_one(tmp_path, split):
    save_checkpoint(tmp_path, 2, state(2, split))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(OSError, match=r"step_000004: cannot be written .*_000002, is intact") as met:
            save_checkpoint(tmp_path, 4, state(4, split))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(met.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step_000002"]
    check_equal(load_checkpoint(newest_checkpoint(tmp_path)), state(2, split))


def test_what_is_removed_is_what_is_named(tmp_path):
    kept, link = tmp_path / "kept", tmp_path / "link"
    (kept / "deep").mkdir(parents=True)
    link.symlink_to(kept)
    remove(link)
    assert kept.is_dir() and not link.is_symlink()
    remove(kept)
    remove(tmp_path / "never")
    assert list(tmp_path.iterdir()) == []
