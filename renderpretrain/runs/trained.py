"""A run folder read back: what the run was, and what it has learned."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from renderpretrain.runs.building import to_be_filled, without_memory
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
    """

    folder: RunFolder
    description: RunDescription
    checkpoint: Path
    state: dict[str, Any]

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
        model = description.entry.build(to_be_filled(description.config, thawed=thawed))
        model.load_state_dict(check_weights(model, self.weights, self._what))
        return model

    def checked(self) -> "TrainedRun":
        """This run; raises a ``ValueError`` on the first weight that is not the recipe's."""
        check_weights(without_memory(self.description.build), self.weights, self._what)
        return self

    @property
    def commit(self) -> str | None:
        """The commit the run was made by, if it wrote it down."""
        try:
            return json.loads(self.folder.environment.read_text()).get("commit")
        except (OSError, ValueError):
            return None

    @property
    def _what(self) -> str:
        return f"{self.checkpoint}: not a checkpoint of {self.description.recipe}"


def read_description(run: Path) -> RunDescription:
    """What a run folder's ``config.yaml`` says.

    Raises:
        ValueError: If it is no run folder, or the file is damaged; names the file.
    """
    saved = saved_tree(run)
    try:
        return describe_run(str(saved.get("recipe")), {}, [], saved=saved)
    except ValueError as error:
        raise ValueError(f"{RunFolder(run).config}: {error}") from error


def read_run(run: Path | str) -> TrainedRun:
    """What a run was, and what it has learned: the weights of its end, or of its newest checkpoint.

    Raises:
        ValueError: If it is no run folder, its description is damaged, or it has no checkpoint that can be
            read; names the file.
    """
    folder = RunFolder(Path(run))
    return TrainedRun(folder, read_description(folder.path), *trained_checkpoint(folder.checkpoints))
