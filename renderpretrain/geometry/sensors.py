"""What sensors delivered: points (LiDAR, the depth camera of a room) and views (cameras).

The leading axes are free: none for one moment, ``B`` for a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_bool, check_floating, check_mask, check_shape
from renderpretrain.geometry.cameras import Cameras

POINT_COLUMNS = ("x", "y", "z", "intensity", "lag")
"""What is known of every point: metres, a share of 1, seconds."""

COLOR_COLUMNS = ("r", "g", "b")
"""What is known of some, too: in [0, 1]."""

NORMAL_COLUMNS = ("nx", "ny", "nz")
"""And the unit normal of the surface that a point lies on."""


@dataclass(frozen=True)
class Points:
    """Where surfaces were measured, and what else is known of these places.

    Attributes:
        xyz: World coordinates, metres.
        intensity: Share of the light that came back, in [0, 1].
        lag: Age in seconds: 0 in the key sweep, positive in older ones.
        valid: False for padding, which may hold anything.
        origin: Where the sensor's rays start, world, metres.
        labels: Class of every point, -1 for none; ``None`` where nothing is labelled.
        colors: RGB in [0, 1]; ``None`` where nothing has any.
        normals: Unit normals in the world frame, 0 where none is known; ``None`` where nothing has any.
        key_sweep: True for the points of the key sweep; ``None`` where a lag of 0 tells.

    Raises:
        ValueError: Naming the attribute that has another shape than ``xyz`` asks for, or another type.
    """

    xyz: Float[Tensor, "*batch P 3"]
    intensity: Float[Tensor, "*batch P"]
    lag: Float[Tensor, "*batch P"]
    valid: Bool[Tensor, "*batch P"]
    origin: Float[Tensor, "*batch 3"]
    labels: Int[Tensor, "*batch P"] | None = None
    colors: Float[Tensor, "*batch P 3"] | None = None
    normals: Float[Tensor, "*batch P 3"] | None = None
    key_sweep: Bool[Tensor, "*batch P"] | None = None

    def __post_init__(self) -> None:
        check_shape("Points.xyz", self.xyz, "... P 3")
        check_floating(**{"Points.xyz": self.xyz, "Points.intensity": self.intensity, "Points.lag": self.lag})
        check_bool(**{"Points.valid": self.valid, "Points.key_sweep": self.key_sweep})
        rows = tuple(self.xyz.shape[:-1])
        for name in ("intensity", "lag", "valid", "labels", "key_sweep"):
            _check_exactly(f"Points.{name}", getattr(self, name), rows)
        for name in ("colors", "normals"):
            _check_exactly(f"Points.{name}", getattr(self, name), (*rows, 3))
        _check_exactly("Points.origin", self.origin, (*rows[:-1], 3))

    @staticmethod
    def from_table(
        table: Float[Tensor, "*batch P C"],
        valid: Bool[Tensor, "*batch P"] | None = None,
        origin: Float[Tensor, "*batch 3"] | None = None,
    ) -> "Points":
        """Points from columns ``x, y, z`` and, where there are more, ``intensity, lag``.

        Args:
            table: Three to five columns; those that are missing are 0.
            valid: False for padding; by default every row is a point.
            origin: Where the rays start; the world's origin by default.

        Raises:
            ValueError: If there are fewer or more columns.
        """
        columns = check_shape("table", table, "... P C")["C"]
        if not 3 <= columns <= len(POINT_COLUMNS):
            raise ValueError(
                f"table: expected 3 to 5 columns ({', '.join(POINT_COLUMNS)}), got {tuple(table.shape)}"
            )
        nothing = torch.zeros_like(table[..., 0])
        return Points(
            table[..., :3],
            table[..., 3] if columns > 3 else nothing,
            table[..., 4] if columns > 4 else nothing,
            torch.ones_like(nothing, dtype=torch.bool) if valid is None else valid,
            table.new_zeros(*table.shape[:-2], 3) if origin is None else origin,
        )

    @property
    def key(self) -> Bool[Tensor, "*batch P"]:
        """Which are real points of the key sweep: the others smear what moves."""
        return self.valid & (self.lag == 0 if self.key_sweep is None else self.key_sweep)

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the columns that :meth:`columns` can give."""
        colored = () if self.colors is None else COLOR_COLUMNS
        return (*POINT_COLUMNS, *colored, *(() if self.normals is None else NORMAL_COLUMNS))

    def columns(self, names: Sequence[str] | None = None) -> Float[Tensor, "*batch P C"]:
        """Columns side by side, by name: ``x y z intensity lag``, ``r g b``, ``nx ny nz``; all by default.

        Raises:
            ValueError: If one of them is not known.
        """
        always = (*self.xyz.unbind(-1), self.intensity, self.lag)
        table: dict[str, Tensor] = dict(zip(POINT_COLUMNS, always, strict=True))
        if self.colors is not None:
            table |= dict(zip(COLOR_COLUMNS, self.colors.unbind(-1), strict=True))
        if self.normals is not None:
            table |= dict(zip(NORMAL_COLUMNS, self.normals.unbind(-1), strict=True))
        names = tuple(table) if names is None else names
        missing = [name for name in names if name not in table]
        if missing:
            raise ValueError(f"names: expected columns among {', '.join(table)}, got {', '.join(missing)}")
        return torch.stack([table[name] for name in names], -1)

    def only(self, these: Bool[Tensor, "*batch P"]) -> "Points":
        """These points, of which only some count."""
        check_mask("these", these, tuple(self.valid.shape), self.valid.device)
        return replace(self, valid=self.valid & these)


