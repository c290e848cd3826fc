"""How scenes change at random while a recipe learns from them, as one section of every recipe's settings."""

from typing import Annotated, Protocol, runtime_checkable

from pydantic import BaseModel, Field, model_validator

from renderpretrain.data.augment import Augmentation, ColorChange, ImageChange, WorldChange
from renderpretrain.recipes.settings import Listing, Settings, listed

Chance = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Share = Annotated[float, Field(ge=0, lt=1)]
Factors = tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]]


class AugmentConfig(Settings):
    """What changes of a scene, drawn anew from every sample's seed; by default nothing does."""

    turn: Degrees = Field(0.0, description="Largest angle about +z to either side, degrees.")
    turned: Chance = Field(1.0, description="Probability that the world is turned at all.")
    tilt: Degrees = Field(0.0, description="Largest angle about +x, and about +y, degrees.")
    tilted: Chance = Field(1.0, description="Probability that it is tilted at all.")
    scale: Factors = Field((1.0, 1.0), description="Least and largest factor of all lengths.")
    shift: float = Field(0.0, ge=0, description="Standard deviation along each axis, metres.")
    mirror_x: Chance = Field(0.0, description="Probability that x changes its sign.")
    mirror_y: Chance = Field(0.0, description="Probability that y does.")
    zoom: Factors = Field((1.0, 1.0), description="Factor of each picture's sides; the lower edge stays.")
    mirror_images: Chance = Field(0.0, description="Probability that a picture is mirrored by itself.")
    turn_images: float = Field(0.0, ge=0, lt=90, description="Largest angle in a picture's plane, degrees.")
    brightness: Share = Field(0.0, description="Largest number added to colours in [0, 1].")
    contrast: Share = Field(0.0, description="Largest share by which differences from black change.")
    saturation: Share = Field(0.0, description="The same of differences from grey.")
    hue: Degrees = Field(0.0, description="Largest angle of colours, degrees.")
    recolored: Chance = Field(0.5, description="Probability of each of the four.")
    without_colors: Chance = Field(0.0, description="Probability that points have no colour.")
    without_intensity: Chance = Field(0.0, description="Probability that they have no intensity.")
    without_cameras: Chance = Field(0.0, description="Probability that a camera is missing; one stays.")

    @model_validator(mode="after")
    def _factors_rise(self) -> "AugmentConfig":
        for name, (low, high) in (("scale", self.scale), ("zoom", self.zoom)):
            if low > high:
                raise ValueError(f"{name}: expected the smaller factor first, got {low} and {high}")
        return self

    def build(self) -> Augmentation:
        """What these settings say, for :class:`~renderpretrain.training.MicroBatches`."""
        world = WorldChange(
            turn=self.turn,
            turned=self.turned,
            tilt=self.tilt,
            tilted=self.tilted,
            scale=self.scale,
            shift=self.shift,
            mirror_x=self.mirror_x,
            mirror_y=self.mirror_y,
        )
        colors = ColorChange(self.brightness, self.contrast, self.saturation, self.hue, self.recolored)
        drops = (self.without_colors, self.without_intensity, self.without_cameras)
        return Augmentation(
            world, ImageChange(self.zoom, self.mirror_images, self.turn_images), colors, *drops
        )


class GroundedAugmentConfig(AugmentConfig):
    """The same for a recipe whose labels lie on a grid: its world stays as it is."""

    @model_validator(mode="after")
    def _world_stays(self) -> "GroundedAugmentConfig":
        if not self.build().world.does_nothing:
            what = "turn, tilt, scale, shift, mirror_x, mirror_y"
            raise ValueError(f"{what}: expected none, for the labels lie on a grid that stays")
        return self


AUGMENTED = tuple(AugmentConfig.model_fields)
"""Names of the settings of the section."""


def augment_listing(sources: Listing) -> dict[str, str]:
    """Where the numbers of the section come from, by dotted names; all others are ours.

    Args:
        sources: Names, divided by spaces, by their source.
    """
    named = listed(dict(sources), "augment.")
    return {f"augment.{name}": "ours" for name in AUGMENTED} | named


@runtime_checkable
class Augmented(Protocol):
    """Settings that say how scenes change."""

    @property
    def augment(self) -> AugmentConfig:
        """The section of settings that says so."""


def augmentation_of(settings: BaseModel | None) -> Augmentation | None:
    """How scenes change by a recipe's settings; ``None`` where they stay or the settings do not say."""
    if not isinstance(settings, Augmented):
        return None
    augmentation = settings.augment.build()
    return None if augmentation.does_nothing else augmentation
