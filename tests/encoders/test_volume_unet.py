import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import VolumeUNet


def test_keys_are_ponderv2s():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in VolumeUNet(96).state_dict().items()}
    assert shapes["encoders.0.basic_module.batchnorm.running_mean"] == (96,)
    assert shapes["encoders.0.basic_module.conv.weight"] == (32, 96, 3, 3, 3)
    assert shapes["encoders.3.basic_module.conv.weight"] == (256, 128, 3, 3, 3)
    assert shapes["decoders.0.upsampling.upsample.weight"] == (256, 128, 3, 3, 3)
    assert shapes["decoders.0.upsampling.upsample.bias"] == (128,)
    assert shapes["decoders.2.basic_module.batchnorm.num_batches_tracked"] == ()
    assert shapes["decoders.2.basic_module.conv.weight"] == (32, 32, 3, 3, 3)
    assert shapes["final_conv.weight"] == (128, 32, 1, 1, 1)
    assert len(shapes) == 4 * 6 + 3 * (2 + 6) + 2


def test_by_slow_means():
    """Two levels written out; the transposed convolution as a dense one over cells spread out."""
    f = torch.nn.functional
    neck = VolumeUNet(3, 5, channels=(4, 6)).eval()
    for p in neck.parameters():
        torch.nn.init.normal_(p, std=0.3)
    s, volume = neck.state_dict(), torch.randn(2, 3, 4, 6, 8)

    def norm_conv(x, name):
        norm = [s[f"{name}.batchnorm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return f.conv3d(f.batch_norm(x, *norm), s[f"{name}.conv.weight"], padding=1).relu()

    fine = norm_conv(volume, "encoders.0.basic_module")
    pooled = fine.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).amax((5, 6, 7))
    coarse = norm_conv(pooled, "encoders.1.basic_module")
    spread = coarse.new_zeros(2, 6, 4, 6, 8)
    spread[:, :, ::2, ::2, ::2] = coarse
    up = s["decoders.0.upsampling.upsample.weight"].transpose(0, 1).flip(2, 3, 4)
    back = f.conv3d(spread, up, s["decoders.0.upsampling.upsample.bias"], padding=1)
    out = norm_conv(fine + back, "decoders.0.basic_module")
    expected = f.conv3d(out, s["final_conv.weight"], s["final_conv.bias"])
    assert_close(neck(volume), expected, rtol=1e-4, atol=1e-4)  # float32, sums of 162


@pytest.mark.parametrize("shape", [(8, 8, 16), (5, 9, 7), (1, 2, 3)])
def test_the_volume_keeps_its_grid_whatever_its_sides_and_gradients_are_finite(shape):
    neck = VolumeUNet(3, 5, channels=(4, 6, 8, 10))
    out = neck(torch.randn(2, 3, *shape))
    assert out.shape == (2, 5, *shape)
    out.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in neck.parameters())


def test_the_result_lies_as_fields_read_it():
    """Its rows of channels together: nothing that reads the volume copies it."""
    volume = VolumeUNet(3, 5, channels=(4, 6))(torch.randn(2, 3, 4, 6, 8))
    assert volume.is_contiguous(memory_format=torch.channels_last_3d) and not volume.is_contiguous()
