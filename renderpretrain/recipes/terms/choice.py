"""Settings of the terms on what more is rendered, which recipes share, and what builds the terms."""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import nn

from renderpretrain.fields import DensityField, SDFField
from renderpretrain.recipes.settings import Count, Settings
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.normals import NormalsTerm
from renderpretrain.recipes.terms.surface import SurfaceTerm
from renderpretrain.samplers import CurvedReturns


class RenderedTermsConfig(Settings):
    """Weights of what is rendered beside depth and color; a term of weight 0 is left out."""

    intensity: float = Field(0.0, ge=0, description="How bright the LiDAR saw what rays meet.")
    normals: float = Field(0.0, ge=0, description="How surfaces face, by each return's neighbors.")
    surface: float = Field(0.0, ge=0, description="Distance at the returns themselves, per metre.")
    misses: float = Field(0.0, ge=0, description="Beams that met nothing are empty.")
    curved_after: Count | None = Field(None, ge=0)
    """Steps after which the rays of all terms rather go where the sweep bends; null: never."""


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
        "misses": lambda: MissesTerm(weight=config.misses),
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
