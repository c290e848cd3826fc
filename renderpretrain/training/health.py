"""How much features say: what tells a collapsing encoder from a healthy one.

For a loop of your own::

    print(feature_health(encoder(images).movedim(1, -1).flatten(0, -2)))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.data import Batch
from renderpretrain.encoders import SparseTensor
from renderpretrain.encoders.levels import ImageLevel, Level
from renderpretrain.recipes.recipe import HasImageFeatures, HasLevels, HasPointFeatures

EPSILON = 1e-7
"""Added to every normalized singular value before its logarithm, as RankMe has it for float32."""

DEAD = 1e-3
"""A channel is dead if it varies by less than this share of the features' root mean square."""

NOISE = 1e-13
"""A variance that is a smaller share of the features' mean square is the rounding of float32."""

MOST_ROWS = 4096
"""Rows of one level of one scene that are looked at."""

QUANTILES = (0.1, 0.5, 0.9)
"""Of the standard deviations of all channels."""

Quantiles = tuple[float, float, float]


@dataclass(frozen=True)
class Health:
    """What a matrix of features looks like, a row for each place.

    Attributes:
        channels: Width.
        rows: Height.
        rank: RankMe (https://arxiv.org/abs/2210.02885): how many directions the features use, the exponential
            of the entropy of the normalized singular values; 1 for a constant, 0 for nothing but zeros, and
            at most the width.
        variances: Share of the variance about the mean in each direction, the largest first; they sum to 1,
            or are 0 where nothing varies.
        std: Standard deviation of a channel over the rows: quantiles 0.1, 0.5 and 0.9 over the channels.
        unit_std: The same of rows scaled to length 1, times the root of the width: 1 where features point in
            all directions alike, 0 where they all point in one. (AD-L-JEPA's variance term asks for 1.)
        dead: Share of the channels that hardly vary (:data:`DEAD`).
    """

    channels: int
    rows: int
    rank: float
    variances: tuple[float, ...]
    std: Quantiles
    unit_std: Quantiles
    dead: float

    def variance_in(self, directions: int) -> float:
        """Share of the variance in the first so many directions, in [0, 1]."""
        return sum(self.variances[:directions])


def feature_health(rows: Float[Tensor, "M C"]) -> Health:
    """Look at features, whose rows may be any: voxels, pixels, points, whole scenes.

    Everything follows from sums of C x C products in float64, so a long matrix costs no more memory than
    a copy of it, and features of several batches can be joined by ``torch.cat``.

    Args:
        rows: One vector a row, on any device; waits for a GPU.

    Raises:
        ValueError: If there is no row, or a number is not finite.
    """
    check_shape("rows", rows, "M C")
    if not rows.numel():
        raise ValueError(f"rows: expected at least one row and one channel, got shape {tuple(rows.shape)}")
    sums = FeatureSums.of(rows)
    if not sums.is_finite:
        raise ValueError("rows: expected finite numbers, got nan or inf")
    return sums.health()


@dataclass(frozen=True)
class FeatureSums:
    """What is kept of rows of features; sums of several batches add up to those of all their rows.

    Attributes:
        rows: How many.
        total: Sum of the rows, in float64.
        products: Sum of their outer products.
        unit_total: Sum of the rows scaled to length 1.
        unit_squares: Sum of the squares of their entries.
    """

    rows: int
    total: Float[Tensor, " C"]
    products: Float[Tensor, "C C"]
    unit_total: Float[Tensor, " C"]
    unit_squares: Float[Tensor, " C"]

    @staticmethod
    @torch.no_grad()
    def of(rows: Num[Tensor, "M C"]) -> "FeatureSums":
        """The sums of a matrix; does not wait for a GPU."""
        rows = rows.detach().double()
        unit = nn.functional.normalize(rows, dim=1)
        return FeatureSums(len(rows), rows.sum(0), rows.T @ rows, unit.sum(0), unit.square().sum(0))

    def __add__(self, other: "FeatureSums") -> "FeatureSums":
        """The sums of the rows of both."""
        return FeatureSums(
            self.rows + other.rows,
            self.total + other.total,
            self.products + other.products,
            self.unit_total + other.unit_total,
            self.unit_squares + other.unit_squares,
        )

    @property
    def is_finite(self) -> bool:
        """Whether all rows were finite numbers."""
        return bool(self.products.isfinite().all())

    def health(self) -> Health:
        """What finite rows look like, at least one of them."""
        channels, mean = len(self.total), self.total / self.rows
        second = self.products / self.rows
        power = second.diagonal().mean().sqrt()
        variances = _eigenvalues(second - mean[:, None] * mean)
        variances = torch.where(variances > NOISE * second.trace(), variances, 0.0)
        deviations = _std(mean, second.diagonal())
        unit = channels**0.5 * _std(self.unit_total / self.rows, self.unit_squares / self.rows)
        return Health(
            channels,
            self.rows,
            _rank(_eigenvalues(second).sqrt()),
            tuple((variances / variances.sum().clamp(min=1e-300)).tolist()),
            _quantiles(deviations),
            _quantiles(unit),
            (deviations <= DEAD * power).double().mean().item(),
        )


