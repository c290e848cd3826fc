"""A recipe of a few parameters and scenes of a few points, so that the tests are about the loop."""

import torch
from torch import nn

from renderpretrain import losses
from renderpretrain.data import Scene
from renderpretrain.encoders.levels import ImageLevel
from renderpretrain.geometry.sensors import POINT_COLUMNS
from renderpretrain.ops import fold_in, uniform
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import LidarBeams


class Points:
    """Scenes whose points lie on a sphere of radius 5 m to 6 m around the sensor."""

    def __init__(self, length=7, broken=()):
        self.length, self.broken = length, set(broken)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        directions = nn.functional.normalize(torch.randn(40, 3, generator=generator), dim=-1)
        points = directions * (5 + torch.rand(40, 1, generator=generator))
        points = torch.cat([points, torch.zeros(40, 2)], -1)
        if index in self.broken:
            points[0, 3] = 1e30  # its square is not finite
        return Scene(f"scene-{index}", points, torch.zeros(3))


class StandIn(nn.Module):
    """Predicts a ray's depth from its direction and the scene's mean point, with batch norm and dropout."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder = nn.Linear(5, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(8 + 3, 1)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def encode(self, batch):
        return self.norm(self.encoder(batch.points.columns(POINT_COLUMNS)).mean(1))

    def render(self, volume, rays):
        volume = volume[:, None].expand(-1, rays.shape[1], -1)
        depth = self.head(torch.cat([self.drop(volume), rays.directions], -1))[..., 0].float()
        return Rendered(depth, torch.ones_like(depth))

    def targets(self, batch, num_rays=None):
        return LidarBeams(num_rays or 16)(batch)

    def encoders(self):
        return {"encoder": self.encoder}

    def forward(self, batch):
        targets = self.targets(batch)
        rendered = self.render(self.encode(batch), targets.rays)
        noise = uniform(fold_in(batch.seeds, 9), (3,)).mean()
        return {
            "depth": losses.depth_l1(rendered.depth, targets.depth, targets.hit),
            "noise": noise * self.head.bias.square().sum() + 0 * batch.points.intensity.square().sum(),
        }


class Watched(StandIn):
    """The stand-in, which also says what its encoder makes of every point."""

    def levels(self, batch, hidden=None):
        features = self.encoder(batch.points.columns(POINT_COLUMNS))
        return [ImageLevel("encoder/0", features.movedim(-1, 1)[:, None, :, None])]


class Collapsing(Watched):
    """Learns one thing: to say the same of all points."""

    def forward(self, batch):
        features = self.encoder(batch.points.columns(POINT_COLUMNS))
        return {"same": (features - 1).square().mean()}


def optimization(**options):
    defaults = {
        "steps": 8,
        "batch_size": 2,
        "lr": 1e-2,
        "log_every": 4,
        "eval_every": 4,
        "checkpoint_every": 4,
        "monitor_every": 0,
    }
    return OptimizationConfig(**(defaults | options))
