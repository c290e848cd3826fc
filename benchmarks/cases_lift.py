"""Lifting images of a surround rig into UniPAD's volume: projection, and reading."""

import math
from collections.abc import Callable, Iterator

import torch
from measure import Case, Results, gradients
from torch import Tensor
from torch.nn.functional import grid_sample

from renderpretrain import Cameras, VoxelGrid, ops
from renderpretrain.lifters import view_coordinates

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


def _compacted(features: Tensor, probabilities: Tensor, coordinates: Tensor, valid: Tensor) -> Tensor:
    """The best plain-torch form: every camera reads only at the points it sees. Of one example."""
    total = features.new_zeros(coordinates.shape[2], features.shape[2])
    for n in range(features.shape[1]):
        (seen,) = valid[0, n].nonzero(as_tuple=True)
        uvd = coordinates[0, n, seen]
        values = grid_sample(features[:, n], uvd[None, None, :, :2], align_corners=False)[0, :, 0]
        likely = grid_sample(probabilities[:, n, None], uvd[None, None, None], align_corners=False).flatten()
        total = total.index_add(0, seen, (values * likely).mT)
    return total[None]


def _lifting(shape: str, channels: int, points: Tensor) -> Iterator[Case]:
    coordinates, valid = view_coordinates(_rig(points.device), points, DEPTHS)
    features = torch.randn(6, channels, 32, 88, device=points.device)
    probabilities = torch.rand(1, 6, BINS, 32, 88, device=points.device).softmax(2).requires_grad_()
    plain = features.unflatten(0, (1, 6)).requires_grad_()
    last = features.contiguous(memory_format=torch.channels_last).unflatten(0, (1, 6)).requires_grad_()

    def forward(function: Callable[..., Tensor], maps: Tensor) -> Callable[[], Results]:
        def run() -> Results:
            with torch.no_grad():
                return (function(maps, probabilities, coordinates, valid),)

        return run

    sides = {
        "": (ops.image_lift, last),
        "reference": (ops.image_lift_reference, plain),
        "torch": (_compacted, plain),
    }
    num_pairs, num_values = int(valid.sum()), len(points) * channels
    least = 4 * (num_values + features.numel() + probabilities.numel()) + 13 * valid.numel()
    forwards = {name: forward(*side) for name, side in sides.items()}
    yield Case("image_lift", "forward", shape, forwards.pop(""), forwards, least, 8 * num_pairs * channels)

    cotangent = torch.randn(1, len(points), channels, device=points.device)

    def both(function: Callable[..., Tensor], maps: Tensor) -> Callable[[], Results]:
        def run() -> Results:
            values = function(maps, probabilities, coordinates, valid)
            return gradients((values,), (maps, probabilities), (cotangent,))()

        return run

    runs = {name: both(*side) for name, side in sides.items()}
    twice = 2 * least + 4 * num_values
    # Gradients by probabilities sum products of channels in float32.
    yield Case(
        "image_lift",
        "forward+backward",
        shape,
        runs.pop(""),
        runs,
        twice,
        26 * num_pairs * channels,
        tolerance=1e-3,
    )