def some_rows(rows: Float[Tensor, "M C"], *, most: int = MOST_ROWS) -> Float[Tensor, "R C"]:
    """At most so many rows, always the same ones; none that are nothing but zeros, as empty cells are.

    Where all are, these are given.
    """
    there = torch.nonzero((rows != 0).any(1))[:, 0]
    if not len(there):
        return rows[:most]
    if len(there) > most:
        order = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        there = there[order[:most].to(there.device)]
    return rows[there]


@torch.no_grad()
def encoder_sums(recipe: nn.Module, batches: Iterable[Batch]) -> dict[str, FeatureSums]:
    """The sums of what the encoders of a recipe say of whole scenes, level by level.

    Args:
        recipe: Looked at in ``eval()`` mode and put back; draws from no global generator.
        batches: Scenes, nothing hidden, on the recipe's device.

    Returns:
        By the names of the levels; nothing of a recipe that says nothing of its features.
    """
    was_training = recipe.training
    recipe.eval()
    sums: dict[str, FeatureSums] = {}
    try:
        for batch in batches:
            for name, rows in feature_rows(recipe, batch).items():
                found = FeatureSums.of(some_rows(rows))
                sums[name] = sums[name] + found if name in sums else found
    finally:
        recipe.train(was_training)
    return sums


def feature_rows(recipe: nn.Module, batch: Batch) -> Mapping[str, Float[Tensor, "M C"]]:
    """What a recipe's encoders say of a batch, by the names of their levels.

    Of a recipe without levels what it says of all points, ``point_features``, and of images,
    ``image_features``.
    """
    if isinstance(recipe, HasLevels):
        return {level.name: level_rows(level, batch) for level in recipe.levels(batch)}
    rows = {}
    if isinstance(recipe, HasPointFeatures) and batch.points.xyz.shape[1]:
        features = recipe.point_features(batch, batch.points.xyz)
        rows["point_features"] = features[batch.points.valid]
    if isinstance(recipe, HasImageFeatures) and batch.views is not None:
        rows["image_features"] = recipe.image_features(batch).movedim(2, -1).flatten(0, -2)
    return rows


def level_rows(level: Level, batch: Batch) -> Float[Tensor, "M C"]:
    """The vectors of one level that say something of the scene.

    All voxels there are, all cells of the images there are; of a volume, which is empty for the most part,
    the cells with points, or all where there are no points.
    """
    if isinstance(level, ImageLevel):
        there = level.maps if batch.views is None else level.maps[batch.views.valid]
        return there.movedim(-3, -1).flatten(0, -2)
    if isinstance(level.features, SparseTensor):
        return level.rows()
    held = level.grid.occupied(batch.points.xyz, batch.points.valid)
    return level.features.movedim(1, -1)[held] if held.any() else level.rows()


def _eigenvalues(matrix: Float[Tensor, "C C"]) -> Float[Tensor, " C"]:
    """Of a symmetric matrix that has no negative ones but for rounding, the largest first."""
    return torch.linalg.eigvalsh(matrix).clamp(min=0).flip(0)


def _rank(singular: Float[Tensor, " C"]) -> float:
    """The exponential of the entropy of normalized singular values."""
    if not singular.any():
        return 0.0
    shares = singular / singular.sum() + EPSILON
    return (-(shares * shares.log()).sum()).exp().item()


def _std(mean: Float[Tensor, " C"], second: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Standard deviations from means of numbers and of their squares."""
    return (second - mean.square()).clamp(min=0).sqrt()


def _quantiles(values: Float[Tensor, " C"]) -> Quantiles:
    """See :data:`QUANTILES`; between two values as torch has it."""
    low, middle, high = torch.quantile(values, values.new_tensor(QUANTILES)).tolist()
    return low, middle, high
