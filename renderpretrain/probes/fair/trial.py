"""One training of a fair comparison, from fresh or pre-trained weights to scores; or from the disk."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.probes.fair.bootstrap import PairedGain, paired_gain
from renderpretrain.probes.fair.kept import digest, keep, kept
from renderpretrain.probes.fair.plan import FairPlan, FairTrial, Job, augmentation_for, labeled_scenes
from renderpretrain.probes.fair.training import Course, Lesson, Tuned, fine_tune
from renderpretrain.probes.probe import ProbeScenes
from renderpretrain.recipes.recipe import settings_of
from renderpretrain.storage.weights import check_weights

MANY = 1_000_003
"""Between the numbers that two seeds' steps are drawn from."""


class Bench:
    """Where trainings are done, with all that they share.

    Args:
        plan: What is compared.
        scenes: On the CPU.
        build: A recipe with fresh weights of a seed, on the device to compute on.
        weights: The pre-trained recipe's state.
        folder: Keeps finished trainings; ``None`` keeps none.

    Raises:
        ValueError: If the weights do not fit.
    """

    def __init__(
        self,
        plan: FairPlan,
        scenes: ProbeScenes,
        build: Callable[[int], nn.Module],
        weights: dict[str, Tensor],
        folder: Path | None = None,
    ) -> None:
        self.plan, self.scenes, self.build, self.weights = plan, scenes, build, weights
        fresh = build(plan.seeds[0])
        check_weights(fresh, weights, "weights")
        self.augment = plan.augment or augmentation_for(fresh, plan.task)
        self.device = next(fresh.parameters()).device
        self.validation = [scene.to(self.device) for scene in scenes.validation[: plan.validation_scenes]]
        self.statistics = [scene.to(self.device) for scene in scenes.train[: plan.statistics_scenes]]
        self.pretrained = digest(weights)
        sizes = (plan.weight_decay, plan.places, plan.scored_places, plan.statistics_scenes)
        with torch.no_grad():  # what is read of encoders is part of the question, and not of its name
            read = plan.task.read(fresh.eval(), self.statistics[0], plan.places)
        asked = (plan.task.name, plan.task.outputs, read.features.shape[1], plan.trains)
        shared = (*asked, plan.schedule, *sizes, self.augment)
        recipe = (type(fresh).__name__, str(settings_of(fresh)), fresh.state_dict())
        known = digest(*shared, *recipe, *scenes.train, "|", *self.validation, "|", *scenes.scored)
        self.folder = None if folder is None else folder / f"{plan.task.name}-{plan.trains}-{known}"

    def trial(self, job: Job) -> tuple[FairTrial, bool]:
        """A training, and whether it was known already."""
        path = self._path(job)
        found = None if path is None else kept(path)
        if found is not None:
            told, sums = found
            curve = tuple((step, score) for step, score in told.pop("curve"))
            return self._scored(job, Course(**told, curve=curve), sums), True
        tuned = self._model(job)
        course = fine_tune(tuned, self._lesson(tuned, job), self.plan.schedule, job.steps)
        sums = self._sums(tuned, self.scenes.scored) if job.role == "final" else []
        if path is not None:
            keep(path, asdict(course), sums)
        return self._scored(job, course, sums), False

    def compare(self, scratch: Sequence[FairTrial], pretrained: Sequence[FairTrial]) -> PairedGain:
        """The arms over all seeds and scored scenes."""
        task, streets = self.plan.task, self.plan.streets or tuple(range(len(self.scenes.scored)))

        def by_street(trial: FairTrial) -> list[Tensor]:
            pairs = list(zip(streets, trial.sums, strict=True))
            return [task.join([s for at, s in pairs if at == street]) for street in dict.fromkeys(streets)]

        def score(sums: Sequence[Tensor]) -> float:
            return task.scores(task.join(sums))[task.metric]

        before, after = ([by_street(trial) for trial in arm] for arm in (scratch, pretrained))
        return paired_gain(before, after, score, task.less_is_better, self.plan.draws)

    def _scored(self, job: Job, course: Course, sums: Sequence[Tensor]) -> FairTrial:
        """A trial with the scores of its sums."""
        task = self.plan.task
        return FairTrial(job, course, task.scores(task.join(sums)) if sums else {}, tuple(sums))

    def _path(self, job: Job) -> Path | None:
        """A training's file; fresh encoders' is the same whatever weights they are compared with."""
        if self.folder is None:
            return None
        begun = job.arm if job.arm == "scratch" else f"{job.arm}-{self.pretrained}"
        rates = f"lr{job.setting.lr:g}-encoder{job.setting.encoder_rate:g}"
        length = "converged" if job.steps is None else f"steps{job.steps}"
        name = f"{job.role}-{begun}-{job.labeled}-seed{job.seed}-{rates}-{length}"
        return self.folder / f"{name}.safetensors"

    def _model(self, job: Job) -> Tuned:
        """Encoders as an arm begins, with a fresh head and batch norms that have seen the scenes."""
        plan, recipe = self.plan, self.build(job.seed)
        if job.arm == "pretrained":
            recipe.load_state_dict(self.weights)
        passes = (plan.task.read(recipe, scene, plan.places) for scene in self.statistics)
        estimate_statistics(recipe, passes)
        with torch.no_grad():
            example = plan.task.read(recipe, self.statistics[0], plan.places).features
        head = plan.task.head(example, job.seed)
        return Tuned(recipe, head, plan.task, frozen=plan.trains == "decoder")

    def _lesson(self, tuned: Tuned, job: Job) -> Lesson:
        """Scenes with labels in an order, changed anew in every step; both arms see the same."""
        plan, train, seed = self.plan, self.scenes.train, job.seed
        chosen = [train[i] for i in labeled_scenes(len(train), job.labeled, seed)]
        with torch.no_grad():
            read = (tuned.read(scene.to(self.device), plan.places) for scene in chosen)
            if not any(map(tuned.can_learn_from, read)):
                names = ", ".join(scene.name for scene in chosen)
                raise ValueError(f"train: expected {plan.task.name} labels in some of {names}, found none")

        def sample(step: int) -> tuple[Scene, int]:
            epoch, at = divmod(step - 1, len(chosen))
            draw = torch.Generator().manual_seed(seed * MANY + epoch)
            scene = chosen[torch.randperm(len(chosen), generator=draw).tolist()[at]]
            if plan.task.moves_with_world:  # what lies on a grid stays, and is not asked for
                scene = replace(scene, occupancy=None)
            return self.augment(scene, seed * MANY + step).to(self.device), plan.places

        return Lesson(sample, self._judge, job.setting, plan.weight_decay, seed)

    def _judge(self, tuned: Tuned) -> float:
        """Score on the validation scenes, turned so that greater is better; the least there is for NaN."""
        task, plan = self.plan.task, self.plan
        tuned.measure_norms(self.statistics, plan.places)
        with torch.no_grad():
            read = (tuned.look(scene, plan.places) for scene in self.validation)
            sums = [task.sums(tuned(samples), samples.answers) for samples in read]
        score = task.scores(task.join(sums))[task.metric]
        if math.isnan(score):
            return -math.inf
        return -score if task.less_is_better else score

    @torch.no_grad()
    def _sums(self, tuned: Tuned, scenes: Sequence[Scene]) -> list[Tensor]:
        """What scores are made from, scene by scene, on the CPU."""
        read = (tuned.read(scene.to(self.device), self.plan.scored_places) for scene in scenes)
        return [self.plan.task.sums(tuned(samples), samples.answers).cpu() for samples in read]
