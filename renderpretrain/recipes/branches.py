"""From a sensor to a volume, with masking on the way: what UniPAD and NS-MAE are put together from."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.checks import check_on_grid
from renderpretrain.data import Batch
from renderpretrain.encoders import ImageEncoder, PointEncoder, Voxels
from renderpretrain.geometry import VoxelGrid
from renderpretrain.lifters import ViewLifter, depth_log_likelihood, view_coordinates
from renderpretrain.masking import (
    MaskPolicy,
    hidden_voxels,
    occupied_blocks,
    patch_candidates,
    voxel_candidates,
)
from renderpretrain.recipes.columns import SWEEPS, PointInput
from renderpretrain.recipes.recipe import MaskedVoxels
from renderpretrain.samplers import RayTargets

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""


class ImageNormalization(nn.Module):
    """RGB in [0, 1] to what published image networks expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
        """Differentiable. On a GPU the channels come last in memory, as its convolutions want in bf16."""
        images = (images - self.mean) / self.std
        return channels_last(images) if images.is_cuda else images


def channels_last(images: Float[Tensor, "*batch C H W"]) -> Float[Tensor, "*batch C H W"]:
    """The same numbers in ``torch.channels_last`` memory, which every layer that follows keeps."""
    flat = images.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return flat.unflatten(0, images.shape[:-3])


def draw_patches(
    batch: Batch, images: Tensor, policy: MaskPolicy, patch_size: int
) -> Bool[Tensor, "B N h w"]:
    """Hidden patches; every image of a sample has its own mask."""
    count = images.shape[1]
    candidates = patch_candidates(images.flatten(0, 1), patch_size)
    return policy(candidates, ops.per_camera(batch.seeds, count)).unflatten(0, (batch.size, count))


