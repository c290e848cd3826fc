"""Recipes of which every process keeps a part learn what copies of them learn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_parallel import check_same
from split_runs import run, stand_in, still_optimization

from renderpretrain.losses import GradNorm
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, trained_checkpoint
from renderpretrain.runs.metrics import read_rows
from renderpretrain.teachers import EMATeacher
from renderpretrain.training.sharded import check_sharding, repeated_blocks

HERE = Path(__file__).parent
LOOKED = "health/encoder/0/rank"
QUICK = ["unipad-fusion"]
OTHERS = [
    "unipad-lidar", "unipad-camera", "unipad-camera resnet", "ponder-indoor", "ponder-outdoor", "ns-mae",
    "ns-mae camera", "ns-mae lidar", "uniscene", "uniscene lss",
]  # fmt: skip
"""Of all that ``variants`` names, in the folder of the recipes' tests."""


def two_processes(folder, variants):
    """What they found, and where they left their runs."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1"]
    done = subprocess.run(
        [*command, str(HERE / "split_runs.py"), str(folder), *variants],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "rows.json").read_text())


def check_rows(copies, parts):
    (copied, whole), (split, share) = copies, parts
    assert whole == 1 and 0.5 <= share < 0.6  # of an odd number of rows the first process has one more
    for ours, theirs in zip(copied, split, strict=True):
        # Sums in another order; where that puts a number across a kink, the gradient jumps and no loss does.
        norm = pytest.approx(ours.pop("grad_norm"), rel=1e-4)
        assert theirs.pop("grad_norm") == norm and theirs == pytest.approx(ours, rel=1e-5)


@pytest.mark.slow
def test_parts_learn_what_copies_learn_and_every_checkpoint_is_gone_on_from(tmp_path):
    """Parts from parts, parts from copies, and one process from parts; and parts after a process has died."""
    for copies, parts in two_processes(tmp_path, QUICK).values():
        check_rows(copies, parts)
    check_same(tmp_path / "copies", tmp_path / "parts")
    check_written_in_parts(tmp_path)
    looked = [row["step"] for row in read_rows(tmp_path / "parts" / "metrics.jsonl") if LOOKED in row]
    assert looked == [0, 4, 8, 12]
    run(tmp_path / "both", 4, "fsdp", 12)
    check_same(tmp_path / "copies", tmp_path / "both")
    assert (tmp_path / "was killed").read_text() == str(tmp_path / "killed/checkpoints/step_000008.partial")
    check_same(tmp_path / "copies", tmp_path / "killed")


def check_written_in_parts(folder):
    """Each process has written half of a checkpoint, and it is read whole: by us, and as weights of a run."""
    written = {path.name for path in (folder / "parts" / "checkpoints").iterdir()}
    assert written == {"final.pt", "latest", "step_000008", "step_000012"}
    path = newest_checkpoint(folder / "parts" / "checkpoints")
    sizes = [file.stat().st_size for file in sorted(path.glob("*.safetensors"))]
    assert len(sizes) == 2 and max(sizes) < 1.5 * min(sizes)
    state = load_checkpoint(path)
    for name, value in stand_in().state_dict().items():
        assert state["model"][name].shape == value.shape
    final = load_checkpoint(folder / "parts" / "checkpoints" / "final.pt")["model"]
    assert all(torch.equal(final[name], state["model"][name]) for name in final)  # of still statistics
    (folder / "parts" / "checkpoints" / "final.pt").unlink()
    chosen, read = trained_checkpoint(folder / "parts" / "checkpoints")
    assert chosen == path and all(torch.equal(final[name], read["model"][name]) for name in final)


@pytest.mark.long
def test_all_recipes_learn_in_parts_what_copies_of_them_learn(tmp_path):
    sys.path.insert(0, str(HERE.parent / "recipes"))
    from variants import VARIANTS

    followed = {variant for variant in VARIANTS if "distill" in variant}  # copies follow whole weights
    assert {*QUICK, *OTHERS} == set(VARIANTS) - followed
    for copies, parts in two_processes(tmp_path, OTHERS).values():
        check_rows(copies, parts)


def test_blocks_are_what_repeats():
    encoder = stand_in().encoder
    assert repeated_blocks(encoder) == [encoder[1], encoder[2]]
    resnet = RECIPES["unipad-camera"]
    for name, kind in (("convnext", "ConvNeXtBlock"), ("resnet", "BasicBlock")):
        image = resnet.presets["tiny"].image.model_copy(update={"backbone": name, "depths": (1, 2, 1, 2)})
        backbone = resnet.build(resnet.presets["tiny"].model_copy(update={"image": image})).encoders()
        assert kind in {type(block).__name__ for block in repeated_blocks(backbone["image_backbone"])}


def test_what_cannot_be_split_is_refused_in_one_line():
    split = still_optimization("fsdp")
    check_sharding(stand_in(), split)
    with pytest.raises(ValueError, match=r"gradient_norms_every: expected 0 with .*fsdp.* got 5"):
        check_sharding(stand_in(), split.model_copy(update={"gradient_norms_every": 5}))
    recipe = torch.nn.ModuleList([stand_in(), GradNorm(["depth"])])
    with pytest.raises(ValueError, match="expected ddp with GradNorm"):
        check_sharding(recipe, split)
    followed = torch.nn.ModuleList([stand_in(), EMATeacher(stand_in())])
    with pytest.raises(ValueError, match=r"expected ddp with EMATeacher, .*; got fsdp$"):
        check_sharding(followed, split)
    check_sharding(recipe, still_optimization("ddp"))
