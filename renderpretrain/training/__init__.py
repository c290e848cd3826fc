"""Training: :func:`fit` and the pieces of it that a loop of your own can use one by one."""

from renderpretrain.runs.building import without_memory
from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from renderpretrain.runs.folder import RunFolder
from renderpretrain.training.baselines import RowMeans
from renderpretrain.training.cost import StepCost, enlarge_images, step_cost
from renderpretrain.training.distributed import Process, choose_device, process_session
from renderpretrain.training.evaluate import evaluate, evaluate_baseline
from renderpretrain.training.fit import FitResult, fit
from renderpretrain.training.held_out_views import evaluate_views
from renderpretrain.training.metrics import Change, changes, read_rows
from renderpretrain.training.order import sample_seeds
from renderpretrain.training.run import RunOptions
from renderpretrain.training.schedule import build_optimizer, first_beta, lr_factor
from renderpretrain.training.whole_scenes import whole_scenes

__all__ = [
    "Change",
    "FitResult",
    "Process",
    "RowMeans",
    "RunFolder",
    "RunOptions",
    "StepCost",
    "build_optimizer",
    "changes",
    "choose_device",
    "enlarge_images",
    "evaluate",
    "evaluate_baseline",
    "evaluate_views",
    "first_beta",
    "fit",
    "load_checkpoint",
    "lr_factor",
    "newest_checkpoint",
    "process_session",
    "read_rows",
    "sample_seeds",
    "save_checkpoint",
    "step_cost",
    "whole_scenes",
    "without_memory",
]
