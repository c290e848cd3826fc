"""Training: :func:`fit` and the pieces of it that a loop of your own can use one by one."""

from renderpretrain.storage.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from renderpretrain.training.baselines import RowMeans
from renderpretrain.training.distributed import Process, process_session
from renderpretrain.training.evaluate import RenderingRecipe, evaluate, evaluate_baseline
from renderpretrain.training.fit import FitResult, fit
from renderpretrain.training.metrics import Change, changes, read_rows
from renderpretrain.training.run import RunOptions
from renderpretrain.training.run_folder import RunFolder
from renderpretrain.training.schedule import build_optimizer, first_beta, lr_factor

__all__ = [
    "Change",
    "FitResult",
    "Process",
    "RenderingRecipe",
    "RowMeans",
    "RunFolder",
    "RunOptions",
    "build_optimizer",
    "changes",
    "evaluate",
    "evaluate_baseline",
    "first_beta",
    "fit",
    "load_checkpoint",
    "lr_factor",
    "newest_checkpoint",
    "process_session",
    "read_rows",
    "save_checkpoint",
]
