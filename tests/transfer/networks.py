"""Small encoders whose norms have something to normalise."""

from torch import nn

from renderpretrain.encoders import SparseEncoder, SparseUNet

UNET = {"channels": (8, 16, 16, 24, 24, 16, 16, 8), "depths": (1,) * 8, "stem_channels": 8}


def shaken(module):
    """Norms as a training leaves them: scales, shifts and statistics all differ."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 1.5)
    return module


def unipad_encoder():
    """UniPAD's: its last convolution has one cell."""
    return shaken(SparseEncoder(5))


def second_encoder():
    """NS-MAE's, as SECOND and BEVFusion end it."""
    return shaken(SparseEncoder(5, 128, out_geometry=((3, 1, 1), (2, 1, 1), 0)))


def unet():
    return shaken(SparseUNet(4, **UNET))
