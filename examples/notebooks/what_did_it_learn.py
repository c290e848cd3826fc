# %% [markdown]
# # What did it learn?
#
# A loss that falls says that rendering gets better. What the encoder is worth is another question: here
# are four ways to ask it, on a run of some minutes. With so few steps and scenes the numbers say how to
# look, not how good UniPAD is.
# %%
import tempfile
from pathlib import Path

from PIL import Image

import renderpretrain as rp
from renderpretrain.data import SyntheticStreet
from renderpretrain.probes import Budget, Plan, ProbeScenes, compare, run_probe, semseg
from renderpretrain.runs import read_run
from renderpretrain.training import read_rows
from renderpretrain.viz.plots import Line, Plot, save_plots

STEPS, LABELLED, SCORED = 80, 8, 4
OUT = Path(tempfile.mkdtemp())


def show(path):
    """A picture, which a notebook shows where it is the last thing in a cell."""
    with Image.open(path) as picture:
        return picture.copy()


# %% [markdown]
# ## A run
# %%
result = rp.pretrain(
    "unipad-lidar",
    data="synthetic",
    scenes=16,
    holdout=2,
    steps=STEPS,
    out=OUT / "run",
    set={
        "point_cloud_range": [-25.6, -25.6, -4.0, 25.6, 25.6, 4.8],
        "image_size": [64, 96],
        "rays.per_view": 64,
        "optimization.eval_every": max(STEPS // 4, 1),
        "optimization.monitor_every": max(STEPS // 4, 1),
    },
)

# %% [markdown]
# ## 1. Does it render streets that it never saw?
#
# Depth errors of held-out streets over the steps, rays whose returns were taken out of the input among
# them. Beside it: how many directions the encoder's features use. A curve that drops to a few is a
# collapse.
# %%
rows = read_rows(OUT / "run" / "metrics.jsonl")


def line(name, key):
    """One number of the run over its steps."""
    measured = [row for row in rows if key in row]
    return Line(name, [row["step"] for row in measured], [row[key] for row in measured])


errors = [line(k, f"eval/{k}_abs_rel") for k in ("depth", "depth_in_blocks", "depth_between_beams")]
levels = sorted({key for row in rows for key in row if key.endswith("/rank")})
ranks = [line(key.split("/", 1)[1].removesuffix("/rank"), key) for key in levels]
plots = [Plot("held-out depth, AbsRel", "step", errors), Plot("directions used", "step", ranks)]
show(save_plots(OUT / "curves.png", "what it learned", plots))

# %% [markdown]
# ## 2. What does it look like?
#
# Before and after, on a street that it never saw.
# %%
show(min((OUT / "run" / "pictures").glob("step_*.png")))

# %%
show(max((OUT / "run" / "pictures").glob("step_*.png")))

# %% [markdown]
# ## 3. Is it better than knowing nothing?
#
# Scores before and after, beside predictors that know no geometry.
# %%
for change in result.table:
    beside = "  ".join(f"{name} {value:.3f}" for name, value in change.beside.items())
    print(f"{change.metric:<30} {change.before:.3f} -> {change.after:.3f}   {beside}")

# %% [markdown]
# ## 4. What can be read off its features?
#
# One linear layer on frozen features tells classes of points: on the run's encoder, on a fresh one, and
# on hand-made numbers (position, range, intensity, heights in the column) without any network. Features
# are worth what they add to those.
# %%
run = read_run(OUT / "run")
train = [SyntheticStreet(LABELLED, seed=1, image_size=(64, 96))[k] for k in range(LABELLED)]
scored = [SyntheticStreet(SCORED, seed=2, image_size=(64, 96))[k] for k in range(SCORED)]
budget = Budget(steps=min(STEPS, 60))
plan = Plan(semseg(train[0].class_names), fractions=(1.0,), seeds=(0,), budget=budget)
trials = run_probe(plan, ProbeScenes(train, scored), run.description.build, run.weights)
for trial in trials:
    print(f"{trial.arm:<20} mIoU {trial.scores['miou']:.3f}")

# %%
[found] = compare(trials, "miou", less_is_better=False)
print(f"pre-trained over fresh: {found.relative:+.0%}, over hand-made: {found.relative_to_handmade:+.0%}")
print(f"added to hand-made numbers: {found.added_to_handmade:+.0%}")

# %% [markdown]
# The same on the command line, with several seeds and shares of the labels: `renderpretrain eval RUN
# --probe linear`.
