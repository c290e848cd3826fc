# A loop in place of `fit`, from the same pieces: its checkpoints are those of `fit`, which can go on from
# them, as this loop can from those of `fit`; a run that was stopped goes on to the bit.
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
run = {"seed": SEED, "scenes": len(streets)}

resume = training.newest_checkpoint(folder.checkpoints) is not None
with folder.claimed(resume=resume), training.process_session("auto") as process:
    recipe.to(process.device).train()
    begun = training.Progress()
    if resume:
        begun = training.resume_training(folder.checkpoints, recipe, optimizer, steps=40, **run)
    about = rp.runs.describe_objects(recipe, streets, optimization, holdout=HELD_OUT, seed=SEED)
    folder.prepare(about, resume=resume)  # `eval`, `render` and `export` take the folder
    # All randomness follows from seed and step: which scenes, and what is hidden and drawn of them.
    batches = training.MicroBatches(streets, len(trained), SEED, optimization.batch_size, begun=begun)
    for step in range(begun.step + 1, upto + 1):
        training.seed_generators(SEED, step, process.rank)  # for dropout
        training.set_step(optimizer, optimization, step - 1)  # learning rates
        terms = recipe(batches[step - 1].to(process.device))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(recipe.parameters(), optimization.clip_norm)
        optimizer.step()
        training.count_step(recipe)  # for what changes in the course of a run
        losses = {f"loss/{name}": term.item() for name, term in terms.items()}
        training.append_row(folder.metrics, {"step": step, "loss": sum(losses.values()), **losses})
        print(f"step {step}  " + "  ".join(f"{name} {loss:.6f}" for name, loss in losses.items()))
        if step % 10 == 0 or step == upto:
            state = training.training_state(recipe, optimizer, progress=batches.progress(step), **run)
            print(training.save_checkpoint(folder.checkpoints, step, state))
    print(training.evaluate(recipe, streets, held_out, process=process, num_rays=128))
