"""The renderer as one graph: sampling, field, normals, compositing and the gradient of all of it."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, VoxelGrid
from renderpretrain.fields import SDFField
from renderpretrain.ops import has_native
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import NeuSImportance

GRID = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (0.5, 0.5, 0.5))


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
@pytest.mark.skipif(not has_native("cpu"), reason="without kernels the normals need create_graph")
def test_a_training_step_with_normals_compiles_whole():
    field = SDFField(GRID, 8, extent=4.0, sharpness=8.0)
    renderer = VolumeRenderer(field, NeuSImportance(field, 16, 8))
    volume = torch.randn(1, 8, *GRID.shape, requires_grad=True)
    directions = torch.nn.functional.normalize(torch.rand(1, 5, 3), dim=-1)

    def step(volume, origins, directions):
        rendered = renderer(volume, Rays(origins, directions))
        eikonal = (rendered.along.field.gradients.norm(dim=-1) - 1).square().mean()
        return (rendered.depth - 1).square().sum() + rendered.rgb.sum() + rendered.normals.sum() + eikonal

    results = []
    for function in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        loss = function(volume, torch.full((1, 5, 3), -3.0), directions)
        results.append([loss, *torch.autograd.grad(loss, [volume, *field.parameters()])])
    assert_close(*results)
