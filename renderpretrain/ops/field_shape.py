"""What a field of signed distances is made of: sizes of its networks, and the channels that they read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_bool, check_length, check_shape
from renderpretrain.ops.injected_mlp import InjectedShape

MOST_HEADS = 2
"""``RP_MOST_HEADS``: networks on top of a field that one pass computes."""

NETWORK_CODES, HEAD_CODES = 6, 8
"""Numbers that say what a network is, and what a head is."""


@dataclass(frozen=True)
class FieldHead:
    """A network from what is known at a point: the ray's direction, features, gradient and geometry.

    Attributes:
        network: Its sizes; ``in_channels`` is the sum of those, in this order.
        directions: Whether it sees the direction.
        sigmoid: Whether its output goes through the logistic function, as a colour does.
    """

    network: InjectedShape
    directions: bool = False
    sigmoid: bool = False


@dataclass(frozen=True)
class FieldShape:
    """Sizes of a field's networks and which channels of the volume they read.

    Attributes:
        distance: The network of distance (its first output) and geometry (the others). It reads the first
            ``in_channels`` channels of the volume.
        extent: Length unit of the networks, metres: they see ``points / extent`` and give distances in it.
        first_feature: The channels from this one on are the features that heads see and the caller gets.
        heads: At most two networks on top.
    """

    distance: InjectedShape
    extent: int | float = 1.0
    first_feature: int = 0
    heads: tuple[FieldHead, ...] = ()

    def __post_init__(self) -> None:
        check_length("extent", self.extent)
        if len(self.heads) > MOST_HEADS:
            raise ValueError(f"heads: expected at most {MOST_HEADS}, got {len(self.heads)}")
        for place, network in enumerate(self.networks):
            if network.position_channels not in (0, 3):
                raise ValueError(
                    f"networks[{place}].position_channels: expected 0 or 3, got {network.position_channels}"
                )

    @property
    def networks(self) -> tuple[InjectedShape, ...]:
        """All of them in the order of their parameters: the distance network, then the heads."""
        return (self.distance, *(head.network for head in self.heads))

    @property
    def num_parameters(self) -> int:
        """Numbers that the networks have in all."""
        return sum(network.num_parameters for network in self.networks)

    def codes(self) -> tuple[list[int], list[float]]:
        """The sizes and the numbers of ``rp_field`` that say what the networks are."""
        sizes = [self.first_feature, *self.distance.code()]
        for head in self.heads:
            sizes += [*head.network.code(), int(head.directions), int(head.sigmoid)]
        return sizes, [float(self.extent), *(network.beta for network in self.networks)]

    @classmethod
    def from_codes(cls, sizes: Sequence[int], numbers: Sequence[float]) -> "FieldShape":
        """The shape that gave these :meth:`codes`.

        Raises:
            ValueError: If none did.
        """
        expected = 1 + NETWORK_CODES + HEAD_CODES * (len(numbers) - 2)
        if len(numbers) < 2 or len(sizes) != expected:
            raise ValueError(
                f"sizes: expected {expected} numbers for {len(numbers) - 1} networks, got {len(sizes)}"
            )
        first, *rest = sizes
        distance = InjectedShape.from_code(rest[:NETWORK_CODES], numbers[1])
        heads = []
        for place, beta in enumerate(numbers[2:]):
            start = NETWORK_CODES + HEAD_CODES * place
            *code, directions, sigmoid = rest[start : start + HEAD_CODES]
            heads.append(FieldHead(InjectedShape.from_code(code, beta), bool(directions), bool(sigmoid)))
        return cls(distance, numbers[0], first, tuple(heads))

    def check(
        self,
        volume: Tensor,
        points: Tensor,
        parameters: Tensor,
        directions: Tensor | None,
        valid: Tensor | None,
    ) -> None:
        """Raise ``ValueError`` unless tensors are what these networks read."""
        check_shape("volume", volume, "B C Z Y X")
        count = check_shape("points", points, "B P 3", B=len(volume))["P"]
        check_shape("parameters", parameters, "K", K=self.num_parameters)
        channels, first = volume.shape[1], self.first_feature
        for name, number in (("distance.in_channels", self.distance.in_channels), ("first_feature", first)):
            if not 0 <= number <= channels:
                raise ValueError(f"{name}: expected at most the volume's {channels} channels, got {number}")
        if valid is not None:
            check_bool(valid=valid)
            check_shape("valid", valid, "B P", B=len(volume), P=count)
        width = self._check_directions(len(volume), count, directions)
        known = channels - first + 3 + self.distance.out_channels - 1
        for place, head in enumerate(self.heads):
            expected = known + width * head.directions
            if head.network.in_channels != expected:
                raise ValueError(
                    f"heads[{place}].in_channels: expected {expected}, the width of what it sees, got "
                    f"{head.network.in_channels}"
                )

    def _check_directions(self, batch: int, count: int, directions: Tensor | None) -> int:
        """The width of the rays' directions, which share the points equally."""
        if directions is None:
            if any(head.directions for head in self.heads):
                raise ValueError("directions: expected those of the rays for a head that sees them, got None")
            return 0
        sizes = check_shape("directions", directions, "B R D", B=batch)
        if sizes["R"] == 0 or count % sizes["R"]:
            raise ValueError(
                f"directions: expected rays that share {count} points equally, got {sizes['R']} rays"
            )
        return sizes["D"]


class FieldOutputs(NamedTuple):
    """Which values of a field are asked for beside the distance and the heads."""

    gradients: bool = True
    geometry: bool = False
    features: bool = False


class FieldValues(NamedTuple):
    """What a field says at points.

    Attributes:
        sdf: Signed distance in metres.
        gradients: Its derivative by the position; ``None`` if not asked for.
        geometry: The distance network's further outputs; ``None`` if not asked for.
        features: The volume's channels from ``first_feature`` on; ``None`` if not asked for.
        heads: What each head says.
    """

    sdf: Float[Tensor, "B P"]
    gradients: Float[Tensor, "B P 3"] | None
    geometry: Float[Tensor, "B P G"] | None
    features: Float[Tensor, "B P F"] | None
    heads: tuple[Float[Tensor, "B P _"], ...]


def named_values(found: Sequence[Any], shape: FieldShape, wanted: FieldOutputs) -> FieldValues:
    """An operator's results by their names, without those that nobody wants."""
    sdf, *others = found[:4]
    gradients, geometry, features = (
        value if want else None for value, want in zip(others, wanted, strict=True)
    )
    return FieldValues(sdf, gradients, geometry, features, tuple(found[4 : 4 + len(shape.heads)]))
