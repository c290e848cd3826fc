"""The scenes on which a run is looked at."""

from collections.abc import Callable

from renderpretrain.data import SceneDataset
from renderpretrain.runs import RunDescription
from renderpretrain.runs.description import OBJECT


def scenes_of(
    description: RunDescription,
    data: str | SceneDataset | None,
    *,
    count: int | None = None,
    say: Callable[[str], None],
) -> tuple[SceneDataset, int]:
    """Scenes as the recipe sees them, and how many of the last ones the run did not learn from.

    Args:
        description: Of the run.
        data: What ``open_data`` opens, scenes that the run has never seen, or ``None`` for the run's own.
        count: Synthetic scenes, where data is named.
        say: Told where the scenes have other cameras than the run.

    Raises:
        ValueError: If the data cannot be opened, or lacks what the recipe needs.
    """
    if data is None:
        return description.open(say=say), description.holdout
    if not isinstance(data, str):
        return description.prepare(data), len(data)
    if not data.startswith(OBJECT):
        data = description.as_seen(data)
    dataset = description.prepare(description.open_raw(data, count=count, seed=1, say=say))
    known = description.held_out_of(data)
    return dataset, len(dataset) if known is None else known
