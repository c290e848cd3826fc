"""Lifting images: a slow loop, the kernel against grid_sample, gradients, and points that are hard to see."""

import functools
import importlib
import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain.ops import has_native, image_lift, image_lift_reference

FUNCTIONS = [image_lift, image_lift_reference]
needs_kernels = pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
module = importlib.import_module("renderpretrain.ops.image_lift")  # the package's name for it is the function


def scene(channels, *, views=3, depths=4, points=60, dtype=torch.float64, device="cpu"):
    """Random maps, distributions, and points of which some are just outside the images or not valid."""
    random = functools.partial(torch.randn, dtype=dtype, device=device)
    features = random(2, views, channels, 5, 7).requires_grad_()
    probabilities = random(2, views, depths, 5, 7).softmax(2).requires_grad_()
    coordinates = 2.6 * torch.rand(2, views, points, 3, dtype=dtype, device=device) - 1.3
    valid = torch.rand(2, views, points, device=device) < 0.7
    return features, probabilities, coordinates, valid


def results(function, features, probabilities, *others):
    """The values, and the gradients of a weighted sum of them."""
    values = function(features, probabilities, *others)
    upstream = torch.linspace(-1, 1, values.numel(), dtype=values.dtype, device=values.device)
    inputs = [features] if probabilities is None else [features, probabilities]
    return [values, *torch.autograd.grad((values * upstream.view(values.shape)).sum(), inputs)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    """Two columns, 1 and 3, with two bins: the left column is sure of the near one, the right of none."""
    features = torch.tensor([1.0, 3.0], device=device).reshape(1, 1, 1, 1, 2)
    probabilities = torch.tensor([[1.0, 0.5], [0.0, 0.5]], device=device).reshape(1, 1, 2, 1, 2)
    # On the left and on the right column's centre in the near bin's middle; between all; on the left edge.
    coordinates = torch.tensor([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0, 0, 0], [-1, 0, -0.5]], device=device)
    valid = torch.ones(1, 1, 4, dtype=torch.bool, device=device)
    values = function(features, probabilities, coordinates[None, None], valid)
    # Half a cell outside there are zeros, so on the edge both readings are half.
    assert_close(values.flatten().cpu(), torch.tensor([1.0, 1.5, 1.0, 0.25]))


