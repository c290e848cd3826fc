"""Lifting images of a surround rig into UniPAD's volume: projection, and reading."""

import math
from collections.abc import Callable, Iterator

import torch
from measure import Case, Results, both_passes
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from renderpretrain import Cameras, VoxelGrid, ops
from renderpretrain.lifters import view_coordinates

OPERATORS = ("frustum_coordinates", "image_lift")

BINS = 64
DEPTHS = (0.0, 64.0)


def cases(device: str, quick: bool) -> Iterator[Case]:
    """Six cameras at 60 degree steps over 180 x 180 x 5 voxels, as nuScenes has them."""
    step = 2.4 if quick else 0.6
    grid = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (step, step, 1.6))
    points = grid.centers(device).reshape(-1, 3)
    shape = f"{'x'.join(map(str, grid.shape[::-1]))}, 6 cameras"
    yield _projection(shape, points)
    for channels in (32, 256):
        yield from _lifting(f"{shape}, 32x88, C={channels}", channels, points)


def _rig(device: torch.device) -> Cameras:
    """Images of 512 x 1408 pixels, 70 degrees wide, 1.5 m above the ground."""
    poses = torch.eye(4).repeat(1, 6, 1, 1)
    for n in range(6):
        angle = math.radians(60 * n)
        forward = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        down = torch.tensor([0.0, 0.0, -1.0])
        poses[0, n, :3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward], 1)
        poses[0, n, 2, 3] = 1.5
    focal = 704 / math.tan(math.radians(35))
    intrinsics = torch.tensor([[focal, 0.0, 704.0], [0.0, focal, 256.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics.expand(1, 6, 3, 3), poses, (512, 1408)).to(device)


def _projection(shape: str, points: Tensor) -> Case:
    cameras = _rig(points.device)
    scale = points.new_tensor([[2 / 1408, 0, -1], [0, 2 / 512, -1], [0, 0, 1]])
    matrices = (scale @ cameras.intrinsics @ cameras.world_to_camera[..., :3, :])[0]

    def run(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], Results]:
        def depths() -> Results:  # of a point beside the camera, u and v are too large to compare
            return (function(points, matrices, DEPTHS)[0][..., 2],)

        return depths

    num_bytes = 13 * 6 * len(points) + 12 * len(points)
    ours, reference = run(ops.frustum_coordinates), run(ops.frustum_coordinates_reference)
    return Case("frustum_coordinates", "forward", shape, ours, {"reference": reference}, num_bytes)


def _taps(coordinate: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The two cells around a coordinate in [-1, 1], and their shares, 0 outside."""
    index = ((coordinate + 1) * count - 1) / 2
    low = index.floor()
    both = low.long()[:, None] + torch.arange(2, device=index.device)
    shares = torch.stack([1 - (index - low), index - low], -1) * ((both >= 0) & (both < count))
    return both.clamp(0, count - 1), shares


def _bags(features: Tensor, probabilities: Tensor, coordinates: Tensor, valid: Tensor) -> Tensor:
    """The best plain-torch form: one weighted sum of rows for every point, over the cameras that see it.

    Of one example; the features have their channels last.
    """
    num_bins, height, width = probabilities.shape[2:]
    point, camera = valid[0].mT.nonzero().unbind(1)
    u, v, d = coordinates[0, camera, point].unbind(-1)
    (x, by_x), (y, by_y), (z, by_z) = _taps(u, width), _taps(v, height), _taps(d, num_bins)
    rows = camera[:, None] * height + y
    pixels = rows[:, :, None] * width + x[:, None, :]
    shares = by_y[:, :, None] * by_x[:, None, :]
    bins = ((camera[:, None] * num_bins + z)[..., None] * height + y[:, None, :])[..., None] * width
    likely = probabilities.flatten()[bins + x[:, None, None, :]] * by_z[:, :, None, None] * shares[:, None]
    weights = shares * likely.sum((1, 2, 3))[:, None, None]
    starts = 4 * pad(valid[0].sum(0).cumsum(0), (1, 0))[:-1]
    maps = features[0].permute(0, 2, 3, 1).flatten(0, 2)
    bags = embedding_bag(pixels.flatten(), maps, starts, per_sample_weights=weights.flatten(), mode="sum")
    return bags[None]


def _lifting(shape: str, channels: int, points: Tensor) -> Iterator[Case]:
    coordinates, valid = view_coordinates(_rig(points.device), points, DEPTHS)
    features = torch.randn(6, channels, 32, 88, device=points.device)
    probabilities = torch.rand(1, 6, BINS, 32, 88, device=points.device).softmax(2).requires_grad_()
    plain = features.unflatten(0, (1, 6)).requires_grad_()
    last = features.contiguous(memory_format=torch.channels_last).unflatten(0, (1, 6)).requires_grad_()

    functions = {
        "": (ops.image_lift, last),
        "reference": (ops.image_lift_reference, plain),
        "torch": (_bags, last),
    }
    sides = {
        name: (function, (maps, probabilities, coordinates, valid))
        for name, (function, maps) in functions.items()
    }
    num_pairs, num_values = int(valid.sum()), len(points) * channels
    least = 4 * (num_values + features.numel() + probabilities.numel()) + 13 * valid.numel()
    num_bytes = least, 2 * least + 4 * num_values
    num_flops = 8 * num_pairs * channels, 26 * num_pairs * channels
    # Gradients by probabilities sum products of channels in float32.
    yield from both_passes("image_lift", shape, sides, num_bytes, num_flops, (1e-4, 1e-3))
