"""Training: :func:`fit` and the pieces of it that a loop of your own can use one by one."""

from renderpretrain.encoders.norms import estimate_statistics, statistics_of
from renderpretrain.runs.building import with_fake_tensors
from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, save_final
from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.metrics import PREDICTORS, Change, append_row, changes, read_rows
from renderpretrain.training.baselines import RowConstants
from renderpretrain.training.cost import StepCost, enlarge_images, step_cost
from renderpretrain.training.distributed import Process, choose_device, process_session
from renderpretrain.training.evaluate import evaluate
from renderpretrain.training.fit import FitResult, fit
from renderpretrain.training.guards import StopRequest, stop_signals
from renderpretrain.training.health import Health, feature_health
from renderpretrain.training.held_out_views import evaluate_views
from renderpretrain.training.loggers import CsvLogger, Logger, TensorBoardLogger, WandbLogger
from renderpretrain.training.loop import Accumulated, Stepper, StepRecord, StepResult, count_step
from renderpretrain.training.nearest import first_in_cylinder
from renderpretrain.training.order import (
    MicroBatches,
    Progress,
    held_out_batch,
    sample_seeds,
    seed_generators,
)
from renderpretrain.training.pictures import save_picture
from renderpretrain.training.predictors import evaluate_predictors
from renderpretrain.training.prefetch import prefetch
from renderpretrain.training.run import RunOptions
from renderpretrain.training.schedule import build_optimizer, first_beta, lr_factor, set_step
from renderpretrain.training.training_state import (
    load_optimizer_state,
    optimizer_state,
    resume_training,
    training_state,
)
from renderpretrain.training.unmasked import encode_unmasked
from renderpretrain.training.withheld import withhold

__all__ = [
    "PREDICTORS",
    "Accumulated",
    "Change",
    "CsvLogger",
    "FitResult",
    "Health",
    "Logger",
    "MicroBatches",
    "Process",
    "Progress",
    "RowConstants",
    "RunFolder",
    "RunOptions",
    "StepCost",
    "StepRecord",
    "StepResult",
    "Stepper",
    "StopRequest",
    "TensorBoardLogger",
    "WandbLogger",
    "append_row",
    "build_optimizer",
    "changes",
    "choose_device",
    "count_step",
    "encode_unmasked",
    "enlarge_images",
    "estimate_statistics",
    "evaluate",
    "evaluate_predictors",
    "evaluate_views",
    "feature_health",
    "first_beta",
    "first_in_cylinder",
    "fit",
    "held_out_batch",
    "load_checkpoint",
    "load_optimizer_state",
    "lr_factor",
    "newest_checkpoint",
    "optimizer_state",
    "prefetch",
    "process_session",
    "read_rows",
    "resume_training",
    "sample_seeds",
    "save_checkpoint",
    "save_final",
    "save_picture",
    "seed_generators",
    "set_step",
    "statistics_of",
    "step_cost",
    "stop_signals",
    "training_state",
    "with_fake_tensors",
    "withhold",
]
