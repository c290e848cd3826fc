"""Masks and samplers as Inductor compiles them: the same draws, on numbers of points no vector divides."""

import shutil

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.data import Batch
from renderpretrain.geometry import Points, Views
from renderpretrain.masking import RandomMask
from renderpretrain.samplers import LidarGuidedRays, uniform_positions


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of parts of torch that its compiler uses
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a compiler")
def test_a_compiled_selection_of_rays_is_the_eager_one():
    count = (
        17561  # with six cameras and a mask, code made of the random numbers' arithmetic ended the process
    )
    intrinsics = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]]).expand(1, 6, 3, 3)
    cameras = Cameras(intrinsics, torch.eye(4).expand(1, 6, 4, 4), (48, 64))
    points = torch.rand(1, count, 3) * 8 - torch.tensor([4.0, 4.0, 0.0])
    valid, seen = torch.rand(1, count) < 0.9, torch.ones(1, 6, dtype=torch.bool)
    images, seeds = torch.rand(1, 6, 3, 48, 64), torch.tensor([7])

    def draw(points, valid, images, seeds):
        kept = valid & ~RandomMask(0.3)(valid, seeds)
        batch = Batch(("a",), Points.from_table(points, kept), seeds, Views(images, cameras, seen))
        targets = LidarGuidedRays(16)(batch)
        t = uniform_positions(0 * targets.depth, targets.depth + 1, 4, seeds)
        return targets.rays.origins, targets.rays.directions, targets.depth, targets.hit, targets.rgb, t

    compiled = torch.compile(draw, fullgraph=True)
    eager = draw(points, valid, images, seeds)
    # float32, sums in another order.
    assert_close(compiled(points, valid, images, seeds), eager, rtol=1e-5, atol=1e-5)
    assert eager[3].any()
