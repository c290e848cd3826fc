"""The task whose answer is a distance: of every cell of the image features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene
from renderpretrain.geometry import Views
from renderpretrain.probes.features import Levels, map_features
from renderpretrain.probes.handmade import pixel_numbers
from renderpretrain.probes.task import ProbeSamples, Task, one_batch, some
from renderpretrain.samplers import depth_pictures


def depth(levels: Levels = "all") -> Task:
    """Metres along the optical axis of the nearest return in every cell of the image features.

    A head says the distance's logarithm; its loss is the absolute difference. ``abs_rel`` is the mean of
    ``|d - d*| / d*`` over all cells with a return, ``rmse`` in metres. ``abs_rel`` punishes what is too far
    more than what is too near: of two heads the one that is too near can have the larger loss and the lower
    ``abs_rel``. Cells are those of the given calibration, whatever a recipe refines.

    Hand-made numbers of a cell are its ray's and its colour's
    (:func:`~renderpretrain.probes.handmade.pixel_numbers`).

    Args:
        levels: What is read of the encoders.
    """

    def read(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        batch = one_batch(scene)
        maps = map_features(recipe, batch, levels, "depth")
        return _cells(batch, maps, limit)

    def by_hand(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        batch = one_batch(scene)
        with torch.no_grad():  # for the number of cells alone
            *_, height, width = map_features(recipe, batch, levels, "depth").shape
        return _cells(batch, pixel_numbers(_views(batch), (height, width)), limit)

    return Task(
        "depth",
        "abs_rel",
        True,
        1,
        read,
        _loss,
        _sums,
        _scores,
        handmade=by_hand,
        settings=(levels,),
    )


def _views(batch: Batch) -> Views:
    """The images of a scene."""
    if batch.views is None:
        raise ValueError(f"scene {batch.names[0]!r} has no images, which depth needs")
    return batch.views


def _cells(batch: Batch, maps: Float[Tensor, "1 N C h w"], limit: int) -> ProbeSamples:
    """The cells of maps that have a return, and how far it is."""
    views, size = _views(batch), (maps.shape[3], maps.shape[4])
    seen = depth_pictures(batch.points.xyz, batch.points.key, views.cameras.resize(size))
    seen = seen * views.seen(size)
    rows = some(torch.nonzero(seen.flatten())[:, 0], limit)
    return ProbeSamples(maps.movedim(2, -1).flatten(0, 3)[rows], seen.flatten()[rows])


def _loss(outputs: Float[Tensor, "M 1"], answers: Float[Tensor, " M"]) -> Float[Tensor, ""]:
    """Mean difference of the logarithms."""
    return nn.functional.l1_loss(outputs[:, 0], answers.log())


def _sums(outputs: Float[Tensor, "M 1"], answers: Float[Tensor, " M"]) -> Float[Tensor, "3"]:
    """Relative error, squared error, number."""
    answers = answers.double()
    error = outputs[:, 0].double().exp() - answers
    count = torch.full_like(error[:1].sum(), len(error))
    return torch.stack([(error.abs() / answers).sum(), error.square().sum(), count])


def _scores(sums: Float[Tensor, "3"]) -> dict[str, float]:
    """The mean of every score over the pixels."""
    relative, squared, count = sums.tolist()
    return {"abs_rel": relative / max(count, 1), "rmse": (squared / max(count, 1)) ** 0.5}