def read(image, index):
    """Multilinear reading of ``(*sizes)`` at a continuous index per axis, zero outside."""
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(index)):
        cell = [math.floor(i) + step for i, step in zip(index, corner, strict=True)]
        if all(0 <= c < size for c, size in zip(cell, image.shape, strict=True)):
            total += image[tuple(cell)] * math.prod(1 - abs(i - c) for i, c in zip(index, cell, strict=True))
    return total


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_it_equals_a_slow_loop(reduce, device):
    features, probabilities, coordinates, valid = (t.detach() for t in scene(2, points=12))
    expected = torch.zeros(2, 12, 2, dtype=torch.float64)
    for b, p in itertools.product(range(2), range(12)):
        for n in range(3):
            sizes = torch.tensor([7, 5, 4])
            x, y, d = ((coordinates[b, n, p] + 1) * sizes / 2 - 0.5).tolist()
            likely = read(probabilities[b, n], (d, y, x)) * valid[b, n, p]
            expected[b, p] += torch.stack([read(channel, (y, x)) * likely for channel in features[b, n]])
        expected[b, p] /= max(int(valid[b, :, p].sum()), 1) if reduce == "mean" else 1
    inputs = (t.to(device) for t in (features, probabilities, coordinates, valid))
    assert_close(image_lift(*inputs, reduce).cpu(), expected)


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_grid_sample(channels, dtype, device):
    inputs = scene(channels, dtype=dtype, device=device)
    # The gradient by a probability sums up to 512 products of numbers of size one.
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    assert_close(results(image_lift, *inputs), results(image_lift_reference, *inputs), **tolerance)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize(("views", "depths", "points"), [(1, 1, 9), (3, 1, 5), (20, 3, 30), (2, 4, 0)])
def test_any_number_of_cameras_bins_and_points(views, depths, points, reduce, device):
    inputs = scene(70, views=views, depths=depths, points=points, device=device)
    assert_close(results(image_lift, *inputs, reduce), results(image_lift_reference, *inputs, reduce))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_without_probabilities_every_depth_is_certain(reduce, device):
    features, _, coordinates, valid = scene(5, device=device)
    sure = torch.ones(2, 3, 1, 5, 7, dtype=torch.float64, device=device)
    flat = torch.cat([coordinates[..., :2], torch.zeros_like(coordinates[..., :1])], -1)
    got = results(image_lift, features, None, coordinates, valid, reduce)
    assert_close(got, results(image_lift_reference, features, None, coordinates, valid, reduce))
    certain = (coordinates[..., :2].abs() <= 1 - 1 / 5).all(-1)  # elsewhere the certainty, too, fades to zero
    inside = valid & certain
    one = image_lift(features, None, coordinates, inside, reduce)
    assert_close(one, image_lift(features, sure, flat, inside, reduce))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_who_sees_a_point(function, device):
    features = torch.ones(1, 3, 2, 4, 4, device=device)
    coordinates = torch.zeros(1, 3, 5, 3, device=device)
    valid = torch.ones(1, 3, 5, dtype=torch.bool, device=device)
    valid[..., 0] = False  # in no camera
    coordinates[0, 0, 2] = math.nan
    coordinates[0, 1, 2, 2] = math.inf  # of the two that could not say where, neither counts
    coordinates[0, 0, 3, 0] = 1e30
    coordinates[0, 1, 3, 1] = -7.0  # far outside: seen, and zero
    coordinates[0, :, 4, 0] = -1.0  # on the image's edge, half-way to the zeros outside
    assert function(features, None, coordinates, valid)[0, :, 0].tolist() == [0.0, 3.0, 1.0, 1.0, 1.5]
    mean = function(features, None, coordinates, valid, "mean")[0, :, 0].cpu()
    assert_close(mean, torch.tensor([0.0, 1.0, 1.0, 1 / 3, 0.5]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_coordinates_that_are_not_numbers_leave_finite_gradients(function, device):
    features, probabilities, coordinates, valid = scene(3, device=device)
    coordinates[:, :, ::2] = math.nan
    coordinates[:, :, 1::4] = -math.inf
    assert all(
        tensor.isfinite().all() for tensor in results(function, features, probabilities, coordinates, valid)
    )


def test_a_cell_that_is_not_near_a_point_does_not_matter(device):
    features = torch.ones(1, 1, 2, 4, 4, device=device)
    features[..., 0, 0] = math.nan
    coordinates = torch.tensor([[[[0.5, 0.5, 0.0]]]], device=device)
    values = image_lift(features, None, coordinates, torch.ones(1, 1, 1, dtype=torch.bool, device=device))
    assert_close(values.cpu(), torch.ones(1, 1, 2))


def test_gradients(device):
    features, probabilities, coordinates, valid = scene(3, points=9, device=device)
    for reduce in ("sum", "mean"):
        assert gradcheck(
            lambda f, p, r=reduce: image_lift(f, p, coordinates, valid, r), (features, probabilities)
        )
    assert gradcheck(lambda f: image_lift(f, None, coordinates, valid), (features,))


def test_only_what_is_asked_for_is_differentiated(device):
    for needs in itertools.product([False, True], repeat=2):
        features, probabilities, coordinates, valid = scene(2, device=device)
        both = features.requires_grad_(needs[0]), probabilities.requires_grad_(needs[1])
        values = image_lift(*both, coordinates, valid)
        assert values.requires_grad == any(needs)
        if any(needs):
            values.sum().backward()
        assert (features.grad is not None, probabilities.grad is not None) == needs


@pytest.mark.parametrize("distributions", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_added_in_a_fixed_order_the_gradient_is_the_same(mean, distributions, device):
    """As on CUDA under use_deterministic_algorithms, which a machine without it can only call by hand."""
    features, probabilities, coordinates, valid = scene(5, device=device)
    given = features, probabilities if distributions else None
    values = image_lift_reference(*given, coordinates, valid, "mean" if mean else "sum")
    grad = torch.randn_like(values)
    leaves = [leaf for leaf in given if leaf is not None]
    expected = torch.autograd.grad(values, leaves, grad)
    rows, likely = (None if x is None else x.detach() for x in (features.permute(0, 1, 3, 4, 2), given[1]))
    into = [torch.zeros_like(x) for x in (rows, likely) if x is not None]
    outputs = (*into, None)[:2]
    module._add_in_fixed_order(grad, coordinates, valid, rows, likely, mean, *outputs)
    assert_close([into[0].permute(0, 1, 4, 2, 3), *into[1:]], list(expected), check_stride=False)


def test_inputs_may_be_in_any_memory_order(device):
    features, probabilities, coordinates, valid = scene(17, dtype=torch.float32, device=device)
    expected = results(image_lift_reference, features, probabilities, coordinates, valid)

    def last(maps):
        return maps.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)

    def padded(maps):
        return torch.cat([maps, maps], 2)[:, :, : maps.shape[2]]

    def offset(tensor):  # one element off the alignment
        flat = torch.cat([tensor.flatten()[:1], tensor.flatten()])
        return flat[1:].view(tensor.shape)

    strided = coordinates.transpose(2, 3).contiguous().transpose(2, 3), valid.mT.contiguous().mT
    for change in (last, padded, offset):
        got = results(lambda f, p, m=change: image_lift(m(f), m(p), *strided), features, probabilities)
        assert_close(got, expected, rtol=1e-4, atol=1e-4)  # as above


def test_maps_in_channels_last_memory_are_not_copied(device):
    maps = torch.rand(6, 8, 4, 4, device=device).contiguous(memory_format=torch.channels_last)
    features = maps.unflatten(0, (2, 3))
    assert features.permute(0, 1, 3, 4, 2).contiguous().data_ptr() == maps.data_ptr()
    for probabilities in (features, torch.rand(2, 3, 8, 4, 4, device=device)):
        assert module._dense(probabilities) is probabilities


def test_the_values_are_a_volume_in_channels_last_memory(device):
    features, probabilities, coordinates, valid = scene(4, device=device)
    volume = image_lift(features, probabilities, coordinates, valid).mT.unflatten(2, (3, 4, 5))
    assert volume.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [5, 64, 80])
def test_half_precision_is_read_in_float32(half, channels, device):
    features, probabilities, coordinates, valid = scene(channels, dtype=torch.float32, device=device)
    stored = features.detach().to(half).requires_grad_(), probabilities.detach().to(half).requires_grad_()
    exact = [tensor.detach().float().requires_grad_() for tensor in stored]
    values, *grads = results(image_lift, *stored, coordinates, valid)
    expected, *expected_grads = results(image_lift_reference, *exact, coordinates, valid)
    assert_close(values, expected)
    for grad, wide in zip(grads, expected_grads, strict=True):
        # Rounded once, from float32.
        assert_close(grad, wide.to(half), rtol=torch.finfo(half).eps, atol=1e-3)


@needs_kernels
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_does_not_change_a_bit(stored, threads):
    maps, likely, *where = scene(33, points=3000, dtype=torch.float32)
    inputs, found = (maps.to(stored), likely.to(stored), *where), set()
    for count in (1, 2, 4, 7):
        threads(count)
        found.add(b"".join(t.detach().float().numpy().tobytes() for t in results(image_lift, *inputs)))
    assert len(found) == 1


@pytest.mark.parametrize(("batch", "views"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_there_may_be_no_camera_and_no_scene(function, batch, views, reduce, device):
    features = torch.rand(batch, views, 5, 3, 4, device=device, requires_grad=True)
    likely = torch.rand(batch, views, 2, 3, 4, device=device, requires_grad=True)
    where = torch.zeros(batch, views, 7, 3, device=device)
    values = function(features, likely, where, torch.ones_like(where[..., 0], dtype=torch.bool), reduce)
    assert values.shape == (batch, 7, 5) and not values.any()
    if values.requires_grad:  # the reference looked at no camera
        values.sum().backward()
        assert (features.grad.shape, likely.grad.shape) == (features.shape, likely.shape)


def test_large_results_are_the_same():
    """Beyond the size from which they are written past the caches."""
    features, probabilities, coordinates, valid = scene(64, views=2, points=140000, dtype=torch.float32)
    with torch.no_grad():
        values = image_lift(features, probabilities, coordinates, valid)
        few = image_lift(features, probabilities, coordinates[:, :, -50:], valid[:, :, -50:])
    assert values.numel() * 4 > 64 << 20
    assert torch.equal(values[:, -50:], few)


@needs_kernels
def test_it_is_an_operator(device, check_operator):
    features, probabilities, coordinates, valid = (t.detach() for t in scene(3, points=6, device=device))
    rows, grad = features.permute(0, 1, 3, 4, 2).contiguous(), torch.randn_like(coordinates[:, 0])
    last = probabilities.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    for distributions in (probabilities, last, None):
        check_operator("image_lift", (rows, distributions, coordinates, valid, True))
    # Of one view, for tracing the second derivative takes seconds for each.
    one = (rows[:, :1].clone(), last[:, :1].clone(), coordinates[:, :1].clone(), valid[:, :1].clone())
    check_operator("image_lift_backward", (grad, *one, True, [True, True]))
    # Without distributions it is a part of the same one.
    bare = (rows, None, coordinates, valid)
    check_operator("image_lift_backward", (grad, *bare, True, [True, False]), differentiable=False)


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
def test_compiled_it_is_the_same():
    inputs = scene(5, dtype=torch.float32)
    compiled = torch.compile(image_lift, fullgraph=True, backend="aot_eager")
    assert_close(results(compiled, *inputs), results(image_lift, *inputs))


def test_under_autocast_it_runs_in_float32(device):
    features, probabilities, coordinates, valid = scene(4, dtype=torch.float32, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        values = image_lift(features.bfloat16(), probabilities, coordinates, valid)
    assert_close(values, image_lift_reference(features.bfloat16().float(), probabilities, coordinates, valid))


@pytest.mark.untyped
def test_errors_name_the_argument():
    features, probabilities, coordinates, valid = scene(2)
    with pytest.raises(ValueError, match=r"features: expected \(B N C h w\), got \(2, 2, 5, 7\)"):
        image_lift(features[:, 0], probabilities, coordinates, valid)
    with pytest.raises(ValueError, match=r"probabilities: expected \(B N D h w\) with B=2, N=3, h=5, w=7"):
        image_lift(features, probabilities[..., 1:], coordinates, valid)
    with pytest.raises(
        ValueError, match=r"coordinates: expected \(B N P 3\) with B=2, N=3, got \(2, 3, 60, 2\)"
    ):
        image_lift(features, probabilities, coordinates[..., :2], valid)
    with pytest.raises(ValueError, match=r"valid: expected torch\.bool of shape .* got torch\.float64"):
        image_lift(features, probabilities, coordinates, valid.double())
    with pytest.raises(ValueError, match=r"reduce: expected one of \('sum', 'mean'\), got 'max'"):
        image_lift(features, probabilities, coordinates, valid, "max")
    with pytest.raises(ValueError, match="coordinates: have no gradient here"):
        image_lift(features, probabilities, coordinates.requires_grad_(), valid)
