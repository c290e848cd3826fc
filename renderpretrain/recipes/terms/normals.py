"""How the surfaces face that rays meet, by what the sweep says."""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import local_planes


class NormalsTerm(nn.Module):
    """Rendered normals against those of the planes through returns and their neighbors in the sweep.

    As PonderV2 (https://arxiv.org/abs/2310.08586) and MonoSDF (https://arxiv.org/abs/2206.00665) do with
    normals of other sources; see :func:`~renderpretrain.losses.normal_error`. A return without a plane, on an
    edge or in a tree, says nothing.

    Args:
        weight: Of the term.
    """

    def __init__(self, *, weight: int | float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``normals``; raises a ``ValueError`` for a field without distances."""
        seen = rendering_of(step, self)
        normals, targets = seen.rendered.normals, seen.targets
        if normals is None:
            raise ValueError(
                "terms: NormalsTerm compares normals; expected a field of signed distances, got "
                f"{type(seen.renderer.field).__name__}"
            )
        planes = local_planes(step.batch.points, seen.returns)
        error = losses.normal_error(normals, planes.normals, planes.valid & targets.hit)
        return {"normals": self.weight * error}
