"""Settings of the terms on what more is rendered, which recipes share, and what builds the terms."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import Field
from torch import nn

from renderpretrain.data import FollowedScenes, Recording, SceneDataset
from renderpretrain.fields import DensityField, SDFField
from renderpretrain.recipes.settings import Count, Settings
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.next_sweep import NextSweepTerm
from renderpretrain.recipes.terms.normals import NormalsTerm
from renderpretrain.recipes.terms.reprojection import ReprojectionTerm
from renderpretrain.recipes.terms.surface import SurfaceTerm
from renderpretrain.samplers import CurvedReturns, is_of_spinning_sensor

STREET = 4
"""Scenes of a synthetic street where a term looks at the next one: three of four have one."""


class RenderedTermsConfig(Settings):
    """Weights of what is rendered beside depth and color; a term of weight 0 is left out."""

    intensity: float = Field(0.0, ge=0, description="How bright the LiDAR saw what rays meet.")
    normals: float = Field(0.0, ge=0, description="How surfaces face, by each return's neighbors.")
    surface: float = Field(0.0, ge=0, description="Distance at the returns themselves, per metre.")
    next_sweep: float = Field(0.0, ge=0, description="Depth along the next sweep's beams, per metre.")
    misses: float = Field(0.0, ge=0, description="Beams that met nothing are empty.")
    reprojection: float = Field(0.0, ge=0, description="Whether other and next pictures agree on depth.")
    curved_after: Count | None = Field(None, ge=0)
    """Updates after which rays to returns, of ``next_sweep`` too, go where the sweep bends; null: never.
    Rays of ``misses`` have no return, and patches of ``reprojection`` need none: these stay as they are."""

    @property
    def looks_ahead(self) -> bool:
        """Whether a term looks at the next scene."""
        return self.next_sweep > 0 or self.reprojection > 0


TERMS = " ".join(f"terms.{name}" for name in RenderedTermsConfig.model_fields)
"""Dotted names of the settings of the section, with spaces between them: no published preset has them."""


def rendered_terms(config: RenderedTermsConfig, field: SDFField | DensityField) -> list[nn.Module]:
    """The terms that a section turns on.

    Args:
        config: The section.
        field: What is rendered.

    Raises:
        ValueError: If a term needs distances that the field does not have.
    """
    for name in ("normals", "surface"):
        if getattr(config, name) and not isinstance(field, SDFField):
            raise ValueError(
                f"field: expected signed distances for terms.{name}, got {type(field).__name__}; set "
                f"terms.{name}=0"
            )
    makers: dict[str, Callable[[], nn.Module]] = {
        "intensity": lambda: IntensityTerm(field.channels, weight=config.intensity),
        "normals": lambda: NormalsTerm(weight=config.normals),
        "surface": lambda: SurfaceTerm(weight=config.surface),
        "next_sweep": lambda: NextSweepTerm(weight=config.next_sweep),
        "misses": lambda: MissesTerm(weight=config.misses),
        "reprojection": lambda: ReprojectionTerm(weight=config.reprojection),
    }
    return [make() for name, make in makers.items() if getattr(config, name)]


def chosen_parts(config: RenderedTermsConfig, field: SDFField | DensityField) -> dict[str, Any]:
    """The arguments ``terms`` and ``preference`` of a recipe, as a section says.

    Args:
        config: The section.
        field: What is rendered.

    Raises:
        ValueError: As :func:`rendered_terms` does.
    """
    curved = None if config.curved_after is None else CurvedReturns(config.curved_after)
    return {"terms": rendered_terms(config, field), "preference": curved}


@runtime_checkable
class HasRenderedTerms(Protocol):
    """Settings that say which further terms there are."""

    @property
    def terms(self) -> RenderedTermsConfig:
        """The section of settings that says so."""


def frames_of(settings: object) -> int:
    """Consecutive scenes of a synthetic street that the terms of a recipe's settings look at."""
    if not isinstance(settings, HasRenderedTerms) or not isinstance(settings.terms, RenderedTermsConfig):
        return 1
    return STREET if settings.terms.looks_ahead else 1


def check_sweeps(config: RenderedTermsConfig, dataset: SceneDataset) -> None:
    """Raise a ``ValueError`` if beams without a return are asked for where points are no spinning sweep.

    The first scene is looked at; that of a depth camera says so, and clouds of rooms are told by their shape.

    Args:
        config: The section.
        dataset: What is trained on.
    """
    if not config.misses or not len(dataset):
        return
    scene = dataset.without_images(0) if isinstance(dataset, Recording) else dataset[0]
    offsets = scene.points[scene.of_key_sweep, :3] - scene.lidar_origin
    if scene.z_depths is not None or not is_of_spinning_sensor(offsets):
        got = "points of depth images" if scene.z_depths is not None else "returns from all directions"
        raise ValueError(
            f"terms.misses: expected sweeps of a spinning LiDAR, got {got} in scene {scene.name!r}; set "
            "terms.misses=0"
        )


def followed(config: RenderedTermsConfig, dataset: SceneDataset, holdout: int) -> SceneDataset:
    """The scenes, each with the next one where a term looks at it.

    Args:
        config: The section.
        dataset: A recording with poses, if so.
        holdout: The last so many scenes, which none of those before them sees.

    Raises:
        ValueError: If the scenes do not follow each other, or have no poses.
    """
    if not config.looks_ahead:
        return dataset
    on = [name for name in ("next_sweep", "reprojection") if getattr(config, name)]
    what, off = ", ".join(f"terms.{name}" for name in on), " ".join(f"terms.{name}=0" for name in on)
    if not isinstance(dataset, Recording):
        raise ValueError(
            f"{what}: expected scenes that follow each other, got {type(dataset).__name__}; set {off}"
        )
    if all(len(dataset.sequence(index)) == 1 for index in range(len(dataset))):
        raise ValueError(f"{what}: expected scenes after each other, every one stands alone; set {off}")
    first = dataset.without_images(0)
    if first.world_to_global is None:
        raise ValueError(
            f"scene {first.name!r} has no pose (world_to_global), needed to see the next scene from it; set "
            f"{off}"
        )
    return FollowedScenes(dataset, holdout=holdout, images=config.reprojection > 0)
