# PonderV2 outdoors (https://arxiv.org/abs/2310.08586) from primitives: say what hides behind a token, and
# render the street from the answer. LiDAR in, images as targets; sizes are a laptop's.
# 30 s of one core; ends with a picture, ponder.png.
import sys
from dataclasses import replace

import torch
from torch import nn

import renderpretrain as rp
from renderpretrain import ops

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 80
torch.manual_seed(0)
streets = list(rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96)))
fine = rp.VoxelGrid((-25.6, -25.6, -3.2, 25.6, 25.6, 3.2), voxel_size=(0.4, 0.4, 0.4))  # metres
grid = fine.coarsened((2, 2, 2))  # what is rendered
block = (2, 2, 2)  # voxels that are hidden together

# The point encoder, which is what is taken home; the token; the dense volume's convolution; the field.
encoder = rp.encoders.SparseUNet(4, channels=(16, 32, 32, 32), depths=(1, 1, 1, 1), stem_channels=16)
token = nn.Parameter(nn.init.trunc_normal_(torch.empty(4), std=0.02))
project = rp.encoders.VolumeConv(encoder.out_channels, 32)
field = rp.fields.SDFField(grid, 32, extent=51.2, sharpness=96)
renderer = rp.renderers.VolumeRenderer(field, rp.samplers.NeuSImportance(field, 32, 16, near=1.0))
parts = nn.ModuleList([encoder, project, renderer])
for norm in (part for part in parts.modules() if hasattr(part, "running_mean")):
    norm.momentum = 0.1  # 0.01 forgets too slowly for a minute

hide = rp.masking.RandomMask(ratio=0.4)  # the paper hides 0.8, and has 24 epochs
select = rp.samplers.LidarGuidedRays(num_rays=64, nearest=True)
scale = torch.tensor([10.0, 10.0, 2.0, 0.25])  # what is 1 of x, y, z (metres) and intensity


def encode(batch, masked):
    """The volume that is rendered."""
    table = batch.points.columns(("x", "y", "z", "intensity"))
    voxels = rp.encoders.voxelize(table, batch.points.valid, fine)
    # Masking, outdoors: hidden voxels stay where they are, with the token for a feature.
    occupied = rp.masking.occupied_blocks(voxels.coords, block, (batch.size, *grid.shape))
    blocks = hide(occupied & masked, ops.fold_in(batch.seeds, 1))
    hidden = rp.masking.hidden_voxels(voxels.coords, block, blocks)
    features = rp.masking.hide_features(voxels.features / scale, hidden, token)
    features = encoder(replace(voxels, features=features).to_sparse()).features
    # Densifying: voxels are averaged into a volume, whose gaps a 3D convolution fills.
    return project(rp.lifters.lift_voxels(features, voxels.coords, fine, grid, batch.size))


optimizer = torch.optim.AdamW([token, *parts.parameters()], lr=5e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
for step in range(steps):
    batch = rp.data.collate([streets[step % 8]])
    volume = encode(batch, masked=True)
    # Ray sampling, outdoors: from the cameras to the nearest return of a pixel, as far as the grid goes.
    inside = grid.contains(batch.points.xyz) & rp.samplers.in_range(batch.points, 3.0, float("inf"))
    target = select(replace(batch, points=batch.points.only(inside)), ops.fold_in(batch.seeds, 4))
    # Rendering: NeuS composites depth and colour.
    rendered = renderer(volume, target.rays, ops.fold_in(batch.seeds, 3))
    # The loss: L1 of depth and colour, where there is a return.
    depth = rp.losses.depth_l1(rendered.depth, target.depth, target.hit)
    colour = rp.losses.rgb_l1(rendered.rgb, target.rgb, target.rgb_valid & target.hit)
    # The paper's indoor terms, for the steps are few: what is known of distances along the rays.
    sdf, t = rendered.along.field.sdf, rendered.along.samples.t_mids
    free = rp.losses.free_space(sdf, t, target.depth, target.hit, truncation=1.0)
    near = rp.losses.near_surface_sdf(sdf, t, target.depth, target.hit, truncation=1.0)
    loss = depth + 50 * colour + free + near
    optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    opacity = rp.losses.masked_mean(rendered.opacity, target.hit)
    errors = f"depth error {depth:.2f} m  colour error {colour:.3f}  opacity {opacity:.2f}"
    print(f"step {step}  loss {loss:.2f}  {errors}")

parts.eval()
with torch.no_grad():
    volume = encode(batch, masked=False)  # the last street, nothing hidden
ahead = {"camera": batch.views.cameras[0, 0], "image": batch.views.images[0, 0]}
print(rp.viz.save_rendering("ponder.png", renderer, volume, **ahead))
