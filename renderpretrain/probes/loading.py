"""Pre-trained weights into the encoders that are probed, and encoders that do nothing by chance."""

from torch import Tensor, nn

from renderpretrain.recipes.recipe import encoders_of

LEAST_SHARE = 0.95
"""Of the encoders' numbers: a probe of fewer would say nothing of the weights."""


def load_encoders(recipe: nn.Module, weights: dict[str, Tensor]) -> tuple[float, int]:
    """Load the weights that fit, by key and shape, into a recipe.

    Args:
        recipe: Changed in place.
        weights: A state of such a recipe; what is not the encoders' may fit or not.

    Returns:
        The share of the encoders' numbers that were loaded, and how many they have.

    Raises:
        ValueError: If less than 95 % of the encoders' numbers fit; names the first key that does not.
    """
    state = recipe.state_dict()
    fitting = {k: v for k, v in weights.items() if k in state and state[k].shape == v.shape}
    parts = {id(part) for part in encoders_of(recipe).values()}
    prefixes = [name for name, module in recipe.named_modules() if id(module) in parts]
    keys = [key for key in state if any(key.startswith(f"{prefix}.") for prefix in prefixes)] or list(state)
    total = sum(state[key].numel() for key in keys)
    share = sum(state[key].numel() for key in keys if key in fitting) / max(total, 1)
    if share < LEAST_SHARE:
        key = next(key for key in keys if key not in fitting)
        got = tuple(weights[key].shape) if key in weights else "nothing"
        raise ValueError(
            f"weights: {key}: expected {tuple(state[key].shape)}, got {got}; {share:.1%} of the encoders' "
            f"{total:,} numbers fit, expected at least {LEAST_SHARE:.0%}"
        )
    recipe.load_state_dict(fitting, strict=False)
    return share, total


def check_same_twice(name: str, first: Tensor, second: Tensor) -> None:
    """Raise ``ValueError`` if a scene's features are others when they are read again.

    Args:
        name: Of the scene.
        first: As read.
        second: As read again; what an accelerator adds up in another order may differ by a thousandth.
    """
    apart = float((first - second).abs().max()) if first.numel() else 0.0
    if apart > 1e-3 * float(first.abs().max() if first.numel() else 0) + 1e-6:
        raise ValueError(
            f"recipe: expected the same features of scene {name!r} twice, got some {apart:.3g} apart: an "
            "encoder draws at random in evaluation, as a dropout does that ignores eval()"
        )
