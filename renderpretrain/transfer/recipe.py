"""A recipe as its configuration says, to be filled with weights."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from renderpretrain.recipes import RECIPES


def build_recipe(name: str, config: Mapping[str, Any]) -> nn.Module:
    """A recipe's module whose weights are about to be loaded: it needs no file of initial ones."""
    entry = RECIPES[name]
    try:
        settings: Any = entry.config.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("config", *first["loc"])))
        raise ValueError(f"{where}: {first['msg']}") from error
    image = getattr(settings, "image", None)
    if image is not None:
        both = ("frozen_stages", "frozen_norms")
        frozen = {k: type(getattr(image, k))(0) for k in both if hasattr(image, k)}
        image = image.model_copy(update={"weights": None, **frozen})
        settings = settings.model_copy(update={"image": image})
    return entry.build(settings)
