# Encoders that renderpretrain has never heard of, pre-trained by UniPAD and taken home: a dense 3D U-Net on
# voxels and a small CNN on images. The lines between the two rules are all it takes.
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import renderpretrain as rp
from renderpretrain.recipes import ImageBranch, OptimizationConfig, PointBranch, UniPAD
from renderpretrain.recipes.unipad import LossConfig


class UNet3d(nn.Module):  # yours: (B, 5, Z, Y, X) -> (B, 32, Z/2, Y/2, X/2)
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv3d(5, 32, 3, stride=2, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv3d(32, 64, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv3d(64, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))

    def forward(self, voxels):
        fine = self.down(voxels)
        z, y, x = fine.shape[2:]
        return fine + self.up(self.deep(fine))[:, :, :z, :y, :x]


class SmallCNN(nn.Sequential):  # yours: (B, 3, H, W) -> (B, 32, H/8, W/8)
    def __init__(self):
        super().__init__(nn.Conv2d(3, 32, 8, stride=8), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))


work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
torch.manual_seed(0)
points, images = UNet3d(), SmallCNN()
# ---------------------------------------------------------------------------------------------------------
voxels = rp.VoxelGrid((-25.6, -25.6, -3.2, 25.6, 25.6, 3.2), voxel_size=(0.8, 0.8, 0.8))
encoder = rp.encoders.VolumeEncoder(points, out_channels=32, stride=2, first=0)  # centred on the first voxel
lidar = PointBranch(encoder, voxels, rp.masking.RandomMask(0.5), block=(2, 2, 2))
lifter = rp.lifters.ViewLifter(lidar.out_grid, channels=32, depth_bins=32, depth_range=(1, 33))
cnn = rp.encoders.ImageMaps(images, channels=[32])
camera = ImageBranch(cnn, lifter, rp.masking.RandomMask(0.3), patch_size=16)
field = rp.fields.SDFField(lidar.out_grid, channels=32, extent=32, sharpness=60)
renderer = rp.renderers.VolumeRenderer(field, rp.samplers.NeuSImportance(field, 32, 16))
losses = LossConfig(depth=1.0, rgb=10.0, sdf=1.0, free_space=1.0, truncation=1.0, depth_bins=1.0)
unipad = UniPAD(renderer, lidar=lidar, camera=camera, losses=losses)
# ---------------------------------------------------------------------------------------------------------
streets = rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96))
optimization = OptimizationConfig(steps=steps, lr=5e-3, warmup_steps=min(10, steps - 1))
run = rp.training.RunOptions(holdout=2, evaluation_rays=64)
result = rp.training.fit(unipad, streets, optimization, out=work / "run", options=run)
for change in result.table:
    print(f"{change.metric}: {change.before:.3f} -> {change.after:.3f}")

home = rp.transfer.from_modules({"unet": points, "cnn": images})
rp.transfer.export_encoders(home, "safetensors", work / "encoders.safetensors")
fresh = rp.transfer.load_encoder(work / "encoders.safetensors", "unet", into=UNet3d())  # where you fine-tune
same = all(torch.equal(a, b) for a, b in zip(fresh.parameters(), points.parameters(), strict=True))
print("encoders:", work / "encoders.safetensors", "the weights came home" if same else "they differ")
