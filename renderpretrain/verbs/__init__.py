"""What the verbs of the command line do, as functions: the same words in, what is printed comes back."""

from renderpretrain.verbs.evaluation import evaluate
from renderpretrain.verbs.exporting import export
from renderpretrain.verbs.inspecting import inspect
from renderpretrain.verbs.preparing import prepare
from renderpretrain.verbs.pretraining import pretrain
from renderpretrain.verbs.reporting import report
from renderpretrain.verbs.teaching import write_teacher_maps

__all__ = ["evaluate", "export", "inspect", "prepare", "pretrain", "report", "write_teacher_maps"]
