"""NS-MAE: hide most of what cameras and LiDAR saw, render pictures, depth and a view from above.

https://arxiv.org/abs/2311.13750, https://arxiv.org/abs/2405.17942, "Learning Shared RGB-D Fields: Unified
Self-supervised Pre-training for Label-efficient LiDAR-Camera 3D Perception", ICRA 2025. Its class, its
settings, how it is built from them, its numbers and where each comes from.

Lengths are metres throughout. The released code counts the bird's-eye depth in slices of 0.2 m; a weight per
metre here is five times as large as one per slice there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.data import Batch, Needs
from renderpretrain.encoders import ImageLevel, Level, PointEncoder, SparseEncoder, SwinTransformer, checking
from renderpretrain.encoders.image_weights import load_backbone
from renderpretrain.encoders.lss_fpn import LSSFPN
from renderpretrain.fields import OccupancyField, occupancy_densities
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import DepthLSS, LiftedBEV
from renderpretrain.masking import RandomMask
from renderpretrain.recipes import branches, sections, settings, sparse
from renderpretrain.recipes.augment import AugmentConfig, augment_listing
from renderpretrain.recipes.branches import BEVImageBranch, PointBranch
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.columns import MEANING, SWEEPS, Columns
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.recipe import Hidden, Told
from renderpretrain.recipes.terms import Step, further_terms
from renderpretrain.renderers import Rendered, RenderedMap, VolumeRenderer, render_bev, render_frustum
from renderpretrain.samplers import RayTargets, depth_pictures

FEATURE_STRIDE = 8
"""Pixels per cell of the lifted feature maps: those of the second Swin stage."""


class EncoderConfig(sparse.SparseConfig):
    """Settings of the voxels and of the sparse encoder."""

    out_channels: settings.Width = Field(32, gt=0, description="Width of the encoder's slices.")


class ImageConfig(settings.Settings):
    """Swin, pyramid, depth net, lift and splat."""

    weights: settings.WeightsFile = None
    """Pre-trained backbone with timm's keys: .pth or .safetensors; published: none."""
    depths: settings.Depths = Field((1, 1, 2, 1), description="Blocks per stage.")
    width: settings.Width = Field(32, gt=0, description="Channels of the first stage.")
    window: settings.Count = Field(7, gt=0)
    drop_path: settings.Share = 0.0
    neck_channels: settings.Width = 64
    channels: settings.Width = 32
    """Width of the lifted context and of the camera's BEV map."""
    depth_bins: settings.Count = Field(59, gt=0)
    depth_range: settings.Span = Field((0.75, 59.75), description="Outer edges of the bins.")
    bev_scale: settings.Count = Field(1, ge=1)
    """BEV cells are splatted this much finer, then strided."""


class ImageMaskConfig(sections.ImageMaskConfig):
    """Patches replaced by a token, pixels of depth images that are not given."""

    ratio: float = Field(0.5, ge=0, le=1, description="Share of the patches.")
    patch_size: settings.Count = Field(8, gt=0, description="Pixels.")
    depth_ratio: float = Field(0.5, ge=0, le=1)
    """Share of the depth pixels hidden from the depth net; fusion only."""


class SamplerConfig(sections.SamplerConfig):
    """Samples of a ray through the volume of densities, which knows no distances.

    Such rays are for evaluation, pictures and ``losses.ray_depth``; the published terms need none.
    """

    kind: sections.SamplerKind = "even"


class NSMAELossConfig(settings.Settings):
    """Weights, ours; published: rgb 1e4, depth 0.01, bev_depth 0.01 per slice of 0.2 m.

    With the published ones a color error of 0.03 counts 300 and a depth error of ten metres 0.1, and the
    released code then multiplies both depth terms by 1e-6 from the first step on. Here all start near 1.
    """

    rgb: float = Field(20.0, ge=0, description="Mean squared error of the perspective colours.")
    depth: float = Field(0.1, ge=0, description="Perspective depth, per metre.")
    bev_depth: float = Field(1.0, ge=0, description="Depth under the top of the grid, per metre.")
    ray_depth: float = Field(0.0, ge=0)
    """Depth of sensor rays through the density volume, per metre; not published."""
    balance: sections.BalanceName = "fixed"


