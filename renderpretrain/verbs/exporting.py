"""``export``: a run's encoders in the file of the framework where they are fine-tuned."""

from pathlib import Path

from torch import nn

from renderpretrain.runs import read_run
from renderpretrain.runs.trained import Encoders
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
    return export_encoders(run if alone else read_run(run, recipe, encoder), to, out, options)
