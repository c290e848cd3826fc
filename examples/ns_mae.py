# NS-MAE (https://arxiv.org/abs/2405.17942, ICRA 2025) from primitives, cameras and LiDAR: hide most of what
# they saw, render small pictures with depth, and a view from above. Sizes are a laptop's. 40 s of one core;
# ends with a picture, ns_mae.png.
import sys

import torch
from torch import nn

import renderpretrain as rp
from renderpretrain import ops

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 160
torch.manual_seed(0)
streets = list(rp.data.SyntheticStreet(num_scenes=8, image_size=(96, 160)))
voxel_grid = rp.VoxelGrid((-25.6, -25.6, -4.0, 25.6, 25.6, 4.8), voxel_size=(0.4, 0.4, 0.4))  # metres
stride, bins, depth_range = 8, 40, (1.0, 41.0)  # pixels per lifted cell, and what it is cut into

# The encoders, which are what is taken home. Points to slices of a bird's-eye map:
sparse = rp.encoders.SparseEncoder(
    5,
    32,
    channels=((16, 32), (32, 32)),
    strides=[(2, 2, 2)],
    paddings=[(1, 1, 1)],
    out_geometry=((3, 1, 1), (2, 1, 1), 0),
)
out = sparse.output_grid(voxel_grid)  # the densities' columns are where its outputs are centred
grid = rp.VoxelGrid((*out.lower[:2], -4.0, *out.upper[:2], 4.8), voxel_size=(0.8, 0.8, 0.4))
# images to maps; a depth net that also reads a sparse depth image; lift and splat to a bird's-eye map.
swin = rp.encoders.SwinTransformer((1, 1, 2, 1), 32, window=7, out_indices=(1, 2, 3))
neck = rp.encoders.LSSFPN(swin.channels, 32)
read_depth = nn.Sequential(nn.Conv2d(1, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 2, 2), nn.ReLU())
mix = nn.Sequential(nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
above = grid.coarsened((1, 1, grid.shape[0]))  # one voxel high
splat = rp.lifters.LiftSplat(above, 32, depth_bins=bins, depth_range=depth_range)
token = nn.Parameter(torch.zeros(3, 8, 8))  # what a hidden patch looks like
# Heads that stay behind: colour and density of image cells, densities of columns.
perspective_head = nn.Conv2d(32, 4, 1)
bev_head = nn.Conv2d(32 + 32 * out.shape[0], grid.shape[0], 3, padding=1)
parts = nn.ModuleList([sparse, swin, neck, read_depth, mix, splat, perspective_head, bev_head])
for norm in (part for part in parts.modules() if hasattr(part, "running_mean")):
    norm.momentum = 0.1  # 0.01 forgets too slowly for a minute
field = rp.fields.OccupancyField(grid, length=0.4)
renderer = rp.renderers.VolumeRenderer(field, rp.samplers.Even(grid, num_samples=96))

# The paper hides 0.5 of the patches and 0.9 of depth pixels and voxels, and has 50 epochs.
hide_patches, hide_pixels, hide_voxels = (rp.masking.RandomMask(ratio=0.5) for _ in range(3))
select = rp.samplers.LidarGuidedRays(num_rays=64)
mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def encode(batch, masked):
    """Logits of the columns' slices, context and depth distributions of image cells, the hidden points."""
    views, points = batch.views, batch.points
    # Masked images: hidden patches are a learned one.
    images = (views.images.flatten(0, 1) - mean) / std  # (B * N, 3, H, W)
    patches = rp.masking.patch_candidates(images, patch_size=8) & masked
    patches = hide_patches(patches, ops.per_camera(batch.seeds, views.valid.shape[1]))
    maps = neck(swin(rp.masking.hide_patches(images, patches, token)))[0]
    # Masked depth images: returns are taken out.
    depth = rp.samplers.depth_pictures(points.xyz, points.valid, views.cameras)  # (B, N, H, W)
    pixels = hide_pixels((depth > 0) & masked, ops.fold_in(batch.seeds, 2))
    known = read_depth(rp.masking.hide_depth(depth, pixels).flatten(0, 1)[:, None] / depth_range[1])
    context = mix(torch.cat([maps, known], 1))
    cells = context.unflatten(0, views.valid.shape)
    lifted, [likely] = splat.lift([cells], views.cameras, views.valid)
    # Masked LiDAR: voxels are dropped one by one.
    voxels = rp.encoders.voxelize(points.columns(), points.valid, voxel_grid)
    candidates, places = rp.masking.voxel_candidates(voxels.coords, batch.size)
    hidden = hide_voxels(candidates & masked, ops.fold_in(batch.seeds, 1))[voxels.coords[:, 0].long(), places]
    slices = sparse(voxels.to_sparse(hidden)).flatten(1, 2)
    volume = bev_head(torch.cat([lifted[:, :, 0], slices], 1))[:, None]
    return volume, context, likely.flatten(0, 1), voxels.points_of(hidden)


def occupied(points, valid):
    """Which voxels of the grid hold a point."""
    return rp.lifters.lift_points(torch.ones_like(points[..., :1]), points, valid, grid)[:, 0] > 0


optimizer = torch.optim.AdamW([token, *parts.parameters()], lr=2e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
for step in range(steps):
    batch = rp.data.collate([streets[step % 8]])
    volume, context, likely, hidden = encode(batch, masked=True)
    points, views = batch.points, batch.views
    # Rendering, perspective: depth bins are the samples of a cell's ray; an unlikely one is empty.
    raw = perspective_head(splat.context(context))
    densities = likely * rp.fields.occupancy_densities(raw[:, 3:], (depth_range[1] - depth_range[0]) / bins)
    colours = torch.sigmoid(raw[:, :3, None] * likely[:, None])
    seen = rp.renderers.render_frustum(densities, {"rgb": colours}, depth_range)
    # Reconstruction: compared with a cell's mean colour and nearest return, hidden or not.
    small = views.cameras.resize(tuple(side // stride for side in views.cameras.image_size))
    truth = rp.samplers.depth_pictures(points.xyz, points.key, small).flatten(0, 1)
    measured = (truth > depth_range[0]) & (truth < depth_range[1])
    picture = nn.functional.avg_pool2d(views.images.flatten(0, 1), stride)
    depth = rp.losses.depth_l1(seen.depth, truth, measured)
    rgb = seen.channels["rgb"].movedim(1, -1), picture.movedim(1, -1)
    colour = rp.losses.rgb_mse(*rgb, torch.ones_like(measured))
    # Rendering, bird's-eye view: slices are the samples of a column's ray, which comes from above.
    # Reconstruction: compared with the top of the returns, where something was hidden.
    top, _ = rp.losses.top_surface(occupied(points.xyz, points.key), grid.voxel_size[2])
    asked = occupied(points.xyz, points.key & hidden).any(1)
    densities = rp.fields.occupancy_densities(volume[:, 0], grid.voxel_size[2])
    bev = rp.losses.depth_l1(rp.renderers.render_bev(densities, {}, grid).depth, top, asked)
    # Not in the paper: rays of the cameras clear the fog that a view from above does not mind.
    target = select(batch, ops.fold_in(batch.seeds, 4))
    rendered = renderer(volume, target.rays, ops.fold_in(batch.seeds, 3))
    hit = target.hit & grid.contains(target.ends)
    ray = rp.losses.depth_l1(rendered.depth, target.depth, hit)
    loss = 20 * colour + 0.1 * depth + bev + 0.3 * ray
    optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    opacity = rp.losses.masked_mean(rendered.opacity, hit)
    errors = f"depth error {ray:.2f} m  in the views {depth:.2f} m  from above {bev:.2f} m"
    print(f"step {step}  loss {loss:.2f}  {errors}  colour error {colour:.3f}  opacity {opacity:.2f}")

parts.eval()
with torch.no_grad():
    volume, *_ = encode(batch, masked=False)  # the last street, nothing hidden
ahead = {"camera": batch.views.cameras[0, 0], "image": batch.views.images[0, 0]}
print(rp.viz.save_rendering("ns_mae.png", renderer, volume, **ahead))
