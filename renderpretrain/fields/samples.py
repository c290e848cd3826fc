"""What a field says about the samples along rays."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FieldSamples:
    """A field's answer at every sample.

    Attributes:
        alphas: Opacity of each interval in [0, 1]; 0 where the sample is not valid.
        channels: What is composited along the ray, by name; ``"rgb"`` is colour in [0, 1].
        sdf: Signed distance at the interval's middle, metres, positive in free space; absent in density
            fields.
        gradients: Derivative of ``sdf`` by position, world axes.
    """

    alphas: Float[Tensor, "*batch S"]
    channels: dict[str, Float[Tensor, "*batch S C"]] = field(default_factory=dict)
    sdf: Float[Tensor, "*batch S"] | None = None
    gradients: Float[Tensor, "*batch S 3"] | None = None
