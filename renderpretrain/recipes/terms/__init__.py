"""Further terms of a training step, each a module that any recipe takes: what they read and give."""

from renderpretrain.recipes.terms.step import Step, Term, further_terms

__all__ = ["Step", "Term", "further_terms"]
