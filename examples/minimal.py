# Your own loop: images in, a volume, rendered depth and colour out, on synthetic streets.
import torch
from torch import nn

from renderpretrain import VoxelGrid
from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.fields import SDFField
from renderpretrain.lifters import ViewLifter
from renderpretrain.losses import depth_l1, rgb_l1
from renderpretrain.masking import RandomMask, hide_patches, patch_candidates
from renderpretrain.renderers import NeuSRenderer
from renderpretrain.samplers import LidarGuidedRays

torch.manual_seed(0)
grid = VoxelGrid(point_cloud_range=(-32, -32, -3.2, 32, 32, 3.2), voxel_size=(1.6, 1.6, 0.8))  # metres
hide, select = RandomMask(ratio=0.3), LidarGuidedRays(num_rays=64)
encoder = nn.Sequential(nn.Conv2d(3, 32, 8, stride=8), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))  # yours
lifter = ViewLifter(grid, channels=32, depth_range=(1, 45))
renderer = NeuSRenderer(SDFField(grid, channels=32, extent=32.0), num_samples=32, num_importance=16)
optimizer = torch.optim.AdamW(nn.ModuleList([encoder, lifter, renderer]).parameters(), lr=2e-3)

for step, scene in enumerate(SyntheticStreet(num_scenes=20, image_size=(64, 96))):
    batch = collate([scene])
    images = batch.images.flatten(0, 1)
    features = encoder(hide_patches(images, hide(patch_candidates(images, 32)))).unflatten(0, (1, -1))
    volume = lifter([features], batch.cameras, batch.camera_valid)
    points = batch.points[..., :3]
    target = select(points, batch.point_valid, batch.cameras, batch.camera_valid, batch.images, batch.seeds)
    rendered = renderer(volume, target.rays, batch.seeds)
    loss = 0.1 * depth_l1(rendered.depth, target.depth, target.hit & grid.contains(target.ends))
    loss = loss + rgb_l1(rendered.rgb, target.rgb, target.rgb_valid)
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    print(f"step {step}  loss {loss.item():.3f}")
