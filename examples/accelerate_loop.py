# UniPAD on images, trained with Hugging Face Accelerate: devices, processes, precision and the exchange of
# gradients are its business, recipe and batches ours. Needs: pip install accelerate
#   python examples/accelerate_loop.py FOLDER [STEPS]
#   accelerate launch examples/accelerate_loop.py FOLDER [STEPS]
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator

import renderpretrain as rp
from renderpretrain import training
from renderpretrain.recipes import RECIPES, OptimizationConfig

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
optimization = OptimizationConfig(steps=steps, lr=5e-3, warmup_steps=min(5, steps - 1))

accelerator = Accelerator()
torch.manual_seed(0)  # the same weights in all processes
streets = rp.data.SyntheticStreet(num_scenes=4, image_size=(64, 96))
entry = RECIPES["unipad-camera"]
recipe = entry.build(entry.presets["tiny"].model_copy(update={"image_size": (64, 96)}))
optimizer = training.build_optimizer(recipe, optimization)
model, optimizer = accelerator.prepare(recipe.train(), optimizer)

# Each process takes its share of every batch: all randomness follows from the seed, the step and the process.
rank, world = accelerator.process_index, accelerator.num_processes
batches = training.MicroBatches(streets, len(streets), seed=0, batch_size=1, rank=rank, world_size=world)
for step in range(1, steps + 1):
    training.seed_generators(0, step, rank)  # for dropout
    training.set_step(optimizer.optimizer, optimization, step - 1)  # learning rates
    with accelerator.autocast():
        terms = model(batches[step - 1].to(accelerator.device))
    loss = sum(value.float() for value in terms.values())
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 35.0)
    optimizer.step()
    optimizer.zero_grad()
    training.count_step(accelerator.unwrap_model(model))  # for what changes in the course of a run
    accelerator.print(f"step {step}  loss {accelerator.reduce(loss.detach(), 'mean').item():.4f}")

if accelerator.is_main_process:
    trained = rp.transfer.from_recipe(accelerator.unwrap_model(model).cpu())
    rp.transfer.export_encoders(trained, "safetensors", folder / "encoders.safetensors")
    print(f"an encoder of strides {rp.load_encoder(folder / 'encoders.safetensors').strides} came home")
accelerator.end_training()
