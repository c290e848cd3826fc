"""Weights & Biases; ``WANDB_MODE=offline`` keeps everything on this machine."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from renderpretrain.runs.metrics import Row
from renderpretrain.storage.files import write_text
from renderpretrain.training.loggers.logger import end_of, imported, keep_step, not_logged


class WandbLogger:
    """Logs to a run of Weights & Biases, whose files lie in ``logs/wandb``.

    ``WANDB_PROJECT`` names the project, ``renderpretrain`` by default; the run is called as its folder. Its
    identifier is kept in ``logs/wandb_id``, by which a resumed run goes on in the same one, and its last step
    in ``logs/wandb_step``: rows of steps that were not logged are sent first. Weights & Biases forgets
    nothing: what was logged past the checkpoint stays in its curves, beside the same steps taken again.

    Raises:
        ValueError: If wandb is not installed.
    """

    def __init__(self) -> None:
        self.library = imported("wandb", "wandb", "wandb")
        self.run: Any = None
        self.kept = Path()

    def open(self, folder: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> str:
        """Begin a run, or go on with the one whose identifier was kept."""
        kept = folder / "wandb_id"
        resumed = bool(rows) and kept.is_file()
        name = kept.read_text().strip() if resumed else secrets.token_hex(4)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.run = self.library.init(
                project=os.environ.get("WANDB_PROJECT", "renderpretrain"),
                name=folder.absolute().parent.name,
                id=name,
                resume="allow",
                dir=str(folder),
                config=dict(about),
                settings=self.library.Settings(console="off"),  # our own output goes to the terminal alone
            )
        except Exception as error:
            reason = str(error).partition("\n")[0]
            hint = "`wandb login` once, or WANDB_MODE=offline"
            raise ValueError(f"log: wandb cannot begin ({reason}); {hint}") from error
        write_text(kept, f"{name}\n")
        # By its own counter wandb would refuse the steps that a resumed run takes again.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.kept = folder / "wandb_step"
        for row in not_logged(rows, self.kept) if resumed else rows:
            self.run.log(dict(row))
        keep_step(self.kept, end_of(rows))
        return f"wandb: {self.run.url or self.run.dir}"

    def on_step(self, step: int, row: Row) -> None:
        """Log every number of a row under its name in ``metrics.jsonl``."""
        if self.run is not None:
            self.run.log({**row, "step": step})
            keep_step(self.kept, step)

    def on_evaluation(self, step: int, row: Row) -> None:
        """Log what was measured between two steps."""
        self.on_step(step, row)

    def on_image(self, step: int, path: Path) -> None:
        """Log a picture under ``pictures``."""
        if self.run is not None:
            self.run.log({"pictures": self.library.Image(str(path)), "step": step})

    def close(self) -> None:
        """Send or write what is held back, and end the run of Weights & Biases."""
        if self.run is not None:
            self.run.finish()
        self.run = None
