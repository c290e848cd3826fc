"""Reading a volume: on paper, against PyTorch's own grid_sample, and the kernels against the reference."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.testing import assert_close

from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops import (
    grid_sample,
    grid_sample_reference,
    grid_sample_vjp,
    grid_sample_vjp_reference,
)

GRID = VoxelGrid((-2.0, 0.0, -1.0, 4.0, 2.5, 1.0), (1.0, 0.5, 1.0))  # 2 x 5 x 6 voxels
FRAME = (GRID.scale, GRID.offset)
FUNCTIONS = [grid_sample, grid_sample_reference]


def volume_and_points(channels, points, *, dtype=torch.float64, device="cpu"):
    """A random volume on GRID, and points of which a third lie outside."""
    volume = torch.randn(2, channels, *GRID.shape, dtype=dtype, device=device)
    low, high = volume.new_tensor(GRID.lower), volume.new_tensor(GRID.upper)
    unit = 1.3 * torch.rand(2, points, 3, dtype=dtype, device=device) - 0.15
    return volume.requires_grad_(), (low + unit * (high - low)).requires_grad_()


def torch_grid_sample(volume, points):
    """PyTorch's function in our convention: the box runs edge to edge."""
    low, high = points.new_tensor(GRID.lower), points.new_tensor(GRID.upper)
    unit = 2 * (points - low) / (high - low) - 1
    read = functional.grid_sample(volume, unit[:, :, None, None], padding_mode="zeros", align_corners=False)
    return read[..., 0, 0].mT


def derivatives(function, volume, points):
    """Value, first derivatives, and the derivatives of a loss on all three, as in training on normals."""
    value = function(volume, points)
    upstream = torch.linspace(-1, 1, volume.shape[1], dtype=value.dtype, device=volume.device)
    first = torch.autograd.grad((value * upstream).sum(), (volume, points), create_graph=True)
    loss = value.square().sum() + first[0].square().sum() + first[1].square().sum()
    return [value, *first, *torch.autograd.grad(loss, (volume, points))]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    volume = torch.tensor([1.0, 3.0], device=device).reshape(
        1, 1, 1, 1, 2
    )  # voxel centres at x = 0.5 and 1.5
    points = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.5, 0.5], [2.0, 0.5, 0.5], [1.5, 1.0, 0.5]], device=device)
    read = function(volume, points[None], (1.0, 1.0, 1.0), (-0.5, -0.5, -0.5))
    # On a centre; between the two; half-way out of the box in x; half-way out in y.
    assert_close(read[0, :, 0].cpu(), torch.tensor([1.0, 2.0, 1.5, 1.5]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_volume_read_at_its_centres_is_itself(function, device):
    volume, _ = volume_and_points(3, 1, device=device)
    points = GRID.centers(device).double().reshape(1, -1, 3).expand(2, -1, 3)
    assert_close(function(volume, points, *FRAME).mT.reshape(volume.shape), volume, check_stride=False)


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80])
def test_equals_torch_up_to_second_derivatives(channels, device):
    volume, points = volume_and_points(channels, 50, device=device)
    ours = derivatives(lambda v, p: grid_sample(v, p, *FRAME), volume, points)
    try:
        theirs = derivatives(torch_grid_sample, volume, points)
    except RuntimeError as error:  # PyTorch before 2.12
        pytest.skip(str(error))
    assert_close(ours, theirs, check_stride=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80, 512])
def test_kernel_equals_reference(channels, dtype, device):
    volume, points = volume_and_points(channels, 300, dtype=dtype, device=device)
    ours = derivatives(lambda v, p: grid_sample(v, p, *FRAME), volume, points)
    theirs = derivatives(lambda v, p: grid_sample_reference(v, p, *FRAME), volume, points)
    # Second derivatives sum up to 32 x 300 terms; float32 keeps them to 1e-4 of their size of about 100.
    tolerance = {"rtol": 1e-4, "atol": 1e-2} if dtype == torch.float32 else {}
    assert_close(ours, theirs, check_stride=False, **tolerance)


