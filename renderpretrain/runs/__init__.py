"""What a run is: its folder and its checkpoints, read and written here alone."""

from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final
from renderpretrain.runs.folder import RunFolder

__all__ = ["RunFolder", "load_checkpoint", "newest_checkpoint", "save_checkpoint", "save_final"]
