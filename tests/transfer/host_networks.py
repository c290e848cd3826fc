"""The hosts' sparse networks in real spconv modules, as their repositories describe them, on a CPU.

spconv cannot add a bias on a CPU in evaluation, so convolutions stay in training mode; they have no other
behaviour there.
"""

import torch
from spconv import pytorch as spconv
from torch import nn

NATIVE = {"algo": spconv.ConvAlgo.Native}


def dense(x):
    """The volume of a sparse tensor; spconv's own ``dense`` indexes as torch no longer does."""
    b, *place = x.indices.long().unbind(1)
    volume = x.features.new_zeros(x.batch_size, x.features.shape[1], *x.spatial_shape)
    volume[b, :, place[0], place[1], place[2]] = x.features
    return volume


def norm(width):
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


def subm(inside, outside, size=3, *, key, bias=False):
    return spconv.SubMConv3d(inside, outside, size, padding=size // 2, bias=bias, indice_key=key, **NATIVE)


def strided(inside, outside, size, stride, padding, key):
    return spconv.SparseConv3d(inside, outside, size, stride, padding, bias=False, indice_key=key, **NATIVE)


def layer(conv, width):
    return spconv.SparseSequential(conv, norm(width), nn.ReLU())


def ready(network):
    network.eval()
    for module in network.modules():
        if hasattr(module, "conv1x1"):
            module.train()
    return network


class Block(spconv.SparseModule):
    """Residual block; OpenPCDet's convolutions have a bias, mmdetection3d's have none."""

    def __init__(self, width, key, *, bias, inside=None):
        super().__init__()
        self.conv1, self.bn1 = subm(inside or width, width, key=key, bias=bias), norm(width)
        self.conv2, self.bn2 = subm(width, width, key=key, bias=bias), norm(width)
        if inside is not None and inside != width:
            self.proj = spconv.SparseSequential(subm(inside, width, 1, key=None), norm(width))

    def forward(self, x):
        skip = self.proj(x) if hasattr(self, "proj") else x
        y = self.conv1(x)
        y = self.conv2(y.replace_feature(self.bn1(y.features).relu()))
        return y.replace_feature((self.bn2(y.features) + skip.features).relu())


class VoxelResBackBone8x(nn.Module):
    """OpenPCDet's: coordinates (b, z, y, x), one slice appended by the caller."""

    def __init__(self, channels):
        super().__init__()
        self.conv_input = layer(subm(channels, 16, key="subm1"), 16)
        self.conv1 = spconv.SparseSequential(Block(16, "res1", bias=True), Block(16, "res1", bias=True))
        self.conv2 = self.stage(16, 32, 1, "2")
        self.conv3 = self.stage(32, 64, 1, "3")
        self.conv4 = self.stage(64, 128, (0, 1, 1), "4")
        self.conv_out = layer(strided(128, 128, (3, 1, 1), (2, 1, 1), 0, "down"), 128)

    @staticmethod
    def stage(inside, width, padding, number):
        first = layer(strided(inside, width, 3, 2, padding, f"spconv{number}"), width)
        blocks = [Block(width, f"res{number}", bias=True) for _ in range(2)]
        return spconv.SparseSequential(first, *blocks)

    def forward(self, x, *, last=True):
        for part in (self.conv_input, self.conv1, self.conv2, self.conv3, self.conv4):
            x = part(x)
        return dense(self.conv_out(x) if last else x)


class Mmdet3dSparseEncoder(nn.Module):
    """``SparseEncoder`` of mmdetection3d; with ``axes="xyz"`` BEVFusion's, whose z comes last."""

    def __init__(self, channels, out=128, *, axes="zyx", kernel=(3, 1, 1), stride=(2, 1, 1)):
        super().__init__()
        turn = (lambda t: t) if axes == "zyx" else (lambda t: t[::-1])
        self.conv_input = layer(subm(channels, 16, key="subm1"), 16)
        self.encoder_layers = spconv.SparseSequential()
        width, paddings = 16, ((1, 1, 1), (1, 1, 1), (0, 1, 1))
        for i, after in enumerate((32, 64, 128, None)):
            stage = spconv.SparseSequential(*(Block(width, f"block{i}", bias=False) for _ in range(2)))
            if after:
                stage.add(layer(strided(width, after, 3, 2, turn(paddings[i]), f"spconv{i}"), after))
                width = after
            self.encoder_layers.add_module(f"encoder_layer{i + 1}", stage)
        self.conv_out = layer(strided(width, out, turn(kernel), turn(stride), 0, "down"), out)

    def forward(self, x, *, last=True):
        x = self.encoder_layers(self.conv_input(x))
        return dense(self.conv_out(x) if last else x)


class SpUNet(nn.Module):
    """Pointcept's: coordinates (b, x, y, z)."""

    def __init__(self, channels, widths, depths, stem, classes):
        super().__init__()
        stages = len(widths) // 2
        self.conv_input = layer(subm(channels, stem, 5, key="stem"), stem)
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        down, up = [stem, *widths[:stages]], [*widths[stages:][::-1], widths[stages - 1]]
        for s in range(stages):
            self.down.append(layer(strided(down[s], down[s + 1], 2, 2, 0, f"spconv{s + 1}"), down[s + 1]))
            self.enc.append(self.blocks(down[s + 1], down[s + 1], f"subm{s + 1}", depths[s]))
            back = spconv.SparseInverseConv3d(
                up[s + 1], up[s], 2, indice_key=f"spconv{s + 1}", bias=False, **NATIVE
            )
            self.up.append(layer(back, up[s]))
            self.dec.append(self.blocks(up[s] + down[s], up[s], f"subm{s}", depths[-1 - s]))
        self.final = spconv.SubMConv3d(widths[-1], classes, 1, padding=1, bias=True, **NATIVE)

    @staticmethod
    def blocks(inside, width, key, depth):
        stage = spconv.SparseSequential()
        for i in range(depth):
            stage.add_module(f"block{i}", Block(width, key, bias=False, inside=inside if i == 0 else width))
        return stage

    def forward(self, x):
        x = self.conv_input(x)
        skips = [x]
        for down, enc in zip(self.down, self.enc, strict=True):
            x = enc(down(x))
            skips.append(x)
        x = skips.pop()
        for up, dec in zip(reversed(self.up), reversed(self.dec), strict=True):
            x = up(x)
            x = dec(x.replace_feature(torch.cat([x.features, skips.pop().features], 1)))
        return x


class Detector(nn.Module):
    """A host's model: the encoder under its attribute, and a head that has nothing to do with us."""

    def __init__(self, **parts):
        super().__init__()
        self.dense_head = nn.Linear(3, 5)
        for name, part in parts.items():
            self.add_module(name, part)
