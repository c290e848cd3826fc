# The loop of docs/your_loop.md: images in, a volume, rendered depth and colour out, on synthetic streets.
# Ends with two pictures, street_ahead.png and street_right.png.
import torch
from torch import nn

from renderpretrain import VoxelGrid, ops
from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.encoders import FPN, ResNet
from renderpretrain.fields import SDFField
from renderpretrain.lifters import ViewLifter, depth_log_likelihood, view_coordinates
from renderpretrain.losses import depth_l1, free_space, masked_mean, near_surface_sdf, rgb_l1
from renderpretrain.masking import RandomMask, hide_patches, patch_candidates
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import LidarGuidedRays, NeuSImportance, PixelRays
from renderpretrain.viz import save_rendering

torch.manual_seed(0)
grid = VoxelGrid((-25.6, -25.6, -2.4, 25.6, 25.6, 4.8), voxel_size=(0.8, 0.8, 0.6))  # metres
hide = RandomMask(ratio=0.3)
select, measured = LidarGuidedRays(num_rays=96), LidarGuidedRays(num_rays=1024)
encoder = nn.Sequential(ResNet((1, 1, 1, 1), width=32), FPN((32, 64, 128, 256), 32, num_outs=1))  # yours
lifter = ViewLifter(grid, channels=32, depth_bins=48, depth_range=(1, 37))
field = SDFField(grid, 32, extent=32, sharpness=60)
renderer = VolumeRenderer(field, NeuSImportance(field, num_samples=24, num_importance=16))
trained = nn.ModuleList([encoder, lifter, renderer])
optimizer = torch.optim.AdamW(trained.parameters(), lr=4e-3, betas=(0.9, 0.95))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=200)


def lift(images, views):  # the volume, and of every pixel how likely which depth is
    features = encoder(images)[0].unflatten(0, views.valid.shape)
    return lifter.lift([features], views.cameras, views.valid)


streets = list(SyntheticStreet(num_scenes=8, image_size=(64, 96)))
for step in range(200):
    scene = streets[step % 8]
    batch = collate([scene])
    views, images = batch.views, batch.views.images.flatten(0, 1)  # (B * N, 3, H, W)
    mask = hide(patch_candidates(images, 16), ops.per_camera(batch.seeds, views.valid.shape[1]))
    volume, [likely] = lift(hide_patches(images, mask), views)
    target = select(batch)
    no_hit = ~scene.truth.hit[None]  # a simulator knows its sky; elsewhere segment it
    sky = PixelRays(48, candidates=no_hit)(batch)
    rendered, above = renderer(volume, target.rays, batch.seeds), renderer(volume, sky.rays, batch.seeds)
    hit = target.hit & grid.contains(target.ends)
    through = target.hit & ~hit  # to what lies beyond the grid: nothing in it
    sdf, t = rendered.along.field.sdf, rendered.along.samples.t_mids
    depth = depth_l1(rendered.depth, target.depth, hit)
    clear = masked_mean(1 - rendered.opacity, hit)  # depth says where a surface is, this that there is one
    fog = masked_mean(above.opacity, sky.rgb_valid) + masked_mean(rendered.opacity, through)
    free = free_space(sdf, t, target.depth, hit, truncation=1.0)
    near = near_surface_sdf(sdf, t, target.depth, hit, truncation=1.0)
    points = measured(batch)  # many more: a likelihood at a pixel costs next to nothing beside a ray
    spots, seen = view_coordinates(views.cameras, points.ends.unflatten(1, (-1, 1024)), lifter.depth_range)
    seen = seen & points.hit.unflatten(1, (-1, 1024))
    pixels = masked_mean(-depth_log_likelihood(likely, spots, seen), seen)  # each goes where it was measured
    colour = rgb_l1(rendered.rgb, target.rgb, target.rgb_valid & ~through)
    loss = depth + 5 * clear + fog + free + near + 5 * pixels + 10 * colour
    optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    shown = f"depth error {depth:.2f} m  opacity {1 - clear:.2f}, where nothing is {fog / 2:.2f}"
    print(f"step {step}  loss {loss:.2f}  {shown}")

encoder.eval()
volume, _ = lift(images, views)  # the last street, nothing hidden
for name, n in {"ahead": 0, "right": 1}.items():
    seen_by = {"camera": views.cameras[0, n], "image": views.images[0, n]}
    print(save_rendering(f"street_{name}.png", renderer, volume, **seen_by))
