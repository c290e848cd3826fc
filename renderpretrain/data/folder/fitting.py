"""How pictures come to one size: scaled and padded or cropped, so that circles stay round, or stretched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from renderpretrain.data.folder.geometry import pixel_centers
from renderpretrain.geometry import Cameras

Fit = Literal["pad", "crop", "stretch"]
"""``pad`` scales a picture until all of it fits and leaves the rest black. ``crop`` scales it until it covers
all and cuts what is over: at the sides alike, and of a street at the top, where the sky is, as BEVFusion's
``ImageAug3D`` does (https://arxiv.org/abs/2205.13542), which NS-MAE pre-trains with. ``stretch`` squeezes."""

FITS: tuple[str, ...] = get_args(Fit)

STANDARD_FIT: Fit = "pad"
"""Nothing of a picture is lost, whatever its shape, and UniPAD, UniScene and detectors pad as well."""

ALIKE = 0.02
"""Proportions that differ by at most this share are taken for the same: nobody sees it, nothing is lost."""


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in one of another size.

    Attributes:
        scaled: ``(height, width)`` that it is resized to.
        top: Row of the result in which it then begins; negative where it is cut.
        left: The column.
        size: ``(height, width)`` of the result.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    @property
    def fills(self) -> bool:
        """Whether the resized picture is the result."""
        return self.scaled == self.size

    def camera(self, camera: Cameras) -> Cameras:
        """The camera of the result."""
        resized = camera.resize(self.scaled)
        return resized if self.fills else resized.crop(-self.top, -self.left, self.size)

    def put(self, picture: Tensor, blank: int = 0) -> Tensor:
        """The result of a picture ``(H, W, *rest)`` that is resized already.

        Args:
            picture: Of the size ``scaled``.
            blank: What is where no picture is.
        """
        if self.fills:
            return picture
        result = picture.new_full((*self.size, *picture.shape[2:]), blank)
        rows, columns = (
            slice(max(0, start), min(whole, start + part))
            for start, whole, part in zip((self.top, self.left), self.size, self.scaled, strict=True)
        )
        start_row, start_column = rows.start - self.top, columns.start - self.left
        result[rows, columns] = picture[
            start_row : start_row + rows.stop - rows.start,
            start_column : start_column + columns.stop - columns.start,
        ]
        return result

    def real(self) -> Tensor | None:
        """``(H, W)``, True where the result shows the picture; ``None`` where it does everywhere."""
        covers = all(part >= whole for part, whole in zip(self.scaled, self.size, strict=True))
        return None if covers else self.put(torch.ones(self.scaled, dtype=torch.bool))


@dataclass(frozen=True)
class Fitting:
    """How pictures of any size come to one.

    Attributes:
        size: ``(height, width)`` of the results.
        fit: One of :data:`FITS`.
        of_street: Whether what is cut in height is the sky, rather than as much above as below.
    """

    size: tuple[int, int]
    fit: str = STANDARD_FIT
    of_street: bool = True

    def of(self, size: tuple[int, int]) -> Placement:
        """How a picture of ``(height, width)`` comes to it."""
        factors = [new / old for new, old in zip(self.size, size, strict=True)]
        if self.fit == "stretch" or max(factors) / min(factors) <= 1 + ALIKE:
            return Placement(self.size, 0, 0, self.size)
        factor = min(factors) if self.fit == "pad" else max(factors)
        height, width = (max(1, round(old * factor)) for old in size)
        above, beside = self.size[0] - height, (self.size[1] - width) // 2
        top = above if above < 0 and self.of_street else above // 2
        return Placement((height, width), top, beside, self.size)


def real_pixels(cameras: Cameras, placements: Sequence[Placement | None]) -> Tensor | None:
    """Which pixels show something, ``(N, H, W)``: neither padding nor beside a fisheye's image circle.

    Args:
        cameras: Of the results.
        placements: How each one's picture came to its size; ``None`` for a camera without one.

    Returns:
        ``None`` where all pictures show something everywhere.
    """
    size = cameras.image_size
    seen = torch.ones(len(placements), *size, dtype=torch.bool)
    for mine, placement in zip(seen, placements, strict=True):
        real = None if placement is None else placement.real()
        if real is not None:
            mine.copy_(real)
    if cameras.fisheye is not None:
        for n in torch.nonzero(cameras.fisheye)[:, 0].tolist():
            seen[n] &= cameras[n].in_lens(pixel_centers(size)).view(size)
    return None if seen.all() else seen
