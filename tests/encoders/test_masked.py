"""Masked layers and networks against UniPAD's own numbers, and against what hiding must mean."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders import (
    ConvNeXt,
    MaskedBatchNorm2d,
    MaskedConv2d,
    MaskedLayerNorm2d,
    MaskedMaxPool2d,
    ResNet,
    hide_cells,
    resize_mask,
)

CELLS = torch.tensor([[[[False, True], [False, False]]], [[[True, False], [False, True]]]])  # (2, 1, 2, 2)


def small_convnext(**options):
    return ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), layer_scale=0.5, **options)


def small_resnet(**options):
    return ResNet((1, 1, 1, 1), width=8, **options)


NETWORKS = pytest.mark.parametrize("build", [small_convnext, small_resnet], ids=["convnext", "resnet"])


def in_our_names(key):
    """UniPAD's ConvNeXt keys (mmpretrain's) in timm's words."""
    key = key.replace("downsample_layers.0.", "stem.")
    parts = key.split(".")
    if parts[0] == "downsample_layers":
        return ".".join(["stages", parts[1], "downsample", *parts[2:]])
    if parts[0] == "stages":
        renamed = {"dwconv": "conv_dw", "pwconv1": "mlp.fc1", "pwconv2": "mlp.fc2"}
        return ".".join(["stages", parts[1], "blocks", parts[2], renamed.get(parts[3], parts[3]), *parts[4:]])
    return key


def near(actual, expected, relative):
    """Equal to a share of the largest value: numbers near zero carry the rounding of the large ones."""
    assert_close(actual, expected, rtol=0, atol=relative * float(expected.abs().max()))


def test_masked_convnext_is_the_authors(golden):
    numbers = golden("unipad_masked_convnext.npz")
    network = small_convnext()
    network.load_state_dict({in_our_names(k[6:]): v for k, v in numbers.items() if k.startswith("param:")})
    images = numbers["images"].clone().requires_grad_()
    outs = network(images, ~numbers["visible_b_1_h_w"])  # theirs is True where seen
    torch.autograd.backward(outs, [numbers[f"grad_out{i}"] for i in range(4)])
    for i, out in enumerate(outs):
        near(out, numbers[f"out{i}"], 1e-5)  # float32 rounding through 12 layers
    near(images.grad, numbers["grad_images"], 1e-4)
    for name, parameter in network.named_parameters():
        theirs = next(v for k, v in numbers.items() if k.startswith("grad:") and in_our_names(k[5:]) == name)
        near(parameter.grad, theirs, 1e-4)


def test_masked_conv_norm_pool_is_the_authors(golden):
    numbers = golden("unipad_masked_conv_bn.npz")
    stack = nn.ModuleList(
        [
            MaskedConv2d(3, 8, kernel_size=7, stride=2, padding=3, bias=False),
            MaskedBatchNorm2d(8),
            nn.ReLU(),
            MaskedMaxPool2d(kernel_size=3, stride=2, padding=1),
            MaskedConv2d(8, 12, kernel_size=3, stride=2, padding=1, bias=False),
            MaskedBatchNorm2d(12),
            nn.ReLU(),
        ]
    )
    state = {k[6:]: v for k, v in numbers.items() if k.startswith("param:")}
    stack.load_state_dict(state, strict=False)
    images, hidden = numbers["masked_images"].clone().requires_grad_(), ~numbers["visible_b_1_h_w"]
    x = images
    for layer in stack:
        x = layer(x) if isinstance(layer, nn.ReLU) else layer(x, hidden)
    x.backward(numbers["grad_out"])
    near(x, numbers["out"], 1e-5)
    near(images.grad, numbers["grad_images"], 1e-4)
    for i in (1, 5):
        near(stack[i].running_mean, numbers[f"running_mean{i}"], 1e-5)
        near(stack[i].running_var, numbers[f"running_var{i}"], 1e-5)
    for key in state:
        near(stack.get_parameter(key).grad, numbers[f"grad:{key}"], 1e-4)


@NETWORKS
def test_hidden_pixels_change_nothing(build):
    network = build()
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    outs = network(images, CELLS)
    sum(out.square().sum() for out in outs).backward()
    pixels = resize_mask(CELLS, (64, 64)).expand_as(images)
    assert (images.grad[pixels] == 0).all()
    assert (images.grad[~pixels] != 0).any()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    changed = build()
    changed.load_state_dict(state)
    spoilt = images.detach().masked_fill(pixels, float("nan"))
    # The second pass starts from moved running statistics, which training does not read.
    for before, after in zip(outs, changed(spoilt, CELLS), strict=True):
        assert torch.equal(before, after)


