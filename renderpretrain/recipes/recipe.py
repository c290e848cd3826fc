"""What a recipe is: :class:`Recipe` says what it must have, the small protocols after it what it may have.

Recipes share no base class: a ``torch.nn.Module`` with these methods is one, whoever wrote it. Python has no
type for "a module that also meets a protocol", so functions take the ``nn.Module`` and ask
``isinstance(module, Recipe)``; from there on a type checker knows the object as both. Where it is neither,
:func:`lacking` says what is missing. Members must be methods, properties or plain values: a submodule of that
name is not one, for ``isinstance`` does not see it on every version of Python.
"""

import inspect
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.encoders import ImageLevel, Level, Voxels
from renderpretrain.fields import SurfaceField
from renderpretrain.geometry import Cameras, Rays, VoxelGrid
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import RayTargets

Volume = Tensor
"""What a recipe makes of a batch and renders from: ``(B, C, Z, Y, X)`` in all of the package's. Nobody but
the recipe looks inside, so a set of primitives, ``(B, P, C)``, is one, too."""


@dataclass(frozen=True)
class MaskedVoxels:
    """The voxels of a batch, all of them, and which are hidden.

    Attributes:
        voxels: Of all points.
        hidden: The rows that are hidden.
    """

    voxels: Voxels
    hidden: Bool[Tensor, " M"]


Told = list[Level] | None
"""A list that is given the encoders' levels on the way to a volume; ``None`` where nobody asks for them."""


@dataclass(frozen=True)
class Hidden:
    """What a training step hides of a batch; ``None`` where there is nothing of the kind to hide.

    Attributes:
        patches: Image patches.
        voxels: The voxels, made once for the mask and for the encoder, and the hidden ones among them.
        dropped: Points that are left out one by one, before there are voxels.
        pixels: Pixels of the depth images that a camera branch reads.
        frames: Remembered frames, oldest first.
    """

    patches: Bool[Tensor, "B N h w"] | None = None
    voxels: MaskedVoxels | None = None
    dropped: Bool[Tensor, "B P"] | None = None
    pixels: Bool[Tensor, "B N H W"] | None = None
    frames: Bool[Tensor, "B T"] | None = None

    @property
    def points(self) -> Bool[Tensor, "B P"] | None:
        """Hidden points, as pictures show them."""
        return self.dropped if self.voxels is None else self.voxels.voxels.points_of(self.voxels.hidden)


@runtime_checkable
class HasGrid(Protocol):
    """Looks into a box of the world."""

    @property
    def grid(self) -> VoxelGrid:
        """The box, and the voxels it is rendered from."""


@runtime_checkable
class HasEncoders(Protocol):
    """Has parts that are worth keeping."""

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned, by name."""


@runtime_checkable
class HasLevels(Protocol):
    """Its encoders give all their levels."""

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that :meth:`HasEncoders.encoders` say of a batch, part by part, each part's in its own order.

        What is rendered, or read at places, is among them. Differentiable.

        Args:
            batch: Scenes.
            hidden: What the encoders do not see; nothing by default.
        """


@runtime_checkable
class HasImageLevels(Protocol):
    """Its encoders of images can be asked alone."""

    def image_levels(self, batch: Batch) -> list[ImageLevel]:
        """What :meth:`HasLevels.levels` says of images, nothing hidden; nothing else is worked out."""


@runtime_checkable
class EncodesScenes(Protocol):
    """Makes a volume of a batch."""

    def encode(self, batch: Batch) -> Volume:
        """The volume of scenes with nothing hidden."""


@runtime_checkable
class DrawsRays(Protocol):
    """Knows what the sensors saw."""

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them; the same seeds give the same rays.

        Args:
            batch: The samples.
            num_rays: Rays per camera, or per sweep where there are no cameras; the recipe's own number by
                default.
        """


@runtime_checkable
class RendersRays(EncodesScenes, DrawsRays, Protocol):
    """Can be scored: what evaluation asks of a recipe."""

    def render(self, volume: Volume, rays: Rays) -> Rendered:
        """``(B, R)`` rays of the world, rendered from the volume."""


@runtime_checkable
class Recipe(RendersRays, HasEncoders, HasGrid, Protocol):
    """A method of pre-training: what every recipe of the package has."""

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""

    def hide(self, batch: Batch) -> Hidden:
        """Draw what a training step hides, from the batch's seeds."""

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Volume:
        """The volume that is rendered; with nothing hidden by default."""


