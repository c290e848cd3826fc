"""Shapes, keys and options of the image networks."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import (
    FPN,
    LSSFPN,
    ConvNeXt,
    ResNet,
    convnext_small,
    convnext_tiny,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
)


def size(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        # torchvision's counts less the classifier (1000 x width + 1000).
        (resnet18, 11_689_512 - 513_000),
        (resnet34, 21_797_672 - 513_000),
        (resnet50, 25_557_032 - 2_049_000),
        (resnet101, 44_549_160 - 2_049_000),
        # timm's counts: the classifier (769 000) is left out, its norm is norm3, norm0 to norm2 are added.
        (convnext_tiny, 28_589_128 - 769_000 + 2 * (96 + 192 + 384)),
        (convnext_small, 50_223_688 - 769_000 + 2 * (96 + 192 + 384)),
    ],
)
def test_the_published_networks_have_the_published_size(build, parameters):
    with torch.device("meta"):
        assert size(build()) == parameters


def test_resnet_keys_are_torchvisions():
    with torch.device("meta"):
        state = resnet50().state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["bn1.running_var"] == (64,)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer1.0.downsample.1.num_batches_tracked"] == ()
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.bias"] == (2048,)
    assert "layer1.1.downsample.0.weight" not in shapes
    assert len(shapes) == 318  # torchvision's 320 less fc.weight and fc.bias


def test_convnext_keys_are_timms():
    with torch.device("meta"):
        state = convnext_tiny().state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert shapes["stem.0.weight"] == (96, 3, 4, 4)
    assert shapes["stem.1.bias"] == (96,)
    assert shapes["stages.1.downsample.0.weight"] == (96,)
    assert shapes["stages.1.downsample.1.weight"] == (192, 96, 2, 2)
    assert shapes["stages.2.blocks.8.conv_dw.weight"] == (384, 1, 7, 7)
    assert shapes["stages.2.blocks.8.mlp.fc1.weight"] == (1536, 384)
    assert shapes["stages.3.blocks.2.mlp.fc2.bias"] == (768,)
    assert shapes["stages.0.blocks.0.gamma"] == (96,)
    assert shapes["stages.0.blocks.0.norm.weight"] == (96,)
    assert shapes["norm3.weight"] == (768,)
    assert not any(k.startswith("stages.0.downsample") for k in shapes)


def test_strides_are_4_8_16_32_and_odd_sizes_pass():
    for network in (ConvNeXt((1,) * 4, (4, 8, 12, 16)), ResNet((1,) * 4, width=4, bottleneck=True)):
        shapes = [tuple(out.shape[1:]) for out in network(torch.randn(2, 3, 64, 128))]
        assert shapes == [(c, 16 >> i, 32 >> i) for i, c in enumerate(network.channels)]
        network(torch.randn(1, 3, 75, 101), torch.rand(1, 1, 3, 4) < 0.3)


def test_out_indices_choose_the_maps():
    network = ResNet((1,) * 4, width=4, out_indices=(1, 2))
    assert [tuple(out.shape) for out in network(torch.randn(1, 3, 64, 64))] == [(1, 8, 8, 8), (1, 16, 4, 4)]
    with pytest.raises(ValueError, match=r"out_indices: expected stages below 4, got \(4,\)"):
        ConvNeXt(out_indices=(4,))


def test_basic_block_by_slow_means():
    """Stage one of a ResNet, written out with functions."""
    f = torch.nn.functional
    network = ResNet((1, 1, 1, 1), width=4).eval()
    images = torch.randn(2, 3, 32, 32)
    s = network.state_dict()

    def conv_bn(x, conv, bn, **options):
        x = f.conv2d(x, s[f"{conv}.weight"], **options)
        return f.batch_norm(x, *(s[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

    x = f.max_pool2d(conv_bn(images, "conv1", "bn1", stride=2, padding=3).relu(), 3, 2, 1)
    y = conv_bn(x, "layer1.0.conv1", "layer1.0.bn1", padding=1).relu()
    y = conv_bn(y, "layer1.0.conv2", "layer1.0.bn2", padding=1)
    assert_close(network(images)[0], (x + y).relu())


@pytest.mark.parametrize("stride_first", [False, True])
def test_bottleneck_by_slow_means(stride_first):
    """The first block of stage two, whose stride sits in the 3x3 convolution or in the 1x1 before it."""
    f = torch.nn.functional
    network = ResNet((1, 1), bottleneck=True, width=4, out_indices=(0, 1), stride_first=stride_first).eval()
    s = network.state_dict()

    def conv_bn(x, conv, bn, **options):
        x = f.conv2d(x, s[f"layer2.0.{conv}.weight"], **options)
        norm = [s[f"layer2.0.{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(x, *norm)

    x, result = network(torch.randn(2, 3, 32, 32))
    y = conv_bn(x, "conv1", "bn1", stride=2 if stride_first else 1).relu()
    y = conv_bn(y, "conv2", "bn2", stride=1 if stride_first else 2, padding=1).relu()
    y = conv_bn(y, "conv3", "bn3") + conv_bn(x, "downsample.0", "downsample.1", stride=2)
    assert_close(result, y.relu())


def test_a_masked_network_that_strides_first_hides_what_it_should():
    network = ResNet((1, 1, 1, 1), bottleneck=True, width=4, stride_first=True)
    images, hidden = torch.randn(2, 3, 64, 64), torch.rand(2, 1, 2, 2) < 0.5
    hidden[:, :, 0, 0], hidden[:, :, 1, 1] = True, False
    for out in network(images, hidden):
        cells = hidden.repeat_interleave(out.shape[2] // 2, 2).repeat_interleave(out.shape[3] // 2, 3)
        assert (out[cells.expand_as(out)] == 0).all()
        assert (out[~cells.expand_as(out)] != 0).any()
    with pytest.raises(ValueError, match="stride_first: expected False without bottleneck, got True"):
        ResNet(stride_first=True)


@pytest.mark.parametrize("build", [ConvNeXt, ResNet])
def test_frozen_stages_keep_their_weights_and_statistics(build):
    options = {"widths": (4, 8, 12, 16), "layer_scale": 0.5} if build is ConvNeXt else {"width": 4}
    network = build((1, 1, 1, 1), frozen_stages=1, **options).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    sum(out.square().sum() for out in network(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    first = ("stem", "stages.0", "conv1", "bn1", "layer1")
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith(first), key
    assert all(p.requires_grad for p in build((1, 1, 1, 1), **options).parameters())


def test_drop_path_skips_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    network = ConvNeXt((1, 1), (4, 8), layer_scale=1.0, drop_path=0.5, out_indices=(0, 1))
    block = network.stages[1].blocks[0]
    x = torch.randn(1, 8, 4, 4).expand(2000, 8, 4, 4)
    full = block.eval()(x[:1]) - x[:1]
    steps = (block.train()(x) - x).flatten(1)
    kept = steps.abs().sum(1) > 0
    assert_close(steps[kept][:1], 2 * full.flatten(1), rtol=1e-4, atol=1e-5)  # float32, after a subtraction
    # Four standard deviations of a binomial with 2000 draws: 4 sqrt(0.25 / 2000) = 0.045.
    assert abs(kept.float().mean() - 0.5) < 0.045


def test_fpn_keys_are_mmdetections_and_levels_halve():
    neck = FPN((8, 16, 24, 32), 12, start_level=1, num_outs=5, extra_convs=True)
    shapes = {k: tuple(v.shape) for k, v in neck.state_dict().items()}
    assert shapes["lateral_convs.0.conv.weight"] == (12, 16, 1, 1)
    assert shapes["fpn_convs.4.conv.weight"] == (12, 12, 3, 3)
    assert len(shapes) == 2 * (3 + 5)
    maps = [torch.randn(1, c, 32 >> i, 48 >> i) for i, c in enumerate((8, 16, 24, 32))]
    assert [tuple(out.shape[-2:]) for out in neck(maps)] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def test_fpn_by_slow_means():
    """Two levels written out: the coarse lateral map, repeated twice along both axes, joins the fine one."""
    f = torch.nn.functional
    neck = FPN((4, 6), 5, num_outs=3)
    fine, coarse = torch.randn(2, 4, 8, 6), torch.randn(2, 6, 4, 3)
    s = neck.state_dict()

    def conv(x, name, padding):
        return f.conv2d(x, s[f"{name}.conv.weight"], s[f"{name}.conv.bias"], padding=padding)

    top = conv(coarse, "lateral_convs.1", 0)
    both = conv(fine, "lateral_convs.0", 0) + top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = [conv(both, "fpn_convs.0", 1), conv(top, "fpn_convs.1", 1)]
    for out, want in zip(neck([fine, coarse]), [*expected, f.max_pool2d(expected[1], 1, 2)], strict=True):
        assert_close(out, want)


def test_fpn_wants_the_maps_it_was_built_for():
    with pytest.raises(ValueError, match="maps: expected 2 feature maps, got 1"):
        FPN((4, 6), 5)([torch.randn(1, 4, 8, 8)])


def test_lss_fpn_keys_are_bevfusions_and_the_coarsest_map_is_used_up():
    neck = LSSFPN((192, 384, 768), 256)
    shapes = {k: tuple(v.shape) for k, v in neck.state_dict().items()}
    assert shapes["lateral_convs.0.conv.weight"] == (256, 192 + 256, 1, 1)
    assert shapes["lateral_convs.1.conv.weight"] == (256, 384 + 768, 1, 1)
    assert shapes["fpn_convs.1.conv.weight"] == (256, 256, 3, 3)
    assert shapes["fpn_convs.0.bn.running_var"] == (256,)
    assert len(shapes) == 2 * 2 * (1 + 5)
    maps = [torch.randn(1, c, 8 >> i, 12 >> i) for i, c in enumerate((192, 384, 768))]
    assert [tuple(out.shape) for out in neck(maps)] == [(1, 256, 8, 12), (1, 256, 4, 6)]


def test_lss_fpn_by_slow_means():
    """Three levels written out; enlarging twice reads a quarter and three quarters between centres."""
    f = torch.nn.functional
    neck = LSSFPN((3, 4, 5), 6).eval()
    s = neck.state_dict()
    fine, middle, coarse = torch.randn(2, 3, 8, 12), torch.randn(2, 4, 4, 6), torch.randn(2, 5, 2, 3)

    def conv(x, name, padding):
        norm = [s[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(f.conv2d(x, s[f"{name}.conv.weight"], padding=padding), *norm).relu()

    def twice(x):
        for axis in (2, 3):
            n = x.shape[axis]
            before = x.index_select(axis, (torch.arange(n) - 1).clamp(min=0))
            after = x.index_select(axis, (torch.arange(n) + 1).clamp(max=n - 1))
            both = torch.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
            x = both.flatten(axis, axis + 1)
        return x

    second = conv(conv(torch.cat([middle, twice(coarse)], 1), "lateral_convs.1", 0), "fpn_convs.1", 1)
    first = conv(conv(torch.cat([fine, twice(second)], 1), "lateral_convs.0", 0), "fpn_convs.0", 1)
    for out, want in zip(neck([fine, middle, coarse]), (first, second), strict=True):
        assert_close(out, want)


def test_lss_fpn_wants_the_maps_it_was_built_for():
    with pytest.raises(ValueError, match="maps: expected 2 feature maps, got 1"):
        LSSFPN((4, 6), 5)([torch.randn(1, 4, 8, 8)])
    with pytest.raises(ValueError, match=r"in_channels: expected at least two maps, got \(4,\)"):
        LSSFPN((4,), 5)
