"""The native libraries as guests of a process: threads, forks, several callers, and life without them."""

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from renderpretrain import ops

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
FRAME = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def reading(seed):
    """The results of operators on a volume and on rays, and their gradients, on a few thousand points."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    volume = (random(2, 17, 4, 9, 11) - 0.5).requires_grad_()
    points = (random(2, 3000, 3) * torch.tensor([13.0, 11.0, 6.0]) - 1).requires_grad_()
    alphas = random(500, 24).requires_grad_()
    read = ops.grid_sample(volume, points, *FRAME)
    _, slope = torch.autograd.grad(read.square().sum(), (volume, points), create_graph=True)
    weights = ops.composite(alphas)
    splatted = ops.splat(read, points, (4, 9, 11), *FRAME)
    loss = slope.square().sum() + weights.square().sum() + splatted.square().sum()
    grads = torch.autograd.grad(loss, (volume, points, alphas))
    near, far, _ = ops.box_intersect(random(3000, 3), random(3000, 3) - 0.5, (0.0,) * 3, (1.0,) * 3)
    drawn = ops.resample(random(500, 25).cumsum(-1), weights, random(500, 9))
    return read, slope, weights, splatted, *grads, near, far, drawn


def slopes(seed):
    """The vector-Jacobian product of reading and its gradients, and reading in half precision."""
    generator = torch.Generator().manual_seed(seed)
    volume = (torch.rand(2, 19, 4, 9, 11, generator=generator) - 0.5).requires_grad_()
    points = 10 * torch.rand(2, 3000, 3, generator=generator).requires_grad_()
    cotangents = torch.rand(2, 3000, 19, generator=generator).requires_grad_()
    results = []
    for stored in (volume, volume.bfloat16(), volume.half()):
        read = ops.grid_sample(stored, points, *FRAME)
        found = ops.grid_sample_vjp(stored, points, cotangents, *FRAME)
        loss = found.square().sum() + read.square().sum()
        results += [read, found, *torch.autograd.grad(loss, (volume, points, cotangents))]
    return results


def pooling(seed):
    """The results of operators on images, points and voxels, and their gradients; halves among them."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    maps, likely = random(2, 3, 21, 6, 9).requires_grad_(), random(2, 3, 5, 6, 9).requires_grad_()
    where = 2.4 * random(2, 3, 2000, 3) - 1.2
    lifted = ops.image_lift(maps.half(), likely, where, where[..., 0] < 1)
    cells = torch.randint(-1, 700, (6, 5, 6, 9), generator=generator)
    pooled = ops.lss_pool(likely.flatten(0, 1), maps.flatten(0, 1).bfloat16(), ops.lss_plan(cells, 700))
    index = torch.randint(-1, 900, (4000,), generator=generator)
    rows = lifted.flatten(0, 1)
    gathered = [ops.voxel_scatter(rows, index, 900, reduce=reduce) for reduce in ("sum", "mean", "max")]
    voxels = (random(2, 9, 11, 10) < 0.2).nonzero().int()
    kernel = random(27, 21, 18).requires_grad_()
    tables = ops.strided_neighbors(voxels, (2, 9, 11, 10), (3, 3, 3), (2, 2, 2), (1, 1, 1))
    convolved = ops.sparse_conv3d(rows[: len(voxels)], kernel, tables.inputs, tables.outputs)
    results = [lifted, pooled, *gathered, convolved]
    loss = sum(result.square().sum() for result in results)
    return *results, *torch.autograd.grad(loss, (maps, likely, kernel))


