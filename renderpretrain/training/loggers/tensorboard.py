"""TensorBoard: ``tensorboard --logdir RUN/logs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from renderpretrain.runs.metrics import Row
from renderpretrain.training.loggers.logger import end_of, imported, keep_step, not_logged


class TensorBoardLogger:
    """Writes scalars, pictures and the configuration to ``logs/tensorboard``.

    A run that is resumed goes on in the same curves; rows of steps that were not logged are added first. The
    last step on the disk is kept in ``logs/tensorboard_step``.

    Raises:
        ValueError: If tensorboard is not installed.
    """

    def __init__(self) -> None:
        self.library = imported("torch.utils.tensorboard", "tensorboard", "log")
        self.writer: Any = None
        self.kept, self.last = Path(), -1

    def open(self, folder: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> str:
        """Open a file of events; TensorBoard hides what was logged past the rows that stay."""
        path = folder / "tensorboard"
        begun = path.is_dir() and any(path.iterdir())
        self.kept, self.last = folder / "tensorboard_step", end_of(rows)
        new = not_logged(rows, self.kept) if begun else rows
        past = int(new[0]["step"]) if new else self.last + 1
        self.writer = self.library.SummaryWriter(str(path), purge_step=past if begun else None)
        if not begun or not rows:
            self.writer.add_text("config", f"```yaml\n{yaml.safe_dump(dict(about), sort_keys=False)}```", 0)
        for row in new:
            self.on_step(int(row["step"]), row)
        self._flush()
        return f"tensorboard: tensorboard --logdir {path}"

    def on_step(self, step: int, row: Row) -> None:
        """Log every number of a row under its name in ``metrics.jsonl``."""
        for name, value in row.items():
            if name != "step" and self.writer is not None:
                self.writer.add_scalar(name, value, step)
        self.last = step

    def on_evaluation(self, step: int, row: Row) -> None:
        """Log what was measured between two steps, and write it to the disk at once."""
        self.on_step(step, row)
        self._flush()

    def on_image(self, step: int, path: Path) -> None:
        """Log a picture under ``pictures``."""
        if self.writer is not None:
            with Image.open(path) as picture:
                self.writer.add_image("pictures", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
            self._flush()

    def close(self) -> None:
        """Write what is held back and close the file."""
        self._flush()
        if self.writer is not None:
            self.writer.close()
        self.writer = None

    def _flush(self) -> None:
        """Write what is held back, then which step it reaches."""
        if self.writer is not None:
            self.writer.flush()
            keep_step(self.kept, self.last)
