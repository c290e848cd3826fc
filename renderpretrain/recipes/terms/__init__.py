"""Further terms of a training step, each a module that any recipe takes: what they read and give."""

from renderpretrain.recipes.terms.choice import RenderedTermsConfig, rendered_terms
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.step import Step, Term, further_terms
from renderpretrain.recipes.terms.surface import SurfaceTerm

__all__ = [
    "IntensityTerm",
    "MissesTerm",
    "RenderedTermsConfig",
    "Step",
    "SurfaceTerm",
    "Term",
    "further_terms",
    "rendered_terms",
]