def rendering(seed):
    """The results of operators along rays, and their gradients; values in half precision among them."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    origins, directions, near = random(1, 600, 3), random(1, 600, 3) - 0.5, random(1, 600) / 9
    grid = random(1, 8, 9, 10) < 0.3
    marched = ops.march(8 * origins, directions, near, near + 9, grid, *FRAME, 0.4, capacity=20)
    packed = ops.march_packed(8 * origins, directions, near, near + 9, grid, *FRAME, 0.4)
    sdf, values = (random(600, 20) - 0.4).requires_grad_(), random(600, 20, 13).requires_grad_()
    t, inv_s = marched.t_ends[0], torch.tensor(9.0).requires_grad_()
    rendered = ops.neus_render(sdf, -random(600, 20), 0.1 + t, t, inv_s, values, valid=marched.valid[0])
    alphas = sdf.sigmoid()
    composited = ops.composite_values(alphas, values.half(), t)
    summed = ops.accumulate(alphas, values.bfloat16())
    loss = sum(x.square().sum() for x in (*rendered, *composited, summed))
    grads = torch.autograd.grad(loss, (sdf, values, inv_s))
    return *marched, *packed, *rendered, *composited, summed, *grads


GROUPS = [reading, slopes, pooling, rendering]


def as_bytes(results):
    return b"".join(tensor.detach().float().contiguous().numpy().tobytes() for tensor in results)


@needs_kernels
@pytest.mark.parametrize("group", GROUPS)
def test_the_number_of_threads_does_not_change_a_bit(group, threads):
    results = set()
    for count in (1, 2, 4, 7, 2, 1):
        threads(count)
        results.add(as_bytes(group(0)))
    assert len(results) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_callers_in_several_python_threads_get_their_own_results(group, threads):
    threads(4)
    expected = [as_bytes(group(seed)) for seed in range(3)]
    with ThreadPoolExecutor(3) as callers:
        for _ in range(3):
            assert [as_bytes(results) for results in callers.map(group, range(3))] == expected


def _answer(connection, volume, points):
    """In the child: only our threads work here, for those of torch's OpenMP do not survive a fork."""
    connection.send((torch.get_num_threads(), ops.grid_sample(volume, points, *FRAME).numpy().tobytes()))


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_computes_after_the_parent_has_used_its_threads(threads):
    threads(2)
    volume, points = torch.rand(2, 17, 4, 9, 11), 11 * torch.rand(2, 3000, 3)
    expected = ops.grid_sample(volume, points, *FRAME).numpy().tobytes()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_answer, args=(theirs, volume, points))
    child.start()
    assert ours.poll(60), "the child hangs"
    assert ours.recv() == (2, expected)
    child.join()
    assert ops.grid_sample(volume, points, *FRAME).numpy().tobytes() == expected


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_computes_that_was_forked_while_other_threads_were_in_a_kernel(threads):
    threads(2)
    volume, points = torch.rand(2, 17, 4, 9, 11), 11 * torch.rand(2, 3000, 3)
    expected = ops.grid_sample(volume, points, *FRAME).numpy().tobytes()
    done = threading.Event()

    def keep_calling():
        torch.set_num_threads(2)
        while not done.is_set():
            assert ops.grid_sample(volume, points, *FRAME).numpy().tobytes() == expected

    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(3) as callers:
        running = [callers.submit(keep_calling) for _ in range(3)]
        try:
            for _ in range(8):
                ours, theirs = context.Pipe()
                child = context.Process(target=_answer, args=(theirs, volume, points))
                child.start()
                assert ours.poll(60), "the child hangs"
                assert ours.recv() == (2, expected)
                child.join()
        finally:
            done.set()
        for call in running:
            call.result()


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("start", sorted({"fork", "spawn"} & {*multiprocessing.get_all_start_methods()}))
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2:UserWarning")  # more than there are cores
def test_workers_of_a_data_loader_run_kernels(start, threads, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    dataset = importlib.import_module("points_dataset").PointsDataset()
    threads(2)
    expected = [dataset[index][1] for index in range(len(dataset))]
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120
    )
    for (num_threads, values), own in zip(loader, expected, strict=True):
        assert num_threads == 2 and torch.equal(values, own)


def test_without_kernels_the_references_run():
    code = (
        "import torch; from renderpretrain import ops; from torch.testing import assert_close\n"
        "assert not ops.has_native('cpu')\n"
        "assert ops.native_status()['cpu'].why.endswith('switched off by RENDERPRETRAIN_NATIVE=0')\n"
        "alphas = torch.rand(3, 5, requires_grad=True)\n"
        "assert_close(ops.composite(alphas), ops.composite_reference(alphas))\n"
        "ops.composite(alphas).sum().backward()\n"
        "frame = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)\n"
        "volume = ops.splat(torch.ones(1, 4, 2), torch.rand(1, 4, 3), (2, 2, 2), *frame)\n"
        "print(ops.grid_sample(volume, torch.rand(1, 4, 3), *frame).shape)\n"
        "print(ops.box_intersect(torch.zeros(1, 3), torch.ones(1, 3), (1.0,) * 3, (2.0,) * 3)[0].tolist())\n"
        "print(ops.resample(torch.arange(3.0), torch.ones(2), torch.tensor([0.5])).tolist())\n"
    )
    environment = {**os.environ, "RENDERPRETRAIN_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["torch.Size([1, 4, 2])", "[1.0]", "[1.0]"]


def test_the_status_says_why():
    status = ops.native_status()
    assert set(status) == {"cpu", "cuda"}
    assert all(entry.ok == ops.has_native(name) and entry.why for name, entry in status.items())
    assert not ops.has_native("meta")


@needs_kernels
def test_other_devices_use_the_references():
    volume = torch.empty(1, 2, 3, 4, 5, device="meta")
    assert ops.grid_sample(volume, torch.empty(1, 6, 3, device="meta"), *FRAME).shape == (1, 6, 2)
