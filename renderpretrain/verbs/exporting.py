"""``export``: a run's encoders in the file of the framework where they are fine-tuned."""

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from renderpretrain.runs import RunFolder, read_run
from renderpretrain.runs.record import keep_export
from renderpretrain.runs.trained import Encoders
from renderpretrain.terminal import printable
from renderpretrain.transfer import Export, ExportOptions, export_encoders


def export(
    run: Path | str,
    *,
    to: str,
    out: Path | str,
    recipe: nn.Module | None = None,
    encoder: Encoders | None = None,
    options: ExportOptions | None = None,
) -> Export:
    """Write a run's encoders for a host, as ``renderpretrain export`` does.

    Args:
        run: A run folder, or a file that export or import wrote.
        to: A key of ``renderpretrain.transfer.HOSTS``, ``"safetensors"`` or ``"onnx"``.
        out: The file; what stood there stays unless everything went well.
        recipe: The recipe that was trained, where it was put together in Python and cannot be built again
            from the run folder; it is given the run's weights.
        encoder: Likewise an encoder that was handed in to ``pretrain`` as a module, or ``{"point": ...,
            "image": ...}``.
        options: How strict to be.

    Returns:
        The ``report`` on every key, and the ``snippet`` to paste into the host's configuration.

    Raises:
        ValueError: In the words of the command line; nothing is written then.
    """
    alone = recipe is None and encoder is None
    done = export_encoders(run if alone else read_run(run, recipe, encoder), to, out, options)
    if RunFolder(Path(run)).config.is_file():
        _remember(Path(run), Path(out), done)
    return done


def _remember(run: Path, out: Path, done: Export) -> None:
    """Note in the run's folder what was exported, for its report; where that is impossible, warn."""
    about: dict[str, Any] = {
        "file": str(out.absolute()),
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "step": done.step,
        "snippet": done.snippet,
    }
    try:
        keep_export(run, {**about, "report": done.report.as_tree()})
    except (OSError, ValueError) as error:
        sys.stderr.write(printable(f"warning: {run} does not remember the export: {error}") + "\n")
