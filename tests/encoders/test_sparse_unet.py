"""The sparse U-Net against the authors' numbers, its norm for several data sets against a slow statement."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import (
    Domains,
    PromptNorm,
    SparseConv3d,
    SparseTensor,
    SparseUNet,
    SubMConv3d,
)

needs_spconv = pytest.mark.spconv
BACKENDS = pytest.mark.parametrize("backend", ["builtin", pytest.param("spconv", marks=needs_spconv)])
TINY = {"channels": (8, 12, 12, 8), "depths": (1, 2, 1, 1), "stem_channels": 6}


def scattered(shape=(9, 10, 13), count=300, samples=2):
    cells = torch.randperm(samples * shape[0] * shape[1] * shape[2])[:count]
    coords = torch.stack(torch.unravel_index(cells, (samples, *shape)), 1)
    return SparseTensor(torch.randn(count, 4), coords, shape, samples)


def shapes(network):
    return {k: tuple(v.shape) for k, v in network.state_dict().items()}


@BACKENDS
def test_the_network_is_ponderv2s(golden, backend):
    """Their coordinates are (b, x, y, z); ours are (b, z, y, x), with the weights as they are."""
    numbers = golden("ponder_spunet_tiny.npz")
    channels = (8, 16, 16, 24, 24, 16, 16, 8)
    network = SparseUNet(6, channels=channels, depths=(1,) * 8, stem_channels=8, backend=backend).eval()
    network.load_state_dict({k[6:]: v for k, v in numbers.items() if k.startswith("state:")})
    coords = numbers["coords_batch_x_y_z"][:, [0, 3, 2, 1]]
    z, y, x = (int(n) + 1 for n in coords[:, 1:].amax(0))
    with torch.no_grad():
        out = network(SparseTensor(numbers["features"], coords, (z, y, x), 2))
    # float32 through 25 layers of 8 to 3000 summands.
    assert_close(out.features, numbers["out"], rtol=0, atol=1e-5 * float(numbers["out"].abs().max()))
    assert torch.equal(out.coords, coords)


@BACKENDS
def test_training_reaches_every_weight(backend):
    network = SparseUNet(4, **TINY, backend=backend)
    network(scattered()).features.square().mean().backward()
    assert all((p.grad != 0).any() and torch.isfinite(p.grad).all() for p in network.parameters())


@needs_spconv
def test_backends_have_the_same_gradients():
    network, x, gradients = SparseUNet(4, **TINY), scattered(), []
    for backend in ("builtin", "spconv"):
        for module in network.modules():
            if isinstance(module, (SubMConv3d, SparseConv3d)):
                module.backend = backend
        loss = network(x).features.square().mean()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        # float32; the order of summation differs and batch statistics amplify it.
        assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_the_published_sizes():
    with torch.device("meta"):
        plain, prompted = shapes(SparseUNet(6)), shapes(SparseUNet(6, prompt=(3, 256)))
    assert plain["conv_input.0.weight"] == (32, 5, 5, 5, 6)
    assert plain["down.3.0.weight"] == (256, 2, 2, 2, 128)
    assert plain["enc.3.block5.conv2.weight"] == (256, 3, 3, 3, 256)
    assert plain["up.3.0.weight"] == (256, 2, 2, 2, 256)
    assert plain["dec.3.block0.conv1.weight"] == (256, 3, 3, 3, 256 + 128)
    assert plain["dec.0.block0.proj.0.weight"] == (96, 1, 1, 1, 96 + 32)
    assert plain["dec.0.block0.proj.1.running_var"] == (96,)
    assert not any("block1.proj" in key or key.startswith("enc.0.block0.proj") for key in plain)
    assert prompted["conv_input.conv.weight"] == (32, 5, 5, 5, 6)
    assert prompted["conv_input.bn.bns.2.running_mean"] == (32,)
    assert prompted["conv_input.bn.modulation.1.weight"] == (64, 256)
    assert prompted["down.1.bn.bns.0.weight"] == (64,)
    assert prompted["up.0.conv.weight"] == (96, 2, 2, 2, 96)
    assert prompted["enc.1.block2.bn2.modulation.1.bias"] == (128,)
    assert prompted["dec.2.block0.proj_conv.weight"] == (128, 1, 1, 1, 128 + 64)
    assert prompted["dec.2.block0.proj_norm.bns.1.bias"] == (128,)
    # 1 + 4 + 4 layers, 23 blocks of two, 4 projections: a weight and a norm each.
    convolutions = 9 + 2 * 23 + 4
    assert len(plain) == convolutions * (1 + 5)
    assert len(prompted) == convolutions * (1 + 3 * 5 + 2)


def test_the_order_of_voxels_and_the_room_around_them_change_nothing():
    """Cell 12 of 13 is reached though two does not divide 13."""
    network, x = SparseUNet(4, **TINY).eval(), scattered()
    order = torch.randperm(len(x.coords))
    larger = SparseTensor(x.features[order], x.coords[order], (16, 48, 64), 2)
    assert_close(network(larger).features, network(x).features[order])


def test_a_sample_does_not_depend_on_its_batch_in_evaluation():
    network, x = SparseUNet(4, **TINY).eval(), scattered()
    second = x.coords[:, 0] == 1
    coords = x.coords[second] - torch.tensor([1, 0, 0, 0])
    alone = network(SparseTensor(x.features[second], coords, x.spatial_shape, 1))
    assert_close(alone.features, network(x).features[second])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [0, 1])
def test_no_voxels_or_one_are_served(count, training):
    out = SparseUNet(4, **TINY).train(training)(scattered(count=count))
    out.features.sum().backward()
    assert out.features.shape == (count, 8)
    assert torch.isfinite(out.features).all()


def test_prompt_norm_by_slow_means():
    """Each data set with its own mean and variance, each sample with its own scale and shift."""
    norm = PromptNorm(3, num_domains=4, context_channels=5)
    for i, bn in enumerate(norm.bns):
        torch.nn.init.constant_(bn.weight, 1.0 + i)
        torch.nn.init.constant_(bn.bias, 0.1 * i)
    x, sample = torch.randn(40, 3), torch.randint(0, 3, (40,))
    domains = Domains((2, 0, 2), torch.randn(3, 5))
    linear = norm.modulation[1]
    expected = torch.empty_like(x)
    for row in range(40):
        i = domains.indices[sample[row]]
        of_set = torch.stack([x[r] for r in range(40) if domains.indices[sample[r]] == i])
        value = (x[row] - of_set.mean(0)) / (of_set.var(0, unbiased=False) + 1e-3).sqrt()
        context = domains.context[sample[row]]
        both = linear.weight @ (context * context.sigmoid()) + linear.bias
        expected[row] = (value * (1.0 + i) + 0.1 * i) * (1 + both[3:]) + both[:3]
    assert_close(norm(x, sample, domains), expected)
    tracked = [int(bn.num_batches_tracked) for bn in norm.bns]
    assert tracked == [1, 0, 1, 0]


def test_a_mixed_batch_is_each_data_set_alone():
    network = SparseUNet(4, **TINY, prompt=(3, 16))
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, context = scattered(samples=3), torch.randn(3, 16, requires_grad=True)
    mixed = network(x, Domains((1, 0, 1), context)).features
    for index, samples in ((1, (0, 2)), (0, (1,))):
        of_set = torch.isin(x.coords[:, 0], torch.tensor(samples))
        alone = SparseTensor(x.features[of_set], x.coords[of_set], x.spatial_shape, 3)
        # float32, other orders of summation.
        expected = network(alone, Domains((index,) * 3, context)).features
        assert_close(mixed[of_set], expected, rtol=1e-3, atol=1e-4 * float(expected.detach().abs().max()))
    mixed.square().mean().backward()
    used = {k: (p.grad is not None and bool((p.grad != 0).any())) for k, p in network.named_parameters()}
    assert all(reached == ("bns.2." not in key) for key, reached in used.items())
    assert (context.grad != 0).all()


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    network, x = SparseUNet(4, **TINY, prompt=(3, 16)), scattered()
    expected = network(x, Domains((1, 0), torch.ones(2, 16))).features
    on_cuda = SparseTensor(x.features.cuda(), x.coords.int().cuda(), x.spatial_shape, 2)
    out = network.cuda()(on_cuda, Domains((1, 0), torch.ones(2, 16, device="cuda"))).features
    # spconv's implicit GEMM may use TF32: 10 bits of mantissa, twelve layers deep.
    assert_close(out.cpu(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.untyped
def test_data_sets_are_named_where_they_are_needed_and_only_there():
    x, domains = scattered(), Domains((0, 3), torch.zeros(2, 16))
    with pytest.raises(ValueError, match="domains: expected None without prompt, got Domains"):
        SparseUNet(4, **TINY)(x, domains)
    prompted = SparseUNet(4, **TINY, prompt=(3, 16))
    with pytest.raises(ValueError, match="domains: expected the data set of each sample, got None"):
        prompted(x)
    with pytest.raises(ValueError, match=r"indices: expected data sets below 3, got \(0, 3\)"):
        prompted(x, domains)
    with pytest.raises(ValueError, match="domains: expected 2 samples, got 3"):
        prompted(x, Domains((0, 1, 1), torch.zeros(3, 16)))
    with pytest.raises(ValueError, match=r"context: expected \(B E\) with B=2, got \(3, 16\)"):
        Domains((0, 1), torch.zeros(3, 16))


def test_stages_go_down_as_often_as_up():
    message = r"channels, depths: expected one of each per stage, .*, got 3 and 3"
    with pytest.raises(ValueError, match=message):
        SparseUNet(4, channels=(8, 8, 8), depths=(1, 1, 1))
