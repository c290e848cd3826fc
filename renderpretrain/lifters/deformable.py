"""Deformable attention: every query reads feature maps at a few points that it chooses itself.

Plain PyTorch on ``torch.nn.functional.grid_sample``. Places are in [0, 1] from edge to edge of a map. The
modules return what attention adds to a query; the residual is the caller's.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from renderpretrain import ops
from renderpretrain.checks import check_alike, check_shape
from renderpretrain.lifters.pillars import PillarViews


def deformable_attention(
    levels: list[Float[Tensor, "B C _ _"]],
    locations: Float[Tensor, "B Q H L P 2"],
    weights: Float[Tensor, "B Q H L P"],
) -> Float[Tensor, "B Q C"]:
    r"""Weighted sums of bilinear reads, in float32 (or float64) whatever the autocast state.

    .. math:: y_{q,h} = \sum_{l,p} w_{q,h,l,p}\; v_{l,h}(x_{q,h,l,p})

    Deformable DETR (https://arxiv.org/abs/2010.04159), equation 3, without its linear maps. The reads are not
    kept for the gradient but done again: they are most of a transformer's memory and little of its time.

    Args:
        levels: ``L`` maps whose channels are ``H`` heads one after the other; zero outside. Differentiable.
        locations: ``(u, v)`` of the reads, 0 at the first edge of a map and 1 at the last. Differentiable.
        weights: Of the reads. Differentiable.
    """
    sizes = check_shape("locations", locations, "B Q H L P 2")
    check_shape("weights", weights, "B Q H L P", **sizes)
    if len(levels) != sizes["L"]:
        raise ValueError(f"levels: expected {sizes['L']} like locations, got {len(levels)}")
    sums = []
    with torch.autocast(locations.device.type, enabled=False):
        for level, maps in enumerate(levels):
            maps = maps.to(locations.dtype).unflatten(1, (sizes["H"], -1)).flatten(0, 1)
            places = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
            share = weights[:, :, :, level].to(locations.dtype).transpose(1, 2).flatten(0, 1)
            sums.append(
                checkpoint(
                    _weighted_reads, maps, places, share, use_reentrant=False, preserve_rng_state=False
                )
            )
    total = sum(sums[1:], sums[0])
    return total.unflatten(0, (sizes["B"], sizes["H"])).flatten(1, 2).mT


def _weighted_reads(maps: Tensor, places: Tensor, share: Tensor) -> Tensor:
    """Sums over the reads of one level: ``(B * H, c, Q)``."""
    reads = nn.functional.grid_sample(maps, places, padding_mode="zeros", align_corners=False)
    return (reads * share[:, None]).sum(-1)


def _star(num_heads: int, rays: int, num_points: int) -> Tensor:
    """Offsets ``(H * rays * P * 2)`` in cells: a direction per head, ``p + 1`` cells away along it."""
    angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1.0, num_points + 1)
    star = directions[:, None, None] * steps[:, None]
    return star.expand(-1, rays, -1, -1).flatten()


def _initialize(offsets: nn.Linear, weights: nn.Linear, star: Tensor, *projections: nn.Linear) -> None:
    """Deformable DETR's start: equal weights, offsets that do not depend on the query."""
    nn.init.zeros_(offsets.weight)
    with torch.no_grad():
        offsets.bias.copy_(star)
    nn.init.zeros_(weights.weight)
    nn.init.zeros_(weights.bias)
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight)
        nn.init.zeros_(projection.bias)


def _check_heads(channels: int, num_heads: int) -> None:
    if channels % num_heads:
        raise ValueError(f"num_heads: expected a divisor of channels={channels}, got {num_heads}")


def _project(projection: nn.Linear, maps: Tensor) -> Tensor:
    """A linear map of the channels of ``(B, C, h, w)``."""
    return nn.functional.conv2d(maps, projection.weight[:, :, None, None], projection.bias)


