# A loop in place of `fit`, from the same pieces: checkpoints, and a resumed run that is the same to the bit.
#   python examples/own_loop.py FOLDER [STEPS]    after so many of 40 it stops, and goes on when run again
import sys
import tempfile
from pathlib import Path

import torch

import renderpretrain as rp
from renderpretrain import training
from renderpretrain.recipes import RECIPES, OptimizationConfig

folder = training.RunFolder(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
upto = int(sys.argv[2]) if len(sys.argv) > 2 else 40
SEED, HELD_OUT = 0, 2
optimization = OptimizationConfig(steps=40, lr=5e-3, warmup_steps=10, clip_norm=35.0)

torch.manual_seed(SEED)
streets = rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96))
trained, held_out = range(len(streets) - HELD_OUT), range(len(streets) - HELD_OUT, len(streets))
entry = RECIPES["unipad-camera"]
recipe = entry.build(entry.presets["tiny"].model_copy(update={"image_size": (64, 96)}))
optimizer = training.build_optimizer(recipe, optimization)

newest = training.newest_checkpoint(folder.checkpoints)
with folder.claimed(resume=newest is not None), training.process_session("auto") as process:
    folder.prepare({"optimization": optimization.model_dump()}, resume=newest is not None)
    recipe.to(process.device)
    done = 0
    if newest is not None:
        state = training.load_checkpoint(newest)  # checked against its sums, and nothing in it is run
        recipe.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    for step in range(done, upto):
        # All randomness follows from seed and step: which scene, and what is hidden and drawn of it.
        epoch, place = divmod(step, len(trained))
        order = torch.randperm(len(trained), generator=torch.Generator().manual_seed(SEED + epoch))
        seeds = training.sample_seeds(SEED, step + 1, first=0, count=1)
        batch = rp.data.collate([streets[int(order[place])]], seeds)
        terms = recipe(batch.to(process.device))
        for group in optimizer.param_groups:
            group["lr"] = optimization.lr * training.lr_factor(optimization, step) * group["multiplier"]
        optimizer.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(recipe.parameters(), optimization.clip_norm)
        optimizer.step()
        print(f"step {step + 1}  " + "  ".join(f"{name} {term:.6f}" for name, term in terms.items()))
        if (step + 1) % 10 == 0 or step + 1 == upto:
            state = {"step": step + 1, "model": recipe.state_dict(), "optimizer": optimizer.state_dict()}
            print(training.save_checkpoint(folder.checkpoints, step + 1, state))
    print(training.evaluate(recipe, streets, held_out, process=process, num_rays=128))
