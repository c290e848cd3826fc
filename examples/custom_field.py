# A field of your own, rendered by ours: a field is any callable (volume, rays, samples) -> FieldSamples.
import torch
from torch import nn

from renderpretrain import RaySamples, VoxelGrid, ops
from renderpretrain.fields import FieldSamples
from renderpretrain.geometry import Rays
from renderpretrain.renderers import render
from renderpretrain.samplers import uniform_positions

grid = VoxelGrid((-4, -4, -4, 4, 4, 4), voxel_size=(0.25, 0.25, 0.25))


class DensityField(nn.Module):
    """Density and colour straight from a volume of four channels: alpha = 1 - exp(-density * length)."""

    def forward(self, volume: torch.Tensor, rays: Rays, samples: RaySamples) -> FieldSamples:
        points = rays.at(samples.t_mids)
        value = grid.read(volume, points.flatten(1, 2))
        value = value.unflatten(1, points.shape[1:3])
        alphas = -torch.expm1(-nn.functional.softplus(value[..., 0]) * samples.deltas)
        return FieldSamples(torch.where(samples.valid, alphas, 0.0), {"rgb": value[..., 1:].sigmoid()})


# Fit it to a red ball of radius 2 m seen from everywhere.
torch.manual_seed(0)
volume = torch.zeros(1, 4, *grid.shape).requires_grad_()
optimizer = torch.optim.Adam([volume], lr=0.3)
field = DensityField()
for step in range(60):
    origins = 3.9 * nn.functional.normalize(torch.randn(1, 512, 3), dim=-1)
    rays = Rays.through(origins, torch.rand(1, 512, 3) * 6 - 3)
    along = (rays.origins * rays.directions).sum(-1)
    inside = along**2 - (3.9**2 - 4)
    hit, depth = inside > 0, -along - inside.clamp(min=0).sqrt()
    near, far, met = ops.box_intersect(rays.origins, rays.directions, grid.lower, grid.upper)
    t = uniform_positions(near, far, 48, seeds=torch.tensor([step]))
    samples = RaySamples.around(t, near, far, met[..., None].expand_as(t))
    rendered = render(field(volume, rays, samples), samples)
    target = torch.tensor([1.0, 0.0, 0.0]) * hit[..., None]
    loss = (rendered.rgb - target).abs().mean() + ((rendered.depth - depth).abs() * hit).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
error = ((rendered.depth - depth).abs() * hit).sum() / hit.sum()
print(f"loss {loss.item():.3f}, depth error {error.item():.2f} m at 0.25 m voxels")