class PillarAttention(nn.Module):
    """Attention of pillars to one camera's maps: BEVFormer's ``MSDeformableAttention3D``, key by key.

    A query has one reference point per height; its ``p``-th read starts at the reference point of height
    ``p`` modulo their number.

    Args:
        channels: Width of queries and maps.
        num_heads: Heads.
        num_levels: Feature maps per camera.
        num_points: Reads per head and level, a multiple of the heights.
    """

    def __init__(self, channels: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        _check_heads(channels, num_heads)
        self.shape = (num_heads, num_levels, num_points)
        reads = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, 2 * reads)
        self.attention_weights = nn.Linear(channels, reads)
        self.value_proj = nn.Linear(channels, channels)
        star = _star(num_heads, num_levels, num_points)
        _initialize(self.sampling_offsets, self.attention_weights, star, self.value_proj)

    def forward(
        self,
        query: Float[Tensor, "V K C"],
        levels: list[Float[Tensor, "V C _ _"]],
        points: Float[Tensor, "V K A 2"],
    ) -> Float[Tensor, "V K C"]:
        """What the queries of ``V`` cameras read around their reference points."""
        heads, num_levels, num_points = self.shape
        heights = points.shape[-2]
        if num_points % heights:
            raise ValueError(f"points: expected heights that divide num_points={num_points}, got {heights}")
        if len(levels) != num_levels:
            raise ValueError(f"levels: expected {num_levels}, got {len(levels)}")
        sizes = ops.constant([level.shape[:-3:-1] for level in levels], points)
        offsets = self.sampling_offsets(query).to(points.dtype)
        offsets = offsets.unflatten(-1, (heads, num_levels, num_points, 2)) / sizes[:, None]
        reads = points.repeat(1, 1, num_points // heights, 1)[:, :, None, None]
        weights = self.attention_weights(query).to(points.dtype).unflatten(-1, (heads, -1)).softmax(-1)
        values = [_project(self.value_proj, level) for level in levels]
        return deformable_attention(values, reads + offsets, weights.unflatten(-1, (num_levels, num_points)))


class SpatialCrossAttention(nn.Module):
    """BEV queries look into all cameras that see their pillar, and average what they find there.

    BEVFormer (https://arxiv.org/abs/2203.17270), section 3.3; keys as its ``SpatialCrossAttention``.

    Args:
        channels: Width of queries and maps.
        num_heads: Heads.
        num_levels: Feature maps per camera.
        num_points: Reads per head and level, a multiple of the heights of a pillar.

    Differs from the released code in: every batch element has its own visible queries (the code packs those
    of the first), and there is no drop-out.
    """

    def __init__(
        self, channels: int, *, num_heads: int = 8, num_levels: int = 4, num_points: int = 8
    ) -> None:
        super().__init__()
        self.deformable_attention = PillarAttention(
            channels, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.output_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)

    def forward(
        self, query: Float[Tensor, "B Q C"], levels: list[Float[Tensor, "B N C _ _"]], views: PillarViews
    ) -> Float[Tensor, "B Q C"]:
        """What the cameras add to the queries; the projection's bias where no camera sees a pillar.

        Args:
            query: With its positional encoding where there is one. Differentiable.
            levels: Feature maps, finest first. Differentiable.
            views: Which camera sees which pillar where, from
                :func:`~renderpretrain.lifters.project_pillars`.
        """
        batch, num_queries, channels = check_shape("query", query, "B Q C").values()
        check_shape("query", query, "B Q C", C=self.output_proj.in_features)
        for level in levels:
            check_shape("levels", level, "B N C h w", B=batch, N=views.index.shape[1], C=channels)
        rows = views.rows(num_queries)
        seeing = query.flatten(0, 1)[rows.clamp(min=0)].flatten(0, 1)
        flat = [level.flatten(0, 1) for level in levels]
        found = self.deformable_attention(seeing, flat, views.points.flatten(0, 1))
        total = ops.voxel_scatter(found.flatten(0, 1), rows.flatten(), batch * num_queries)
        mean = total.view(batch, num_queries, channels) / views.counts.clamp(min=1)[..., None]
        return self.output_proj(mean)


class TemporalSelfAttention(nn.Module):
    """BEV queries look at themselves and at the previous BEV map, and average what they find.

    BEVFormer (https://arxiv.org/abs/2203.17270), section 3.4; keys as its ``TemporalSelfAttention``.

    Args:
        channels: Width of the queries.
        num_heads: Heads.
        num_points: Reads per head and map.

    Differs from the released code in: each batch element's offsets depend on its own history (the code hands
    the first one's to all), the history is brought to the present frame before it comes here
    (:func:`~renderpretrain.lifters.warp_bev`), and there is no drop-out.
    """

    def __init__(self, channels: int, *, num_heads: int = 8, num_points: int = 4) -> None:
        super().__init__()
        _check_heads(channels, num_heads)
        self.shape = (num_heads, 2, num_points)
        reads = 2 * num_heads * num_points
        self.sampling_offsets = nn.Linear(2 * channels, 2 * reads)
        self.attention_weights = nn.Linear(2 * channels, reads)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        star = _star(num_heads, 2, num_points)
        projections = self.value_proj, self.output_proj
        _initialize(self.sampling_offsets, self.attention_weights, star, *projections)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        maps: tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q C"]],
        size: tuple[int, int],
    ) -> Float[Tensor, "B Q C"]:
        """What both maps add to the queries.

        Args:
            query: In the order of the cells ``(y, x)``, with its positional encoding. Differentiable.
            maps: The previous BEV map in the present frame, and the present one. Differentiable.
            size: ``(Y, X)`` of the maps.
        """
        check_shape("query", query, "B Q C", Q=size[0] * size[1], C=self.output_proj.in_features)
        for row in maps:
            check_alike(query=query, maps=row)
        chosen_by = torch.cat([maps[0], query], -1)
        offsets = self.sampling_offsets(chosen_by).float().unflatten(-1, (*self.shape, 2))
        weights = self.attention_weights(chosen_by).float().unflatten(-1, self.shape).softmax(-1)
        places = cell_places(size, query.device)[:, None, None, None]
        locations = places + offsets / ops.constant(size[::-1], offsets)
        values = [self.value_proj(values).mT.unflatten(-1, size) for values in maps]
        # The mean over both maps: each has weights that sum to 1.
        return self.output_proj(deformable_attention(values, locations, weights / len(maps)))


def cell_places(size: tuple[int, int], device: torch.device | str) -> Float[Tensor, "Q 2"]:
    """``(u, v)`` of the centres of a map's cells in [0, 1], in the order ``(y, x)``."""
    v, u = ((torch.arange(count, device=device) + 0.5) / count for count in size)
    v, u = torch.meshgrid(v, u, indexing="ij")
    return torch.stack([u, v], -1).flatten(0, 1)
