# Your own loop: images in, a volume, rendered depth and colour out, on synthetic streets; with losses on the
# signed distance. Ends with a picture: python minimal.py street.png
import sys

import torch
from torch import nn

from renderpretrain import VoxelGrid, ops
from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.fields import SDFField
from renderpretrain.lifters import ViewLifter
from renderpretrain.losses import depth_l1, free_space, masked_mean, near_surface_sdf, rgb_l1
from renderpretrain.masking import RandomMask, hide_patches, patch_candidates
from renderpretrain.renderers import NeuSRenderer
from renderpretrain.samplers import LidarGuidedRays
from renderpretrain.viz import save_rendering

torch.manual_seed(0)
picture = sys.argv[1] if len(sys.argv) > 1 else "street.png"
grid = VoxelGrid((-32, -32, -3.2, 32, 32, 3.2), voxel_size=(1.6, 1.6, 0.8))  # metres
hide, select = RandomMask(ratio=0.3), LidarGuidedRays(num_rays=64)
encoder = nn.Sequential(nn.Conv2d(3, 32, 8, stride=8), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))  # yours
lifter = ViewLifter(grid, channels=32, depth_range=(1, 45))
renderer = NeuSRenderer(SDFField(grid, 32, extent=32, sharpness=60), num_samples=32, num_importance=16)
optimizer = torch.optim.AdamW(nn.ModuleList([encoder, lifter, renderer]).parameters(), lr=5e-3)

for step, scene in enumerate(SyntheticStreet(num_scenes=40, image_size=(64, 96))):
    batch = collate([scene])
    images = batch.images.flatten(0, 1)  # (B * N, 3, H, W)
    mask = hide(patch_candidates(images, 32), ops.per_camera(batch.seeds, batch.images.shape[1]))
    features = encoder(hide_patches(images, mask)).unflatten(0, batch.images.shape[:2])
    volume = lifter([features], batch.cameras, batch.camera_valid)
    target = select(
        batch.points[..., :3], batch.point_valid, batch.cameras, batch.camera_valid, batch.images, batch.seeds
    )
    rendered = renderer(volume, target.rays, batch.seeds)
    hit = target.hit & grid.contains(target.ends)
    sdf, t = rendered.field.sdf, rendered.samples.t_mids
    terms = {
        "depth": depth_l1(rendered.depth, target.depth, hit),
        "colour": 10 * rgb_l1(rendered.rgb, target.rgb, target.rgb_valid),
        "clear": 5 * masked_mean(1 - rendered.opacity, hit),  # what was measured is opaque
        "free": free_space(sdf, t, target.depth, hit, truncation=1.0),
        "near": near_surface_sdf(sdf, t, target.depth, hit, truncation=1.0),
    }
    loss = sum(terms.values())
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    shown = "  ".join(f"{name} {term.item():.2f}" for name, term in terms.items())
    print(f"step {step}  loss {loss.item():.3f}  {shown}  opacity {1 - terms['clear'].item() / 5:.2f}")

print(save_rendering(picture, renderer, volume, batch.cameras[0, 0], image=batch.images[0, 0]))
