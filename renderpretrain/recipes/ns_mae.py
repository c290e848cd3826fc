"""NS-MAE: hide most of what cameras and LiDAR saw, render pictures, depth and a view from above.

https://arxiv.org/abs/2311.13750, https://arxiv.org/abs/2405.17942, "Learning Shared RGB-D Fields: Unified
Self-supervised Pre-training for Label-efficient LiDAR-Camera 3D Perception", ICRA 2025.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.data import Batch
from renderpretrain.encoders import SparseEncoder
from renderpretrain.fields import OccupancyField, occupancy_densities
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.masking import RandomMask
from renderpretrain.recipes.branches import PointBranch
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.ns_mae_branches import FEATURE_STRIDE, CameraBranch, Lifted, camera_branch
from renderpretrain.recipes.ns_mae_config import NSMAEConfig, NSMAELossConfig
from renderpretrain.recipes.ns_mae_views import CameraViews, error_sums
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.ray_config import RayConfig
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.sensors import sensor_rays, set_momentum
from renderpretrain.renderers import Rendered, RenderedMap, VolumeRenderer, render_bev, render_frustum
from renderpretrain.samplers import Even, RayTargets, depth_pictures


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
    * Both depth terms are on, with weights that let them count (``ns_mae_config``). Released: switched off in
      the first step by a misplaced condition.
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
    * Mixed precision is bfloat16. No augmentation.

    Args:
        renderer: Whose field's grid is the densities'.
        lidar: The point branch, or ``None``; the columns of its ``out_grid`` are the grid's.
        camera: The camera branch, or ``None``.
        losses: Weights of the terms.
        rays: Which rays are rendered.
        calibration: Whether poses are refined; not by default.

    Raises:
        ValueError: If there is no branch, or the point branch has other columns than the grid.
    """

    config: NSMAEConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(
        self,
        renderer: VolumeRenderer,
        *,
        lidar: PointBranch | None = None,
        camera: CameraBranch | None = None,
        losses: NSMAELossConfig | None = None,
        rays: RayConfig | None = None,
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
        self.rays = RayConfig() if rays is None else rays
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.lidar = lidar
        self.camera = camera
        width = camera.view_transform.channels if camera else 0
        self.perspective_head = nn.Conv2d(width, 4, 1, bias=False) if camera else None
        # The slices of the point branch's volume are channels of its bird's-eye map.
        width += lidar.out_channels * lidar.out_grid.shape[0] if lidar else 0
        self.bev_head = nn.Conv2d(width, self.grid.shape[0], 3, padding=1)
        self.renderer = renderer

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        batch = self.calibration(batch)
        hidden = self._hide(batch)
        volume, lifted = self._encode(batch, hidden)
        terms = {}
        if lifted:
            views = self.camera_views(lifted, batch)
            terms["rgb"] = self.weights.rgb * views.rgb_loss()
            terms["depth"] = self.weights.depth * views.depth_loss()
        target, known = self.bev_targets(batch, hidden)
        error = losses.depth_l1(self.bev_map(volume).depth, target, known)
        terms["bev_depth"] = self.weights.bev_depth * error
        if self.weights.ray_depth:
            rays = self._targets(batch)
            depth = self.render(volume, rays.rays, ops.fork(batch.seeds, 3)).depth
            terms["ray_depth"] = self.weights.ray_depth * losses.depth_l1(depth, rays.depth, rays.hit)
        if lifted and self.calibration.refinement:
            depths = [lifted.probabilities], self._depth_range
            terms |= self.calibration.alignment(batch, self._targets(batch), *depths)
        return terms | self.calibration.prior()

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

    def _encode(self, batch: Batch, hidden: Hidden) -> tuple[Tensor, Lifted | None]:
        """The volume, and what the camera branch lifted on the way."""
        seen, lifted = self._from_above(batch, hidden)
        return self.bev_head(seen)[:, None], lifted

    def _from_above(self, batch: Batch, hidden: Hidden) -> tuple[Tensor, Lifted | None]:
        """The branches' maps of the ground side by side, and what the camera branch lifted on the way."""
        lifted = self.camera(batch, hidden.patches, hidden.pixels) if self.camera else None
        maps = () if lifted is None else (lifted.bev,)
        if self.lidar:
            seen = self.lidar(batch, hidden.voxels).flatten(1, 2)
            maps = (*maps, seen)
        return torch.cat(maps, 1), lifted

    def render(self, volume: Float[Tensor, "B 1 Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer(volume, rays, seeds)

    def bev_map(self, volume: Float[Tensor, "B 1 Z Y X"]) -> RenderedMap:
        """The view from above: metres below the top of the grid, of every column."""
        densities = occupancy_densities(volume[:, 0].float(), self.grid.voxel_size[2])
        return render_bev(densities, {}, self.grid)

    def perspective_maps(self, lifted: Lifted) -> RenderedMap:
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
        return colours.unflatten(0, views.valid.shape), depth * views.valid[..., None, None]

    def camera_views(self, lifted: Lifted, batch: Batch) -> CameraViews:
        """What the cameras' views are rendered as, beside what the sensors saw."""
        colours, depth = self.perspective_targets(batch)
        maps, (near, far) = self.perspective_maps(lifted), self._depth_range
        return CameraViews(
            depth=maps.depth.unflatten(0, depth.shape[:2]),
            rgb=maps.channels["rgb"].unflatten(0, depth.shape[:2]),
            target_depth=depth,
            target_rgb=colours,
            measured=(depth > near) & (depth < far),
            visible=batch.require_views("modality=lidar").valid[..., None, None].expand_as(depth),
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
        sums[2] = error_sums(self.bev_map(volume).depth, target, known)
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
        return sensor_rays(batch, self.grid, self.rays, num_rays)

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
        parts: dict[str, nn.Module] = {}
        if self.lidar:
            parts |= {"point_encoder": self.lidar.encoder}
        if self.camera:
            parts |= {
                "image_backbone": self.camera.backbone,
                "image_neck": self.camera.neck,
                "lifter": self.camera.view_transform,
            }
        return parts

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the sparse encoder's volume, trilinearly.

        Cameras alone: the image neck's map, see :func:`~renderpretrain.recipes.places.read_maps`.
        """
        if self.lidar:
            grid = self.lidar.out_grid
            return ops.grid_sample(self.lidar(batch), positions, grid.scale, grid.offset)
        views = self.calibration(batch).require_views("modality=lidar")
        return read_maps(self.image_features(batch), positions, views.cameras, views.valid)

    def bev_features(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """What :meth:`encoders` say of the grid's columns, nothing hidden: the cameras' map, then LiDAR's."""
        return self._from_above(self.calibration(batch), Hidden())[0]

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's map."""
        if self.camera is None:
            raise ValueError("modality: expected cameras for image features, got lidar")
        return self.camera.maps(batch, None)


def build(config: NSMAEConfig) -> NSMAE:
    """The published networks, as a configuration sizes them."""
    odd = any(side % FEATURE_STRIDE or side % config.image.patch_size for side in config.image_size)
    if odd and config.modality != "lidar":
        raise ValueError(
            f"image_size: expected sides divisible by {FEATURE_STRIDE} and by image.patch_size="
            f"{config.image.patch_size}, got {config.image_size}"
        )
    grid, render = density_grid(config), config.render
    lidar = None if config.modality == "camera" else _point_branch(config)
    camera = None if config.modality == "lidar" else camera_branch(config, grid)
    field = OccupancyField(grid, length=grid.voxel_size[2])
    recipe = NSMAE(
        VolumeRenderer(field, Even(grid, render.num_samples, near=render.near)),
        lidar=lidar,
        camera=camera,
        losses=config.losses,
        rays=render,
        calibration=config.calibration,
    )
    recipe.config = config
    return recipe


def density_grid(config: NSMAEConfig) -> VoxelGrid:
    """The rendered grid: columns where the sparse encoder's outputs are centred, or the configured grid."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    if config.modality == "camera":
        return grid
    fine = VoxelGrid(config.point_cloud_range, config.lidar.voxel_size)
    out = _sparse_encoder(config).output_grid(fine)
    if out.shape[1:] != grid.shape[1:]:
        raise ValueError(
            f"lidar.voxel_size, lidar.channels: expected an encoder output of {grid.shape[1:]} columns as "
            f"voxel_size says, got {out.shape[1:]}"
        )
    box = (*out.lower[:2], grid.lower[2], *out.upper[:2], grid.upper[2])
    return VoxelGrid(box, config.voxel_size)


def _sparse_encoder(config: NSMAEConfig) -> SparseEncoder:
    """BEVFusion's sparse encoder: all stages but the last halve all axes, the output halves z once more."""
    stages = len(config.lidar.channels)
    paddings = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
    return SparseEncoder(
        len(config.points),
        config.lidar.out_channels,
        channels=config.lidar.channels,
        strides=((2, 2, 2),) * (stages - 1),
        paddings=paddings[: stages - 1],
        out_geometry=((3, 1, 1), (2, 1, 1), 0),
    )


def _point_branch(config: NSMAEConfig) -> PointBranch:
    """Voxels that are hidden one by one, sparse encoder."""
    encoder = _sparse_encoder(config)
    set_momentum(encoder, config.lidar.batch_norm_momentum)
    return PointBranch(
        encoder,
        VoxelGrid(config.point_cloud_range, config.lidar.voxel_size),
        RandomMask(config.lidar.mask_ratio),
        columns=config.points,
        instead="use modality=camera",
    )
