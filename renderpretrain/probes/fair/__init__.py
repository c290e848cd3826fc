"""Fair fine-tuning: scratch until it no longer improves, both arms tuned alike, gains with intervals."""

from renderpretrain.probes.fair.bootstrap import Interval, PairedGain, paired_gain
from renderpretrain.probes.fair.compare import fine_tune_fairly
from renderpretrain.probes.fair.plan import (
    FairPlan,
    FairTrial,
    Job,
    Outcome,
    augmentation_for,
    labeled_scenes,
)
from renderpretrain.probes.fair.training import Course, Schedule, Setting

__all__ = [
    "Course",
    "FairPlan",
    "FairTrial",
    "Interval",
    "Job",
    "Outcome",
    "PairedGain",
    "Schedule",
    "Setting",
    "augmentation_for",
    "fine_tune_fairly",
    "labeled_scenes",
    "paired_gain",
]
