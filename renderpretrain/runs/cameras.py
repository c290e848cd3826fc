"""Whether scenes show the cameras that a run knows."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from renderpretrain.data import SceneDataset
from renderpretrain.data.folder.fields import brief
from renderpretrain.data.folders_within import camera_places
from renderpretrain.runs.entries import needs_of


def strange_cameras(
    data: str, dataset: SceneDataset, places: Mapping[str, int], config: BaseModel
) -> Iterator[str]:
    """What is worth a word where a run that learned something of each camera sees other ones: a line at most.

    Args:
        data: How the user calls the data set.
        dataset: With the cameras in their places.
        places: Of the run's cameras; where it has none, nothing is known of them.
        config: Of the run's recipe.
    """
    needs, found = needs_of(config), camera_places(dataset)
    strangers = [brief(name) for name in found if name not in places]
    if not needs.most_cameras or not places or (found and not strangers):
        return
    own = ", ".join(map(brief, places))
    if found:
        yield (
            f"cameras: the run knows {own}; {', '.join(strangers)} of {data} take the places that these "
            "leave free, and what was learned there; folder:PATH?cameras=NAME,NAME chooses among them"
        )
    else:
        yield f"cameras: {data} does not name its own, which are taken in their order for the run's: {own}"
