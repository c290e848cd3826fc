"""Pre-trained weights into the encoders that are probed, and encoders that do nothing by chance."""

from torch import Tensor, nn

from renderpretrain.recipes.recipe import encoders_of

LEAST_SHARE = 0.95
"""Of the encoders' numbers: a probe of fewer would say nothing of the weights."""


def load_encoders(recipe: nn.Module, weights: dict[str, Tensor]) -> tuple[float, int]:
    """Load the encoders' weights that fit, by key and shape, into a recipe; the rest of it stays as it is.

    What else a run has learned, such as where cameras are, is not taken home, and no probe may profit by it.

    Args:
        recipe: Changed in place. One that names no encoders is an encoder as a whole.
        weights: A state of such a recipe.

    Returns:
        The share of the encoders' numbers that were loaded, and how many they have.

    Raises:
        ValueError: If less than 95 % of the encoders' numbers fit; names the first key that does not.
    """
    state = recipe.state_dict(keep_vars=True)
    parts = [part.state_dict(keep_vars=True) for part in encoders_of(recipe).values()]
    taken = {id(value) for part in parts for value in part.values()}
    keys = [key for key, value in state.items() if id(value) in taken] or list(state)
    fitting = {key: weights[key] for key in keys if key in weights and state[key].shape == weights[key].shape}
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
