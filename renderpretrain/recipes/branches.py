"""From a sensor to a volume, with masking on the way: what UniPAD and NS-MAE are put together from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.checks import check_on_grid
from renderpretrain.data import Batch
from renderpretrain.encoders import (
    GridLevel,
    ImageEncoder,
    ImageLevel,
    ImageLevels,
    Level,
    PointEncoder,
    SparseTensor,
    Voxels,
    check_point_encoder,
    grid_levels,
    image_levels,
    needs_trial,
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
from renderpretrain.recipes.images import ImageNormalization
from renderpretrain.recipes.recipe import MaskedVoxels, Told
from renderpretrain.samplers import RayTargets, depth_pictures


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

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home, by the names that recipes give them."""
        return {"point_encoder": self.encoder} | ({} if self.neck is None else {"point_neck": self.neck})

    def voxels(self, batch: Batch) -> Voxels:
        """The voxels of all points; each holds their mean."""
        points = batch.require_points("a recipe with LiDAR", self.instead)
        return self.input(batch, points.valid, self.grid)

    def hide(self, batch: Batch) -> MaskedVoxels:
        """The voxels, and those that the policy hides, drawn from the batch's seeds."""
        return hide_blocks(self.voxels(batch), self.block, self.policy, ops.fold_in(batch.seeds, 1))

    def forward(
        self, batch: Batch, masked: MaskedVoxels | None = None, told: Told = None
    ) -> Float[Tensor, "B C Z Y X"]:
        """The volume of the voxels that are left, on ``out_grid``; hidden ones are dropped.

        Args:
            batch: The samples.
            masked: Their voxels, and which are hidden; by default all are seen.
            told: A list that is given all levels on the way.
        """
        if told is not None:
            told.extend(levels := self.levels(batch, masked))
            return levels[-1].features  # type: ignore[return-value]
        volume = self.encoder(self._left(batch, masked))
        check_on_grid("the encoder's volume", volume, self.out_grid.shape)
        return volume if self.neck is None else self.neck(volume)

    def levels(self, batch: Batch, masked: MaskedVoxels | None = None) -> list[GridLevel]:
        """All that encoder and neck say; the last one's features are the volume of a call."""
        *levels, last = grid_levels("point_encoder", self.encoder, self._left(batch, masked), self.grid)
        volume = last.features.dense() if isinstance(last.features, SparseTensor) else last.features
        check_on_grid("the encoder's last level", volume, self.out_grid.shape)
        if self.neck is None:
            return [*levels, replace(last, features=volume)]
        return [*levels, last, *grid_levels("point_neck", self.neck, volume, self.out_grid)]

    def _left(self, batch: Batch, masked: MaskedVoxels | None) -> SparseTensor:
        """The voxels that are not hidden."""
        return self.voxels(batch).to_sparse() if masked is None else masked.voxels.to_sparse(masked.hidden)


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

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home, by the names that recipes give them."""
        return {"image_backbone": self.backbone} | ({} if self.neck is None else {"image_neck": self.neck})

    def hide(self, batch: Batch) -> Bool[Tensor, "B N h w"]:
        """Hidden patches, drawn from the batch's seeds."""
        return draw_patches(batch, batch.require_views(self.instead).images, self.policy, self.patch_size)

    def forward(
        self,
        batch: Batch,
        hidden: Bool[Tensor, "B N h w"] | None = None,
        told: Told = None,
    ) -> Lifted:
        """The volume of what the cameras see.

        Args:
            batch: The samples.
            hidden: Patches that are not seen; by default all are.
            told: A list that is given all levels on the way. A backbone of one's own that has ``levels``, but
                no ``out_indices`` to say which of them a call gives, is asked twice for that.
        """
        if told is None:
            return self.lift(batch, self.maps(batch, hidden))
        told.extend(levels := self.levels(batch, hidden))
        return self.lift(batch, self.lifted(levels) or self.maps(batch, hidden))

    def lifted(self, levels: Sequence[Level]) -> list[Float[Tensor, "B N C _ _"]]:
        """Those maps of :meth:`levels` that are lifted, finest first; none where it cannot be told."""
        own = [level for level in levels if isinstance(level, ImageLevel)]
        if self.neck is not None:
            return [level.maps for level in own if level.name.startswith("image_neck/")]
        if not isinstance(self.backbone, ImageLevels):
            return [level.maps for level in own]
        chosen = getattr(self.backbone, "out_indices", ())
        return [level.maps for i, level in enumerate(own) if i in chosen]

    def lift(self, batch: Batch, levels: list[Float[Tensor, "B N C _ _"]]) -> Lifted:
        """The volume of the neck's maps."""
        views = batch.require_views(self.instead)
        if self.project is not None:
            levels = [self.project(level.flatten(0, 1)).unflatten(0, views.valid.shape) for level in levels]
        return Lifted(*self.lifter.lift(levels, views.cameras, views.valid))

    def maps(
        self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None = None
    ) -> list[Float[Tensor, "B N C _ _"]]:
        """The maps that are lifted, finest first."""
        images, mask = self._seen(batch, hidden)
        maps = self.backbone(images.flatten(0, 1), mask)
        maps = maps if self.neck is None else self.neck(maps)
        return [x.unflatten(0, images.shape[:2]) for x in maps]

    def levels(self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None = None) -> list[ImageLevel]:
        """All that backbone and neck say; the last ones are the maps that are lifted, finest first."""
        images, mask = self._seen(batch, hidden)
        return image_levels(self.backbone, self.neck, images, mask)

    def _seen(self, batch: Batch, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Normalised images ``(B, N, 3, H, W)``, and hidden cells ``(B * N, 1, h, w)``."""
        images = batch.require_views(self.instead).images
        return self.normalize(images), None if hidden is None else hidden.flatten(0, 1)[:, None]

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

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home, by the names that recipes give them."""
        return {"image_backbone": self.backbone, "image_neck": self.neck, "lifter": self.view_transform}

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
        told: Told = None,
    ) -> LiftedBEV:
        """What the cameras see, with hidden patches, and depth images with hidden pixels.

        Args:
            batch: The samples.
            patches: Which of the images are hidden, ``True`` = hidden; ``None`` for none.
            pixels: Which pixels of the depth images are hidden; ``None`` for none.
            told: A list that is given all levels on the way; the bird's-eye map holds for whole columns.
        """
        if told is None:
            return self._lift(batch, self.maps(batch, patches), pixels)
        told.extend(levels := self.image_levels(batch, patches))
        lifted = self._lift(batch, next(x.maps for x in levels if x.name == "image_neck/0"), pixels)
        told.append(GridLevel("lifter/0", lifted.bev[:, :, None], self.view_transform.out_grid))
        return lifted

    def _lift(self, batch: Batch, maps: Tensor, pixels: Tensor | None) -> LiftedBEV:
        """What the view transform makes of the neck's first map."""
        views, depth = batch.require_views("modality=lidar"), self._depth(batch)
        if depth is not None and pixels is not None:
            depth = hide_depth(depth, pixels)
        return self.view_transform(maps, depth, views.cameras, views.valid)

    def maps(self, batch: Batch, patches: Bool[Tensor, "B N h w"] | None) -> Float[Tensor, "B N C h w"]:
        """The map that the neck makes of the images."""
        images = self._seen(batch, patches)
        return self.neck(self.backbone(images.flatten(0, 1)))[0].unflatten(0, images.shape[:2])

    def image_levels(self, batch: Batch, patches: Tensor | None = None) -> list[ImageLevel]:
        """All that backbone and neck say."""
        return image_levels(self.backbone, self.neck, self._seen(batch, patches))

    def _seen(self, batch: Batch, patches: Tensor | None) -> Float[Tensor, "B N 3 H W"]:
        """Normalised images with tokens."""
        images = self.normalize(batch.require_views("modality=lidar").images)
        if patches is None:
            return images
        hidden = hide_patches(images.flatten(0, 1), patches.flatten(0, 1), self.token)
        return hidden.unflatten(0, images.shape[:2])


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
