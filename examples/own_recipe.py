# A recipe of your own from primitives: it hides points, encodes the rest and renders the depth of all.
# From this folder:
#   renderpretrain pretrain own_recipe:DenseDepth --config own_recipe.yaml --out runs/dense
#   renderpretrain eval runs/dense
#   renderpretrain export runs/dense --to safetensors --out dense.safetensors
# Its settings are the parameters of the class and those of every run: optimization, image_size, sweeps.
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import renderpretrain as rp
from renderpretrain.data import Batch
from renderpretrain.recipes import Hidden, OptimizationConfig
from renderpretrain.training import RunOptions, fit, save_picture

COLUMNS = ("x", "y", "z", "intensity")


class DenseDepth(nn.Module):
    """Points to voxels to a dense 3D network; rays of the LiDAR through what it makes of them."""

    def __init__(self, width: int = 16, hidden: float = 0.5, voxel: float = 0.8):
        super().__init__()
        self.grid = rp.VoxelGrid((-25.6, -25.6, -3.2, 25.6, 25.6, 3.2), voxel_size=(voxel,) * 3)
        self.mask = rp.masking.RandomMask(hidden)
        layers = [nn.Conv3d(4, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, width, 3, padding=1)]
        self.encoder = nn.Sequential(*layers)
        field = rp.fields.SDFField(self.grid, channels=width, extent=32, sharpness=60)
        self.renderer = rp.renderers.VolumeRenderer(field, rp.samplers.NeuSImportance(field, 32, 16))
        self.beams = rp.samplers.LidarBeams(256)

    def hide(self, batch: Batch) -> Hidden:
        valid = batch.points.valid
        return Hidden(dropped=self.mask(valid, rp.ops.fold_in(batch.seeds, 1)))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Tensor:
        seen = batch.points.valid if hidden is None else batch.points.valid & ~hidden.points
        voxels = rp.encoders.voxelize(batch.points.columns(COLUMNS), seen, self.grid)
        return self.encoder(voxels.to_sparse().dense())

    def targets(self, batch: Batch, num_rays: int | None = None) -> rp.samplers.RayTargets:
        return (self.beams if num_rays is None else rp.samplers.LidarBeams(num_rays))(batch)

    def render(self, volume: Tensor, rays: rp.Rays) -> rp.renderers.Rendered:
        return self.renderer(volume, rays)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        targets = self.targets(batch)
        rendered = self.render(self.encode(batch, self.hide(batch)), targets.rays)
        hit = targets.hit & self.grid.contains(targets.ends)
        along = (rendered.along.field.sdf, rendered.along.samples.t_mids, targets.depth, hit)
        return {
            "depth": rp.losses.depth_l1(rendered.depth, targets.depth, hit),
            "free_space": rp.losses.free_space(*along, truncation=1.0),
            "near_surface": rp.losses.near_surface_sdf(*along, truncation=1.0),
        }

    def encoders(self) -> dict[str, nn.Module]:
        return {"point_encoder": self.encoder}


if __name__ == "__main__":  # the same from Python
    work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    torch.manual_seed(0)
    recipe, streets = DenseDepth(), rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96))
    optimization = OptimizationConfig(steps=steps, lr=5e-3, warmup_steps=min(10, steps - 1))
    result = fit(recipe, streets, optimization, out=work / "run", options=RunOptions(holdout=2))
    for change in result.table:
        print(f"{change.metric}: {change.before:.3f} -> {change.after:.3f}")
    print(save_picture(recipe, streets[6], work / "dense.png", title="DenseDepth"))
    # A class that was defined in a program cannot be imported again, so the recipe is handed in.
    print(rp.evaluate(work / "run", recipe=recipe))
    print(rp.export(work / "run", recipe=recipe, to="safetensors", out=work / "dense.safetensors").snippet)
