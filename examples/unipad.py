# UniPAD (https://arxiv.org/abs/2310.08370, CVPR 2024) from primitives, both sensors: hide voxels and patches,
# lift what is left to one volume, render it by NeuS, compare with what the sensors saw. Sections are the
# paper's, sizes a laptop's. 40 s of one core; ends with a picture, unipad.png.
import sys

import torch
from torch import nn

import renderpretrain as rp
from renderpretrain import ops

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
torch.manual_seed(0)
streets = list(rp.data.SyntheticStreet(num_scenes=8, image_size=(64, 96)))
voxel_grid = rp.VoxelGrid((-25.6, -25.6, -3.2, 25.6, 25.6, 3.2), voxel_size=(0.4, 0.4, 0.4))  # metres
block = (2, 2, 2)  # voxels that are hidden together
blocks = voxel_grid.coarsened(block)

# 3.1: the encoders of points and images, which are what is taken home.
stages = {"channels": ((16, 32), (32, 32)), "strides": [(2, 2, 2)], "paddings": [(1, 1, 1)]}
sparse = rp.encoders.SparseEncoder(5, 32, **stages)
point_neck = rp.encoders.VolumeNeck(32, 32, channels=(32, 32), strides=(1, 2), num_blocks=1)
backbone = rp.encoders.ResNet((1, 1, 1, 1), width=32)
image_neck = rp.encoders.FPN(backbone.channels, 32, num_outs=1)
# 3.1, lifter: volumes on one grid, where the sparse encoder's outputs are centred. 3.2: projection and field.
grid = sparse.output_grid(voxel_grid)
lifter = rp.lifters.ViewLifter(grid, channels=32, depth_bins=48, depth_range=(1, 37))
project = rp.encoders.VolumeConv(32, 32)
field = rp.fields.SDFField(grid, 32, extent=32, sharpness=60)
renderer = rp.renderers.VolumeRenderer(field, rp.samplers.NeuSImportance(field, 32, 16, near=1.0))
parts = nn.ModuleList([sparse, point_neck, backbone, image_neck, lifter, project, renderer])

hide_blocks, hide_patches = rp.masking.RandomMask(ratio=0.5), rp.masking.RandomMask(ratio=0.3)
select = rp.samplers.LidarGuidedRays(num_rays=64)
for norm in (part for part in parts.modules() if hasattr(part, "running_mean")):
    norm.momentum = 0.1  # 0.01 forgets too slowly for a minute
mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def encode(batch, masked):
    """The volume that is rendered, and of every image cell how likely which depth is."""
    # 3.1: blocks of voxels are dropped, and the sparse encoder sees the others.
    voxels = rp.encoders.voxelize(batch.points.columns(), batch.points.valid, voxel_grid)
    occupied = rp.masking.occupied_blocks(voxels.coords, block, (batch.size, *blocks.shape))
    chosen = hide_blocks(occupied & masked, ops.fold_in(batch.seeds, 1))
    hidden = rp.masking.hidden_voxels(voxels.coords, block, chosen)
    volume = point_neck(sparse(voxels.to_sparse(hidden)))
    # 3.1: patches are hidden, and convolutions see nothing of them at any scale.
    views = batch.views
    images = (views.images.flatten(0, 1) - mean) / std  # (B * N, 3, H, W)
    patches = rp.masking.patch_candidates(images, patch_size=16) & masked
    patches = hide_patches(patches, ops.per_camera(batch.seeds, views.valid.shape[1]))
    features = image_neck(backbone(images, patches[:, None]))[0].unflatten(0, views.valid.shape)
    # 3.1: image features go to the voxels, weighted by depth; both volumes are summed and projected.
    seen, [likely] = lifter.lift([features], views.cameras, views.valid)
    return project(volume + seen), likely


optimizer = torch.optim.AdamW(parts.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
for step in range(steps):
    batch = rp.data.collate([streets[step % 8]])
    volume, likely = encode(batch, masked=True)
    # 3.3, depth-aware sampling: rays of the cameras towards LiDAR returns.
    target = select(batch)
    hit = target.hit & grid.contains(target.ends)
    # 3.2: NeuS composites depth and colour.
    rendered = renderer(volume, target.rays, ops.fold_in(batch.seeds, 3))
    # 3.2, the loss: L1 of depth and colour.
    depth = rp.losses.depth_l1(rendered.depth, target.depth, hit)
    colour = rp.losses.rgb_l1(rendered.rgb, target.rgb, target.rgb_valid)
    # Not in the paper, for the steps are few: distances along the rays, and depths of the lifter.
    sdf, t = rendered.along.field.sdf, rendered.along.samples.t_mids
    free = rp.losses.free_space(sdf, t, target.depth, hit, truncation=1.0)
    near = rp.losses.near_surface_sdf(sdf, t, target.depth, hit, truncation=1.0)
    ends = target.ends.unflatten(1, (-1, 64))
    spots, inside = rp.lifters.view_coordinates(batch.views.cameras, ends, lifter.depth_range)
    inside = inside & hit.unflatten(1, (-1, 64))
    bins = rp.losses.masked_mean(-rp.lifters.depth_log_likelihood(likely, spots, inside), inside)
    loss = depth + 10 * colour + free + near + bins
    optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    opacity = rp.losses.masked_mean(rendered.opacity, hit)
    errors = f"depth error {depth:.2f} m  colour error {colour:.3f}  opacity {opacity:.2f}"
    print(f"step {step}  loss {loss:.2f}  {errors}")

parts.eval()
with torch.no_grad():
    volume, _ = encode(batch, masked=False)  # the last street, nothing hidden
ahead = {"camera": batch.views.cameras[0, 0], "image": batch.views.images[0, 0]}
print(rp.viz.save_rendering("unipad.png", renderer, volume, **ahead))
