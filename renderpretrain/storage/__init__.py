"""Files that survive a crash: atomic writing, and checkpoints that are read without running code."""

from renderpretrain.storage.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final
from renderpretrain.storage.files import check_kept, check_target, write_atomically, write_text

__all__ = [
    "check_kept",
    "check_target",
    "load_checkpoint",
    "newest_checkpoint",
    "save_checkpoint",
    "save_final",
    "write_atomically",
    "write_text",
]
