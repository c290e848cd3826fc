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
from renderpretrain.probes.fair.plan import (
    FairArm,
    FairPlan,
    FairTrial,
    Job,
    augmentation_for,
    labeled_scenes,
)
from renderpretrain.probes.fair.training import Course, Lesson, Tuned, can_learn_from, fine_tune
from renderpretrain.probes.loading import load_encoders
from renderpretrain.probes.plan import ProbeScenes
from renderpretrain.recipes.recipe import settings_of

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
        ValueError: If the encoders' weights do not fit, or scenes that are to teach have no labels.
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
        load_encoders(build(plan.seeds[0]), weights)
        self.arms: tuple[FairArm, ...] = ("scratch", "pretrained")
        self.arms += () if plan.task.handmade is None else ("handmade",)
        self.augment = plan.augment or augmentation_for(fresh, plan.task)
        self.device = next(fresh.parameters()).device
        self.validation = [scene.to(self.device) for scene in scenes.validation[: plan.validation_scenes]]
        self.statistics = [scene.to(self.device) for scene in scenes.train[: plan.statistics_scenes]]
        self.pretrained = digest(weights)
        self._check_labels(fresh.eval())
        known = "" if folder is None else self._known(fresh)
        self.folder = None if folder is None else folder / f"{plan.task.name}-{plan.trains}-{known}"

    def _known(self, fresh: nn.Module) -> str:
        """All that a training depends on, but for the job: what is shared by the trainings of a folder."""
        plan, scenes = self.plan, self.scenes
        sizes = (plan.weight_decay, plan.places, plan.scored_places, plan.statistics_scenes)
        with torch.no_grad():  # what is read of encoders is part of the question, and not of its name
            read = plan.task.read(fresh, self.statistics[0], plan.places)
        asked = (plan.task.name, plan.task.settings, plan.task.outputs, read.features.shape[1], plan.trains)
        settings = settings_of(fresh)  # how it was pre-trained is no part of what fresh encoders are
        built = None if settings is None else settings.model_dump(exclude={"optimization"})
        recipe = (type(fresh).__name__, str(built), fresh.state_dict())
        return digest(
            *asked,
            plan.schedule,
            *sizes,
            self.augment,
            *recipe,
            *scenes.train,
            "|",
            *self.validation,
            "|",
            *scenes.scored,
        )

    @torch.no_grad()
    def _check_labels(self, fresh: nn.Module) -> None:
        """There must be something to learn from with every seed, and something to score."""
        task, places, train = self.plan.task, self.plan.places, self.scenes.train

        def teaches(scene: Scene) -> bool:
            return can_learn_from(task, task.read(fresh, scene.to(self.device), places))

        for seed in (*self.plan.seeds, *self.plan.search_seeds):
            chosen = [train[i] for i in labeled_scenes(len(train), min(self.plan.labeled), seed)]
            if not any(map(teaches, chosen)):
                names = ", ".join(scene.name for scene in chosen)
                raise ValueError(f"train: expected {task.name} labels in some of {names}, found none")
        for name, part in (("validation", self.validation), ("test", self.scenes.test)):
            if part and not any(len(task.read(fresh, s.to(self.device), places).answers) for s in part):
                raise ValueError(
                    f"{name}: expected {task.name} labels in some of {len(part)} scenes, found none"
                )

    def trial(self, job: Job) -> tuple[FairTrial, bool]:
        """A training, and whether it was known already."""
        path = self._path(job)
        found = None if path is None else kept(path)
        if found is not None:
            told, sums = found
            curve = tuple((step, score) for step, score in told.pop("curve"))
            return self._scored(job, Course(**told, curve=curve), sums), True
        tuned = self._model(job)
        course = fine_tune(tuned, self._lesson(job), self.plan.schedule, job.steps)
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

        before, after = ([by_street(trial) for trial in arm] for arm in (scratch, pretrained))
        return paired_gain(before, after, task.score, task.less_is_better, self.plan.draws)

    def _scored(self, job: Job, course: Course, sums: Sequence[Tensor]) -> FairTrial:
        """A trial with the scores of its sums."""
        task = self.plan.task
        return FairTrial(job, course, task.scores(task.join(sums)) if sums else {}, tuple(sums))

    def _path(self, job: Job) -> Path | None:
        """A training's file; only pre-trained encoders' depends on the weights that are compared."""
        if self.folder is None:
            return None
        begun = f"{job.arm}-{self.pretrained}" if job.arm == "pretrained" else job.arm
        rates = f"lr{job.setting.lr!r}-encoder{job.setting.encoder_rate!r}"
        length = "converged" if job.steps is None else f"steps{job.steps}"
        name = f"{job.role}-{begun}-{job.labeled}-seed{job.seed}-{rates}-{length}"
        return self.folder / f"{name}.safetensors"

    def _model(self, job: Job) -> Tuned:
        """Encoders as an arm begins, with a fresh head and batch norms that have seen the scenes."""
        plan, recipe, by_hand = self.plan, self.build(job.seed), job.arm == "handmade"
        task = plan.task.by_hand() if by_hand else plan.task
        if job.arm == "pretrained":
            load_encoders(recipe, self.weights)
        if not by_hand:
            passes = (task.read(recipe, scene, plan.places) for scene in self.statistics)
            estimate_statistics(recipe, passes)
        with torch.no_grad():
            example = task.read(recipe.eval(), self.statistics[0], plan.places).features
        return Tuned(recipe, task.head(example, job.seed), task, by_hand or plan.trains == "decoder")

    def _lesson(self, job: Job) -> Lesson:
        """Scenes with labels in an order, changed anew in every step; all arms see the same."""
        plan, train, seed = self.plan, self.scenes.train, job.seed
        chosen = [train[i] for i in labeled_scenes(len(train), job.labeled, seed)]

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
        score = task.score(sums)
        if math.isnan(score):
            return -math.inf
        return -score if task.less_is_better else score

    @torch.no_grad()
    def _sums(self, tuned: Tuned, scenes: Sequence[Scene]) -> list[Tensor]:
        """What scores are made from, scene by scene, on the CPU."""
        read = (tuned.read(scene.to(self.device), self.plan.scored_places) for scene in scenes)
        return [self.plan.task.sums(tuned(samples), samples.answers).cpu() for samples in read]
