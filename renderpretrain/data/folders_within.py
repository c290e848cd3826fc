"""What a data set is made of: the scene folders in it, wherever they stand, and the places of its cameras."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from renderpretrain.data.arranged import ArrangedScenes
from renderpretrain.data.camera_places import places_of
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.miscalibration import Miscalibrated
from renderpretrain.data.mixed import MixedScenes, held_out_of_each
from renderpretrain.data.scene import Recording, SceneDataset
from renderpretrain.data.shards.reading import ShardScenes
from renderpretrain.data.windows import FollowedScenes, SceneWindows


def with_folders(dataset: SceneDataset, change: Callable[[SceneFolder], SceneFolder]) -> SceneDataset:
    """A data set like the given one, in which every scene folder has been changed by a function.

    Those of mixtures, windows and miscalibrated scenes are found; a wrapper of the user's own stays as it is.

    Args:
        dataset: Any.
        change: Called with every folder; returns what stands in its place.
    """
    if isinstance(dataset, SceneFolder):
        return change(dataset)
    if isinstance(dataset, Miscalibrated):
        return replace(dataset, dataset=with_folders(dataset.dataset, change))
    if isinstance(dataset, MixedScenes):
        return dataset.of([with_folders(one, change) for one in dataset.datasets])
    if isinstance(dataset, SceneWindows | FollowedScenes):
        inner = with_folders(dataset.recording, change)
        return replace(dataset, recording=inner) if isinstance(inner, Recording) else dataset
    return dataset


def folders_held_out(dataset: SceneDataset, holdout: int) -> Iterator[tuple[SceneFolder, int]]:
    """The scene folders in a data set, and how many of the last scenes of each are held out.

    Args:
        dataset: As for :func:`with_folders`.
        holdout: How many of its last scenes are.
    """
    if isinstance(dataset, SceneFolder):
        yield dataset, holdout
    elif isinstance(dataset, Miscalibrated):
        yield from folders_held_out(dataset.dataset, holdout)
    elif isinstance(dataset, MixedScenes):
        counts = held_out_of_each(holdout, len(dataset.datasets))
        for one, count in zip(dataset.datasets, counts, strict=True):
            yield from folders_held_out(one, count)
    elif isinstance(dataset, SceneWindows | FollowedScenes | ArrangedScenes):
        yield from folders_held_out(dataset.recording, holdout)


def decodes_pictures(dataset: SceneDataset) -> bool:
    """Whether making scenes means decoding pictures, as those of recordings, wherever they stand."""
    if isinstance(dataset, Miscalibrated):
        return decodes_pictures(dataset.dataset)
    if isinstance(dataset, SceneWindows | FollowedScenes):
        return decodes_pictures(dataset.recording)
    if isinstance(dataset, MixedScenes):
        return any(decodes_pictures(one) for one in dataset.datasets)
    return isinstance(dataset, SceneFolder | ShardScenes) and dataset.image_size is not None


def camera_places(dataset: SceneDataset) -> dict[str, int]:
    """Where each camera of a data set stands, by its name; empty where it does not say ``camera_names``."""
    if isinstance(dataset, Miscalibrated):
        return camera_places(dataset.dataset)
    if isinstance(dataset, SceneWindows | FollowedScenes):
        return camera_places(dataset.recording)
    if isinstance(dataset, MixedScenes):
        return dataset.camera_places
    return places_of([getattr(dataset, "camera_names", ())])
