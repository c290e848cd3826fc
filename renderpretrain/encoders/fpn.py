"""Feature pyramid network with the parameter names of mmdetection."""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.encoders.described import Role, Sizes, State, count_numbers, side_of


class FPN(nn.Module):
    """Coarse maps are added to finer ones, all brought to one width.

    https://arxiv.org/abs/1612.03144. Keys: ``lateral_convs.{i}.conv``, ``fpn_convs.{i}.conv``, counted from
    the first level used.

    Args:
        in_channels: Channels of every map given, fine to coarse.
        out_channels: Channels of every map returned.
        start_level: First map used; finer ones are ignored.
        num_outs: Maps returned, finest first; those beyond the given ones halve the resolution of their
            predecessor. By default as many as are used.
        extra_convs: Make the additional maps by strided convolutions of the output (rectified from the second
            on) instead of dropping every other cell.
    """

    role: ClassVar[Role] = Role("image_neck", "maps")

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        start_level: int = 0,
        num_outs: int | None = None,
        extra_convs: bool = False,
    ) -> None:
        super().__init__()
        used = list(in_channels)[start_level:]
        if not used:
            raise ValueError(f"start_level: expected less than {len(in_channels)} maps, got {start_level}")
        self.start_level = start_level
        self.in_channels = tuple(used)
        num_outs = len(used) if num_outs is None else num_outs
        if num_outs < 1:
            raise ValueError(f"num_outs: expected at least one map, got {num_outs}")
        self.num_extra = max(0, num_outs - len(used))
        self.extra_convs = extra_convs
        self.lateral_convs = nn.ModuleList(_Conv(c, out_channels, kernel_size=1) for c in used)
        self.fpn_convs = nn.ModuleList(
            _Conv(out_channels, out_channels, kernel_size=3) for _ in used[:num_outs]
        )
        for _ in range(self.num_extra if extra_convs else 0):
            self.fpn_convs.append(_Conv(out_channels, out_channels, kernel_size=3, stride=2))

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ _ _"]]:
        """Pyramid maps, fine to coarse. Differentiable.

        Args:
            maps: One per entry of ``in_channels``.
        """
        expected = len(self.lateral_convs) + self.start_level
        if len(maps) != expected:
            raise ValueError(f"maps: expected {expected} feature maps, got {len(maps)}")
        for x, channels in zip(maps[self.start_level :], self.in_channels, strict=True):
            check_shape("maps", x, "B C h w", B=len(maps[0]), C=channels)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps[self.start_level :], strict=True)]
        for fine in range(len(laterals) - 2, -1, -1):
            size = laterals[fine].shape[-2:]
            coarse = nn.functional.interpolate(laterals[fine + 1], size=size, mode="nearest")
            laterals[fine] = laterals[fine] + coarse
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        for i in range(self.num_extra):
            outs.append(self._coarser(outs[-1], i))
        return outs

    def _coarser(self, x: Tensor, i: int) -> Tensor:
        """The ``i``-th map beyond the given ones."""
        if not self.extra_convs:
            return x[..., ::2, ::2]
        return self.fpn_convs[len(self.lateral_convs) + i](x.relu() if i else x)

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Widths and levels; not the maps that are ignored, nor outputs that have no weights."""
        used = count_numbers(state, r"lateral_convs\.(\d+)\.")
        outs = count_numbers(state, r"fpn_convs\.(\d+)\.")
        return {
            "in_channels": [side_of(state, f"lateral_convs.{i}.conv.weight", 1) for i in range(used)],
            "out_channels": side_of(state, "lateral_convs.0.conv.weight", 0),
            "num_outs": outs,
            "extra_convs": outs > used,
        }

    @property
    def sizes(self) -> Sizes:
        """All arguments; the channels of a map that is ignored are not known and are 0."""
        return {
            **self.sizes_of(self.state_dict()),
            "in_channels": [0] * self.start_level + list(self.in_channels),
            "start_level": self.start_level,
            "num_outs": len(self.fpn_convs) + (0 if self.extra_convs else self.num_extra),
        }


class _Conv(nn.Module):
    """A convolution under the name ``conv``, as mmdetection's checkpoints have it."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