@pytest.mark.parametrize(("batch", "points"), [(1, 0), (0, 4), (2, 1)])
def test_there_may_be_few_points_or_none(batch, points, device):
    volume = torch.randn(batch, 3, *GRID.shape, device=device, requires_grad=True)
    places = torch.zeros(batch, points, 3, device=device, requires_grad=True)
    read = grid_sample(volume, places, *FRAME)
    assert read.shape == (batch, points, 3)
    read.sum().backward()
    assert volume.grad.shape == volume.shape
    assert places.grad.shape == places.shape


def test_the_volume_may_be_in_any_memory_order(device):
    volume, points = volume_and_points(5, 40, device=device)
    expected = grid_sample_reference(volume, points, *FRAME)
    orders = [
        volume.contiguous(memory_format=torch.channels_last_3d),
        volume.flip(3).flip(3),
        volume.transpose(3, 4).contiguous().transpose(3, 4),
        volume.repeat(1, 2, 1, 1, 1)[:, :5],
    ]
    for same in orders:
        assert_close(grid_sample(same, points, *FRAME), expected)
    scattered = torch.stack([points, points], -1)[..., 0]
    assert_close(grid_sample(volume, scattered, *FRAME), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_point_nowhere_reads_zero_and_has_no_gradient(function, bad, device):
    volume, points = volume_and_points(4, 6, device=device)
    with torch.no_grad():
        points[:, 2, 1] = bad
    read, grad_volume, grad_points, *second = derivatives(lambda v, p: function(v, p, *FRAME), volume, points)
    assert read[:, 2].count_nonzero() == 0
    assert grad_points[:, 2].count_nonzero() == 0
    assert all(tensor.isfinite().all() for tensor in (read, grad_volume, grad_points, *second))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_voxel_that_is_not_near_a_point_does_not_matter(function, device):
    volume = torch.ones(1, 2, *GRID.shape, device=device)
    volume[..., 0, 0, 0] = math.nan
    points = torch.tensor([[[5.0, 5.0, 5.0], [2.0, 1.6, 0.1]]], device=device, requires_grad=True)
    read = function(volume, points, *FRAME)
    read.sum().backward()
    assert read.isfinite().all()
    assert points.grad.isfinite().all()


def test_gradients(device):
    volume, points = volume_and_points(3, 7, device=device)
    small = [volume[:, :, :, :3, :3].detach().requires_grad_(), points]
    assert gradcheck(lambda v, p: grid_sample(v, p, *FRAME), small)
    assert gradgradcheck(lambda v, p: grid_sample(v, p, *FRAME), small)


def test_on_a_voxel_centre_the_slope_is_the_one_ahead(device):
    volume = torch.tensor([1.0, 3.0, 10.0], device=device).reshape(1, 1, 1, 1, 3)
    for function in FUNCTIONS:
        points = torch.tensor([[[1.0, 0.0, 0.0]]], device=device, requires_grad=True)
        function(volume, points, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)).sum().backward()
        assert points.grad[0, 0, 0] == 7.0


def test_only_what_is_asked_for_is_differentiated():
    for needs in itertools.product([False, True], repeat=2):
        volume, points = volume_and_points(2, 5)
        read = grid_sample(volume.requires_grad_(needs[0]), points.requires_grad_(needs[1]), *FRAME)
        assert read.requires_grad == any(needs)
        if any(needs):
            read.sum().backward()
        assert (volume.grad is not None, points.grad is not None) == needs


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80, 512])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is_and_computed_in_float32(dtype, channels, device):
    volume, points = volume_and_points(channels, 40, dtype=torch.float32, device=device)
    half = volume.detach().to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    ours = derivatives(lambda v, p: grid_sample(v, p, *FRAME), half, points)
    theirs = derivatives(lambda v, p: grid_sample_reference(v, p, *FRAME), wide, points)
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    # Value and slope are exact but for the order of sums; the rest has passed through a gradient of the
    # volume rounded to `dtype`, which keeps 3 or 2.4 digits.
    size = [float(tensor.detach().abs().max()) for tensor in theirs]
    for mine, true, scale, digits in zip(ours, theirs, size, (1e-5, 2e-2, 1e-5, 2e-2, 2e-2), strict=True):
        assert_close(mine.float(), true, rtol=0, atol=digits * scale, check_stride=False)


