"""Further terms of a training step, each a module that any recipe takes: what they read and give."""

from renderpretrain.recipes.terms.choice import RenderedTermsConfig, chosen_parts, rendered_terms
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.normals import NormalsTerm
from renderpretrain.recipes.terms.step import Step, Term, further_terms
from renderpretrain.recipes.terms.surface import SurfaceTerm

__all__ = [
    "IntensityTerm",
    "MissesTerm",
    "NormalsTerm",
    "RenderedTermsConfig",
    "Step",
    "SurfaceTerm",
    "Term",
    "chosen_parts",
    "further_terms",
    "rendered_terms",
]
