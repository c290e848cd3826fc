"""Swin against slow statements: attention over all pairs of cells, a network written out by its keys."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import SwinTransformer, WindowAttention, swin_small, swin_tiny

f = torch.nn.functional


def window_of(cell, window, shift):
    """The window a cell lies in when windows begin ``shift`` cells in; those before it are a window too."""
    return tuple((c - s) // window for c, s in zip(cell, shift, strict=True))


def slow_attention(x, s, heads, window, shifted):
    """Each cell asks all cells of its window, one query at a time, on the map filled up with zeros."""
    batch, height, width, channels = x.shape
    size = [-(-n // window) * window for n in (height, width)]
    shift = [window // 2 if shifted and n > window else 0 for n in size]
    cells = [(i, j) for i in range(size[0]) for j in range(size[1])]
    full = x.new_zeros(batch, *size, channels)
    full[:, :height, :width] = x
    q, k, v = f.linear(full, s["qkv.weight"], s["qkv.bias"]).unflatten(-1, (3, heads, -1)).unbind(3)
    rows = []
    for i, j in [(i, j) for i in range(height) for j in range(width)]:
        seen = [c for c in cells if window_of(c, window, shift) == window_of((i, j), window, shift)]
        bias = [(i - y + window - 1) * (2 * window - 1) + j - x + window - 1 for y, x in seen]
        ys, xs = zip(*seen, strict=True)
        logits = torch.einsum("bhd,bnhd->bnh", q[:, i, j], k[:, ys, xs]) / (channels // heads) ** 0.5
        weights = (logits + s["relative_position_bias_table"][bias]).softmax(1)
        rows.append(torch.einsum("bnh,bnhd->bhd", weights, v[:, ys, xs]).flatten(1))
    out = torch.stack(rows, 1).unflatten(1, (height, width))
    return f.linear(out, s["proj.weight"], s["proj.bias"])


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("window", [3, 4])
@pytest.mark.parametrize("size", [(6, 9), (8, 8), (5, 10), (3, 7), (2, 2)])
def test_window_attention_is_attention_over_all_pairs_of_a_window(size, window, shifted):
    layer = WindowAttention(6, 2, window=window, shifted=shifted).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, *size, 6, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    ours, theirs = layer(x), slow_attention(x, dict(layer.named_parameters()), 2, window, shifted)
    assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(y, inputs, weight) for y in (ours, theirs)), strict=True):
        assert_close(a, b)


def test_a_shifted_window_ends_at_the_border():
    """Window 4, shift 2 on 8 x 8 cells: rows 0-1, 2-5 and 6-7 are apart though rolled together."""
    layer = WindowAttention(4, 1, window=4, shifted=True)
    for cell, rows, columns in (((0, 3), (0, 1), (2, 5)), ((7, 0), (6, 7), (0, 1)), ((4, 7), (2, 5), (6, 7))):
        x = torch.randn(1, 8, 8, 4, requires_grad=True)
        layer(x)[0][cell].sum().backward()
        seen = x.grad[0].abs().sum(-1) > 0
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
        assert torch.equal(seen, expected)


def slow_network(images, s, depths, window):
    """The network by timm's keys; odd sides are filled up before two by two cells are joined."""

    def norm(x, name):
        return f.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])

    def linear(x, name):
        return f.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))

    x = f.conv2d(images, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=4)
    x, maps = norm(x.permute(0, 2, 3, 1), "patch_embed.norm"), []
    for i, depth in enumerate(depths):
        if i:
            height, width = x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2
            full = x.new_zeros(len(x), height, width, x.shape[3])
            full[:, : x.shape[1], : x.shape[2]] = x
            four = [full[:, 0::2, 0::2], full[:, 1::2, 0::2], full[:, 0::2, 1::2], full[:, 1::2, 1::2]]
            x = linear(
                norm(torch.cat(four, -1), f"layers.{i}.downsample.norm"), f"layers.{i}.downsample.reduction"
            )
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            attn = {k.removeprefix(f"{block}.attn."): v for k, v in s.items()}
            heads = x.shape[-1] // 32
            x = x + slow_attention(norm(x, f"{block}.norm1"), attn, heads, window, j % 2 == 1)
            hidden = f.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
            x = x + linear(hidden, f"{block}.mlp.fc2")
        maps.append(norm(x, f"norm{i}").permute(0, 3, 1, 2))
    return maps


def test_the_network_by_slow_means():
    network = SwinTransformer((2, 2), 32, window=3, out_indices=(0, 1)).double()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    images = torch.randn(2, 3, 20, 28, dtype=torch.float64)
    ours = network(images)
    assert [tuple(x.shape) for x in ours] == [(2, 32, 5, 7), (2, 64, 3, 4)]
    for a, b in zip(ours, slow_network(images, network.state_dict(), (2, 2), 3), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize(
    # The papers' counts less the classifier (769 000), whose norm is norm3; norm0 to norm2 are added.
    ("build", "parameters"),
    [(swin_tiny, 28_288_354), (swin_small, 49_606_258)],
)
def test_the_published_networks_have_the_published_size(build, parameters):
    with torch.device("meta"):
        size = sum(p.numel() for p in build().parameters())
    assert size == parameters - 769_000 + 2 * (96 + 192 + 384)


def test_keys_are_timms():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in swin_tiny().state_dict().items()}
    assert shapes["patch_embed.proj.weight"] == (96, 3, 4, 4)
    assert shapes["patch_embed.norm.bias"] == (96,)
    assert shapes["layers.0.blocks.1.attn.relative_position_bias_table"] == (169, 3)
    assert shapes["layers.1.downsample.norm.weight"] == (384,)
    assert shapes["layers.1.downsample.reduction.weight"] == (192, 384)
    assert shapes["layers.2.blocks.5.attn.qkv.bias"] == (3 * 384,)
    assert shapes["layers.3.blocks.0.attn.proj.weight"] == (768, 768)
    assert shapes["layers.3.blocks.1.mlp.fc1.weight"] == (3072, 768)
    assert shapes["norm3.weight"] == (768,)
    # timm 1.0 has 173: norm0 to norm2 come in, head.fc goes out.
    assert len(shapes) == 173 + 6 - 2


