"""What places a grid in the world is checked by name: its scale and offset, its size, and boxes."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

pytestmark = pytest.mark.untyped  # the hook would refuse wrong lengths, and the compiler cannot trace it

ONES, ZEROS, SHAPE = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (2, 3, 4)
POINTS, SEEN, NEAR = torch.rand(1, 4, 3), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4)
RAYS = POINTS, POINTS, NEAR, NEAR + 1, torch.ones(1, *SHAPE, dtype=torch.bool)
VOLUME = torch.rand(1, 3, *SHAPE)

FRAMED = {
    "grid_sample": lambda *frame: ops.grid_sample(VOLUME, POINTS, *frame),
    "grid_sample_vjp": lambda *frame: ops.grid_sample_vjp(VOLUME, POINTS, POINTS, *frame),
    "splat": lambda *frame: ops.splat(POINTS, POINTS, SHAPE, *frame),
    "voxel_index": lambda *frame: ops.voxel_index(POINTS, SEEN, SHAPE, ZEROS, ONES, *frame),
    "march": lambda *frame: ops.march(*RAYS, *frame, 0.5, capacity=3),
    "march_packed": lambda *frame: ops.march_packed(*RAYS, *frame, 0.5),
    "raycast_grid": lambda *frame: ops.raycast_grid(POINTS, POINTS, SEEN, SHAPE, *frame),
    "frustum_cells": lambda *frame: ops.frustum_cells(POINTS[:, :, None, None, None], SHAPE, *frame),
}
SHAPED = {
    "splat": lambda shape: ops.splat(POINTS, POINTS, shape, ONES, ZEROS),
    "voxel_index": lambda shape: ops.voxel_index(POINTS, SEEN, shape, ZEROS, ONES, ONES, ZEROS),
    "raycast_grid": lambda shape: ops.raycast_grid(POINTS, POINTS, SEEN, shape, ONES, ZEROS),
    "frustum_cells": lambda shape: ops.frustum_cells(POINTS[:, :, None, None, None], shape, ONES, ZEROS),
}
BOXED = {
    "box_intersect": lambda *box: ops.box_intersect(POINTS, POINTS, *box),
    "voxel_index": lambda *box: ops.voxel_index(POINTS, SEEN, SHAPE, *box, ONES, ZEROS),
}


@pytest.mark.parametrize("name", FRAMED)
@pytest.mark.parametrize("bad", [(1.0, 1.0), (1.0,) * 4, (1.0, math.nan, 1.0), (math.inf, 1.0, 1.0)])
def test_a_frame_has_three_finite_numbers(name, bad):
    FRAMED[name](ONES, ZEROS)
    with pytest.raises(ValueError, match=r"scale: expected three finite numbers \(x, y, z\), got"):
        FRAMED[name](bad, ZEROS)
    with pytest.raises(ValueError, match=r"offset: expected three finite numbers \(x, y, z\), got"):
        FRAMED[name](ONES, bad)


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("bad", [(2, 3), (2, 3, 4, 5), (2, -1, 4)])
def test_a_volume_has_three_sizes(name, bad):
    SHAPED[name](SHAPE)
    with pytest.raises(ValueError, match=r"shape: expected three sizes \(Z, Y, X\), got"):
        SHAPED[name](bad)


@pytest.mark.parametrize("name", BOXED)
def test_a_box_has_two_corners(name):
    BOXED[name](ZEROS, ONES)
    with pytest.raises(ValueError, match=r"lower: expected three numbers \(x, y, z\), got \(0\.0, 0\.0\)"):
        BOXED[name](ZEROS[:2], ONES[:2])
    with pytest.raises(ValueError, match=r"upper: expected three numbers \(x, y, z\), got \(1\.0, 1\.0\)"):
        BOXED[name](ZEROS, ONES[:2])
    for bad in ((2.0, 0.0, 0.0), (math.nan, 0.0, 0.0)):
        with pytest.raises(ValueError, match="lower: expected no coordinate above upper"):
            BOXED[name](bad, ONES)


@pytest.mark.skipif(not ops.has_native("cpu"), reason="operators are registered for native libraries")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", [name for name in FRAMED if name != "march_packed"])
def test_frames_may_be_arguments_of_a_graph(name, dynamic):
    compiled = torch.compile(FRAMED[name], fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for frame in ((ONES, ZEROS), ((2.0, 1.5, 1.0), (0.25, 0.0, 0.5))):
        assert_close(compiled(*frame), FRAMED[name](*frame))
