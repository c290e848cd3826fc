"""An encoder says what it is: its sizes, its name, what it reads. Whoever writes, reads or moves it asks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS

Sizes = dict[str, Any]
"""Arguments of a constructor by name: plain values that fit in a file."""

State = Mapping[str, Tensor]

SWEEP_COLUMNS = tuple(POINT_COLUMNS[:count] for count in (3, 4, 5))
"""What encoders of three, four and five columns read in the frameworks where nobody says."""

ROOM_COLUMNS = (*COLOR_COLUMNS, *NORMAL_COLUMNS)
"""What an encoder of six columns reads in Pointcept."""


@dataclass(frozen=True)
class Role:
    """The part that all encoders of a class play.

    Attributes:
        name: What recipes call such an encoder, and so does a file that was imported without a recipe.
        reads: Voxels of points, images, feature maps of an image network, or a volume.
        columns: What it reads of a point where nobody says; at most one entry of any length.
        input_kernels: Keys of the kernel whose last axis is those columns; the first that it has counts.
        kernel_axes: Order of the axes of its sparse kernels.
        norm_eps: Of its batch norms.
    """

    name: str = ""
    reads: Literal["points", "images", "maps", "volume", ""] = ""
    columns: tuple[tuple[str, ...], ...] = ()
    input_kernels: tuple[str, ...] = ()
    kernel_axes: Literal["zyx", "xyz"] = "zyx"
    norm_eps: float = 1e-5


@runtime_checkable
class DescribedModule(Protocol):
    """An encoder that can be built again from what it says of itself.

    ``type(encoder)(**encoder.sizes)`` is the same network with other weights.

    Attributes:
        role: The part that all encoders of the class play.
    """

    role: ClassVar[Role]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """The arguments that weights tell.

        Args:
            state: Weights by their keys; missing layers at the end are no error.

        Raises:
            ValueError: If a tensor is missing, or has too few dimensions.
        """

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""


def count_numbers(state: State, pattern: str, *, first: int = 0) -> int:
    """How many numbers in a row, from the first one on, the keys have where the pattern says.

    Args:
        state: Weights by their keys.
        pattern: A regular expression for the beginning of a key; its first group is the number.
        first: Where counting begins.
    """
    found = {int(m.group(1)) for m in (re.match(pattern, key) for key in state) if m}
    return next(n for n in range(len(found) + 1) if n + first not in found)


def side_of(state: State, key: str, dimension: int) -> int:
    """One side of a tensor.

    Raises:
        ValueError: If there is no such tensor, or it has no such dimension.
    """
    if key not in state:
        raise ValueError(f"expected a tensor {key}, found none")
    shape = tuple(state[key].shape)
    if len(shape) <= dimension:
        raise ValueError(f"expected more than {dimension} dimensions of {key}, got {shape}")
    return shape[dimension]


def normed_stages(state: State, stages: int) -> list[int]:
    """Stages with an output norm ``norm{i}``; all where a file has none."""
    return [i for i in range(stages) if f"norm{i}.weight" in state] or list(range(stages))
