"""Encoders of the user's own in the place of a recipe's: saved by name, built again where a run is read."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from renderpretrain.encoders import check_image_encoder, check_point_encoder
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.columns import columns_read
from renderpretrain.recipes.settings import Settings
from renderpretrain.runs.entries import Entry, OwnRecipe
from renderpretrain.runs.importing import import_name, imported, made
from renderpretrain.runs.own_settings import signature_of
from renderpretrain.runs.settings import Tree, as_tree, merged_all, validated

ROLES = {"point": "encoder", "image": "image_backbone"}
"""What an encoder of the user's own reads, and what the recipes' ``build`` calls it."""

Given = str | nn.Module
"""The name of a factory, or a module."""


class EncoderArguments(Settings):
    """The settings of an encoder of the user's own: what its factory takes."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())


@dataclass(frozen=True)
class OwnEncoder:
    """An encoder of the user's own.

    Attributes:
        factory: ``package.module:name`` of what makes it.
        args: What that is told; ``None`` of a module that was handed in from Python.
    """

    factory: str
    args: Mapping[str, Any] | None

    def build(self) -> nn.Module:
        """The module, with fresh weights.

        Raises:
            ValueError: If it cannot be imported or made, or was handed in from Python.
        """
        if self.args is None:
            raise ValueError(
                f"encoder: a {self.factory} was handed in from Python; hand it in again: encoder=... of "
                "renderpretrain.evaluate, export and pretrain, into=... of load_encoder; the command line "
                "takes runs that name what makes it: --encoder package.module:factory"
            )
        signature = signature_of(imported("encoder", self.factory), EncoderArguments)
        arguments = _arguments(signature.config, self.args)
        return made("encoder", self.factory, lambda: signature.build(arguments))

    def as_tree(self) -> Tree:
        """The encoder as plain values for ``config.yaml``."""
        return {"factory": self.factory, "args": None if self.args is None else dict(self.args)}


def _arguments(config: type[BaseModel], tree: Mapping[str, Any]) -> BaseModel:
    """What a factory is told, validated."""
    try:
        return validated(config, dict(tree))
    except ValueError as error:
        raise ValueError(f"encoder.args.{error}") from error


def by_role(given: Mapping[str, Given], entry: Entry, config: BaseModel) -> dict[str, Given]:
    """Encoders by what they read; one that does not say is the only one that the recipe takes.

    Args:
        given: By ``point``, ``image``, or an empty text.
        entry: The recipe.
        config: Its settings.

    Raises:
        ValueError: If the recipe takes none, several, or others.
    """
    roles = roles_of(entry, config)
    found: dict[str, Given] = {}
    for role, encoder in given.items():
        if not role and len(roles) > 1:
            raise ValueError(
                f"encoder: {entry.name} has one of points and one of images; say which: "
                "--encoder point=package.module:factory, --encoder image=..."
            )
        if not isinstance(encoder, str | nn.Module):
            raise ValueError(
                "encoder: expected a module, or package.module:factory of what makes it, got "
                f"{getattr(encoder, '__name__', type(encoder).__name__)}"
            )
        name = role or next(iter(roles), "")
        if name not in roles:
            raise ValueError(
                f"encoder: expected one of {', '.join(roles) or 'none'}, as {entry.name} takes, got "
                f"{name or encoder!r}"
            )
        found[name] = encoder
    return found


def roles_of(entry: Entry, config: BaseModel) -> tuple[str, ...]:
    """What the encoders read that can stand in the place of a recipe's."""
    taken = entry.parts if isinstance(entry, OwnRecipe) else tuple(inspect.signature(entry.build).parameters)
    without = {"lidar": "image", "camera": "point"}.get(getattr(config, "modality", ""))
    return tuple(role for role, name in ROLES.items() if name in taken and role != without)


def take_arguments(files: Sequence[Tree]) -> tuple[list[Tree], dict[str, Tree]]:
    """Settings without ``encoder.args`` and ``image.args``, and those by what such an encoder reads."""
    left: list[Tree] = []
    found: dict[str, Tree] = {role: {} for role in ROLES}
    for tree in files:
        kept = dict(tree)
        for section, role in (("encoder", "point"), ("image", "image")):
            if isinstance(kept.get(section), dict) and "args" in kept[section]:
                inner = dict(kept[section])
                told = inner.pop("args")
                if not isinstance(told, dict):
                    raise ValueError(f"{section}.args: expected arguments by name, got {str(told)[:80]!r}")
                found[role] = merged_all([found[role], told])
                kept[section] = inner
                if not inner:
                    del kept[section]
        left.append(kept)
    return left, found


def own_encoders(given: Mapping[str, Given], arguments: Mapping[str, Tree]) -> dict[str, OwnEncoder]:
    """Encoders by what they read, from what the user says of them.

    Args:
        given: Names or modules by what they read.
        arguments: What factories are told; one encoder alone is told all.
    """
    found = {}
    for role, encoder in given.items():
        told = arguments[role] if len(given) > 1 else merged_all(list(arguments.values()))
        if isinstance(encoder, nn.Module):
            found[role] = OwnEncoder(import_name(type(encoder)), None)
        else:
            config = signature_of(imported("encoder", encoder), EncoderArguments).config
            found[role] = OwnEncoder(encoder, as_tree(_arguments(config, told)))
    return found


def saved_encoders(saved: Tree) -> dict[str, OwnEncoder]:
    """What a run has saved of its own encoders."""
    trees: Mapping[str, Tree] = saved.get("encoder") or {}
    return {role: OwnEncoder(tree["factory"], tree.get("args")) for role, tree in trees.items()}


def check_contract(modules: Mapping[str, nn.Module], recipe: nn.Module, config: BaseModel) -> None:
    """Raise a ``ValueError`` unless encoders answer as the recipe expects, on a few voxels or on an image.

    Args:
        modules: The encoders by what they read.
        recipe: What they are in.
        config: Its settings.
    """
    size = getattr(config, "image_size", None)
    if "image" in modules and size:
        check_image_encoder(modules["image"], size)
    section: Any = getattr(config, "encoder", None)
    if "point" in modules and hasattr(section, "voxel_size") and hasattr(config, "point_cloud_range"):
        grid = VoxelGrid(config.point_cloud_range, section.voxel_size)
        check_point_encoder(modules["point"], len(columns_read(recipe)), grid)
