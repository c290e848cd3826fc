"""A convolution of volumes is torch's, and on a CPU no volume is unfolded."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain.ops.conv3d import SMALL, Conv3d

KERNELS = {
    "horizontal": {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
    "horizontal, strided": {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (1, 2, 2)},
    "all around": {"kernel_size": 3, "padding": 1},
    "strided along all axes": {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    "uneven": {"kernel_size": (4, 2, 3), "padding": (2, 0, 1), "stride": (3, 1, 2)},
    "without padding": {"kernel_size": (3, 3, 1)},
    "columns": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "stride": (2, 1, 1)},
}


def volume(batch=1, memory=torch.contiguous_format, sides=(6, 10, 11)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 5, *sides, generator=generator).contiguous(memory_format=memory)


def a_step(conv, x):
    """The result, and its gradients when no two numbers of it weigh the same."""
    x = x.detach().requires_grad_()
    out = conv(x)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    return [out, x.grad, *(p.grad for p in conv.parameters())]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d], ids=["first", "last"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_small_volume_is_convolved_as_torch_does_in_float64(kernel, memory):
    torch.manual_seed(0)
    conv = Conv3d(5, 7, **KERNELS[kernel])
    exact = nn.Conv3d(5, 7, **KERNELS[kernel]).double()
    exact.load_state_dict(conv.state_dict())
    x = volume(memory=memory)
    assert conv._is_slow(x)
    for found, expected in zip(a_step(conv, x), a_step(exact, x.double()), strict=True):
        assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)  # sums of at most 700 terms of about 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_slices_are_differentiated_as_often_as_asked(kernel, monkeypatch):
    monkeypatch.setattr(Conv3d, "_is_slow", lambda self, x: True)  # finite differences need float64
    torch.manual_seed(0)
    conv = Conv3d(5, 2, **KERNELS[kernel]).double()
    x = volume(sides=(4, 4, 3)).double().requires_grad_()
    weights = [p.detach().requires_grad_() for p in conv.parameters()]
    names = [name for name, _ in conv.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(conv, dict(zip(names, weights, strict=True)), (x,))

    assert gradcheck(run, (x, *weights), fast_mode=True)
    assert gradgradcheck(run, (x, *weights), fast_mode=True)


def test_no_volume_is_unfolded():
    """PyTorch's own choice of a kernel: what it leaves to oneDNN is left to torch, and nothing else is."""
    choice = torch._C._select_conv_backend
    for channels, sides in ((5, (6, 10, 11)), (32, (10, 64, 9)), (32, (11, 64, 9)), (300, (8, 9, 9))):
        for batch in (1, 2):
            conv, x = Conv3d(channels, 4, 3, padding=1), torch.zeros(batch, channels, *sides)
            ones, zeros = [1, 1, 1], [0, 0, 0]
            torchs = choice(x, conv.weight, conv.bias, ones, ones, ones, False, zeros, 1)
            assert conv._is_slow(x) == (torchs == torch._C._ConvBackend.Slow3d), (channels, sides, batch)
    assert (SMALL, SMALL + 2048) == (32 * 10 * 64, 32 * 11 * 64)  # both sides of the limit were asked


@pytest.mark.parametrize(
    "other",
    [
        {"groups": 5, "out_channels": 10},
        {"dilation": 2},
        {"padding": "same"},
        {"padding_mode": "replicate"},
        {"kernel_size": 1},
    ],
    ids=["groups", "dilation", "same", "replicate", "pointwise"],
)
def test_what_is_no_convolution_of_slices_is_torchs(other):
    torch.manual_seed(0)
    settings = {"in_channels": 5, "out_channels": 7, "kernel_size": 3, "padding": 1} | other
    conv, torchs = Conv3d(**settings), nn.Conv3d(**settings)
    torchs.load_state_dict(conv.state_dict())
    assert_close(conv(volume()), torchs(volume()), rtol=0, atol=0)


def test_other_numbers_and_batches_are_torchs():
    torch.manual_seed(0)
    conv, torchs = Conv3d(5, 7, 3, padding=1), nn.Conv3d(5, 7, 3, padding=1)
    torchs.load_state_dict(conv.state_dict())
    for x in (volume(batch=2), volume().double()):
        torchs_result = torchs.to(x.dtype)(x)
        assert_close(conv.to(x.dtype)(x), torchs_result, rtol=0, atol=0)


def test_errors_are_torchs():
    conv = Conv3d(5, 7, 3)
    with pytest.raises(RuntimeError, match="channels"):
        conv(torch.zeros(1, 4, 6, 6, 6))
    with pytest.raises(RuntimeError, match="Kernel size"):
        conv(torch.zeros(1, 5, 2, 6, 6))


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
def test_a_compiled_convolution_is_one_graph():
    torch.manual_seed(0)
    conv, x = Conv3d(5, 7, 3, padding=1), volume()
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), conv(x), rtol=1e-6, atol=1e-6)
