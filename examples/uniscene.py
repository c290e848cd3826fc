# UniScene (https://arxiv.org/abs/2305.18829, RA-L 2024) from primitives: from images, say which voxels the
# LiDAR found occupied. Sizes are a laptop's. 30 s of one core; what it says is rendered at the end, to a
# picture, uniscene.png.
import sys

import torch
from torch import nn

import renderpretrain as rp
from renderpretrain import ops

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
torch.manual_seed(0)
grid = rp.VoxelGrid((-25.6, -25.6, -3.25, 25.6, 25.6, 4.75), voxel_size=(1.6, 1.6, 0.5))  # metres
# Section 3.3: labels are the beams of the frames around, here all of a street's: four streets, two each.
recording = rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96), frames_per_street=2)
windows = rp.data.SceneWindows(recording, grid, reach=1, history=1)
scenes = [windows[i] for i in range(len(windows))]

# The image network and BEVFormer, which are what is taken home: a bird's-eye view, dealt out to the heights.
backbone = rp.encoders.ResNet((1, 1, 1, 1), width=24, out_indices=(1, 2, 3))
neck = rp.encoders.FPN(backbone.channels, 64, num_outs=1)
lifter = rp.lifters.BEVFormerLifter(
    grid, 64, num_layers=1, num_heads=4, num_levels=1, num_points=4, hidden_channels=128
)
# The light decoder that stays behind, to one logit per voxel.
decoder = nn.Sequential(rp.encoders.VolumeConv(64 // grid.shape[0], 16), nn.Conv3d(16, 1, 1))
parts = nn.ModuleList([backbone, neck, lifter, decoder])
for norm in (part for part in parts.modules() if hasattr(part, "running_mean")):
    norm.momentum = 0.1  # 0.01 forgets too slowly for a minute

hide = rp.masking.Sometimes(rp.masking.GridMask((2, 63), 0.5), 0.7)  # the released grid of squares on images
mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def lift(batch, masked, previous=None):
    """One moment's volume ``(B, 64 / Z, Z, Y, X)``."""
    views = batch.views
    images = (views.images.flatten(0, 1) - mean) / std  # (B * N, 3, H, W)
    pixels = torch.full((batch.size, *images.shape[2:]), masked)
    hidden = hide(pixels, ops.fold_in(batch.seeds, 1)).repeat_interleave(views.valid.shape[1], 0)
    levels = neck(backbone(rp.masking.hide_patches(images, hidden)))
    levels = [level.unflatten(0, views.valid.shape) for level in levels]
    return lifter(levels, views.cameras, views.valid, previous)


def encode(batch, masked):
    """Logits ``(B, 1, Z, Y, X)`` of voxels being occupied."""
    # BEVFormer's temporal attention: what the frame before saw, without gradient, moved by the car's motion.
    with torch.no_grad():
        [before] = batch.previous
        motion = torch.linalg.inv(before.world_to_global) @ batch.world_to_global
        known = torch.ones(batch.size, dtype=torch.bool)
        memory = rp.lifters.PreviousBEV(lift(before, masked=False), motion, known)
    return decoder(lift(batch, masked, memory))


def overlap(logits, batch):
    """Intersection over union of occupied voxels, among those that beams know something of."""
    said = (logits[:, 0] >= 0) & batch.observed
    return (said & batch.occupied).sum() / (said | batch.occupied).sum()


optimizer = torch.optim.AdamW(parts.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
for step in range(steps):
    batch = rp.data.collate([scenes[step % 8]])
    logits = encode(batch, masked=True)
    # The loss: focal, on the voxels that beams know something of.
    known = batch.occupied, batch.observed
    loss = rp.losses.occupancy_focal(logits[:, 0], *known, gamma=2, alpha=0.5)
    optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    print(f"step {step}  loss {loss:.4f}  IoU {overlap(logits, batch):.3f}")

# Streets are alike: what is said of one must fit that one better than another.
parts.eval()
batches = [rp.data.collate([scene]) for scene in scenes]
with torch.no_grad():
    said = [encode(batch, masked=False) for batch in batches]
own = sum(overlap(said[i], batches[i]) for i in range(8)) / 8
other = sum(overlap(said[i - 2], batches[i]) for i in range(8)) / 8
print(f"nothing hidden: IoU {own:.3f}, with another street's {other:.3f}")

# The paper renders nothing; here rays read the logits as densities, for a picture and its depth. Wide voxels
# end a ray that grazes the road early, less so where it takes some metres in them to be opaque.
field = rp.fields.OccupancyField(grid, length=3.0)
renderer = rp.renderers.VolumeRenderer(field, rp.samplers.Even(grid, num_samples=128))
batch, logits = batches[-1], said[-1]
target = rp.samplers.LidarGuidedRays(num_rays=64)(batch)
rendered, hit = renderer(logits, target.rays), target.hit & grid.contains(target.ends)
depth = rp.losses.depth_l1(rendered.depth, target.depth, hit)
far, opacity = (rp.losses.masked_mean(x, hit) for x in (target.depth, rendered.opacity))
print(f"rendered: depth error {depth:.2f} m of {far:.2f} m  opacity {opacity:.2f}")
ahead = {"camera": batch.views.cameras[0, 0], "image": batch.views.images[0, 0]}
print(rp.viz.save_rendering("uniscene.png", renderer, logits, **ahead))
