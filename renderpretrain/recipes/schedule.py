"""How a recipe is optimised: the numbers a paper's training section gives."""

from typing import Annotated, Literal

from pydantic import Field

from renderpretrain.recipes.settings import Settings, Share

Multiplier = Annotated[float, Field(ge=0, le=1e6)]
"""Of a learning rate."""

NUSCENES_SAMPLES = 28130
"""Samples of the nuScenes training split: what published epochs count."""


class OptimizationConfig(Settings):
    """An optimiser with a schedule; every published number has a field."""

    steps: int = Field(400, gt=0, description="Optimiser steps.")
    batch_size: int = Field(1, gt=0, le=2**16, description="Scenes per process and step.")
    accumulate: int = Field(
        1, gt=0, le=2**16, description="Batches whose gradients are summed into one step."
    )
    lr: float = Field(
        2e-4, gt=0, le=1e6, description="Learning rate; the start of the cycle for the cyclic schedule."
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="sgd is Nesterov's, with the first beta for its momentum."
    )
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    schedule: Literal["cosine", "cyclic", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    warmup_ratio: float = Field(1 / 3, gt=0, le=1, description="Learning rate at step 0 as a share of lr.")
    min_lr_ratio: float = Field(
        1e-3, ge=0, le=1, description="Final learning rate of the cosine as a share of lr."
    )
    cyclic_peak: float = Field(10.0, gt=0, description="Peak of the cyclic schedule as a multiple of lr.")
    cyclic_end: float = Field(1e-4, gt=0, description="End of the cyclic schedule as a multiple of lr.")
    cyclic_up: float = Field(0.4, gt=0, lt=1, description="Share of the steps that go up.")
    cyclic_momentum: tuple[Share, Share] | None = Field(
        (0.95, 0.85), description="First beta at the ends and at the peak of the cycle; null keeps betas."
    )
    clip_norm: float | None = Field(
        35.0, gt=0, description="L2 norm the gradient is clipped to; null never clips."
    )
    lr_multipliers: dict[str, Multiplier] = Field(
        default_factory=dict, description="Learning-rate factors by prefix of the parameter name."
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    sync_batch_norm: bool = Field(False, description="Synchronise batch-norm statistics across GPUs.")
    gradient_norms_every: int = Field(
        0,
        ge=0,
        description="Steps between rows with the norm of every term's gradient on every encoder, at the cost "
        "of a backward pass per term; 0 never measures.",
    )
    log_every: int = Field(10, gt=0, description="Steps between console lines.")
    eval_every: int = Field(100, gt=0, description="Steps between evaluations of held-out scenes.")
    checkpoint_every: int = Field(200, gt=0, description="Steps between checkpoints.")
    checkpoint_minutes: float = Field(
        8.0,
        gt=0,
        le=10,
        description="Minutes until a checkpoint is written all the same; the first one comes after a tenth.",
    )


def tiny_optimization(lr: float) -> OptimizationConfig:
    """Of every ``tiny`` preset: minutes on two cores, a short warm-up, then a cosine; the rate is its own."""
    return OptimizationConfig(
        steps=400,
        batch_size=1,
        lr=lr,
        schedule="cosine",
        warmup_steps=20,
        min_lr_ratio=0.01,
        clip_norm=35,
    )
