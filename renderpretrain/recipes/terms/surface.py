"""The distance field at the places of returns."""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.fields import SDFField
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step


class SurfaceTerm(nn.Module):
    """The surface passes through every return that a ray goes to: the field is asked there itself.

    CLAP's surface term (https://arxiv.org/abs/2412.03059). The near-surface term of recipes asks at samples,
    which lie around the return; see :func:`~renderpretrain.losses.near_surface_sdf`.

    Args:
        weight: Of the term, per metre.
    """

    def __init__(self, *, weight: int | float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``surface``; raises a ``ValueError`` for a field without distances."""
        seen = rendering_of(step, self)
        field = seen.renderer.field
        if not isinstance(field, SDFField):
            raise ValueError(
                f"terms: SurfaceTerm asks for distances; expected an SDFField, got {type(field).__name__}"
            )
        sdf = field.sdf(seen.volume, seen.targets.ends)
        return {"surface": self.weight * losses.surface_sdf(sdf, seen.targets.hit)}
