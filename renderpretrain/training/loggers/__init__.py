"""Where the numbers of a run go beside ``metrics.jsonl``: CSV, TensorBoard, Weights & Biases.

``RunOptions(loggers=[CsvLogger()])``, or ``renderpretrain pretrain ... --log csv``; one of your own is an
object with the methods of :class:`Logger`.
"""

from collections.abc import Callable, Iterable

from renderpretrain.training.loggers.csv_file import CsvLogger
from renderpretrain.training.loggers.logger import Logger
from renderpretrain.training.loggers.tensorboard import TensorBoardLogger
from renderpretrain.training.loggers.wandb import WandbLogger

LOGGERS: dict[str, Callable[[], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "csv": CsvLogger,
}
"""Loggers by their names on the command line."""

__all__ = ["LOGGERS", "CsvLogger", "Logger", "TensorBoardLogger", "WandbLogger", "make_loggers"]


def make_loggers(names: Iterable[str]) -> tuple[Logger, ...]:
    """The loggers of some names, each once, none of them open yet.

    Args:
        names: Keys of :data:`LOGGERS`, also several in one with commas between.

    Raises:
        ValueError: If there is none of a name, or a package that it needs is not installed.
    """
    asked = [name.strip() for given in names for name in given.split(",")]
    for name in asked:
        if name not in LOGGERS:
            raise ValueError(f"log: expected {', '.join(LOGGERS)}, got {name!r}")
    return tuple(LOGGERS[name]() for name in dict.fromkeys(asked))
