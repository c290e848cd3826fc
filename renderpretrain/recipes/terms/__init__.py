"""Further terms of a training step, each a module that any recipe takes: what they read and give."""

from renderpretrain.recipes.terms.choice import (
    RenderedTermsConfig,
    check_sweeps,
    chosen_parts,
    followed,
    frames_of,
    rendered_terms,
)
from renderpretrain.recipes.terms.collapse import Collapse
from renderpretrain.recipes.terms.intensity import IntensityTerm
from renderpretrain.recipes.terms.misses import MissesTerm
from renderpretrain.recipes.terms.next_sweep import NextSweepTerm
from renderpretrain.recipes.terms.normals import NormalsTerm
from renderpretrain.recipes.terms.reprojection import ReprojectionTerm
from renderpretrain.recipes.terms.self_distillation import SelfDistillation
from renderpretrain.recipes.terms.step import Step, Term, further_terms
from renderpretrain.recipes.terms.surface import SurfaceTerm
from renderpretrain.recipes.terms.surroundings import Surroundings
from renderpretrain.recipes.terms.teacher_features import PointFeatures, RenderedFeatures

__all__ = [
    "Collapse",
    "IntensityTerm",
    "MissesTerm",
    "NextSweepTerm",
    "NormalsTerm",
    "PointFeatures",
    "RenderedFeatures",
    "RenderedTermsConfig",
    "ReprojectionTerm",
    "SelfDistillation",
    "Step",
    "SurfaceTerm",
    "Surroundings",
    "Term",
    "check_sweeps",
    "chosen_parts",
    "followed",
    "frames_of",
    "further_terms",
    "rendered_terms",
]