@runtime_checkable
class CountsSteps(Protocol):
    """Changes in the course of a run. A module anywhere in a recipe; its count belongs into its state."""

    def count_step(self) -> None:
        """Told after every update of the weights, however many batches it was made of."""


@runtime_checkable
class HasSettings(Protocol):
    """Was built from settings, and says which; see :func:`settings_of`."""

    @property
    def config(self) -> object:
        """A pydantic model in all recipes of the package."""


@runtime_checkable
class RefinesCameras(Protocol):
    """Learns where cameras are. It does so itself with every batch it is given."""

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be: a picture is seen from there."""


@runtime_checkable
class RendersViews(Protocol):
    """Renders a whole picture rather than rays of it, as a rasteriser does."""

    def render_view(self, volume: Volume, camera: Cameras) -> Rendered:
        """What one camera sees of a volume of one sample, every pixel at its center.

        Args:
            volume: What :meth:`EncodesScenes.encode` made of a batch of one.
            camera: Without batch axes.

        Returns:
            ``(1, H * W)`` values in reading order, as :meth:`RendersRays.render` gives of the pixels' rays.
        """


@runtime_checkable
class HasSurface(Protocol):
    """Renders a field that has a surface, which can be a mesh."""

    def surface_field(self) -> SurfaceField:
        """The field that is rendered."""


@runtime_checkable
class HasScores(Protocol):
    """Has scores of its own, each a ratio of sums over scenes."""

    @property
    def score_names(self) -> tuple[str, ...]:
        """What the rows of the sums are called."""

    def score_sums(self, batch: Batch, volume: Volume | None) -> Float[Tensor, "scores 2"]:
        """Numerator and denominator of every score, in float64; a denominator of 0 leaves the score out.

        Args:
            batch: Scenes.
            volume: What :meth:`EncodesScenes.encode` made of them, or ``None`` for the recipe's predictor
                that looks at nothing.
        """


@runtime_checkable
class SaysClasses(Protocol):
    """Says which class a ray shows."""

    def classes(self, batch: Batch, rendered: Rendered) -> Int[Tensor, "B R"] | None:
        """The class of every ray, by its scene's own numbers; ``None`` where none is rendered."""


@runtime_checkable
class HasPointFeatures(HasGrid, Protocol):
    """Its encoders say something of places in its grid."""

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`HasEncoders.encoders` say of world positions, nothing hidden."""


@runtime_checkable
class HasImageFeatures(Protocol):
    """Its encoders say something of images."""

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`HasEncoders.encoders` say of the images, nothing hidden."""


@runtime_checkable
class HasBEVFeatures(HasGrid, Protocol):
    """Its encoders make a map of the ground, over its grid."""

    def bev_features(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """What :meth:`HasEncoders.encoders` say of the grid's columns, nothing hidden."""


@runtime_checkable
class RunSettings(Protocol):
    """What the settings of every recipe say, whatever else they do: which data, and how it is trained."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width images are resized to; ``None`` leaves them as the data has them."""

    @property
    def sweeps(self) -> int:
        """LiDAR sweeps merged into the input."""

    @property
    def optimization(self) -> OptimizationConfig:
        """How the recipe is trained: steps, rates, schedule."""


def missing_from(recipe: object, protocol: type) -> list[str]:
    """Members of a protocol that an object does not have, in the alphabet's order."""
    names = (name for name in dir(protocol) if not name.startswith("_"))
    return [name for name in names if inspect.getattr_static(recipe, name, None) is None]


def lacking(recipe: nn.Module, protocol: type, what: str) -> ValueError:
    """The error that says which members of a protocol a recipe lacks.

    Args:
        recipe: What does not meet it.
        protocol: One of this module's.
        what: Who asks for it: "a picture", "the task depth".
    """
    missing = ", ".join(missing_from(recipe, protocol))
    return ValueError(f"recipe: {what} needs {missing}, which {type(recipe).__name__} does not have")


def encoders_of(recipe: nn.Module) -> dict[str, nn.Module]:
    """The parts of a recipe that are taken home; none of one that does not name any."""
    return recipe.encoders() if isinstance(recipe, HasEncoders) else {}


def settings_of(recipe: nn.Module) -> BaseModel | None:
    """What a recipe was built from, if it says so and it is a pydantic model."""
    config = recipe.config if isinstance(recipe, HasSettings) else None
    return config if isinstance(config, BaseModel) else None
