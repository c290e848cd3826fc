"""The task whose answer is a distance: of every cell of the image features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.probes.features import Levels, map_features
from renderpretrain.probes.task import ProbeSamples, Task, one_batch, some
from renderpretrain.samplers import depth_pictures


def depth(levels: Levels = "all") -> Task:
    """Metres along the optical axis of the nearest return in every cell of the image features.

    A head says the distance's logarithm; its loss is the absolute difference. ``abs_rel`` is the mean of
    ``|d - d*| / d*`` over all cells with a return, ``rmse`` in metres. ``abs_rel`` punishes what is too far
    more than what is too near: of two heads the one that is too near can have the larger loss and the lower
    ``abs_rel``. Cells are those of the given calibration, whatever a recipe refines.

    Args:
        levels: What is read of the encoders.
    """

    def read(recipe: nn.Module, scene: Scene, limit: int) -> ProbeSamples:
        batch = one_batch(scene)
        features = map_features(recipe, batch, levels, "depth")
        if batch.views is None:
            raise ValueError(f"scene {scene.name!r} has no images, which depth needs")
        cameras = batch.views.cameras.resize((features.shape[3], features.shape[4]))
        seen = depth_pictures(batch.points.xyz, batch.points.key, cameras)
        seen = seen * batch.views.seen((features.shape[3], features.shape[4]))
        rows = some(torch.nonzero(seen.flatten())[:, 0], limit)
        return ProbeSamples(features.movedim(2, -1).flatten(0, 3)[rows], seen.flatten()[rows])

    return Task("depth", "abs_rel", True, 1, read, _loss, _sums, _scores)


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
