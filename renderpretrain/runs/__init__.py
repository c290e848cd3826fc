"""What a run is: its description, its folder and its checkpoints, read and written here alone."""

from renderpretrain.runs.building import with_fake_tensors
from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final
from renderpretrain.runs.describing import describe_run, recipe_settings
from renderpretrain.runs.description import PrintLine, RunDescription
from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.of_objects import describe_objects
from renderpretrain.runs.saved import saved_tree
from renderpretrain.runs.trained import TrainedRun, read_description, read_run

__all__ = [
    "PrintLine",
    "RunDescription",
    "RunFolder",
    "TrainedRun",
    "describe_objects",
    "describe_run",
    "load_checkpoint",
    "newest_checkpoint",
    "read_description",
    "read_run",
    "recipe_settings",
    "save_checkpoint",
    "save_final",
    "saved_tree",
    "with_fake_tensors",
]