@pytest.mark.parametrize("bits", range(0, 1 << 16, 1 << 12))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_half_precision_is_read_right(dtype, bits, device):
    """All 65536 of them, in lanes and in the remainder: on a voxel's centre the value is the voxel's."""
    codes = torch.arange(bits, bits + (1 << 12), dtype=torch.int32).to(torch.int16)
    volume = codes.view(dtype).to(device).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
    for channels in (1, 32):
        row = volume.reshape(1, channels, 1, 1, -1)
        points = torch.zeros(1, row.shape[-1], 3, device=device)
        points[0, :, 0] = torch.arange(row.shape[-1], device=device)
        read = grid_sample(row, points, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        assert_close(read, row.float()[0, :, 0, 0].mT[None], rtol=0, atol=0)


def vjp_derivatives(function, volume, points, cotangents):
    """The slopes, and the gradients of a loss on them, as in training on normals."""
    slopes = function(volume, points, cotangents, *FRAME)
    loss = (slopes * torch.linspace(-1, 2, 3, device=points.device)).square().sum()
    return [slopes, *torch.autograd.grad(loss, (volume, points, cotangents))]


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80, 512])
def test_the_slope_is_that_of_automatic_differentiation(channels, device):
    volume, points = volume_and_points(channels, 50, device=device)
    cotangents = torch.randn(2, 50, channels, dtype=torch.float64, device=device, requires_grad=True)
    assert_close(
        vjp_derivatives(grid_sample_vjp, volume, points, cotangents),
        vjp_derivatives(grid_sample_vjp_reference, volume, points, cotangents),
        check_stride=False,
    )


@pytest.mark.parametrize("function", [grid_sample_vjp, grid_sample_vjp_reference])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_point_nowhere_has_no_slope(function, bad, device):
    volume, points = volume_and_points(4, 6, device=device)
    cotangents = torch.randn(2, 6, 4, dtype=torch.float64, device=device, requires_grad=True)
    with torch.no_grad():
        points[:, 2, 1] = bad
    found = vjp_derivatives(function, volume, points, cotangents)
    assert all(tensor.isfinite().all() for tensor in found)
    slopes, _, grad_points, grad_cotangents = found
    assert not any(tensor[:, 2].any() for tensor in (slopes, grad_points, grad_cotangents))


@pytest.mark.parametrize("function", [grid_sample_vjp, grid_sample_vjp_reference])
@pytest.mark.parametrize(("batch", "count"), [(2, 0), (0, 4)])
def test_there_may_be_no_points_to_find_slopes_at(function, batch, count, device):
    volume = torch.randn(batch, 3, *GRID.shape, device=device, requires_grad=True)
    points, cotangents = (torch.zeros(batch, count, 3, device=device).requires_grad_() for _ in range(2))
    slopes, *grads = vjp_derivatives(function, volume, points, cotangents)
    assert slopes.shape == (batch, count, 3)
    assert [grad.shape for grad in grads] == [leaf.shape for leaf in (volume, points, cotangents)]
    assert not grads[0].any()


def test_gradients_of_the_slope(device):
    volume, points = volume_and_points(3, 6, device=device)
    small = volume[:, :, :, :3, :3].detach().requires_grad_()
    cotangents = torch.randn(2, 6, 3, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(lambda v, p, g: grid_sample_vjp(v, p, g, *FRAME), (small, points, cotangents))


def test_tensors_may_begin_anywhere_in_memory(device):
    """Off any vector's alignment by one element."""
    volume, points = volume_and_points(32, 40, dtype=torch.float32, device=device)
    expected = grid_sample_reference(volume, points, *FRAME)
    rows = torch.cat([volume.new_zeros(1), volume.permute(0, 2, 3, 4, 1).flatten()])[1:]
    shifted = rows.view(2, *GRID.shape, 32).permute(0, 4, 1, 2, 3)
    places = torch.cat([points.new_zeros(1), points.flatten()])[1:].view_as(points)
    # float32 sums of eight terms in another order.
    assert_close(grid_sample(shifted, places, *FRAME), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.untyped
def test_errors_name_the_argument():
    volume, points = volume_and_points(2, 5)
    with pytest.raises(ValueError, match=r"volume: expected \(B C Z Y X\), got \(2, 2, 5, 6\)"):
        grid_sample(volume[:, :, 0], points, *FRAME)
    with pytest.raises(ValueError, match=r"points: expected \(B P 3\) with B=2, got \(1, 5, 3\)"):
        grid_sample(volume, points[:1], *FRAME)