def test_out_indices_choose_the_maps():
    network = SwinTransformer((1, 1, 1, 1), 8, out_indices=(1, 2))
    assert network.channels == (16, 32)
    shapes = [tuple(out.shape) for out in network(torch.randn(1, 3, 64, 96))]
    assert shapes == [(1, 16, 8, 12), (1, 32, 4, 6)]
    with pytest.raises(ValueError, match=r"out_indices: expected layers below 4, got \(4,\)"):
        SwinTransformer(out_indices=(4,))


def test_every_weight_learns_and_the_token_too():
    network = SwinTransformer((2, 2), 32, window=3, out_indices=(0, 1), mask_token=True)
    hidden = torch.rand(2, 1, 10, 14) < 0.5
    sum(out.square().sum() for out in network(torch.randn(2, 3, 40, 56), hidden)).backward()
    without = {k for k, p in network.named_parameters() if not (p.grad != 0).any()}
    assert without == set()


def test_hidden_patches_are_the_token_whatever_they_held():
    network = SwinTransformer((1, 1), 32, window=3, out_indices=(0, 1), mask_token=True)
    torch.nn.init.normal_(network.mask_token)
    images = torch.randn(2, 3, 32, 48, requires_grad=True)
    hidden = torch.rand(2, 1, 4, 6) < 0.5
    where = hidden.repeat_interleave(8, 2).repeat_interleave(8, 3)
    spoilt = torch.where(where, torch.nan, images)
    for a, b in zip(network(images, hidden), network(spoilt, hidden), strict=True):
        assert torch.equal(a, b)
    sum(out.sum() for out in network(images, hidden)).backward()
    assert (images.grad[where.expand_as(images)] == 0).all()
    everywhere = torch.ones_like(hidden)
    embedded = network.mask_token.expand(2, 8, 12, 32)
    expected = network.norm0(network.layers[0](embedded)).permute(0, 3, 1, 2)
    assert_close(network(images, everywhere)[0], expected)


@pytest.mark.untyped
def test_what_it_cannot_take_is_said():
    with pytest.raises(ValueError, match=r"images: expected height and width divisible by .* got \(30, 32\)"):
        SwinTransformer((1,), 8, out_indices=(0,))(torch.randn(1, 3, 30, 32))
    with pytest.raises(ValueError, match="hidden: expected None of a network without mask_token, got a mask"):
        SwinTransformer((1,), 8, out_indices=(0,))(torch.randn(1, 3, 32, 32), torch.ones(1, 1, 2, 2) > 0)
    with pytest.raises(ValueError, match="num_heads: expected a divisor of width 8, got 3"):
        WindowAttention(8, 3, window=7, shifted=False)


def test_drop_path_skips_whole_samples_and_keeps_the_mean():
    network = SwinTransformer((1, 1), 8, drop_path=0.5, out_indices=(0, 1))
    block = network.layers[1].blocks[0]
    torch.nn.init.zeros_(block.mlp.fc2.weight)  # leaves the attention's branch alone
    x = torch.randn(1, 4, 4, 16).expand(2000, 4, 4, 16)
    full = block.eval()(x[:1]) - x[:1]
    steps = (block.train()(x) - x).flatten(1)
    kept = steps.abs().sum(1) > 0
    assert_close(steps[kept][:1], 2 * full.flatten(1), rtol=1e-4, atol=1e-5)  # float32, after a subtraction
    # Four standard deviations of a binomial with 2000 draws: 4 sqrt(0.25 / 2000) = 0.045.
    assert abs(kept.float().mean() - 0.5) < 0.045
    assert network.layers[0].blocks[0].drop_path == 0


@pytest.mark.untyped  # the hook's checks cannot be traced
def test_it_compiles():
    network = SwinTransformer((2,), 32, window=3, out_indices=(0,), mask_token=True)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False)
    images, hidden, results = torch.randn(2, 3, 40, 56), torch.rand(2, 1, 3, 4) < 0.5, []
    for run in (network, compiled):
        loss = sum(out.square().mean() for out in run(images, hidden))
        results.append([loss, *torch.autograd.grad(loss, list(network.parameters()))])
    for a, b in zip(*results, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)  # float32, other orders of summation


def test_half_precision_stays_near():
    network = SwinTransformer((2, 2), 32, window=3, out_indices=(0, 1))
    images = torch.randn(1, 3, 40, 56)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(images)
    for a, b in zip(half, network(images), strict=True):
        assert_close(
            a.float(), b, rtol=0.05, atol=0.1
        )  # bfloat16 through four blocks; maps have unit variance


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    network = SwinTransformer((2, 2), 32, window=3, out_indices=(0, 1), mask_token=True)
    images, hidden = torch.randn(2, 3, 40, 56), torch.rand(2, 1, 5, 7) < 0.5
    expected = network(images, hidden)
    for out, want in zip(network.cuda()(images.cuda(), hidden.cuda()), expected, strict=True):
        assert_close(out.cpu(), want, rtol=1e-2, atol=1e-2)  # the patches' convolution may use TF32