@dataclass(frozen=True)
class Views:
    """What cameras saw.

    Attributes:
        images: RGB in [0, 1].
        cameras: One per image, of the images' size.
        valid: False for padding and for a camera that a moment lacks: its image is black.
        z_depths: Depth images, metres along the optical axis, or along the ray for a fisheye; ``None``
            without a depth camera.
        z_depth_valid: True where a depth camera measured; ``None`` without one.
        labels: Class of every pixel, -1 for none; ``None`` where nothing is labelled.
        image_valid: False for a pixel that no camera saw: padding of a picture, and what lies outside of a
            fisheye's image circle; ``None`` where all were seen. What is not seen supervises nothing.

    Raises:
        ValueError: Naming the attribute that has another shape than ``images`` asks for, or another type.
    """

    images: Float[Tensor, "*batch N 3 H W"]
    cameras: Cameras
    valid: Bool[Tensor, "*batch N"]
    z_depths: Float[Tensor, "*batch N H W"] | None = None
    z_depth_valid: Bool[Tensor, "*batch N H W"] | None = None
    labels: Int[Tensor, "*batch N H W"] | None = None
    image_valid: Bool[Tensor, "*batch N H W"] | None = None

    def __post_init__(self) -> None:
        check_shape("Views.images", self.images, "... N 3 H W")
        check_floating(**{"Views.images": self.images, "Views.z_depths": self.z_depths})
        check_bool(**{"Views.valid": self.valid, "Views.z_depth_valid": self.z_depth_valid})
        check_bool(**{"Views.image_valid": self.image_valid})
        lead, size = tuple(self.images.shape[:-3]), tuple(self.images.shape[-2:])
        _check_exactly("Views.valid", self.valid, lead)
        for name in ("z_depths", "z_depth_valid", "labels", "image_valid"):
            _check_exactly(f"Views.{name}", getattr(self, name), (*lead, *size))
        if tuple(self.cameras.shape) != lead or tuple(self.cameras.image_size) != size:
            raise ValueError(
                f"Views.cameras: expected {lead} cameras of {size} pixels, as images says, got "
                f"{tuple(self.cameras.shape)} of {tuple(self.cameras.image_size)}; cameras of resized images "
                "are cameras.resize((height, width))"
            )
        if (self.z_depths is None) != (self.z_depth_valid is None):
            raise ValueError("Views.z_depths, Views.z_depth_valid: expected both or neither")

    def depth_images(self) -> tuple[Float[Tensor, "*batch N H W"], Bool[Tensor, "*batch N H W"]] | None:
        """Depth along the optical axis and where it was measured, or ``None`` without a depth camera."""
        if self.z_depths is None or self.z_depth_valid is None:
            return None
        return self.z_depths, self.z_depth_valid

    def seen(self, size: tuple[int, int]) -> Bool[Tensor, "*batch N h w"]:
        """Cells of coarser images, edge to edge, in which real cameras saw every pixel.

        Args:
            size: ``(h, w)`` of these images.
        """
        valid = self.valid[..., None, None].expand(*self.valid.shape, *size)
        if self.image_valid is None:
            return valid
        shares = torch.nn.functional.adaptive_avg_pool2d(self.image_valid.flatten(0, -3).float(), size)
        return valid & (shares == 1).view(valid.shape)

    def seen_at(
        self, pixels: Float[Tensor, "*batch N K 2"], among: Bool[Tensor, "*batch N K"]
    ) -> Bool[Tensor, "*batch N K"]:
        """Which of the pixels the cameras saw: neither padding nor outside of a fisheye's image circle.

        Args:
            pixels: ``(u, v)``; those outside of an image read its border.
            among: Which of them may be.
        """
        if self.image_valid is None:
            return among
        height, width = self.image_valid.shape[-2:]
        u = pixels[..., 0].floor().long().clamp(0, width - 1)
        v = pixels[..., 1].floor().long().clamp(0, height - 1)
        return among & self.image_valid.flatten(-2).gather(-1, v * width + u)


@runtime_checkable
class Sensors(Protocol):
    """What ray samplers read of a batch; :class:`~renderpretrain.data.Batch` is one."""

    @property
    def points(self) -> Points:
        """The points of every sample; without rows where nothing measures points."""

    @property
    def views(self) -> Views | None:
        """The views of every sample, or ``None`` without cameras."""

    @property
    def seeds(self) -> Int[Tensor, " B"]:
        """One per sample: all that is drawn derives from it."""


def _check_exactly(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless the tensor, if there is one, has the shape."""
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected {shape}, got {tuple(tensor.shape)}")