class NSMAEConfig(settings.Settings):
    """Everything ``NSMAE`` is built from."""

    modality: Literal["fusion", "camera", "lidar"] = "fusion"
    point_cloud_range: settings.Box
    voxel_size: settings.VoxelSize = Field(description="BEV cells, and the slices of the density.")
    image_size: settings.ImageSize = Field((256, 704), description="Height and width images are resized to.")
    sweeps: settings.Count = Field(1, ge=1)
    """LiDAR sweeps merged into the input; targets are the key sweep."""
    points: Columns = Field(SWEEPS, description=MEANING)
    encoder: EncoderConfig = EncoderConfig()
    mask: sections.MaskConfig = sections.MaskConfig()
    image: ImageConfig = ImageConfig()
    image_mask: ImageMaskConfig = ImageMaskConfig()
    sampler: SamplerConfig = SamplerConfig()
    rays: sections.RayConfig = sections.RayConfig()
    losses: NSMAELossConfig = NSMAELossConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    augment: AugmentConfig = AugmentConfig()
    optimization: settings.OptimizationConfig = settings.OptimizationConfig()


class NSMAE(nn.Module):
    """NS-MAE for cameras and LiDAR, cameras alone, or LiDAR alone (``modality``); no labels are read.

    Cameras: patches are replaced by a learned one, depth is predicted with the help of a sparse depth image,
    most of which is hidden, and the frustum of depth bins is both rendered along the bins, to a small picture
    with depth, and splatted to a bird's-eye map. LiDAR: most voxels are dropped before a sparse encoder,
    whose slices are the channels of a bird's-eye map. Both maps together become densities on the columns of
    :attr:`grid`, rendered from above.

    What :meth:`encode` returns is that volume of densities, as logits of slices being opaque. It renders
    along any ray, which gives the usual depth scores and pictures for every modality; it holds no colour.
    Only the topmost surface of a column is ever supervised: what lies under a bridge or a crown is not known.

    Differs from the released code, on purpose:

    * The perspective head's channels are (component, bin). Released: written bin by bin and read component by
      component, so that densities come from the farthest quarter of the bins and colours mix bins.
    * Distances are the middles of the lifter's bins, and bins end where they end. Released: 1 to 80 m for
      bins of 1 to 60 m, and a last one of 1e10 m that stops whatever is left. Depth is divided by the
      opacity.
    * Densities are softplus, not ReLU, which leaves half the pixels without a gradient, and the head's
      density is multiplied by the depth probability after it, so that an unlikely bin is empty.
    * The depth image's mask is drawn on a copy; the target is the whole image. Released: the target shares
      memory with the masked input, and only what was given is asked for.
    * Both depth terms are on, with weights that let them count (:class:`NSMAELossConfig`). Released:
      switched off in the first step by a misplaced condition.
    * Masks are per sample (patches: per image), from the batch's seeds, on the device. Released: one image
      mask for the batch, voxels shuffled across samples, numpy and Python generators.
    * The token tiles: a hidden patch is the token. Released: it is stretched over the whole image.
    * Colours are means over a cell, its depth that of its nearest return, points are z-buffered and lie in
      front of the camera. Released: 1 pixel of 64, the last point written, points behind the camera too.
    * The view from above uses every return of a column. Released: 1 of 64 fine columns, and not the top
      slice.
    * A column counts where something in it was hidden; its target is the top of all its returns. Released:
      the top of the hidden ones, which is below the surface where that was visible.
    * Targets come from the key sweep. Released: ten sweeps, which smear what moves.
    * Voxels average all their points without a limit, and the points are not changed in place. Released: 10
      points, 120,000 voxels, and the camera branch shifts the cloud that the LiDAR branch then reads.
    * Columns are where the sparse encoder's outputs are centred, and cameras are splatted to the same ones.
      Grid and bins are not among the weights. Released: they are, and overwrite the downstream grid.
    * The head over the bird's-eye map has a bias: a column of which nothing is known is a typical one, not
      fog.
    * One sensor alone runs: without a LiDAR branch there is no depth image, and all columns with returns
      count.
    * Rays of the sensors can be rendered through the volume as a further term, ``ray_depth``; it is 0 in
      ``paper``.
    * Poses of badly calibrated cameras can be learned (``calibration``). Off in ``paper``.
    * Mixed precision is bfloat16. Where the world is mirrored its pictures are, too.

    Args:
        renderer: Whose field's grid is the densities'.
        lidar: The point branch, or ``None``; the columns of its ``out_grid`` are the grid's.
        camera: The camera branch, or ``None``.
        losses: Weights of the terms.
        balance: What learns to weigh them further; nothing by default.
        terms: What is added to the loss beside the method's own terms, unbalanced; see
            :class:`~renderpretrain.recipes.terms.Term`.
        rays: Which rays are rendered.
        calibration: Whether poses are refined; not by default.

    Raises:
        ValueError: If there is no branch, or the point branch has other columns than the grid.
    """

    config: NSMAEConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        renderer: VolumeRenderer[OccupancyField],
        *,
        lidar: PointBranch | None = None,
        camera: BEVImageBranch | None = None,
        losses: NSMAELossConfig | None = None,
        balance: sections.Balance | None = None,
        terms: Sequence[nn.Module] = (),
        rays: sections.RayConfig | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> None:
        super().__init__()
        field = renderer.field
        if not isinstance(field, OccupancyField):
            raise ValueError(f"renderer.field: expected an OccupancyField, got {type(field).__name__}")
        self.grid = field.grid
        if lidar is None and camera is None:
            raise ValueError("lidar, camera: expected at least one branch, got none")
        if lidar is not None and lidar.out_grid.shape[1:] != self.grid.shape[1:]:
            raise ValueError(
                f"lidar.out_grid: expected the columns of renderer.field, {self.grid.shape[1:]}, got "
                f"{lidar.out_grid.shape[1:]}"
            )
        self.weights = NSMAELossConfig() if losses is None else losses
        self.rays = sections.RayConfig() if rays is None else rays
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.lidar = lidar
        self.camera = camera
        width = camera.view_transform.channels if camera else 0
        self.perspective_head = nn.Conv2d(width, 4, 1, bias=False) if camera else None
        # The slices of the point branch's volume are channels of its bird's-eye map.
        width += lidar.out_channels * lidar.out_grid.shape[0] if lidar else 0
        self.bev_head = nn.Conv2d(width, self.grid.shape[0], 3, padding=1)
        self.renderer = renderer
        self.balance = balance
        self.terms = nn.ModuleList(terms)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        batch = self.calibration(batch)
        hidden, weights = self._hide(batch), self.weights
        told: Told = [] if self.terms else None
        volume, lifted = self._encode(batch, hidden, told)
        terms = {}
        if lifted:
            views = self.camera_views(lifted, batch)
            terms["rgb"] = weights.rgb * views.rgb_loss()
            terms["depth"] = weights.depth * views.depth_loss()
        target, known = self.bev_targets(batch, hidden)
        terms["bev_depth"] = weights.bev_depth * losses.depth_l1(self.bev_map(volume).depth, target, known)
        rays = seen = None
        if weights.ray_depth:
            rays = self._targets(batch)
            seen = sections.render_targets(self.renderer, volume, batch, rays, ops.fold_in(batch.seeds, 3))
            terms["ray_depth"] = weights.ray_depth * losses.depth_l1(seen.depth, rays.depth, rays.hit)
        shared = self.camera.view_transform if self.camera else self.bev_head
        terms = sections.balanced(self.balance, terms, list(shared.parameters()))
        if lifted and self.calibration.refinement:
            depths = [lifted.probabilities], self._depth_range
            terms |= self.calibration.alignment(batch, self._targets(batch), *depths)
        terms |= self.calibration.prior()
        step = Step(batch, hidden, told or [], volume, self.renderer, rays, seen)
        return terms | further_terms(self.terms, step, terms)

    def hide(self, batch: Batch) -> Hidden:
        """Draw what this step hides, from the batch's seeds; every sensor on its own."""
        return self._hide(self.calibration(batch))

    def _hide(self, batch: Batch) -> Hidden:
        """The same, of cameras that are refined already."""
        patches = self.camera.hide(batch) if self.camera else None
        pixels = self.camera.hide_depth(batch) if self.camera else None
        voxels = self.lidar.hide(batch) if self.lidar else None
        return Hidden(patches, voxels, pixels=pixels)

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B 1 Z Y X"]:
        """Logits of what stops a ray, on :attr:`grid`; with nothing hidden by default."""
        return self._encode(self.calibration(batch), hidden or Hidden())[0]

    def _encode(self, batch: Batch, hidden: Hidden, told: Told = None) -> tuple[Tensor, LiftedBEV | None]:
        """The volume, and what the camera branch lifted on the way; a list is given the levels."""
        seen, lifted = self._from_above(batch, hidden, told)
        return self.bev_head(seen)[:, None], lifted

    def _from_above(self, batch: Batch, hidden: Hidden, told: Told = None) -> tuple[Tensor, LiftedBEV | None]:
        """The branches' maps of the ground side by side, cameras' first, and what these lifted on the way."""
        points = [self.lidar(batch, hidden.voxels, told).flatten(1, 2)] if self.lidar else []
        lifted = self.camera(batch, hidden.patches, hidden.pixels, told) if self.camera else None
        return torch.cat([lifted.bev, *points] if lifted else points, 1), lifted

    def render(self, volume: Float[Tensor, "B 1 Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer.picture(volume, rays, seeds)

    def bev_map(self, volume: Float[Tensor, "B 1 Z Y X"]) -> RenderedMap:
        """The view from above: metres below the top of the grid, of every column."""
        densities = occupancy_densities(volume[:, 0].float(), self.grid.voxel_size[2])
        return render_bev(densities, {}, self.grid)

    def perspective_maps(self, lifted: LiftedBEV) -> RenderedMap:
        """Every camera's view at the size of its feature map: depth along the optical axis, and ``"rgb"``.

        The released head is a 1x1 convolution without bias on the product of depth distribution and context,
        a frustum of 80 channels. It is linear, so here it is applied to the context first, and what is
        multiplied by the distribution has four channels.
        """
        if self.perspective_head is None:
            raise ValueError("lifted: expected a recipe with cameras, got modality=lidar")
        low, high = self._depth_range
        raw = self.perspective_head(lifted.context.flatten(0, 1)).float()
        likely = lifted.probabilities.flatten(0, 1)
        colours = torch.sigmoid(raw[:, :3, None] * likely[:, None])
        densities = likely * occupancy_densities(raw[:, 3:], (high - low) / likely.shape[1])
        return render_frustum(densities, {"rgb": colours}, (low, high))

    def perspective_targets(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "B N 3 h w"], Float[Tensor, "B N h w"]]:
        """Truth of :meth:`perspective_maps`: mean colours, and the nearest return of a cell, or 0."""
        views = batch.require_views("modality=lidar")
        height, width = (side // FEATURE_STRIDE for side in views.images.shape[-2:])
        colours = nn.functional.avg_pool2d(views.images.flatten(0, 1), FEATURE_STRIDE)
        cameras = views.cameras.resize((height, width))
        depth = depth_pictures(batch.points.xyz, batch.points.key, cameras)
        return colours.unflatten(0, views.valid.shape), depth * views.seen((height, width))

    def camera_views(self, lifted: LiftedBEV, batch: Batch) -> losses.CameraViews:
        """What the cameras' views are rendered as, beside what the sensors saw."""
        colours, depth = self.perspective_targets(batch)
        maps, (near, far) = self.perspective_maps(lifted), self._depth_range
        return losses.CameraViews(
            depth=maps.depth.unflatten(0, depth.shape[:2]),
            rgb=maps.channels["rgb"].unflatten(0, depth.shape[:2]),
            target_depth=depth,
            target_rgb=colours,
            measured=(depth > near) & (depth < far),
            visible=batch.require_views("modality=lidar").seen((depth.shape[2], depth.shape[3])),
        )

    score_names = ("view_abs_rel", "view_colour_mse", "bev_abs_error")

    @torch.no_grad()
    def score_sums(self, batch: Batch, volume: Float[Tensor, "B 1 Z Y X"] | None) -> Float[Tensor, "3 2"]:
        """Errors of what the method renders in training, here from whole inputs: see :attr:`score_names`.

        ``view_abs_rel``: the cameras' depth, ``|d - d*| / d*``. ``view_colour_mse``: the cameras' colour.
        ``bev_abs_error``: the view from above, metres, over columns with a return.

        Args:
            batch: Samples.
            volume: What :meth:`encode` made of them; ``None`` has no scores.
        """
        sums = torch.zeros(3, 2, dtype=torch.float64, device=batch.device)
        if volume is None:
            return sums
        batch = self.calibration(batch)
        target, known = self.bev_targets(batch, Hidden())
        sums[2] = losses.error_sums(self.bev_map(volume).depth, target, known)
        _, lifted = self._encode(batch, Hidden())
        if lifted:
            sums[:2] = self.camera_views(lifted, batch).error_sums()
        return sums

    def bev_targets(
        self, batch: Batch, hidden: Hidden
    ) -> tuple[Float[Tensor, "B Y X"], Bool[Tensor, "B Y X"]]:
        """Depth of the topmost return in every column, and which columns count: those with hidden points."""
        points, returns = batch.points.xyz, batch.points.key
        target, known = losses.top_surface(self.grid.occupied(points, returns), self.grid.voxel_size[2])
        masked = hidden.points
        if masked is not None:
            known = self.grid.occupied(points, returns & masked).any(1)
        return target, known

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera, or per sweep where there are no cameras; the configuration's number by
                default.
        """
        return self._targets(self.calibration(batch), num_rays)

    def _targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """The same, of cameras that are refined already."""
        return sections.sensor_rays(batch, self.grid, self.rays, num_rays)

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be."""
        return self.calibration(batch)

    def surface_field(self) -> OccupancyField:
        """The field that is rendered."""
        return self.renderer.field

    @property
    def _depth_range(self) -> tuple[float, float]:
        """Nearest and farthest depth that cameras are lifted to, metres."""
        if self.camera is None:
            raise ValueError("lifted: expected a recipe with cameras, got modality=lidar")
        return self.camera.view_transform.depth_range

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        parts = self.lidar.encoders() if self.lidar else {}
        return parts | (self.camera.encoders() if self.camera else {})

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that :meth:`encoders` say; with nothing hidden by default. The lifter's is the cameras' map."""
        told: list[Level] = []
        self._from_above(self.calibration(batch), hidden or Hidden(), told)
        return told

    def image_levels(self, batch: Batch) -> list[ImageLevel]:
        """Those of :meth:`levels` that are on images, nothing hidden."""
        return self.camera.image_levels(batch) if self.camera else []

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the sparse encoder's volume, trilinearly.

        Cameras alone: the image neck's map, see :func:`~renderpretrain.recipes.places.read_maps`.
        """
        if self.lidar:
            grid = self.lidar.out_grid
            return grid.read(self.lidar(batch), positions)
        views = self.calibration(batch).require_views("modality=lidar")
        return read_maps(self.image_features(batch), positions, views)

    def bev_features(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """What :meth:`encoders` say of the grid's columns, nothing hidden: the cameras' map, then LiDAR's."""
        return self._from_above(self.calibration(batch), Hidden())[0]

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's map."""
        if self.camera is None:
            raise ValueError("modality: expected cameras for image features, got lidar")
        return self.camera.maps(batch, None)


def build(
    config: NSMAEConfig, *, encoder: nn.Module | None = None, image_backbone: nn.Module | None = None
) -> NSMAE:
    """The published networks, as a configuration sizes them, or encoders of yours in their places.

    Args:
        config: The settings.
        encoder: A :class:`~renderpretrain.encoders.PointEncoder` that makes volumes of as many columns as
            ``voxel_size`` says.
        image_backbone: An :class:`~renderpretrain.encoders.ImageEncoder`.

    Raises:
        ValueError: If an encoder of yours does not answer to a few voxels, or to an image, as it has to.
    """
    checking.check_sensors(config.modality, encoder, image_backbone)
    patch, cameras = config.image_mask.patch_size, config.modality != "lidar"
    if cameras and any(side % FEATURE_STRIDE or side % patch for side in config.image_size):
        raise ValueError(
            f"image_size: expected sides divisible by {FEATURE_STRIDE} and by image_mask.patch_size="
            f"{patch}, got {config.image_size}"
        )
    grid, weights = density_grid(config, encoder), config.losses
    lidar = None if config.modality == "camera" else _point_branch(config, encoder)
    camera = _camera_branch(config, grid, image_backbone) if cameras else None
    field = OccupancyField(grid, length=grid.voxel_size[2])
    terms = [*(("rgb", "depth") if cameras else ()), "bev_depth", "ray_depth"]
    recipe = NSMAE(
        VolumeRenderer(field, sections.build_sampler(config.sampler, field, grid)),
        lidar=lidar,
        camera=camera,
        losses=weights,
        balance=sections.build_balance(weights.balance, [term for term in terms if getattr(weights, term)]),
        rays=config.rays,
        calibration=config.calibration,
    )
    recipe.config = config
    return recipe


def density_grid(config: NSMAEConfig, encoder: nn.Module | None = None) -> VoxelGrid:
    """The rendered grid: columns where the sparse encoder's outputs are centred, or the configured grid."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    if config.modality == "camera":
        return grid
    network = _sparse_encoder(config) if encoder is None else checking.own_point_encoder(encoder)
    out = sparse.sparse_grid(config.encoder, network, grid, axes=2)
    box = (*out.lower[:2], grid.lower[2], *out.upper[:2], grid.upper[2])
    return VoxelGrid(box, config.voxel_size)


def _sparse_encoder(config: NSMAEConfig) -> SparseEncoder:
    """BEVFusion's sparse encoder: its output halves z once more."""
    part, down = config.encoder, ((3, 1, 1), (2, 1, 1), 0)
    return sparse.sparse_encoder(part, len(config.points), part.out_channels, out_geometry=down)


def _point_branch(config: NSMAEConfig, own: nn.Module | None) -> PointBranch:
    """Voxels of which some are hidden, sparse encoder or one's own."""
    encoder: PointEncoder
    if own is None:
        encoder = ours = _sparse_encoder(config)
        branches.set_momentum(ours, config.encoder.batch_norm_momentum)
    else:
        encoder = checking.own_point_encoder(own)
    return PointBranch(
        encoder,
        VoxelGrid(config.point_cloud_range, config.encoder.voxel_size),
        RandomMask(config.mask.ratio),
        block=config.mask.block,
        columns=config.points,
        instead="use modality=camera",
    )


def _camera_branch(config: NSMAEConfig, grid: VoxelGrid, own: nn.Module | None) -> BEVImageBranch:
    """Swin or one's own network, BEVFusion's pyramid and its depth transform."""
    image, mask, patch = config.image, config.image_mask, config.image_mask.patch_size
    backbone = _swin(image) if own is None else own
    channels = checking.own_image_encoder(backbone, config.image_size).channels
    if len(channels) < 2:
        raise ValueError(
            "image_backbone: expected at least two maps, fine to coarse, for NS-MAE's neck to join, got one "
            f"of {channels[0]} channels"
        )
    neck = LSSFPN(channels, image.neck_channels)
    lift = DepthLSS(
        image.neck_channels,
        image.channels,
        grid,
        bins=image.depth_bins,
        depth_range=image.depth_range,
        bev_scale=image.bev_scale,
        depth_images=config.modality == "fusion",
    )
    patches, pixels = RandomMask(mask.ratio), RandomMask(mask.depth_ratio)
    return BEVImageBranch(backbone, neck, lift, mask=patches, depth_mask=pixels, patch_size=patch)


def _swin(image: ImageConfig) -> SwinTransformer:
    """The published image network, with its weights."""
    outputs = range(1, len(image.depths))
    backbone = SwinTransformer(
        image.depths, image.width, window=image.window, drop_path=image.drop_path, out_indices=outputs
    )
    if image.weights is not None:
        load_backbone(backbone, Path(image.weights))
    return backbone


def needs(config: NSMAEConfig) -> Needs:
    """What it cannot do without; looked up before anything is read."""
    return Needs(
        images=config.modality != "lidar",
        points=config.modality != "camera",
        most_cameras=config.calibration.places,
        ways={"images": "modality=lidar", "points": "modality=camera"},
    )


CODE = "Unified-Pretrain-AD, d2963d1; ns_mae.yaml in configs/nuscenes/det/pretrain"

_CHANGES = "turn turned scale shift mirror_x mirror_y zoom mirror_images turn_images"

LISTING = settings.CALIBRATION | settings.listed(
    {
        "code ns_mae.yaml": "modality",
        "code ns_mae.yaml:3-4": "point_cloud_range encoder.voxel_size",
        "code ns_mae.yaml:3-4, encoder's stride of 8 in the plane": "voxel_size",
        "code ns_mae.yaml:2": "image_size",
        "code ns_mae.yaml:17-24": "sweeps points",
        "code ns_mae.yaml:250": "mask.ratio mask.block",
        "code ns_mae.yaml:233-248": "encoder.channels encoder.out_channels",
        "code masked_sparse_encoder_rend.py:78-102": "encoder.batch_norm_momentum",
        "code ns_mae.yaml:181-196": "image.weights image.depths image.width image.window image.drop_path",
        "code generalized_lss.py:81-103": "image.neck_channels",
        "code depth_lss_ptr.py:52-60": "image.channels",
        "code ns_mae.py:36-37": "image_mask.ratio image_mask.patch_size",
        "code ns_mae.yaml:223": "image_mask.depth_ratio",
        "code vtransforms/base.py:54-77": "image.depth_bins image.depth_range",
        "code depth_lss_ptr.py:61-86": "image.bev_scale",
        "ours": (
            "sampler.kind sampler.near sampler.num_samples rays.near_radius rays.far_radius rays.stride"
            " rays.sky losses.ray_depth losses.balance"
        ),
        "ours (code: 10000, ns_mae.yaml:170)": "losses.rgb",
        "ours (code: 0.01, ns_mae.yaml:172)": "losses.depth",
        "ours (code: 0.01 per 0.2 m, ns_mae.yaml:171)": "losses.bev_depth",
        "code docs/TRAINING.md:8, 50 epochs on 8 GPUs": "optimization.steps optimization.batch_size",
    }
)

LISTING |= settings.listed(
    {
        "code ns_mae.yaml:298-317": "optimizer lr weight_decay schedule clip_norm warmup_steps",
        "code ns_mae.yaml:298-317, mmcv's defaults": settings.CYCLE,
        "ours (code: fp16, configs/default.yaml:20-22)": "precision",
        "ours": f"{settings.OURS} lr_multipliers",
    },
    "optimization.",
)

UNUSED = (
    settings.UNREFINED,
    *settings.UNSCHEDULED,
    *sections.SAMPLER_RULES,
    settings.unused(" ".join(ImageConfig.model_fields), "image.", when={"modality": "lidar"}),
    settings.unused(" ".join(ImageMaskConfig.model_fields), "image_mask.", when={"modality": "lidar"}),
    settings.unused("losses.rgb losses.depth calibration.alignment", when={"modality": "lidar"}),
    settings.unused(" ".join(EncoderConfig.model_fields), "encoder.", when={"modality": "camera"}),
    settings.unused("mask.ratio mask.block points image_mask.depth_ratio", when={"modality": "camera"}),
    *(settings.unused("rays.per_sweep", when={"modality": sensors}) for sensors in ("camera", "fusion")),
    settings.unused(
        "rays.per_view rays.per_sweep", when={"losses.ray_depth": 0, "calibration.refine": False}
    ),
)

SOURCES = settings.Sources(CODE, LISTING | augment_listing({"code default.yaml:19-29": _CHANGES}), UNUSED)


_ZOOM = (0.38 * 1600 / 704, 0.55 * 1600 / 704)
_WORLD = AugmentConfig(turn=45.0, scale=(0.9, 1.1), shift=0.5, mirror_x=0.5, mirror_y=0.5)
CHANGES = _WORLD.model_copy(update={"zoom": _ZOOM, "mirror_images": 0.5, "turn_images": 5.4})
"""Released: the world, and windows of 704 pixels of pictures of 1600 that are zoomed and turned."""


def _paper() -> NSMAEConfig:
    """The released configuration: 50 epochs, two samples on each of 8 GPUs, ten sweeps."""
    return NSMAEConfig(
        point_cloud_range=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0),
        voxel_size=(0.6, 0.6, 0.2),
        image_size=(256, 704),
        sweeps=10,
        encoder=EncoderConfig(
            voxel_size=(0.075, 0.075, 0.2),
            channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
            out_channels=128,
            batch_norm_momentum=0.01,
        ),
        mask=sections.MaskConfig(ratio=0.9),
        image=ImageConfig(
            depths=(2, 2, 6, 2),
            width=96,
            window=7,
            drop_path=0.2,
            neck_channels=256,
            channels=80,
            depth_bins=118,
            depth_range=(0.75, 59.75),
            bev_scale=2,
        ),
        image_mask=ImageMaskConfig(ratio=0.5, patch_size=8, depth_ratio=0.9),
        sampler=SamplerConfig(num_samples=192),
        augment=CHANGES,
        optimization=settings.OptimizationConfig(
            steps=50 * settings.NUSCENES_SAMPLES // 16,
            batch_size=2,
            lr=1e-4,
            schedule="cyclic",
            clip_norm=35,
            precision="bf16",
        ),
    )


def _tiny() -> NSMAEConfig:
    """Minutes on two cores: small images, coarser cells, narrow networks.

    Half of the voxels and depth pixels are hidden instead of nine tenths: the encoder is scored on whole
    sweeps, and has no epochs to get used to sparser ones. The view from above does not mind thin fog, which a
    ray along the street meets for fifty metres, and a few hundred steps do not clear it: ``ray_depth``, which
    the published method does not have, is on.
    """
    return NSMAEConfig(
        point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 4.8),
        voxel_size=(0.8, 0.8, 0.4),
        image_size=(128, 224),
        encoder=EncoderConfig(voxel_size=(0.4, 0.4, 0.4)),
        mask=sections.MaskConfig(ratio=0.5),
        sampler=SamplerConfig(num_samples=96),
        rays=sections.RayConfig(per_view=128, per_sweep=768),
        losses=NSMAELossConfig(ray_depth=0.3),
        optimization=settings.tiny_optimization(2e-3),
    )


INDOOR = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.1),
    "encoder": {"voxel_size": (0.05, 0.05, 0.1)},
    "image": {"depth_range": (0.0, 8.0)},
    "sampler": {"near": 0.1},
    "rays": {"near_radius": 0.0},
}
"""What a room changes in the ``tiny`` preset: the range of the built-in rooms and a tenth of the cells."""

PRESETS: dict[str, NSMAEConfig] = {"tiny": _tiny(), "paper": _paper()}
"""Configurations by name."""

RENAMED = (
    settings.moved("lidar", "encoder", "voxel_size channels out_channels batch_norm_momentum")
    | settings.moved("lidar", "mask", "mask_ratio:ratio")
    | settings.moved("image", "image_mask", "mask_ratio:ratio patch_size depth_mask_ratio:depth_ratio")
    | settings.moved("render", "sampler", "near num_samples")
    | settings.moved("render", "rays", "rays_per_camera:per_view rays_per_sweep:per_sweep")
    | settings.moved("render", "rays", "near_radius far_radius stride sky")
)
"""Today's names of settings by those that were saved before."""