@NETWORKS
def test_hidden_cells_are_zero_at_every_level(build):
    for out in build()(torch.randn(2, 3, 64, 64), CELLS):
        assert (out[resize_mask(CELLS, out.shape[-2:]).expand_as(out)] == 0).all()
        assert (out != 0).any()


@NETWORKS
@pytest.mark.parametrize("training", [True, False])
def test_with_everything_hidden_the_output_is_zero_and_statistics_stay(build, training):
    network = build().train(training)
    state = {k: v.clone() for k, v in network.state_dict().items()}
    outs = network(torch.randn(2, 3, 64, 64), torch.ones_like(CELLS))
    sum(out.sum() for out in outs).backward()
    assert all((out == 0).all() for out in outs)
    assert all((p.grad == 0).all() for p in network.parameters() if p.grad is not None)
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


@NETWORKS
def test_with_nothing_hidden_the_network_is_the_dense_one(build):
    torch.manual_seed(0)
    masked, dense = build(), build()
    dense.load_state_dict(masked.state_dict())
    images = torch.randn(2, 3, 64, 96)
    outs = masked(images, torch.zeros(2, 1, 2, 3, dtype=torch.bool))
    for a, b in zip(outs, dense(images), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)  # two formulas of the same variance, in float32
    for key, value in masked.state_dict().items():
        assert_close(value, dense.state_dict()[key], rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_visible_cells():
    x, hidden = torch.randn(2, 3, 4, 4), resize_mask(CELLS, (4, 4))
    norm = MaskedBatchNorm2d(3, momentum=1.0)
    out = norm(x, hidden)
    rows = x.permute(0, 2, 3, 1)[~hidden[:, 0]]
    assert_close(norm.running_mean, rows.mean(0))
    assert_close(norm.running_var, rows.var(0))
    expected = nn.functional.batch_norm(rows, None, None, training=True)
    assert_close(out.permute(0, 2, 3, 1)[~hidden[:, 0]], expected, rtol=1e-5, atol=1e-6)  # float32
    assert norm.num_batches_tracked == 1


def test_one_visible_cell_leaves_the_statistics_alone():
    norm = MaskedBatchNorm2d(3)
    hidden = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    hidden[0, 0, 0, 0] = False
    assert torch.isfinite(norm(torch.randn(1, 3, 2, 2), hidden)).all()
    assert torch.equal(norm.running_var, torch.ones(3))
    assert norm.num_batches_tracked == 0


def test_layer_norm_by_hand():
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    out = MaskedLayerNorm2d(2)(x, torch.tensor([[[[False, True]]]]))
    assert_close(out[0, :, 0], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), rtol=0, atol=1e-5)  # eps is 1e-6


def test_a_mask_is_repeated_upwards_and_picked_downwards():
    up = resize_mask(torch.tensor([[[[True, False]]]]), (2, 4))
    assert up[0, 0].tolist() == [[True, True, False, False]] * 2
    assert resize_mask(up, (1, 2))[0, 0].tolist() == [[True, False]]


def test_hiding_removes_even_a_nan():
    x = torch.full((1, 1, 1, 2), float("nan"))
    x[..., 1] = 2.0
    assert hide_cells(x, torch.tensor([[[[True, False]]]])).flatten().tolist() == [0.0, 2.0]


@NETWORKS
def test_channels_that_come_last_in_memory_stay_there(build):
    """A GPU's convolutions want them so: elsewhere every layer copies its input there and back."""
    network, seen = build().train(), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, given, out: seen.extend([given[0], out]))
    images = torch.rand(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    network(images, torch.rand(2, 1, 2, 3) < 0.3)
    several = [x for x in seen if min(x.shape[1:]) > 1]
    assert len(several) > 8 and all(x.is_contiguous(memory_format=torch.channels_last) for x in several)


def test_a_mask_in_another_size_is_made_once_until_the_mask_is_written_to():
    hidden = torch.rand(2, 1, 3, 4) < 0.5
    once = resize_mask(hidden, (6, 8))
    assert resize_mask(hidden, (6, 8)) is once and resize_mask(hidden, (9, 8)) is not once
    hidden.logical_not_()
    assert torch.equal(resize_mask(hidden, (6, 8)), ~once)
