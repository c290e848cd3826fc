# UniPAD on images, trained by Lightning: the recipe is a module that gives loss terms by name, batches come
# from a data loader, and the encoder is exported as ever. Needs: pip install lightning
#   python examples/lightning_loop.py FOLDER [STEPS]
import sys
import tempfile
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

import renderpretrain as rp
from renderpretrain import training
from renderpretrain.recipes import RECIPES, OptimizationConfig

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
optimization = OptimizationConfig(steps=steps, lr=5e-3, warmup_steps=min(5, steps - 1))


class Batches(Dataset):
    """Batches by their number: the order and every random number follow from the seed."""

    def __init__(self, order):
        self.order = order

    def __len__(self):
        return steps

    def __getitem__(self, index):
        return self.order[index]


class Pretraining(lightning.LightningModule):
    def __init__(self, recipe):
        super().__init__()
        self.recipe = recipe

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch.to(device)

    def training_step(self, batch, batch_idx):
        training.set_step(self.optimizers().optimizer, optimization, self.global_step)  # learning rates
        terms = self.recipe(batch)
        loss = sum(terms.values())
        print(f"step {self.global_step + 1}  loss {loss.item():.4f}")
        self.log_dict({f"loss/{name}": term for name, term in terms.items()}, batch_size=batch.size)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        training.count_step(self.recipe)  # for what changes in the course of a run

    def configure_optimizers(self):
        return training.build_optimizer(self.recipe, optimization)


torch.manual_seed(0)
streets = rp.data.SyntheticStreet(num_scenes=4, image_size=(64, 96))
entry = RECIPES["unipad-camera"]
recipe = entry.build(entry.presets["tiny"].model_copy(update={"image_size": (64, 96)}))
order = training.MicroBatches(streets, len(streets), seed=0, batch_size=1)
loader = DataLoader(Batches(order), batch_size=None)  # they are batches already
trainer = lightning.Trainer(
    max_steps=steps, accelerator="auto", devices=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=35.0,
)  # fmt: skip
trainer.fit(Pretraining(recipe), loader)
rp.transfer.export_encoders(
    rp.transfer.from_recipe(recipe.cpu()), "safetensors", folder / "encoders.safetensors"
)
print(f"an encoder of strides {rp.load_encoder(folder / 'encoders.safetensors').strides} came home")
