"""What a training step has made when further terms are asked, and what such a term is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.encoders import Level
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import Preference, RayTargets


@dataclass(frozen=True)
class Step:
    """What a training step of a recipe has made so far.

    Attributes:
        batch: The samples, with cameras where the recipe believes them to be.
        hidden: What is hidden of them.
        levels: All that the encoders say of what is not hidden, as ``levels`` of the recipe gives it.
        volume: What is rendered; ``None`` of a recipe without a volume.
        renderer: What renders it.
        targets: The rays of the step and what was measured along them.
        rendered: What they show.
        preference: Which returns rays rather go to; all alike by default.
    """

    batch: Batch
    hidden: Hidden
    levels: Sequence[Level] = ()
    volume: Tensor | None = None
    renderer: VolumeRenderer | None = None
    targets: RayTargets | None = None
    rendered: Rendered | None = None
    preference: Preference | None = None


@runtime_checkable
class Term(Protocol):
    """A ``torch.nn.Module`` that adds to the loss of a step; it may hold heads that are trained with it."""

    def __call__(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms by name; each the mean over the batch of what it is of every sample alone."""


def further_terms(
    terms: Iterable[nn.Module], step: Step, taken: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, ""]]:
    """What all terms give, by name.

    Args:
        terms: Asked one after the other.
        step: What they look at.
        taken: Terms that the recipe has already.

    Raises:
        ValueError: If two terms have one name.
    """
    found: dict[str, Tensor] = {}
    for term in terms:
        for name, value in term(step).items():
            if name in taken or name in found:
                raise ValueError(
                    f"terms: expected a name of its own for what {type(term).__name__} gives, got {name!r}, "
                    "which another term has"
                )
            found[name] = value
    return found
