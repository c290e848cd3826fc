"""From a sensor to a volume, with masking on the way: what UniPAD and NS-MAE are put together from."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.checks import check_on_grid
from renderpretrain.data import Batch
from renderpretrain.encoders import (
    TIMM,
    ImageEncoder,
    PointEncoder,
    Voxels,
    check_point_encoder,
    image_network,
    needs_trial,
    own_image_encoder,
)
from renderpretrain.geometry import VoxelGrid
from renderpretrain.lifters import (
    ConcatFusion,
    DepthLSS,
    LiftedBEV,
    ViewLifter,
    depth_log_likelihood,
    view_coordinates,
)
from renderpretrain.masking import (
    MaskPolicy,
    hidden_voxels,
    hide_depth,
    hide_patches,
    occupied_blocks,
    patch_candidates,
    voxel_candidates,
)
from renderpretrain.recipes.columns import SWEEPS, PointInput
from renderpretrain.recipes.recipe import MaskedVoxels
from renderpretrain.recipes.settings import (
    Count,
    Depths,
    Initial,
    Settings,
    Share,
    WeightsFile,
    Widths,
    unused,
)
from renderpretrain.samplers import RayTargets, depth_pictures


def _check_backbone(name: str) -> str:
    """A network that can be built by name."""
    if name not in ("convnext", "resnet") and not (name.startswith(TIMM) and name.removeprefix(TIMM)):
        raise PydanticCustomError("backbone", "expected convnext, resnet or timm:NAME")
    return name


Backbone = Annotated[str, AfterValidator(_check_backbone)]
"""``convnext``, ``resnet``, or ``timm:`` and what timm calls it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""


class ImageConfig(Settings):
    """Settings of an image network and its neck."""

    backbone: Backbone = "convnext"
    weights: WeightsFile = None
    """Pre-trained backbone: a .pth or .safetensors file with timm's or torchvision's keys."""
    depths: Depths = Field((1, 1, 2, 1), description="Blocks per stage.")
    widths: Widths = (32, 64, 96, 128)
    """Channels per stage; a ResNet takes the first."""
    bottleneck: bool = Field(False, description="ResNet with bottleneck blocks, as in ResNet-50.")
    drop_path: Share = 0.0
    layer_scale: Initial = Field(1.0, gt=0, description="Initial weight of ConvNeXt's residual branches.")
    frozen_stages: Count = Field(0, ge=0)
    """Stages that keep their weights; 0 trains all, the stem included."""
    first_level: Count = Field(1, ge=0, description="First stage the pyramid uses; timm: from 4 pixels on.")
    num_levels: Count = Field(1, ge=1, description="Levels of the pyramid, finest first.")


IMAGE_RULES = (
    unused("image.bottleneck", when={"image.backbone": "convnext"}),
    unused("image.drop_path image.layer_scale", when={"image.backbone": "resnet"}),
    unused(
        "depths widths bottleneck drop_path layer_scale frozen_stages",
        "image.",
        when={"image.backbone": TIMM},
    ),
)
"""What turns settings of :class:`ImageConfig` off."""


def image_backbone(
    config: ImageConfig, image_size: tuple[int, int], own: nn.Module | None = None
) -> ImageEncoder:
    """The network of a section with its weights, as ``encoders.image_network`` makes it, or one's own.

    Raises:
        ValueError: If one's own does not meet the contract, or the section's cannot be made.
    """
    if own is not None:
        return own_image_encoder(own, image_size)
    return image_network(
        config.backbone,
        depths=config.depths,
        widths=config.widths,
        first_level=config.first_level,
        bottleneck=config.bottleneck,
        drop_path=config.drop_path,
        layer_scale=config.layer_scale,
        frozen_stages=config.frozen_stages,
        weights=config.weights,
        image_size=image_size,
    )


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
        ValueError: If the encoder does not meet the contract, as its answer to a few voxels says.
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
        if needs_trial(encoder):
            check_point_encoder(encoder, len(columns), grid)
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
        return hide_blocks(self.voxels(batch), self.block, self.policy, ops.fold_in(batch.seeds, 1))

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


