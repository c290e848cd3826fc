"""What only a GPU can show: streams, graphs, repeatability, memory, and more than 2^31 numbers."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

FRAME = ((1.0, 1.5, 0.75), (0.2, -0.1, 0.3))
LEAVES = ("alphas", "values", "volume", "maps", "likely", "voxels", "kernel")


class Chain:
    """Operators that follow each other without the host: inputs, plans, and a step of all of them."""

    def __init__(self):
        draw = torch.Generator("cuda").manual_seed(0)

        def rand(*shape):
            return torch.rand(*shape, generator=draw, device="cuda")

        self.inputs = {
            "alphas": rand(700, 96),
            "values": rand(700, 96, 19),
            "t": rand(700, 96).cumsum(-1),
            "volume": rand(2, 32, 5, 40, 40).contiguous(memory_format=torch.channels_last_3d),
            "points": 45 * rand(2, 9000, 3),
            "maps": rand(2, 3, 40, 16, 24),
            "likely": rand(2, 3, 12, 16, 24),
            "where": 2.4 * rand(2, 3, 4000, 3) - 1.2,
            "kernel": rand(27, 16, 40),
        }
        self.cells = ops.lss_plan(torch.randint(-1, 300, (6, 12, 16, 24), device="cuda"), 300)
        occupied = (rand(1, 8, 20, 20) < 0.3).nonzero().int()
        self.inputs["voxels"] = rand(len(occupied), 16)
        self.neighbors = ops.submanifold_neighbors(occupied, (1, 8, 20, 20), (3, 3, 3))
        self.index = torch.randint(-1, 500, (18000,), device="cuda")
        self.rows = ops.scatter_plan(self.index, 500)

    def outputs(self, x):
        """What the operators compute of the inputs."""
        read = ops.grid_sample(x["volume"], x["points"], *FRAME)
        lifted = ops.image_lift(x["maps"], x["likely"], x["where"], x["where"][..., 0] < 1)
        pooled = ops.lss_pool(x["likely"].flatten(0, 1), x["maps"].flatten(0, 1), self.cells)
        rows = ops.voxel_scatter(read.flatten(0, 1), self.index, 500, plan=self.rows)
        seen = ops.composite_values(x["alphas"], x["values"], x["t"])
        inv_s = x["t"].new_full((), 9.0)
        surface = ops.neus_render(x["alphas"] - 0.5, -x["alphas"], x["alphas"], x["t"], inv_s, x["values"])
        spread = ops.distortion_loss(seen.weights, x["t"], x["t"] + 0.1)
        again = ops.neus_upsample(x["t"], 3 - x["t"], 20.0, 16)
        convolved = ops.sparse_conv3d(x["voxels"], x["kernel"], self.neighbors)
        rendered = [seen.values, seen.depth, surface.values, spread, again]
        return [read, lifted, pooled, rows, convolved, *rendered]

    def step(self, inputs=None):
        """Outputs, and gradients of their squares by all that have one."""
        inputs = self.inputs if inputs is None else inputs
        x = {name: value.detach().requires_grad_(name in LEAVES) for name, value in inputs.items()}
        outputs = self.outputs(x)
        loss = sum(out.square().mean() for out in outputs)
        return [out.detach() for out in outputs], torch.autograd.grad(loss, [x[name] for name in LEAVES])


def close(found, expected):
    """Float32 atomics add thousands of numbers in any order."""
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_what_arrives_late_on_a_stream_of_its_own_is_waited_for():
    chain = Chain()
    expected, expected_gradients = chain.step()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = {name: torch.zeros_like(value) for name, value in chain.inputs.items()}
        torch.cuda._sleep(400_000_000)  # a fifth of a second
        for name, value in chain.inputs.items():
            late[name].copy_(value)
        found, gradients = chain.step(late)
    side.synchronize()
    close(found, expected)
    close(gradients, expected_gradients)


def test_a_graph_of_both_passes_is_replayed_on_other_numbers():
    chain = Chain()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            chain.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found, gradients = chain.step()
    for value in chain.inputs.values():
        value.mul_(0.9)
    graph.replay()
    torch.cuda.synchronize()
    expected, expected_gradients = chain.step()
    close(found, expected)
    close(gradients, expected_gradients)


def test_no_operator_waits_for_the_device():
    chain = Chain()
    chain.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        chain.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_results_are_the_same_bits_and_gradients_are_on_request():
    chain = Chain()
    first, _ = chain.step()
    assert all(torch.equal(a, b) for a, b in zip(first, chain.step()[0], strict=True))
    torch.use_deterministic_algorithms(True)
    try:
        once, again = chain.step()[1], chain.step()[1]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_memory_is_given_back():
    chain = Chain()
    chain.step()
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        chain.step()
    assert torch.cuda.memory_allocated() == before


def needs(num_bytes):
    if torch.cuda.mem_get_info()[0] < num_bytes:
        pytest.skip(f"needs {num_bytes / 1e9:.0f} GB of free memory on the GPU")


def test_values_of_more_than_2_31_elements():
    needs(12e9)
    rays, samples, channels = 1 << 15, 1024, 70
    values = torch.empty(rays, samples, channels, device="cuda", dtype=torch.bfloat16).normal_()
    weights = torch.rand(rays, samples, device="cuda").requires_grad_()
    out = ops.accumulate(weights, values)
    last = slice(rays - 3, rays)
    # Sums of 1024 products of size one in float32.
    assert_close(
        out[last], torch.einsum("rs,rsc->rc", weights[last], values[last].float()), rtol=0, atol=1e-2
    )
    (gradient,) = torch.autograd.grad(out[last].sum(), weights)
    assert_close(gradient[last], values[last].float().sum(-1), rtol=0, atol=1e-3)


def test_volumes_of_more_than_2_31_elements():
    needs(24e9)
    size, channels = 330, 64
    shape = (1, size, size, size, channels)
    volume = torch.empty(shape, device="cuda", dtype=torch.bfloat16).normal_().permute(0, 4, 1, 2, 3)
    points = torch.randint(size - 9, size, (1, 1000, 3), device="cuda").float()
    frame = (1.0,) * 3, (0.0,) * 3
    read = ops.grid_sample(volume, points, *frame)
    x, y, z = points[0].long().unbind(-1)
    assert torch.equal(read[0], volume[0, :, z, y, x].T.float())  # at the centres
    added = ops.splat(read, points, (size,) * 3, *frame)
    assert_close(added.sum((0, 2, 3, 4)), read.sum((0, 1)), rtol=1e-3, atol=1e-2)  # 1000 numbers a channel


def test_rows_of_more_than_2_31_elements():
    needs(16e9)
    rows, channels = (1 << 25) + 7, 66
    values = torch.empty(rows, channels, device="cuda", dtype=torch.bfloat16).normal_()
    index = torch.arange(rows, device="cuda") // 2
    out = ops.voxel_scatter(values, index, rows // 2 + 1, reduce="max")
    assert torch.equal(out[-2], values[-3:-1].float().amax(0))


def test_compiled_for_the_card():
    def loss(volume, points):
        read = ops.grid_sample(volume, points, *FRAME)
        normals = ops.grid_sample_vjp(volume, points, read, *FRAME)
        density = read[..., 0].sigmoid().unflatten(1, (-1, 8))
        seen = ops.composite_values(density, read[..., 1:].unflatten(1, (-1, 8)), density.cumsum(-1))
        return seen.values.square().sum() + normals.square().sum()

    inputs = Chain().inputs
    volume, points = inputs["volume"].requires_grad_(), inputs["points"][:, :8000]
    eager, compiled = loss(volume, points), torch.compile(loss, fullgraph=True)(volume, points)
    assert_close(compiled, eager, rtol=1e-5, atol=0)  # a sum of a million numbers
    close(torch.autograd.grad(compiled, volume), torch.autograd.grad(eager, volume))
