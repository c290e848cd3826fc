"""Images to a bird's-eye view by attention, with a memory of the frame before."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.geometry import Cameras, VoxelGrid, invert_pose, transform
from renderpretrain.lifters.deformable import SpatialCrossAttention, TemporalSelfAttention
from renderpretrain.lifters.maps import check_maps
from renderpretrain.lifters.pillars import PillarViews, pillar_heights, project_pillars


@dataclass(frozen=True)
class PreviousBEV:
    """What the frame before saw.

    Attributes:
        volume: The lifter's output then, in that frame's world; detach it where time is not to be learned
            through.
        current_to_previous: From the present world to that one, metres.
        valid: Which samples have a frame before.
    """

    volume: Float[Tensor, "B C Z Y X"]
    current_to_previous: Float[Tensor, "B 4 4"]
    valid: Bool[Tensor, " B"]


@dataclass(frozen=True)
class BEVMemory:
    """What frames saw, and where from.

    Attributes:
        volume: The lifter's output.
        world_to_global: Poses of the worlds it is in, in their recordings.
        valid: Which samples have one.
    """

    volume: Float[Tensor, "B C Z Y X"]
    world_to_global: Float[Tensor, "B 4 4"]
    valid: Bool[Tensor, " B"]

    def over(self, older: "BEVMemory | None") -> "BEVMemory":
        """This memory, and an older one of the samples that do not have this one."""
        if older is None:
            return self
        choose = self.valid[:, None, None]
        return BEVMemory(
            torch.where(choose[..., None, None], self.volume, older.volume),
            torch.where(choose, self.world_to_global, older.world_to_global),
            older.valid | self.valid,
        )

    def seen_from(self, world_to_global: Float[Tensor, "B 4 4"]) -> PreviousBEV:
        """The memory with the way to it from the worlds of another moment, in float32."""
        with torch.autocast(self.volume.device.type, enabled=False):
            motion = invert_pose(self.world_to_global) @ world_to_global
        return PreviousBEV(self.volume, motion, self.valid)


def warp_bev(
    bev: Float[Tensor, "B C Y X"], current_to_previous: Float[Tensor, "B 4 4"], grid: VoxelGrid
) -> Float[Tensor, "B C Y X"]:
    """A map of the previous frame as the present one sees it: what stood still is where it is now.

    Every cell of the present map reads the previous one bilinearly where its centre was; zero outside. The
    motion is taken in the plane, at world height 0. Differentiable in the map.

    Args:
        bev: On the grid's columns, in the previous world.
        current_to_previous: The ego motion: where a point of the present world is in the previous one.
        grid: Of both maps.

    Differs from BEVFormer's code in: one bilinear read instead of a rotation to the nearest cell about the
    map's centre followed by shifted reference points.
    """
    _, y, x = grid.shape
    sizes = check_shape("bev", bev, "B C Y X", Y=y, X=x)
    check_shape("current_to_previous", current_to_previous, "B 4 4", B=sizes["B"])
    centers = grid.centers(bev.device)[0].reshape(-1, 3)
    centers = torch.cat([centers[:, :2], torch.zeros_like(centers[:, :1])], -1)
    there = transform(current_to_previous, centers)[..., :2].unflatten(1, (y, x))
    lower, upper = ops.constant(grid.lower[:2], there), ops.constant(grid.upper[:2], there)
    places = 2 * (there - lower) / (upper - lower) - 1
    with torch.autocast(bev.device.type, enabled=False):
        maps = bev.to(places.dtype)
        return nn.functional.grid_sample(maps, places, padding_mode="zeros", align_corners=False)


class FeedForward(nn.Module):
    """Two linear layers; keys as mmcv's ``FFN``."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden_channels), nn.ReLU())
        self.layers = nn.Sequential(first, nn.Linear(hidden_channels, channels))

    def forward(self, x: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        """What the layers add to ``x``."""
        return self.layers(x)


class BEVFormerLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward network; each with residual and norm.

    Keys as BEVFormer's layer: ``attentions.{0,1}``, ``norms.{0,1,2}``, ``ffns.0``.

    Args:
        temporal: Attention to the BEV maps.
        spatial: Attention to the cameras.
        channels: Width of the queries.
        hidden_channels: Width of the feed-forward network.
    """

    def __init__(
        self,
        temporal: TemporalSelfAttention,
        spatial: SpatialCrossAttention,
        channels: int,
        hidden_channels: int,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([temporal, spatial])
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.ffns = nn.ModuleList([FeedForward(channels, hidden_channels)])

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        maps: tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q C"]],
        size: tuple[int, int],
        levels: list[Float[Tensor, "B N C _ _"]],
        views: PillarViews,
    ) -> Float[Tensor, "B Q C"]:
        """The next layer's queries; only the first attention sees the position, as published."""
        temporal, spatial = self.attentions
        query = self.norms[0](query + temporal(query + position, maps, size))
        query = self.norms[1](query + spatial(query, levels, views))
        return self.norms[2](query + self.ffns[0](query))


class LearnedPositions(nn.Module):
    """A learned vector per column and per row, half of the channels each; keys as mmdet's.

    Args:
        channels: Width of both together.
        size: ``(Y, X)``.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(size[0], channels // 2)
        self.col_embed = nn.Embedding(size[1], channels // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self) -> Float[Tensor, "Q C"]:
        """One vector per cell in the order ``(y, x)``: its column's, then its row's."""
        rows, columns = self.row_embed.weight, self.col_embed.weight
        shape = (len(rows), len(columns), -1)
        both = [columns[None].expand(shape), rows[:, None].expand(shape)]
        return torch.cat(both, -1).flatten(0, 1)


class BEVEncoder(nn.Module):
    """The layers one after the other.

    Args:
        layers: The layers.
    """

    def __init__(self, layers: list[BEVFormerLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        history: tuple[Float[Tensor, "B Q C"], Bool[Tensor, " B"]],
        size: tuple[int, int],
        levels: list[Float[Tensor, "B N C _ _"]],
        views: PillarViews,
    ) -> Float[Tensor, "B Q C"]:
        """The queries after all layers.

        A sample with a previous map attends to it and to the first layer's queries, in every layer as in the
        published code; one without attends to the layer's own queries twice.

        Args:
            query: In the order of the cells ``(y, x)``. Differentiable.
            position: Their positional encoding. Differentiable.
            history: The previous map in the present frame, and which samples have one. Differentiable.
            size: ``(Y, X)``.
            levels: Feature maps, finest first. Differentiable.
            views: Where the cameras see the pillars.
        """
        previous, first, has = history[0], query, history[1][:, None, None]
        for layer in self.layers:
            maps = torch.where(has, previous, query), torch.where(has, first, query)
            query = layer(query, position, maps, size, levels, views)
        return query


class BEVTransformer(nn.Module):
    """The encoder, and what tells levels and cameras apart; keys as BEVFormer's ``PerceptionTransformer``.

    Args:
        encoder: The layers.
        channels: Width of the queries.
        num_levels: Feature maps per camera.
        num_cameras: Cameras.
    """

    def __init__(self, encoder: BEVEncoder, channels: int, *, num_levels: int, num_cameras: int) -> None:
        super().__init__()
        self.level_embeds = nn.Parameter(torch.randn(num_levels, channels))
        self.cams_embeds = nn.Parameter(torch.randn(num_cameras, channels))
        self.encoder = encoder

    def marked(self, levels: list[Float[Tensor, "B N C _ _"]]) -> list[Float[Tensor, "B N C _ _"]]:
        """Feature maps that know their level and their camera."""
        if len(levels) != len(self.level_embeds):
            raise ValueError(f"levels: expected {len(self.level_embeds)} feature maps, got {len(levels)}")
        for level in levels:
            check_shape("levels", level, "B N C h w", N=len(self.cams_embeds), C=self.cams_embeds.shape[1])
        marks = self.level_embeds[:, None] + self.cams_embeds
        return [level + mark[..., None, None] for level, mark in zip(levels, marks, strict=True)]


class BEVFormerLifter(nn.Module):
    """Lifting by attention: every column of a grid has a query that looks into the cameras that see it.

    Called like :class:`~renderpretrain.lifters.ViewLifter`, with the frame before where there is one.
    BEVFormer (https://arxiv.org/abs/2203.17270), as UniScene (https://arxiv.org/abs/2305.18829) uses it.
    Parameters have the names that they have below ``pts_bbox_head`` there, but for
    ``transformer.can_bus_mlp``, which is absent: the ego motion comes as a pose.

    Args:
        grid: The volume's grid. ``Z`` divides the channels: they are dealt out to the heights, lowest
            first within each of ``channels / Z``; one voxel high, the volume is the BEV map itself.
        channels: Width of feature maps and queries; even, and a multiple of ``num_heads``.
        num_layers: Layers.
        num_heads: Heads of both attentions.
        num_levels: Feature maps per camera.
        num_cameras: Cameras, in a fixed order; absent ones are not valid.
        num_heights: Reference points of a pillar.
        num_points: Reads per head and level, a multiple of the heights.
        hidden_channels: Width of the feed-forward network.
    """

    def __init__(  # noqa: PLR0913  the transformer's sizes are its configuration
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        num_layers: int = 6,
        num_heads: int = 8,
        num_levels: int = 4,
        num_cameras: int = 6,
        num_heights: int = 4,
        num_points: int = 8,
        hidden_channels: int = 512,
    ) -> None:
        super().__init__()
        z, y, x = grid.shape
        if channels % z or channels % 2:
            raise ValueError(f"channels: expected an even multiple of the grid's Z={z}, got {channels}")
        self.grid = grid
        self.num_cameras = num_cameras
        self.heights = pillar_heights(grid, num_heights)
        self.bev_embedding = nn.Embedding(y * x, channels)
        self.positional_encoding = LearnedPositions(channels, (y, x))
        sizes = {"num_heads": num_heads, "num_levels": num_levels, "num_points": num_points}
        layers = [
            BEVFormerLayer(
                TemporalSelfAttention(channels, num_heads=num_heads),
                SpatialCrossAttention(channels, **sizes),
                channels,
                hidden_channels,
            )
            for _ in range(num_layers)
        ]
        self.transformer = BEVTransformer(
            BEVEncoder(layers), channels, num_levels=num_levels, num_cameras=num_cameras
        )

    def forward(
        self,
        levels: list[Float[Tensor, "B N C _ _"]],
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
        previous: PreviousBEV | None = None,
    ) -> Float[Tensor, "B D Z Y X"]:
        """The volume. Differentiable in the maps and in the previous volume."""
        check_maps(levels, cameras, camera_valid, self.bev_embedding.embedding_dim)
        levels = self.transformer.marked(levels)
        batch, size = len(camera_valid), self.grid.shape[1:]
        query = self.bev_embedding.weight.expand(batch, -1, -1)
        position = self.positional_encoding().expand(batch, -1, -1)
        history = query, torch.zeros(batch, dtype=torch.bool, device=query.device)
        if previous is not None:
            sizes = check_shape("previous.volume", previous.volume, "B D Z Y X", B=batch)
            check_shape("previous.valid", previous.valid, "B", B=sizes["B"])
            bev = previous.volume.flatten(1, 2)
            warped = warp_bev(bev, previous.current_to_previous, self.grid)
            history = warped.flatten(2).mT, previous.valid
        views = project_pillars(cameras, camera_valid, self.grid, self.heights)
        bev = self.transformer.encoder(query, position, history, size, levels, views)
        return bev.mT.reshape(batch, -1, *self.grid.shape)