class BEVImageBranch(nn.Module):
    """Images to a bird's-eye map, as NS-MAE has it; :class:`ImageBranch` makes a volume.

    Patches are replaced by a learned token; then image network, pyramid, depth net, lift and splat.

    Args:
        backbone: From images, whose hidden patches hold the token, to maps, fine to coarse.
        neck: From these to maps of which the first, an eighth of the image's size, is lifted.
        view_transform: From that map, and depth images, to the bird's-eye map.
        mask: Which patches are hidden, ``(candidates, seeds) -> mask``; every image has its own mask.
        depth_mask: Which pixels of the depth images are hidden, likewise.
        patch_size: Pixels.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        view_transform: DepthLSS,
        *,
        mask: MaskPolicy,
        depth_mask: MaskPolicy,
        patch_size: int = 8,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.policy, self.depth_policy = mask, depth_mask
        self.token = nn.Parameter(torch.zeros(3, patch_size, patch_size))
        self.backbone = backbone
        self.neck = neck
        self.view_transform = view_transform
        self.normalize = ImageNormalization()

    def hide(self, batch: Batch) -> Bool[Tensor, "B N h w"]:
        """Hidden patches; every image of a sample has its own mask."""
        images = batch.require_views("modality=lidar").images
        return draw_patches(batch, images, self.policy, self.patch_size)

    def hide_depth(self, batch: Batch) -> Bool[Tensor, "B N H W"] | None:
        """Hidden pixels of the depth images, drawn among all those of a sample; ``None`` without any."""
        depth = self._depth(batch)
        return None if depth is None else self.depth_policy(depth > 0, ops.fold_in(batch.seeds, 2))

    def _depth(self, batch: Batch) -> Float[Tensor, "B N H W"] | None:
        """What the LiDAR, all sweeps of it, tells of the images' depth."""
        if self.view_transform.dtransform is None:
            return None
        views = batch.require_views("modality=lidar")
        return depth_pictures(batch.points.xyz, batch.points.valid, views.cameras)

    def forward(
        self,
        batch: Batch,
        patches: Bool[Tensor, "B N h w"] | None,
        pixels: Bool[Tensor, "B N H W"] | None,
    ) -> LiftedBEV:
        """What the cameras see, with hidden patches, and depth images with hidden pixels."""
        views, depth = batch.require_views("modality=lidar"), self._depth(batch)
        if depth is not None and pixels is not None:
            depth = hide_depth(depth, pixels)
        return self.view_transform(self.maps(batch, patches), depth, views.cameras, views.valid)

    def maps(self, batch: Batch, patches: Bool[Tensor, "B N h w"] | None) -> Float[Tensor, "B N C h w"]:
        """The map that the neck makes of the images."""
        seen = batch.require_views("modality=lidar").images
        images = self.normalize(seen).flatten(0, 1)
        if patches is not None:
            images = hide_patches(images, patches.flatten(0, 1), self.token)
        return self.neck(self.backbone(images))[0].unflatten(0, seen.shape[:2])


def joined_width(
    grid: VoxelGrid, camera: ImageBranch | None, lidar: PointBranch | None, fusion: ConcatFusion | None
) -> int:
    """Channels of the volume of both branches.

    Args:
        grid: Of the field that is rendered.
        camera: The camera branch, or ``None``.
        lidar: The point branch, or ``None``.
        fusion: What joins their volumes; ``None`` sums them.

    Raises:
        ValueError: If there is no branch, or one has another grid or width than fits.
    """
    widths = {}
    if camera:
        _check_grid("camera.lifter.grid", camera.lifter.grid, grid)
        widths["camera.lifter"] = camera.lifter.channels
    if lidar:
        _check_grid("lidar.out_grid", lidar.out_grid, grid)
        widths["lidar.out_channels"] = lidar.out_channels
    if not widths:
        raise ValueError("lidar, camera: expected at least one branch, got none")
    said = ", ".join(f"{name} {width}" for name, width in widths.items())
    if fusion is not None:
        if tuple(widths.values()) != fusion.in_channels:
            raise ValueError(f"fusion: expected volumes of {fusion.in_channels} channels, got {said}")
        return fusion.out_channels
    if len(set(widths.values())) > 1:
        raise ValueError(f"lidar, camera: expected volumes of one width, got {said}")
    return next(iter(widths.values()))


def _check_grid(name: str, own: VoxelGrid, grid: VoxelGrid) -> None:
    """Raise ``ValueError`` unless a branch's grid is the field's."""
    if own != grid:
        raise ValueError(
            f"{name}: expected the grid of renderer.field, {grid.shape} voxels of {grid.voxel_size} m "
            f"from {grid.lower}, got {own.shape} of {own.voxel_size} m from {own.lower}; make the field "
            f"with {name}"
        )
