import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import VolumeConv, VolumeNeck


def test_the_volume_keeps_its_grid_whatever_its_sides():
    neck = VolumeNeck(6, 10, channels=(4, 8, 12), num_blocks=1)
    assert neck(torch.randn(2, 6, 3, 8, 12)).shape == (2, 10, 3, 8, 12)
    assert neck(torch.randn(1, 6, 2, 7, 9)).shape == (1, 10, 2, 7, 9)
    assert VolumeConv(6, 4)(torch.randn(2, 6, 3, 4, 5)).shape == (2, 4, 3, 4, 5)


def test_keys_are_those_of_the_published_neck():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in VolumeNeck(256, 256).state_dict().items()}
    assert shapes["blocks.0.0.weight"] == (128, 256, 1, 3, 3)
    assert shapes["blocks.2.15.weight"] == (512, 512, 1, 3, 3)
    assert shapes["blocks.1.16.running_mean"] == (256,)
    assert shapes["deblocks.0.0.weight"] == (256, 128, 1, 1, 1)  # use_conv_for_no_stride
    assert shapes["deblocks.2.0.weight"] == (512, 256, 1, 4, 4)
    assert shapes["deblocks.0.1.bias"] == (256,)
    assert len(shapes) == 3 * 6 * 6 + 3 * 6  # a weight and five entries of a norm per layer


def test_height_slices_never_meet():
    neck = VolumeNeck(2, 3, channels=(4, 4, 4), num_blocks=1).eval()
    volume = torch.randn(1, 2, 4, 8, 8, requires_grad=True)
    neck(volume)[:, :, 1].sum().backward()
    touched = volume.grad.abs().sum((0, 1, 3, 4)) > 0
    assert touched.tolist() == [False, True, False, False]


def test_branches_are_summed():
    neck = VolumeNeck(2, 3, channels=(4, 4), strides=(1, 2), num_blocks=0).eval()
    volume = torch.randn(1, 2, 2, 4, 4)
    ways = [up(down(volume)) for down, up in zip(neck.blocks, neck.deblocks, strict=True)]
    assert_close(neck(volume), ways[0] + ways[1])


def test_the_branch_that_keeps_its_grid_is_a_convolution():
    """torch's own, from weights that are drawn as wide as those of the transposed ones beside it."""
    neck = VolumeNeck(2, 30, channels=(40, 40), strides=(1, 2), num_blocks=0).eval()
    weight, x = neck.deblocks[0][0].weight, torch.randn(1, 40, 2, 3, 4)
    assert_close(neck.deblocks[0][0](x), torch.nn.functional.conv3d(x, weight), rtol=1e-5, atol=1e-5)
    bound = 30**-0.5
    assert 0.95 * bound < weight.abs().max() <= bound


def test_branches_and_strides_must_match():
    with pytest.raises(
        ValueError, match=r"strides: expected one per branch of channels=\(4, 4\), got \(1,\)"
    ):
        VolumeNeck(2, 3, channels=(4, 4), strides=(1,))
