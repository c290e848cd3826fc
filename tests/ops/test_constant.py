"""Constants are what ``torch.tensor`` makes; on a device they are made once."""

import pytest
import torch

from renderpretrain import ops


@pytest.mark.parametrize("numbers", [(1.5, -2.0), [[1, 0], [0, 3]], torch.Size([4, 5])], ids=str)
def test_they_are_the_numbers_in_the_type_and_on_the_device_of_the_other(device, numbers):
    for dtype in (torch.float32, torch.float64, torch.int64):
        like = torch.zeros(3, dtype=dtype, device=device)
        made = ops.constant(numbers, like)
        assert torch.equal(made, torch.tensor(numbers, dtype=dtype, device=device))
        assert made.dtype == dtype and made.device == like.device
    assert ops.constant(numbers, like, torch.float16).dtype == torch.float16


def test_a_traced_one_is_part_of_the_graph(device):
    def scaled(x):
        return x * ops.constant((2.0, 3.0), x)

    compiled = torch.compile(scaled, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 2, device=device)
    assert torch.equal(compiled(x), scaled(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_nothing_waits_for_a_device_after_the_first_time():
    like = torch.zeros(1, device="cuda", requires_grad=True)
    with torch.inference_mode():
        first = ops.constant((0.25, 0.5), like.detach())
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert ops.constant((0.25, 0.5), like) is first
    finally:
        torch.cuda.set_sync_debug_mode("default")
    (like * first).sum().backward()
