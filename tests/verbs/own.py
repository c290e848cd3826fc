"""A recipe of the tests' own, small enough to be trained in a moment; imported by its name."""

import torch
from pydantic import BaseModel
from torch import nn

from renderpretrain import VoxelGrid, losses
from renderpretrain.encoders import ImageMaps, VolumeEncoder
from renderpretrain.recipes import Hidden
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import LidarBeams
from renderpretrain.teachers import ImageTeacher


class Own(nn.Module):
    """Says one depth for all rays of a scene."""

    def __init__(self, width: int = 4, *, grid_size: float = 1.0):
        super().__init__()
        self.grid = VoxelGrid((-8, -8, -2, 8, 8, 2), voxel_size=(grid_size,) * 3)
        self.encoder = nn.Conv3d(1, width, 1)
        self.head = nn.Linear(width, 1)

    def hide(self, batch):
        return Hidden(dropped=torch.zeros_like(batch.points.valid))

    def encode(self, batch, hidden=None):
        return self.encoder(torch.ones(batch.size, 1, *self.grid.shape, device=batch.points.xyz.device))

    def render(self, volume, rays):
        depth = self.head(volume.mean((2, 3, 4))).expand(rays.shape)
        return Rendered(depth, torch.ones_like(depth))

    def targets(self, batch, num_rays=None):
        return LidarBeams(num_rays or 16)(batch)

    def forward(self, batch):
        targets = self.targets(batch)
        rendered = self.render(self.encode(batch), targets.rays)
        return {"depth": losses.depth_l1(rendered.depth, targets.depth, targets.hit)}

    def encoders(self):
        return {"point_encoder": self.encoder}


class Bare(nn.Module):
    """Nothing but a loss."""

    def __init__(self):
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(10.0))

    def forward(self, batch):
        targets = LidarBeams(16)(batch)
        return {"depth": losses.depth_l1(self.depth.expand_as(targets.depth), targets.depth, targets.hit)}


class Sizes(BaseModel):
    width: int = 4


def of_model(sizes: Sizes) -> Own:
    return Own(sizes.width)


def nothing(width: int = 4):
    return width


def unlicensed():
    raise RuntimeError("no licence was found")


def as_fine(width: int = 32):
    """One whose cells are its voxels."""
    return VolumeEncoder(nn.Conv3d(5, width, 3, padding=1), width)


def volumes(width: int = 6, stride: int = 2):
    network = nn.Conv3d(5, width, 3, stride=stride, padding=1)
    return VolumeEncoder(network, width, stride=2, first=0)


def maps(width: int = 6):
    return ImageMaps(nn.Conv2d(3, width, 8, stride=8), channels=[width])


def image_teacher():
    """A network whose maps are targets: one convolution of eight pixels."""
    torch.manual_seed(0)
    return ImageTeacher(nn.Sequential(nn.Conv2d(3, 80, 8, stride=8)), [-1])


def without_its_file():
    """A teacher that cannot be made."""
    raise FileNotFoundError("no dino.pth here")
