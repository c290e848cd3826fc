"""Started by ``torchrun`` in a test: steps of recipes as copies and as parts, and runs of both kinds."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from data_parallel import RATE, still_recipe
from stand_in import Points, optimization

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from variants import batch_of, build, scenes_for, small

from renderpretrain.runs import split_checkpoint
from renderpretrain.training import RunOptions, Stepper, build_optimizer, fit, process_session
from renderpretrain.training.sharded import local

STEPS = 3
RUNS = {"copies": [("ddp", 12)], "parts": [("fsdp", 4), ("fsdp", 12)], "both": [("ddp", 4), ("fsdp", 8)]}
"""How runs are trained, each in one go or in several, and until which step."""


def losses(variant, process, parallel):
    """Loss terms and the norm of the gradient of a few steps, each process with a scene of its own.

    And the share of the optimiser's memory that this process has.
    """
    # Importance samples magnify rounding, and so does Adam, which divides gradients by their size.
    still = {} if variant.startswith(("ns-mae", "uniscene")) else {"sampler": {"num_importance": 0}}
    told = {"parallel": parallel, "clip_norm": 1.0, "optimizer": "sgd", "lr": 1e-3, "warmup_steps": 0}
    settings = small(variant).optimization.model_copy(update=told)
    recipe = build(variant, **still)
    model = process.replicate(recipe, settings)
    optimizer = build_optimizer(recipe, settings)
    stepper = Stepper(model, optimizer, settings, process, seed=0)
    batch = batch_of(scenes_for(variant)[process.rank :][:1])
    rows = [stepper.read(stepper.take(step, iter([batch]))).row for step in range(1, STEPS + 1)]
    kept = [state["momentum_buffer"] for state in optimizer.state.values()]
    share = sum(local(each).numel() for each in kept) / sum(each.numel() for each in kept)
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows], share


class Block(torch.nn.Module):
    """Two layers beside a skip."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = torch.nn.Linear(channels, 5), torch.nn.Linear(5, channels)

    def forward(self, x):
        return x + self.second(self.first(x).relu())


def stand_in():
    """The stand-in with blocks behind its encoder, and a single number."""
    torch.manual_seed(1)
    recipe = still_recipe()
    recipe.encoder = torch.nn.Sequential(recipe.encoder, Block(8), Block(8))
    recipe.scale = torch.nn.Parameter(torch.ones(()))
    recipe.drop.forward = lambda volume: volume * recipe.scale
    return recipe


def still_optimization(parallel, **more):
    """Whose rate does not depend on how many steps there are."""
    told = {"lr": RATE, "schedule": "constant", "clip_norm": 0.1, "monitor_every": 4}
    return optimization(accumulate=2, parallel=parallel, **told, **more)


@torch.no_grad()
def draw(step, recipe):
    """What the main process alone does with the encoder, as it does for a picture."""
    recipe.encoder(torch.zeros(1, 5))


def run(out, batch_size, parallel, steps):
    """A run of the stand-in, or the rest of one."""
    settings = still_optimization(parallel, batch_size=batch_size, steps=steps)
    options = RunOptions(holdout=3, device="cpu", resume=True, on_picture=draw)
    return fit(stand_in(), Points(), settings, out=out, options=options)


def killed_while_writing(folder):
    """A run whose second process is killed when it has written its part of the second checkpoint, once."""
    sums, written = split_checkpoint._sums, []

    def kill(path):
        written.append(path)
        if len(written) == 2 and not (folder / "was killed").exists():
            (folder / "was killed").write_text(str(path.parent))
            os.kill(os.getpid(), signal.SIGKILL)
        return sums(path)

    if os.environ["RANK"] == "1":
        split_checkpoint._sums = kill
    run(folder / "killed", 2, "fsdp", 12)
    split_checkpoint._sums = sums


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, *variants = sys.argv[1:]
    killed_while_writing(Path(folder))
    with process_session("cpu") as process:
        rows = {v: [losses(v, process, parallel) for parallel in ("ddp", "fsdp")] for v in variants}
    for name, parts in RUNS.items():
        for parallel, steps in parts:
            run(Path(folder) / name, 2, parallel, steps)
    if process.is_main:
        (Path(folder) / "rows.json").write_text(json.dumps(rows))