def hide_blocks(
    voxels: Voxels, block: tuple[int, int, int] | None, policy: MaskPolicy, seeds: Int[Tensor, " B"]
) -> MaskedVoxels:
    """The voxels, and those in the blocks that a policy hides; only blocks with a voxel are candidates.

    Without a block every voxel is hidden for itself.
    """
    if block is None:
        candidates, places = voxel_candidates(voxels.coords, len(seeds))
        return MaskedVoxels(voxels, policy(candidates, seeds)[voxels.coords[:, 0].long(), places])
    z, y, x = (-(-n // b) for n, b in zip(voxels.grid.shape, block, strict=True))
    occupied = occupied_blocks(voxels.coords, block, (len(seeds), z, y, x))
    return MaskedVoxels(voxels, hidden_voxels(voxels.coords, block, policy(occupied, seeds)))


def set_momentum(part: nn.Module | None, momentum: float) -> None:
    """Set the running statistics' momentum of a part's batch norms."""
    for module in part.modules() if part else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


class PointBranch(nn.Module):
    """Voxels, of which some are hidden, through a point encoder to a volume.

    Args:
        encoder: A :class:`~renderpretrain.encoders.PointEncoder`, ours or yours.
        grid: The voxels it reads.
        mask: What is hidden, ``(candidates, seeds) -> mask``.
        block: Voxels ``(z, y, x)`` that are hidden together; ``None`` hides them one by one.
        columns: Columns of the points that the encoder reads, as means over voxels.
        neck: ``(B, C, Z, Y, X) -> (B, C', Z, Y, X)`` behind the encoder, with ``out_channels``; part of what
            is taken home.
        instead: What does without points, for the error message.

    Attributes:
        out_grid: Where the volume's values are centred: the grid that is rendered.
        out_channels: Width of the volume.

    Raises:
        ValueError: If the encoder does not meet the contract.
    """

    def __init__(  # noqa: PLR0913  the parts of the branch
        self,
        encoder: PointEncoder,
        grid: VoxelGrid,
        mask: MaskPolicy,
        *,
        block: tuple[int, int, int] | None = None,
        columns: tuple[str, ...] = SWEEPS,
        neck: nn.Module | None = None,
        instead: str = "use a recipe for cameras",
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module) or not isinstance(encoder, PointEncoder):
            raise ValueError(
                f"encoder: expected a module with out_channels and output_grid(grid), got "
                f"{type(encoder).__name__}; a dense network goes into VolumeEncoder, one on lists of points "
                "into FlatEncoder"
            )
        self.grid = grid
        self.input = PointInput(columns)
        self.policy, self.block, self.instead = mask, block, instead
        self.encoder = encoder
        self.neck = neck
        self.out_grid = encoder.output_grid(grid)
        self.out_channels = int(encoder.out_channels if neck is None else neck.out_channels)  # type: ignore[arg-type]

    def voxels(self, batch: Batch) -> Voxels:
        """The voxels of all points; each holds their mean."""
        points = batch.require_points("a recipe with LiDAR", self.instead)
        return self.input(batch, points.valid, self.grid)

    def hide(self, batch: Batch) -> MaskedVoxels:
        """The voxels, and those that the policy hides, drawn from the batch's seeds."""
        return hide_blocks(self.voxels(batch), self.block, self.policy, ops.fork(batch.seeds, 1))

    def forward(self, batch: Batch, masked: MaskedVoxels | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume of the voxels that are left, on ``out_grid``; hidden ones are dropped."""
        sparse = self.voxels(batch).to_sparse() if masked is None else masked.voxels.to_sparse(masked.hidden)
        volume = self.encoder(sparse)
        check_on_grid("the encoder's volume", volume, self.out_grid.shape)
        return volume if self.neck is None else self.neck(volume)


@dataclass(frozen=True)
class Lifted:
    """What the cameras saw.

    Attributes:
        volume: Lifted features.
        probabilities: Depth distributions of every level that was lifted.
    """

    volume: Float[Tensor, "B C Z Y X"]
    probabilities: list[Float[Tensor, "B N D _ _"]]


class ImageBranch(nn.Module):
    """Images, of which some patches are hidden, through a network to a volume.

    Args:
        backbone: An :class:`~renderpretrain.encoders.ImageEncoder`, ours or yours.
        lifter: From maps to a volume, weighted by predicted depth.
        mask: What is hidden, ``(candidates, seeds) -> mask``; every image of a sample has its own mask.
        patch_size: Pixels that are hidden together.
        neck: From the backbone's maps to those that are lifted; part of what is taken home.
        project: On every map before it is lifted; stays behind.
        instead: What does without images, for the error message.

    Raises:
        ValueError: If the backbone does not meet the contract.
    """

    def __init__(  # noqa: PLR0913  the parts of the branch
        self,
        backbone: ImageEncoder,
        lifter: ViewLifter,
        mask: MaskPolicy,
        *,
        patch_size: int = 32,
        neck: nn.Module | None = None,
        project: nn.Module | None = None,
        instead: str = "a recipe for points",
    ) -> None:
        super().__init__()
        if not isinstance(backbone, nn.Module) or not isinstance(backbone, ImageEncoder):
            raise ValueError(
                f"backbone: expected a module with channels, (images, hidden) -> maps, got "
                f"{type(backbone).__name__}; a network of your own goes into ImageMaps"
            )
        self.patch_size, self.policy, self.instead = patch_size, mask, instead
        self.backbone = backbone
        self.neck = neck
        self.project = project
        self.lifter = lifter
        self.normalize = ImageNormalization()

    def hide(self, batch: Batch) -> Bool[Tensor, "B N h w"]:
        """Hidden patches, drawn from the batch's seeds."""
        return draw_patches(batch, batch.require_views(self.instead).images, self.policy, self.patch_size)

    def forward(self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None = None) -> Lifted:
        """The volume of what the cameras see."""
        views = batch.require_views(self.instead)
        levels = self.maps(batch, hidden)
        if self.project is not None:
            levels = [self.project(level.flatten(0, 1)).unflatten(0, views.valid.shape) for level in levels]
        return Lifted(*self.lifter.lift(levels, views.cameras, views.valid))

    def maps(
        self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None = None
    ) -> list[Float[Tensor, "B N C _ _"]]:
        """The maps that are lifted, finest first."""
        images = batch.require_views(self.instead).images
        mask = None if hidden is None else hidden.flatten(0, 1)[:, None]
        levels = self.backbone(self.normalize(images).flatten(0, 1), mask)
        levels = levels if self.neck is None else self.neck(levels)
        return [level.unflatten(0, images.shape[:2]) for level in levels]

    def depth_loss(self, lifted: Lifted, batch: Batch, targets: RayTargets) -> Float[Tensor, ""]:
        """Negative log likelihood of measured depths under the predicted distributions."""
        cameras = batch.require_views(self.instead).cameras
        shape = (batch.size, cameras.shape[1], -1)
        coordinates, inside = view_coordinates(
            cameras, targets.ends.reshape(*shape, 3), self.lifter.depth_range
        )
        valid = targets.hit.reshape(shape) & inside
        terms = [
            losses.masked_mean(-depth_log_likelihood(probabilities, coordinates, valid), valid)
            for probabilities in lifted.probabilities
        ]
        return torch.stack(terms).mean()
