# An image network of your own as a teacher of points. This one learns classes from the labelled points of
# streets of its own, as a network would that somebody else trained on other data; it is kept in teacher.pt:
#
#     python own_teacher.py
#     renderpretrain data maps maps --teacher own_teacher:teacher --scenes 200
#     renderpretrain pretrain render-distill-lidar --scenes 200 --set teacher.maps=maps
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.encoders import ImageLevel
from renderpretrain.teachers import ImageTeacher

FILE, CLASSES, SEED = Path("teacher.pt"), 9, 7  # runs learn from streets of seed 0, probes from 1 to 3


def block(inputs, outputs):
    """Half the resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class Classes(nn.Module):
    """Maps of stride 4: features, and what they say of classes."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([block(3, 32), block(32, 48), block(48, 96), block(96, 128)])
        self.up = nn.ModuleList([nn.Conv2d(128 + 96, 96, 3, padding=1), nn.Conv2d(96 + 48, 64, 3, padding=1)])
        self.last = nn.Conv2d(64, CLASSES, 1)

    def forward(self, images):
        maps = [images]
        for down in self.down:
            maps.append(down(maps[-1]))
        found = maps[4]
        for up, finer in zip(self.up, (maps[3], maps[2]), strict=True):
            enlarged = interpolate(found, size=finer.shape[2:], mode="bilinear")
            found = up(torch.cat([enlarged, finer], 1)).relu()
        return [found, self.last(found)]


def teacher():
    """What `renderpretrain data maps` asks for."""
    network = Classes()
    network.load_state_dict(torch.load(FILE, weights_only=True))
    return ImageTeacher(network)


def at_points(network, scene):
    """What the network says where cameras see labelled points, and their classes."""
    views = collate([scene], torch.zeros(1, dtype=torch.long)).views
    xyz = scene.points[None, :, :3]
    pixels, _, inside = views.cameras.project(xyz[:, None])
    seen = views.seen_at(pixels, inside & views.valid[..., None]).any(1)[0] & (scene.point_labels > 0)
    mean, std = (
        views.images.new_tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    maps = ImageLevel("classes", network((scene.images - mean) / std)[-1][None])
    return maps.read(xyz[:, seen], views)[0], scene.point_labels[seen].long()


def train(steps, count):
    """Learn from so many streets; rare classes count with the root of their points."""
    torch.manual_seed(0)
    streets, network = SyntheticStreet(count, image_size=(128, 224), seed=SEED), Classes()
    scenes = [streets[i] for i in range(count)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1, pct_start=0.05)
    for step in range(steps):
        said, classes = at_points(network, scenes[torch.randint(count, ()).item()])
        weight = torch.bincount(classes, minlength=CLASSES).clamp(min=1).rsqrt()
        loss = cross_entropy(said, classes, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} cross-entropy {loss.item():.3f}")
    torch.save(network.state_dict(), FILE)


if __name__ == "__main__":
    train(*map(int, sys.argv[1:])) if sys.argv[1:] else train(500, 100)
