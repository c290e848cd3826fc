"""``evaluate``: how well a run renders scenes that it did not learn from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.runs.metrics import OVER_RANGE, without_ranges
from renderpretrain.runs.trained import Encoders
from renderpretrain.storage import check_target, write_text
from renderpretrain.training import RunOptions, evaluate_predictors, evaluate_views, process_session
from renderpretrain.training import evaluate as evaluate_rays
from renderpretrain.training.held_out_views import WINDOW
from renderpretrain.training.trained import load_recipe
from renderpretrain.verbs.reporting import refresh_report
from renderpretrain.verbs.scenes import scenes_of


@dataclass(frozen=True)
class Evaluation:
    """Which views of a run are scored.

    Attributes:
        run: Its folder.
        data: Other data than the run's own held-out scenes.
        test_scenes: How many; all by default.
        stride: Pixels between the rendered ones of views; up to 4.
        device: Where to compute.
        recipe: The recipe, where the run's description is not enough to build it.
        encoder: Encoders that were handed in from Python.
        say: Told what is worth a word.
    """

    run: Path
    data: str | SceneDataset | None = None
    test_scenes: int | None = None
    stride: int | None = None
    device: str = "auto"
    recipe: nn.Module | None = None
    encoder: Encoders | None = None
    say: Callable[[str], None] = print

    def score(self) -> "Scores":
        """Score the views, and write ``eval.json``.

        Raises:
            ValueError: If the run cannot be read, or nothing of the data is left that it did not learn from.
        """
        read = read_run(self.run, self.recipe, self.encoder).checked()
        check_target("run", self.run / "eval.json")
        description = read.description
        dataset, held_out = scenes_of(description, self.data, count=self.test_scenes, say=self.say)
        indices = self._indices(description, len(dataset), held_out)
        stride = self.stride or max(1, min(4, min(description.settings.image_size or (WINDOW,)) // WINDOW))
        rays = RunOptions.evaluation_rays
        with process_session(self.device) as process:
            model = load_recipe(read, process.device, say=self.say)
            scores = evaluate_rays(model, dataset, indices, process=process, num_rays=rays)
            scores |= evaluate_views(model, dataset, indices, stride=stride, num_rays=rays)
            split = range(len(dataset) - held_out), indices
            beside = evaluate_predictors(model, dataset, split, process=process, num_rays=rays)
        named = description.data if self.data is None else self._name
        record = {"step": read.step, "data": named, "scenes": list(indices), "stride": stride}
        record |= {"over_range": {name: _over_range(of) for name, of in {"recipe": scores, **beside}.items()}}
        scores, beside = without_ranges(scores), {name: without_ranges(of) for name, of in beside.items()}
        record |= {"scores": scores, "predictors": beside}
        write_text(self.run / "eval.json", json.dumps(record, indent=1) + "\n")
        return Scores(scores, beside, len(indices), read.step, self.run / "eval.json")

    @property
    def _name(self) -> str:
        return self.data if isinstance(self.data, str) else type(self.data).__name__

    def _indices(self, description: RunDescription, size: int, held_out: int) -> range:
        """The scenes that are scored: the last ones."""
        if not held_out:
            raise ValueError(f"{self.run}: expected held-out scenes, found none; name others with --data")
        if self.test_scenes is not None and self.test_scenes > held_out:
            data = description.data if self.data is None else self._name
            raise ValueError(
                f"test_scenes: expected at most the {held_out} scenes of {data} that the run did not "
                f"learn from, got {self.test_scenes}"
            )
        return range(size - (self.test_scenes or held_out), size)


def _over_range(scores: Mapping[str, float]) -> dict[str, float]:
    """Depth errors by interval of depth, without what their names begin with."""
    of_ranges = {name: value for name, value in scores.items() if name.startswith(OVER_RANGE)}
    return {name.removeprefix(OVER_RANGE): value for name, value in of_ranges.items()}


@dataclass(frozen=True)
class Scores:
    """How well a run renders.

    Attributes:
        scores: By name.
        predictors: Scores of predictors that learn no geometry, by predictor.
        scenes: How many were scored.
        step: Updates the recipe has had.
        file: Where they are written.
    """

    scores: dict[str, float]
    predictors: dict[str, dict[str, float]]
    scenes: int
    step: int
    file: Path


def evaluate(  # noqa: PLR0913  what the flags of the command line say
    run: Path | str,
    *,
    data: str | SceneDataset | None = None,
    test_scenes: int | None = None,
    stride: int | None = None,
    device: str = "auto",
    recipe: nn.Module | None = None,
    encoder: Encoders | None = None,
) -> dict[str, float]:
    """Score how a run renders held-out scenes, as ``renderpretrain eval`` does; also writes ``eval.json``.

    The run's report is written again, with what was found.

    Args:
        run: A run folder.
        data: As for :func:`~renderpretrain.verbs.pretrain`, or scenes; by default those that the run held
            out.
        test_scenes: How many of the last scenes to score; all by default.
        stride: Pixels between the rendered ones of views; up to 4 by default.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        recipe: The recipe that was trained, where it was put together in Python and cannot be built again
            from the run folder; it is given the run's weights.
        encoder: Likewise an encoder that was handed in to ``pretrain`` as a module, or ``{"point": ...,
            "image": ...}``.

    Returns:
        Scores by name.

    Raises:
        ValueError: In the words of the command line.
    """
    found = Evaluation(Path(run), data, test_scenes, stride, device, recipe, encoder).score().scores
    refresh_report(Path(run))
    return found
