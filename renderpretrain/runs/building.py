"""Recipes without memory, and recipes whose weights are about to be loaded."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from renderpretrain.runs.entries import entry_of, saved_settings
from renderpretrain.runs.settings import Tree, validated


def with_fake_tensors(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose parameters have shapes and no numbers: any size is built at once.

    What it computes has shapes and no numbers either; points and cameras that go in stay what they are, so
    that voxels, neighbours and rays are exact.
    """
    with torch.device("meta"):
        module = build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        return module.to_empty(device="cpu")


def build_saved(name: str, tree: Tree) -> nn.Module:
    """A recipe of settings that a run or a file of encoders saved, to be filled with weights and trained.

    Raises:
        ValueError: Naming the recipe or the setting that is wrong.
    """
    entry = entry_of(name)
    return entry.build(to_be_filled(validated(entry.config, saved_settings(entry, tree)), thawed=True))


def to_be_filled(settings: BaseModel, *, thawed: bool) -> BaseModel:
    """Settings of a recipe whose weights are about to be loaded: it needs no file of initial ones.

    Args:
        settings: Of any recipe.
        thawed: Whether what training kept frozen is to be trained.
    """
    image: Any = getattr(settings, "image", None)
    if not isinstance(image, BaseModel):
        return settings
    changed: dict[str, Any] = {"weights": None} if hasattr(image, "weights") else {}
    for name in ("frozen_stages", "frozen_norms") if thawed else ():
        if hasattr(image, name):
            changed[name] = type(getattr(image, name))(0)
    return settings.model_copy(update={"image": image.model_copy(update=changed)})
