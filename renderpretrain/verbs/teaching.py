"""A teacher's maps of all that a run will see, made before the run."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from renderpretrain.runs import PrintLine, describe_run, recipe_settings
from renderpretrain.runs.importing import imported, made
from renderpretrain.runs.settings import Tree
from renderpretrain.teachers import ImageTeacher, StoredMaps, write_maps
from renderpretrain.training import choose_device


def write_teacher_maps(  # noqa: PLR0913  one keyword per flag
    out: Path | str,
    teacher: str | nn.Module,
    recipe: str = "render-distill-lidar",
    *,
    preset: str | None = None,
    data: str | None = None,
    scenes: int | None = None,
    holdout: int | None = None,
    settings: Sequence[Tree] = (),
    config: Path | str | None = None,
    channels: int = 64,
    device: str = "auto",
    say: PrintLine = print,
) -> StoredMaps:
    """Write what a teacher says of every image of a run; the run reads it with ``teacher.maps``.

    Scenes whose maps are there, of the same images and teacher, are passed over: who is interrupted goes on.

    Args:
        out: The folder of the maps.
        teacher: A network that gives maps, or ``package.module:factory`` of what makes one; as an
            :class:`~renderpretrain.teachers.ImageTeacher` it says its layers, size and normalisation itself.
        recipe: As the run has it; so are the preset, the data, scenes and settings, which decide on images.
        preset: Of the recipe.
        data: What ``open_data`` opens.
        scenes: Synthetic scenes to train on.
        holdout: Scenes at the end that are only evaluated.
        settings: That change the preset.
        config: A file of settings.
        channels: Directions that are kept of every layer.
        device: Where the teacher computes.
        say: Told how far it is.

    Raises:
        ValueError: If there is no such teacher, the network gives no maps, the folder has another's, or the
            recipe reads none.
    """
    network = _made(teacher)
    updates = [recipe_settings(Path(config), recipe)] if config else []
    flags: Tree = {"preset": preset, "data": data, "scenes": scenes, "holdout": holdout}
    description = describe_run(recipe, flags, [*updates, *settings], saved={})
    if not hasattr(description.config, "teacher"):
        raise ValueError(
            f"recipe: expected one that reads teacher.maps, as render-distill-lidar, got {recipe}"
        )
    dataset = description.open(say=say)
    target = network if isinstance(network, ImageTeacher) else ImageTeacher(network)
    return write_maps(out, target.to(choose_device(device)), dataset, channels=channels, say=say)


def _made(teacher: str | nn.Module) -> nn.Module:
    """The network, made where its maker was named."""
    if not isinstance(teacher, str):
        return teacher
    return made("teacher", teacher, imported("teacher", teacher))
