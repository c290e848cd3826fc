"""What a shell offers when a user presses tab: names and folders, found without importing torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECIPE_PRESETS = {
    "unipad-lidar": ("tiny", "paper"),
    "unipad-camera": ("tiny", "paper"),
    "unipad-fusion": ("tiny", "paper"),
    "ponder-outdoor": ("tiny", "paper", "paper-colour", "paper-semantic"),
    "ponder-indoor": ("tiny", "tiny-semantic", "paper", "paper-ppt"),
    "ns-mae": ("tiny", "paper"),
    "uniscene": ("tiny", "paper"),
    "render-distill-lidar": ("tiny", "base"),
    "render-distill-camera": ("tiny", "base"),
    "render-distill-fusion": ("tiny", "base"),
}
"""Recipes and their presets; a test holds them to be those of :data:`renderpretrain.recipes.RECIPES`."""

LOGGERS = ("tensorboard", "wandb", "csv")
"""What ``--log`` takes."""

HOSTS = (
    "openpcdet",
    "mmdet3d",
    "mmdet3d-0.17",
    "bevfusion",
    "pointcept",
    "torch-pointcloud",
    "timm",
    "torchvision",
)
"""Where weights can go."""

FORMATS = (*HOSTS, "safetensors", "onnx")
"""What ``export --to`` takes."""


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes whose names begin so."""
    return [name for name in RECIPE_PRESETS if name.startswith(incomplete)]


def complete_preset(ctx: Any, incomplete: str) -> list[str]:
    """Presets of the recipe that was typed before; of any where none was, or one that is not ours."""
    typed = (ctx.params.get("recipe"), ctx.params.get("name"), *ctx.args)  # the latter of an unfinished line
    recipe = next((word for word in typed if word in RECIPE_PRESETS), "")
    every = dict.fromkeys(preset for presets in RECIPE_PRESETS.values() for preset in presets)
    return [name for name in RECIPE_PRESETS.get(recipe, tuple(every)) if name.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Built-in scenes whose names begin so."""
    return [name for name in ("synthetic", "synthetic-room") if name.startswith(incomplete)]


def complete_log(incomplete: str) -> list[str]:
    """Loggers whose names begin so, also behind those that were typed before a comma."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in LOGGERS if name.startswith(last)]


def complete_format(incomplete: str) -> list[str]:
    """Hosts and formats of export whose names begin so."""
    return [name for name in FORMATS if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Run folders whose paths begin so, and folders in which there may be some."""
    return list(_found(incomplete, is_run))


def complete_weights(incomplete: str) -> list[str]:
    """Run folders and files of encoders whose paths begin so."""
    return list(_found(incomplete, lambda path: is_run(path) or path.suffix == ".safetensors"))


def is_run(path: Path) -> bool:
    """Whether a folder holds a run: a description, and where its checkpoints go."""
    return (path / "config.yaml").is_file() and (path / "checkpoints").is_dir()


def _found(incomplete: str, wanted: Any) -> Iterator[str]:
    """Paths that are wanted, and other folders, which end in a slash."""
    folder, _, start = incomplete.rpartition("/")
    within = Path(folder or ("/" if incomplete.startswith("/") else ".")).expanduser()
    try:
        children = sorted(path for path in within.iterdir() if path.name.startswith(start))
    except OSError:
        return
    for path in children:
        typed = f"{incomplete[: len(incomplete) - len(start)]}{path.name}"
        if wanted(path):
            yield typed
        elif path.is_dir() and (start or not path.name.startswith(".")):
            yield f"{typed}/"
