"""Settings of the terms on what more is rendered, which recipes share, and what builds the terms."""

from collections.abc import Callable

from pydantic import Field
from torch import nn

from renderpretrain.fields import DensityField, SDFField
from renderpretrain.recipes.settings import Settings
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.surface import SurfaceTerm


class RenderedTermsConfig(Settings):
    """Weights of what is rendered beside depth and color; a term of weight 0 is left out."""

    intensity: float = Field(0.0, ge=0, description="How bright the LiDAR saw what rays meet.")
    surface: float = Field(0.0, ge=0, description="Distance at the returns themselves, per metre.")
    misses: float = Field(0.0, ge=0, description="Beams that met nothing are empty.")


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
    if config.surface and not isinstance(field, SDFField):
        raise ValueError(
            f"field: expected signed distances for terms.surface, got {type(field).__name__}; set "
            "terms.surface=0"
        )
    makers: dict[str, Callable[[], nn.Module]] = {
        "intensity": lambda: IntensityTerm(field.channels, weight=config.intensity),
        "surface": lambda: SurfaceTerm(weight=config.surface),
        "misses": lambda: MissesTerm(weight=config.misses),
    }
    return [make() for name, make in makers.items() if getattr(config, name)]
