"""What the encoders of a recipe say of one scene, and the colours of that."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene, collate
from renderpretrain.recipes.recipe import HasImageFeatures, HasPointFeatures, Recipe
from renderpretrain.viz.features import FeatureColors, feature_colors

MASK_SEED = 7
"""What is hidden of a scene is the same at every checkpoint, so that these can be compared."""


Features = dict[str, Tensor]
"""What encoders say: ``points`` ``(P, C)`` of each point, ``images`` ``(N, C, h, w)``."""


@dataclass(frozen=True)
class FeaturePalette:
    """Which colours the features of one state of the weights have, the same in all scenes.

    Attributes:
        points: Of features of points; ``None`` where there are none.
        images: Of features of images; likewise.
    """

    points: FeatureColors | None = None
    images: FeatureColors | None = None

    @staticmethod
    def of(features: Features) -> "FeaturePalette":
        """Fitted on what encoders say of one scene."""
        maps = features.get("images")
        rows = {"points": features.get("points")}
        rows["images"] = None if maps is None else maps.movedim(1, -1).flatten(0, -2)
        return FeaturePalette(
            **{
                name: feature_colors(found)
                for name, found in rows.items()
                if found is not None and int(found.isfinite().all(1).sum()) > 1
            }
        )


def scene_batch(scene: Scene, device: torch.device) -> Batch:
    """A scene as a batch of one, whose random numbers are always the same."""
    return collate([scene], torch.tensor([MASK_SEED])).to(device)


@torch.no_grad()
def encoder_features(recipe: nn.Module, scene: Scene) -> Features:
    """What the encoders of a recipe say of the whole scene: of its points, and of its pictures.

    Args:
        recipe: In ``eval()`` mode; one that says nothing of points or pictures gives none.
        scene: As the recipe sees it.
    """
    device = next(recipe.parameters()).device
    batch, found = scene_batch(scene, device), Features()
    if isinstance(recipe, HasPointFeatures) and len(scene.points):
        found["points"] = recipe.point_features(batch, batch.points.xyz)[0].cpu()
    if isinstance(recipe, HasImageFeatures) and batch.views is not None and _has_images(recipe):
        found["images"] = recipe.image_features(batch)[0].cpu()
    return found


def _has_images(recipe: nn.Module) -> bool:
    """Whether a recipe of this kind has an encoder of images: it may be built without one."""
    return any("image" in name for name in recipe.encoders()) if isinstance(recipe, Recipe) else True


def feature_picture(
    features: Float[Tensor, "C h w"], colors: FeatureColors, size: tuple[int, int]
) -> Float[Tensor, "3 H W"]:
    """The colours of an image's features, smoothly enlarged to the image's size."""
    shown = colors(features.movedim(0, -1)).movedim(-1, 0)
    return nn.functional.interpolate(shown[None], size=size, mode="bilinear", align_corners=False)[0]
