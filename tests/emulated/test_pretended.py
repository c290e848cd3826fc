"""The pretended device behaves as a card where tests rely on it; ``make test-cuda-pretended`` runs it."""

import sys
import warnings

import pytest
import torch

from renderpretrain import ops

pretended = sys.modules.get("pretended_cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(pretended is None, reason="runs by 'make test-cuda-pretended'"),
]


def test_tensors_of_two_devices_do_not_meet():
    ours, other = torch.ones(3, device="cuda"), torch.ones(3)
    for meets in (lambda: ours + other, lambda: torch.cat([other, ours]), lambda: torch.dot(ours, other)):
        with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
            meets()
    # Single numbers may, and indices.
    assert (ours + torch.tensor(2.0)).sum().item() == 9 and ours[torch.tensor([0, 2])].shape == (2,)


def test_a_number_on_the_device_is_not_one_of_numpy():
    with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
        torch.ones(3, device="cuda").numpy()


@pytest.mark.parametrize(
    ("what", "waits"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0], "index by a mask"),
        (lambda x: x.cpu(), "copy to the CPU"),
        (lambda x: x.new_tensor([1.0, 2.0]), "copy from the CPU"),
        (lambda x: torch.ones(3).to("cuda"), "copy from the CPU"),
        (lambda x: torch.ones(3).to("cuda", non_blocking=True), "copy from memory that is not pinned"),
        (lambda x: torch.cuda.synchronize(), "synchronize"),
    ],
)
def test_a_wait_is_counted_where_it_happens(what, waits):
    x = torch.ones(3, device="cuda")
    with pretended.waits_within() as found:
        what(x)
    assert {name for name, _ in found} == {waits}
    assert all(place.startswith("emulated/test_pretended.py:") for _, place in found)


@pytest.mark.parametrize(
    "what",
    [
        lambda x, host: x.exp().sum(),
        lambda x, host: host.to("cuda", non_blocking=True),
        lambda x, host: x.copy_(host, non_blocking=True),
        lambda x, host: x.to("cpu", non_blocking=True),
        lambda x, host: torch.zeros(4, device="cuda"),
        lambda x, host: ops.composite(x[None]),
    ],
)
def test_what_does_not_wait_is_not_counted(what):
    x, host = torch.ones(3, device="cuda"), torch.ones(3).pin_memory()
    with pretended.waits_within() as found:
        what(x, host)
    assert not found


def test_waits_warn_or_raise_as_torch_does():
    x = torch.ones(3, device="cuda")
    try:
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            x.tolist()
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            x.tolist()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [w.filename for w in seen] == [__file__]
    assert "called a synchronizing CUDA operation" in str(seen[0].message)


def test_operators_run_the_kernels_for_cuda():
    alphas = torch.rand(5, 9)
    there = alphas.to("cuda").requires_grad_()
    here = alphas.clone().requires_grad_()
    weights = ops.composite(there)
    assert weights.device == torch.device("cuda:0")
    expected = ops.composite_reference(here)
    torch.testing.assert_close(weights.cpu(), expected)
    torch.testing.assert_close(
        torch.autograd.grad(weights.square().sum(), there)[0].cpu(),
        torch.autograd.grad(expected.square().sum(), here)[0],
    )
