"""A run folder read back: what the run was, and what it has learned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from renderpretrain.runs.building import to_be_filled, with_fake_tensors
from renderpretrain.runs.checkpoint import has_ended, trained_checkpoint
from renderpretrain.runs.describing import describe_run
from renderpretrain.runs.description import RunDescription
from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.saved import saved_tree
from renderpretrain.storage.weights import check_weights


@dataclass(frozen=True)
class TrainedRun:
    """A run that has learned something.

    Attributes:
        folder: Where its files are.
        description: What it was.
        checkpoint: The file of its weights.
        state: What is in that file.
        handed: The recipe, where it was handed in; else it is built from its description.
    """

    folder: RunFolder
    description: RunDescription
    checkpoint: Path
    state: dict[str, Any] = field(repr=False)
    handed: nn.Module | None = None

    @property
    def step(self) -> int:
        """How many updates the weights have seen."""
        return int(self.state["step"])

    @property
    def has_ended(self) -> bool:
        """Whether its batch norms were measured on whole scenes, as they are at a run's end."""
        return has_ended(self.state)

    @property
    def weights(self) -> dict[str, Any]:
        """The tensors of the recipe, by name."""
        return self.state["model"]

    def recipe(self, *, thawed: bool = False) -> nn.Module:
        """The recipe with the weights of the checkpoint, on the CPU.

        Args:
            thawed: Whether what training kept frozen is to be trained.

        Raises:
            ValueError: If the weights are not those of the recipe.
        """
        description = self.description
        if self.handed is None:
            settings = to_be_filled(description.config, thawed=thawed)
            model = description.entry.build(settings, **description.own_parts())
        else:
            model = self.handed
        model.load_state_dict(self._weights_of(model))
        return model

    def checked(self) -> "TrainedRun":
        """This run; raises a ``ValueError`` on the first weight that is not the recipe's."""
        self._weights_of(self.handed or with_fake_tensors(self.description.build))
        return self

    def _weights_of(self, model: nn.Module) -> dict[str, Any]:
        """The weights, all of which are the recipe's."""
        description = self.description
        what = f"{self.checkpoint}: not a checkpoint of {description.recipe}"
        try:
            return check_weights(model, self.weights, what)
        except ValueError as error:
            by_hand = self.handed is None and description.preset is None
            raise ValueError(f"{error}{BY_HAND if by_hand else ''}") from error

    @property
    def commit(self) -> str | None:
        """The commit the run was made by, if it wrote it down."""
        try:
            return json.loads(self.folder.environment.read_text()).get("commit")
        except (OSError, ValueError):
            return None


Encoders = nn.Module | Mapping[str, nn.Module]
"""A module, or several by what they read: ``point``, ``image``."""

BY_HAND = "; in Python, hand in the recipe that was trained: renderpretrain.evaluate(run, recipe=...), export"
"""What can be done with a run whose recipe was put together in Python."""


def read_description(run: Path, *, handed: bool = False) -> RunDescription:
    """What a run folder's ``config.yaml`` says.

    Args:
        run: The folder.
        handed: Whether the recipe is handed in from Python, rather than built from its name.

    Raises:
        ValueError: If it is no run folder, or the file is damaged; names the file.
    """
    saved = saved_tree(run)
    try:
        return describe_run(str(saved.get("recipe")), {}, [], saved=saved, handed=handed)
    except ValueError as error:
        own = ":" in str(saved.get("recipe")) and not handed
        raise ValueError(f"{RunFolder(run).config}: {error}{BY_HAND if own else ''}") from error


def read_run(run: Path | str, recipe: nn.Module | None = None, encoder: Encoders | None = None) -> TrainedRun:
    """What a run was, and what it has learned: the weights of its end, or of its newest checkpoint.

    Args:
        run: Its folder.
        recipe: The recipe, where the run's description is not enough to build it; it is given the weights.
        encoder: Encoders that were handed in from Python, alone or by what they read.

    Raises:
        ValueError: If it is no run folder, its description is damaged, or it has no checkpoint that can be
            read; names the file.
    """
    folder = RunFolder(Path(run))
    description = read_description(folder.path, handed=recipe is not None)
    if encoder is not None:
        alone = next(iter(description.encoder), "")
        by_role = {alone: encoder} if isinstance(encoder, nn.Module) else encoder
        description = replace(description, modules=by_role)
    return TrainedRun(folder, description, *trained_checkpoint(folder.checkpoints), handed=recipe)
