"""Fine-tuning compared fairly: does an encoder that was pre-trained end better than one that was not?

All arms have the same labels, head, order, changes of scenes, evaluations and steps. Fresh encoders are
trained until their validation score no longer rises, or the longest training is over; pre-trained ones then
get exactly as many steps, and so does a head on hand-made numbers alone, which says what no encoder is needed
for. Each arm has its own rates, the best of the same grid on validation scenes, tried with seeds of their
own. Test scenes are scored once for each seed and arm, when everything is chosen.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from torch import Tensor, nn

from renderpretrain.probes.fair.plan import FairArm, FairPlan, FairTrial, Job, Outcome
from renderpretrain.probes.fair.trial import Bench
from renderpretrain.probes.probe import ProbeScenes

Say = Callable[[FairTrial, bool], None]


def fine_tune_fairly(
    plan: FairPlan,
    scenes: ProbeScenes,
    build: Callable[[int], nn.Module],
    weights: dict[str, Tensor],
    say: Say = lambda trial, known: None,
    folder: Path | None = None,
) -> list[Outcome]:
    """Fine-tune pre-trained and fresh encoders, and a head on hand-made numbers.

    Args:
        plan: What is compared.
        scenes: On the CPU. Validation scenes choose rates, steps and weights; test scenes are scored, once.
            None of these, and better none at all, is one that the weights were pre-trained on.
        build: A recipe with fresh weights of a seed, on the device to compute on.
        weights: The pre-trained recipe's state.
        say: Told of every training, and whether it was known already.
        folder: Keeps every finished training; those that it has are not done again. Trainings of other plans,
            scenes or weights in it do no harm, and fresh encoders' are shared by all weights of one recipe.

    Returns:
        One outcome for each number of labelled scenes.

    Raises:
        ValueError: If less than 95 % of the encoders' weights fit, the recipe or the scenes lack what the
            task asks for, there are fewer scenes than labels are asked of, or a kept training is damaged.
    """
    if max(plan.labeled) > len(scenes.train):
        raise ValueError(
            f"labeled: expected at most the {len(scenes.train)} training scenes, got {max(plan.labeled)}"
        )
    if plan.streets is not None and len(plan.streets) != len(scenes.scored):
        raise ValueError(
            f"streets: expected one for each of the {len(scenes.scored)} scored scenes, got "
            f"{len(plan.streets)}"
        )
    bench = Bench(plan, scenes, build, weights, folder)
    return [_outcome(bench, labeled, say) for labeled in plan.labeled]


def _outcome(bench: Bench, labeled: int, say: Say) -> Outcome:
    """Search for each arm's rates, scratch first, which says how many steps there are; then all seeds.

    A grid of one setting is not searched.
    """
    trials: list[FairTrial] = []

    def done(job: Job) -> FairTrial:
        trial, known = bench.trial(job)
        say(trial, known)
        trials.append(trial)
        return trial

    def search(arm: FairArm, steps: dict[int, int | None]) -> list[FairTrial]:
        """The trials of the best setting."""
        tried = [
            [done(Job(arm, "search", labeled, seed, setting, steps[seed])) for seed in steps]
            for setting in bench.plan.settings(arm)
        ]
        return max(tried, key=lambda trials: fmean(trial.course.best for trial in trials))

    arms = bench.arms
    chosen = {arm: bench.plan.settings(arm)[0] for arm in arms}
    steps: dict[int, int | None] = dict.fromkeys(bench.plan.search_seeds)
    for arm in arms if len(bench.plan.settings("scratch")) > 1 else ():
        found = search(arm, steps)
        chosen[arm] = found[0].job.setting
        if arm == "scratch":
            steps = {trial.job.seed: trial.course.constant_steps for trial in found}
    finals: dict[FairArm, list[FairTrial]] = {arm: [] for arm in arms}
    for seed in bench.plan.seeds:
        until: int | None = None
        for arm in arms:
            finals[arm].append(done(Job(arm, "final", labeled, seed, chosen[arm], until)))
            until = until or finals[arm][-1].course.constant_steps
    after = finals["pretrained"]
    beside = bench.compare(finals["handmade"], after) if "handmade" in arms else None
    return Outcome(labeled, chosen, bench.compare(finals["scratch"], after), tuple(trials), beside)
