"""What predictors that learn no geometry score on held-out scenes, to be read beside a recipe's scores."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.recipes.recipe import DrawsRays, HasScores, lacking
from renderpretrain.runs.metrics import PREDICTORS
from renderpretrain.samplers import RayTargets
from renderpretrain.training.baselines import RowConstants
from renderpretrain.training.distributed import Process
from renderpretrain.training.evaluate import own_scores, own_sums
from renderpretrain.training.held_out import HeldOutScene, held_out_scenes, no_sums, scores_of
from renderpretrain.training.nearest import first_in_cylinder
from renderpretrain.training.order import held_out_batch

BASELINE_SCENES = 32
"""Training scenes, evenly spread, that the rows' constants come from."""

FAR_AWAY = 10.0
"""Metres that a ray with no point near it is said to go where no row is known."""


def evaluate_predictors(
    recipe: nn.Module,
    dataset: SceneDataset,
    split: tuple[Sequence[int], Sequence[int]],
    *,
    process: Process,
    num_rays: int,
) -> dict[str, dict[str, float]]:
    """Score other predictors on the rays that :func:`~renderpretrain.training.evaluate` scores.

    ``nearest_point`` is the first point of the input in a cylinder around the ray
    (:func:`~renderpretrain.training.nearest.first_in_cylinder`), and the row's median where there is none;
    nearer ones than any ray's own return do not count, for the recording car is all around a camera.
    The others are constants for each row of each camera, made of training scenes
    (:class:`~renderpretrain.training.baselines.RowConstants`); ``baseline`` is their means, with colour and
    with what the recipe's own predictor scores.

    Args:
        recipe: Its ``targets`` choose the rays.
        dataset: Where the scenes are.
        split: Training scenes, of which the rows are made, and held-out scenes. Without training scenes there
            are no rows, and a ray that is near no point is said to go 10 m.
        process: Whose device is used.
        num_rays: Rays per camera, or per sweep where there are no cameras.

    Returns:
        Scores by name, by predictor.

    Raises:
        ValueError: If the recipe chooses no rays.
    """
    if not isinstance(recipe, DrawsRays):
        raise lacking(recipe, DrawsRays, "evaluation")
    training, held_out = split
    names = tuple(PREDICTORS) if training else ("nearest_point",)
    sums = {name: no_sums(process) for name in names}
    own = own_sums(recipe, process)
    share = held_out[process.rank :: process.world_size]
    with torch.no_grad():
        rows = _rows(recipe, dataset, training, process, num_rays) if training else None
        for scene in held_out_scenes(recipe, dataset, share, process=process, num_rays=num_rays):
            for name, depth in _depths(rows, scene).items():
                rgb = rows.rgb(scene.targets) if rows and name == "baseline" else None
                sums[name] += scene.score_sums(*depth, rgb)
            if isinstance(recipe, HasScores):
                own += recipe.score_sums(scene.batch, None)
    found = {name: scores_of(process.total(each)) for name, each in sums.items()}
    named = own_scores(recipe, process.total(own))
    return found | ({"baseline": found.get("baseline", {}) | named} if training or named else {})


def _rows(
    recipe: DrawsRays, dataset: SceneDataset, training: Sequence[int], process: Process, num_rays: int
) -> RowConstants:
    """What rows look like in a few training scenes, evenly spread over them all."""
    chosen = training[:: -(-len(training) // BASELINE_SCENES)]
    batches = (held_out_batch(dataset, index).to(process.device) for index in chosen)
    return RowConstants.of(recipe.targets(batch, num_rays) for batch in batches)


def _depths(rows: RowConstants | None, scene: HeldOutScene) -> dict[str, tuple[Tensor, Tensor]]:
    """What each predictor says of the rays: with the whole input, and with what is left of it."""
    targets = scene.targets
    medians = torch.full_like(targets.depth, FAR_AWAY) if rows is None else rows.median_depth(targets)
    near = scene.nearest_return
    whole = nearest_point(scene.batch, targets, medians, near)
    # A ray whose return is in the whole input is asked for there, and the others nowhere else.
    depths = {"nearest_point": (whole, nearest_point(scene.left, scene.only_not_given, medians, near))}
    if rows is None:
        return depths
    best, means = rows.best_depth(targets), rows.mean_depth(targets)
    constants = {"best_row": best, "row_median": medians, "baseline": means}
    return depths | {name: (depth, depth) for name, depth in constants.items()}


def nearest_point(
    batch: Batch, targets: RayTargets, otherwise: Float[Tensor, "B R"], near: float
) -> Float[Tensor, "B R"]:
    """Depth of the first input point, of any sweep, in a cylinder around each ray that has a depth.

    Args:
        batch: The input.
        targets: Rays; those without a depth get what is said otherwise.
        otherwise: What is said where no cylinder holds a point, metres.
        near: Metres along a ray up to which points do not count.
    """
    depth = otherwise.clone()
    for sample, hit in enumerate(targets.hit):
        points = batch.points.xyz[sample][batch.points.valid[sample]]
        first = first_in_cylinder(targets.rays[sample][hit].to("cpu"), points.cpu(), near=near).to(depth)
        depth[sample, hit] = torch.where(first.isinf(), depth[sample, hit], first)
    return depth
