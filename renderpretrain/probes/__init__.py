"""Probes: what a pre-trained encoder is worth where labels are few."""

from renderpretrain.probes.classes import occupancy, semseg
from renderpretrain.probes.depth import depth
from renderpretrain.probes.fair import FairPlan, fine_tune_fairly
from renderpretrain.probes.handmade import handmade_numbers
from renderpretrain.probes.head import Budget
from renderpretrain.probes.plan import Arm, Example, Plan, ProbeScenes, Trial
from renderpretrain.probes.probe import run_probe
from renderpretrain.probes.summary import Comparison, Spread, compare
from renderpretrain.probes.task import Drawing, ProbeSamples, Task

__all__ = [
    "Arm",
    "Budget",
    "Comparison",
    "Drawing",
    "Example",
    "FairPlan",
    "Plan",
    "ProbeSamples",
    "ProbeScenes",
    "Spread",
    "Task",
    "Trial",
    "compare",
    "depth",
    "fine_tune_fairly",
    "handmade_numbers",
    "occupancy",
    "run_probe",
    "semseg",
]
