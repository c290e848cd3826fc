"""``renderpretrain``, and ``python -m renderpretrain``, which is what ``torchrun -m`` starts."""

import os
import signal
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once and without a traceback: whatever lies on the disk is whole at every moment."""
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(128 + number)


# Before anything is imported that takes a while, for people stop what they have just started.
signal.signal(signal.SIGINT, _leave)

from renderpretrain.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
