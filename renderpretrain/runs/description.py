"""What a run is: everything that decides its numbers, in one value that ``config.yaml`` holds."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields

import torch
from pydantic import BaseModel
from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.data.folder.fitting import STANDARD_FIT
from renderpretrain.data.mixed import held_out_of_each
from renderpretrain.data.open import open_data
from renderpretrain.data.words import data_words, folder_options, joined
from renderpretrain.recipes.recipe import RunSettings
from renderpretrain.recipes.terms import frames_of
from renderpretrain.runs.cameras import strange_cameras
from renderpretrain.runs.entries import Entry, entry_of, handed_recipe
from renderpretrain.runs.own_encoders import ROLES, OwnEncoder
from renderpretrain.runs.settings import Tree, as_tree

PrintLine = Callable[[str], None]
"""Told a line for the user."""


@dataclass(frozen=True)
class RunDescription:
    """Everything that decides a run's numbers.

    Attributes:
        recipe: Its name, or ``package.module:Class`` of the user's own.
        preset: The settings it started from; ``None`` where they come from a file or from Python alone.
        data: What ``open_data`` opens; of scenes that were handed in from Python, ``object:CLASS``.
        scenes: Synthetic scenes to train on, of every synthetic data set; ``None`` for recordings, which have
            as many as they have.
        holdout: Scenes at the end that are only evaluated.
        seed: Of the weights, the order and the masks.
        init: The file or run folder whose encoders it began with; ``None`` where all weights were fresh.
        config: The resolved settings.
        skipped: Bad frames that are left out, by the word of their recording and their positions in it.
        cameras: Places of the run's cameras by their names, once it has begun.
        encoder: Encoders of the user's own in the place of the recipe's, by what they read, ``point`` or
            ``image``.
        modules: Those of them that are handed in from Python; not saved.
        handed: Whether the recipe is handed in from Python, rather than built from its name; not saved.
    """

    recipe: str
    preset: str | None
    data: str
    scenes: int | None
    holdout: int
    seed: int
    init: str | None
    config: BaseModel
    skipped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cameras: Mapping[str, int] = field(default_factory=dict)
    encoder: Mapping[str, OwnEncoder] = field(default_factory=dict)
    modules: Mapping[str, nn.Module] = field(default_factory=dict, compare=False)
    handed: bool = False

    @property
    def entry(self) -> Entry:
        """The entry of the recipe among all recipes, or of the user's own."""
        return handed_recipe(self.recipe) if self.handed and ":" in self.recipe else entry_of(self.recipe)

    @property
    def settings(self) -> RunSettings:
        """The settings, as what every run's have in common."""
        assert isinstance(self.config, RunSettings)  # entries have no other
        return self.config

    @property
    def title(self) -> str:
        """The recipe and the preset, as pictures and tables call the run."""
        return " ".join(filter(None, (self.recipe, self.preset)))

    def as_tree(self) -> Tree:
        """The description as plain values for ``config.yaml``."""
        names = [each.name for each in fields(self) if each.name not in ("encoder", "modules", "handed")]
        told = {name: getattr(self, name) for name in names}
        if self.encoder:
            told["encoder"] = {role: each.as_tree() for role, each in self.encoder.items()}
        plain = {"config": as_tree(self.config), "cameras": dict(self.cameras)}
        return told | plain | {"skipped": {name: list(at) for name, at in self.skipped.items()}}

    def build(self, seed: int | None = None) -> nn.Module:
        """The recipe with fresh weights that follow from a seed, the run's own by default."""
        torch.manual_seed(self.seed if seed is None else seed)
        return self.entry.build(self.config, **self.own_parts())

    @property
    def frames_per_street(self) -> int:
        """Consecutive scenes of a synthetic street: as many as the recipe sees, with its terms."""
        return max(self.entry.frames_per_street, frames_of(self.config))

    def own_parts(self) -> dict[str, nn.Module]:
        """Encoders of the user's own, as the recipe's ``build`` takes them."""
        found = {}
        for role, encoder in self.encoder.items():
            module = self.modules.get(role)
            if module is not None and torch.empty(0).is_meta:  # a recipe without memory is built of a copy
                module = deepcopy(module)
            found[ROLES[role]] = encoder.build() if module is None else module
        return found

    def open(
        self, *, image_size: tuple[int, int] | None = None, say: PrintLine | None = None
    ) -> SceneDataset:
        """The scenes as the recipe learns from them, held-out ones last.

        Args:
            image_size: Height and width of the images, where they are not to be the recipe's.
            say: See :meth:`open_raw`.
        """
        count = None if self.scenes is None else self.scenes + self.holdout
        raw = self.open_raw(self.data, count=count, holdout=self.holdout, image_size=image_size, say=say)
        return self.prepare(raw, holdout=self.holdout)

    def open_raw(  # noqa: PLR0913  one keyword per property of the data
        self,
        data: str,
        *,
        count: int | None,
        holdout: int = 0,
        seed: int = 0,
        image_size: tuple[int, int] | None = None,
        with_truth: bool = False,
        say: PrintLine | None = None,
    ) -> SceneDataset:
        """Scenes as the recipe's sensors see them; training sees those of seed 0.

        Args:
            data: What ``open_data`` opens.
            count: Synthetic scenes; ``None`` for recordings.
            holdout: Scenes that stay at the end where several data sets mix.
            seed: Which synthetic scenes.
            image_size: Height and width of the images, where they are not to be the recipe's.
            with_truth: Whether synthetic scenes carry exact answers.
            say: Told where the scenes have other cameras than the run.

        Raises:
            ValueError: If the data cannot be opened, or was handed in from Python.
        """
        if data.startswith(OBJECT):
            raise ValueError(
                f"data: the run learned from a {data.removeprefix(OBJECT)} that was handed in from Python; "
                "name scenes with --data, or hand them in again: renderpretrain.evaluate(run, data=...)"
            )
        dataset = open_data(
            data,
            image_size=image_size or self.settings.image_size,
            seed=seed,
            sweeps=self.settings.sweeps,
            num_scenes=count,
            holdout=holdout,
            frames_per_street=self.frames_per_street,
            with_truth=with_truth,
            skip=self.skipped,
            places=self.cameras,
        )
        if say is not None:
            for line in strange_cameras(data, dataset, self.cameras, self.config):
                say(line)
        return dataset

    def as_seen(self, data: str) -> str:
        """Data to look at the run on, its pictures brought to one size as those that the run learned from.

        A recording whose word does not say ``fit`` has that of the run's own recording at the same path, or
        the one that all of the run's recordings have; so frames that the run left out are left out, too.

        Args:
            data: What ``open_data`` opens.
        """
        own = [word for word in data_words(self.data) if word.is_recording]
        fits = {word.path: folder_options(word.options).get("fit", STANDARD_FIT) for word in own}
        common = next(iter(fits.values())) if len(set(fits.values())) == 1 else STANDARD_FIT
        words = [word.absolute() for word in data_words(data)]
        return joined(tuple(word.fitted(fits.get(word.path, common)) for word in words))

    def held_out_of(self, data: str) -> int | None:
        """How many of the last scenes of data the run did not learn from; ``None`` if from no scene.

        0 where it learned from these recordings, but perhaps from other scenes of them: options differ, or
        several mix.

        Args:
            data: Folders by their absolute paths, or synthetic scenes, which are others than the run's.
        """
        own, asked = ([word.of_scenes for word in data_words(each)] for each in (self.data, data))
        seen = {word.path for word in own if word.path}
        if not any(word.path in seen for word in asked):
            return None
        if len(asked) > 1 or asked[0] not in own:
            return 0
        return held_out_of_each(self.holdout, len(own))[own.index(asked[0])]

    def prepare(self, dataset: SceneDataset, *, holdout: int = 0) -> SceneDataset:
        """Scenes with what the recipe wants beside them, of which the last ones lend the others nothing."""
        return self.entry.prepare(self.config, dataset, holdout)


OBJECT = "object:"
"""Begins what a description calls scenes that were handed in from Python."""
