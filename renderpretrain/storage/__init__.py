"""Files that survive a crash: atomic writing, and tensors that are read without running code."""

from renderpretrain.storage.files import check_kept, check_target, write_atomically, write_text

__all__ = ["check_kept", "check_target", "write_atomically", "write_text"]
