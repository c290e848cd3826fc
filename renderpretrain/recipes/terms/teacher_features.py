"""Features of a teacher on images, told by what rays show and by what encoders say of places."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.encoders import FeatureHeads, ImageLevel
from renderpretrain.losses import semantic_cosine
from renderpretrain.recipes.terms.places import (
    along_rays,
    chosen_levels,
    read_at_rays,
    read_level,
    world_places,
)
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.teachers import StoredMaps


class RenderedFeatures(nn.Module):
    """What rays show of the rendered volume tells a teacher's feature at their pixels.

    The volume's features are added up along rays by what rays see; behind a head of two layers they are
    compared with every layer of the teacher by cosine, each for itself. Only rays of cameras count, whose
    pixels were seen; where the field is empty, what they show is 0.

    Args:
        maps: The teacher's, as :func:`~renderpretrain.teachers.write_maps` keeps them.
        channels: Width of the rendered volume.
        weight: Of the term.
        hidden_channels: Width of the head's hidden layer.
        rays: About so many of a sample's are read.
    """

    def __init__(
        self,
        maps: StoredMaps,
        channels: int,
        *,
        weight: int | float = 1.0,
        hidden_channels: int = 128,
        rays: int = 1024,
    ) -> None:
        super().__init__()
        self.maps, self.weight, self.rays = maps, weight, rays
        self.head = FeatureHeads(channels, hidden_channels, _by_layer(maps))

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``rendered_features``.

        Raises:
            ValueError: If there are no maps of a scene's images, or the recipe renders nothing.
        """
        seen, layers = rendering_of(step, self), maps_of(step, self.maps)
        every = -(-seen.targets.depth.shape[1] // self.rays)
        features = along_rays(seen.volume, seen.grid, seen, every)
        valid = (seen.targets.rgb_valid & (seen.targets.camera >= 0))[:, ::every]
        size = step.batch.require_views("a recipe without a teacher on images").cameras.image_size
        terms = [
            semantic_cosine(said, read_at_rays(layers[int(name)], seen.targets, size, every), valid)
            for name, said in self.head(features).items()
        ]
        return {"rendered_features": self.weight * torch.stack(terms).mean()}


class PointFeatures(nn.Module):
    """Levels of an encoder of points tell a teacher's feature at the pixels where cameras see the points.

    The levels, side by side, behind a head of two layers, at returns of the key sweep; every layer of the
    teacher is compared for itself, by cosine. Returns that no camera sees do not count. Those that are hidden
    from the encoder do: it has to guess them.

    Args:
        maps: The teacher's, as :func:`~renderpretrain.teachers.write_maps` keeps them.
        widths: Channels of the encoder's levels by name, see :func:`level_widths` beside.
        levels: Names of the levels that are read, or of parts for all of theirs; by default all.
        weight: Of the term.
        hidden_channels: Width of the head's hidden layer.
        places: Returns of every sample.
    """

    def __init__(
        self,
        maps: StoredMaps,
        widths: Mapping[str, int],
        *,
        levels: Sequence[str] = (),
        weight: int | float = 1.0,
        hidden_channels: int = 128,
        places: int = 1024,
    ) -> None:
        super().__init__()
        points = {name: width for name, width in widths.items() if name.startswith("point_")}
        self.read = chosen_levels(points, levels)
        self.maps, self.weight, self.places = maps, weight, places
        self.head = FeatureHeads(sum(self.read.values()), hidden_channels, _by_layer(maps))

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``point_features``.

        Raises:
            ValueError: If there are no maps of a scene's images.
        """
        views = step.batch.require_views("a recipe without a teacher on images")
        layers, places = maps_of(step, self.maps), world_places(step, self.places, "point features")
        known = [read_level(level, places) for level in step.levels if level.name in self.read]
        pixels, _, inside = views.cameras.project(places.where[:, None])
        seen = views.seen_at(pixels, inside & views.valid[..., None]).any(1)
        valid = places.valid & seen
        terms = [
            semantic_cosine(said, layers[int(name)].read(places.where, views), valid)
            for name, said in self.head(torch.cat(known, -1)).items()
        ]
        return {"point_features": self.weight * torch.stack(terms).mean()}


@torch.no_grad()
def maps_of(step: Step, maps: StoredMaps) -> list[ImageLevel]:
    """A teacher's maps of the images of a step, a level for each layer.

    Raises:
        ValueError: If a scene has no images, or there are no maps of them.
    """
    views = step.batch.require_views("a recipe without a teacher on images")
    found: list[Tensor] = maps.batch(step.batch.names, views.images, views.valid)
    return [ImageLevel(f"teacher/{i}", layer) for i, layer in enumerate(found)]


def _by_layer(maps: StoredMaps) -> dict[str, int]:
    """Widths of a teacher's layers, by their numbers."""
    return {str(i): width for i, width in enumerate(maps.channels)}
