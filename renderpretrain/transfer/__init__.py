"""Taking weights home: to the frameworks where encoders are fine-tuned, and from them.

:func:`export_encoders` writes what a host's loader reads, with a report on every key and, on request, a proof
that the file computes what the encoder computes. :func:`import_encoders` brings published weights in.
:func:`load_encoder` is for plain PyTorch, :func:`push_to_hub` and :func:`from_pretrained` for a model hub.
"""

from renderpretrain.transfer.encoder import (
    Encoder,
    Pretrained,
    from_modules,
    from_recipe,
)
from renderpretrain.transfer.exporting import Export, ExportOptions, export_encoders, prepare_export
from renderpretrain.transfer.hosts import HOSTS, SOURCES
from renderpretrain.transfer.hub import from_pretrained, push_to_hub
from renderpretrain.transfer.importing import Import, ImportOptions, import_encoders
from renderpretrain.transfer.initializing import initialize_encoders
from renderpretrain.transfer.pretrained import from_run, load_encoder, load_encoders, read_pretrained
from renderpretrain.transfer.report import PartReport, TransferReport, print_report

__all__ = [
    "HOSTS",
    "SOURCES",
    "Encoder",
    "Export",
    "ExportOptions",
    "Import",
    "ImportOptions",
    "PartReport",
    "Pretrained",
    "TransferReport",
    "export_encoders",
    "from_modules",
    "from_pretrained",
    "from_recipe",
    "from_run",
    "import_encoders",
    "initialize_encoders",
    "load_encoder",
    "load_encoders",
    "prepare_export",
    "print_report",
    "push_to_hub",
    "read_pretrained",
]
