"""Takes one step of every recipe's ``paper`` preset, and compares it with what a dry run says.

``python benchmarks/paper_steps.py [--device cuda] [--only RECIPE ...] [--limit GIB] [--json FILE]``

One synthetic scene at the published sizes, its images black: what they show changes no time and no memory.
Networks that the paper starts from published weights start from random ones, frozen where it freezes. Every
recipe runs in a process of its own; where its memory would not fit, it takes a step with smaller images,
which the table names.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from renderpretrain.data import Batch, collate
from renderpretrain.runs import RunDescription, describe_run
from renderpretrain.training import build_optimizer, enlarge_images, step_cost, with_fake_tensors

GIB = 2**30
LARGEST = 16.0
"""GiB that a step may be estimated to take."""

COLUMNS = ("recipe", "step", "forward and backward TFLOP", "peak, estimated", "peak, measured", "seconds")


def main() -> None:
    """Run what was asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("unipad-lidar", "unipad-camera", "unipad-fusion", "ponder-outdoor", "ponder-indoor", "ns-mae")
    distilled = ("render-distill-lidar", "render-distill-camera", "render-distill-fusion")
    variants = (*names, "ns-mae:camera", "ns-mae:lidar", "uniscene", "uniscene:lss", *distilled)
    parser.add_argument("--only", nargs="+", choices=variants, default=list(variants), metavar="RECIPE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--limit", type=float, default=LARGEST, help="GiB; larger steps are made smaller")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--here", action="store_true", help="in this process: one recipe, printed as JSON")
    chosen = parser.parse_args()
    if chosen.here:
        print(json.dumps(take(chosen.only[0], chosen.limit, chosen.device)))
        return
    found = [_apart(name, chosen.limit, chosen.device) for name in chosen.only]
    print("\n".join(["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *map(line, found)]))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _apart(name: str, limit: float, device: str) -> dict[str, Any]:
    """Take a recipe's step in a process of its own, so that its peak is its own."""
    command = [sys.executable, __file__, "--here", "--only", name, "--limit", str(limit), "--device", device]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        return {"recipe": name, "failed": reason}
    print(done.stdout.strip(), file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def take(name: str, limit: float, device: str) -> dict[str, Any]:
    """Estimate the step of batch 1, make it smaller until it fits, and take it."""
    for shrink in (1, 2, 4):
        job, batch = prepare(name, shrink)
        settings: Any = job.config
        # As training runs on a CPU; a GPU's step is the same for comparison, and card_steps.py has others.
        optimization = settings.optimization.model_copy(update={"precision": "fp32"})
        cost = step_cost(with_fake_tensors(job.build), batch, optimization)
        if cost.peak <= limit * GIB:
            break
    model = with_random_weights(job).to(device)
    optimizer = build_optimizer(model, settings.optimization)
    batch = batch.to(device)
    before, start = peak_memory(device), time.perf_counter()
    terms = model(batch)
    loss = torch.stack([value.float() for value in terms.values()]).sum()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.optimization.clip_norm or float("inf"))
    optimizer.step()
    if not (loss.isfinite() and norm.isfinite()):
        raise FloatingPointError(f"{name}: loss {loss.item()}, gradient {norm.item()}")
    return {
        "recipe": name,
        "image_size": settings.image_size,
        "shrink": shrink,
        "tflop": cost.step_flops / 1e12,
        "estimated": cost.peak / GIB,
        "measured": peak_memory(device) / GIB,
        "before": before / GIB,
        "seconds": time.perf_counter() - start,
        "terms": {term: value.item() for term, value in terms.items()},
    }


def prepare(name: str, shrink: int) -> tuple[RunDescription, Batch]:
    """The job and one scene, with images that are so many times smaller."""
    recipe, _, form = name.partition(":")
    changes = [{"lifter" if recipe == "uniscene" else "modality": form}] if form else []
    job = describe_run(recipe, {"preset": "paper"}, changes, saved={})
    settings: Any = job.config
    height, width = settings.image_size
    if shrink > 1:  # to sides that patches of 32 divide
        height, width = height // shrink // 32 * 32, width // shrink // 32 * 32
        changes.append({"image_size": [height, width]})
        job = describe_run(recipe, {"preset": "paper"}, changes, saved={})
    dataset = job.open(image_size=(height // 8, width // 8))
    # The last frame of a street, which has all its history.
    return job, enlarge_images(collate([dataset[3]], torch.zeros(1, dtype=torch.long)), (height, width))


def with_random_weights(job: RunDescription) -> nn.Module:
    """The recipe with random weights in the place of published ones, frozen as those would be."""
    settings: Any = job.config
    image = getattr(settings, "image", None)
    off = {name: 0 for name in ("frozen_stages", "frozen_norms") if getattr(image, name, 0)}
    if not off or image.weights is not None:
        return job.build()
    thawed = settings.model_copy(update={"image": image.model_copy(update=off)})
    model = RunDescription(**{**vars(job), "config": thawed}).build()
    if "image_backbone" not in model.encoders():  # type: ignore[operator]
        return job.build()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(model.encoders()["image_backbone"].state_dict(), path)  # type: ignore[operator]
        given = image.model_copy(update={"weights": str(path)})
        return RunDescription(**{**vars(job), "config": settings.model_copy(update={"image": given})}).build()


def peak_memory(device: str) -> int:
    """Most bytes this process has occupied so far, on a GPU in tensors."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def line(found: dict[str, Any]) -> str:
    """A step as a row of a Markdown table."""
    if "failed" in found:
        return f"| `{found['recipe']}` | {found['failed']} |" + " |" * (len(COLUMNS) - 2)
    height, width = found["image_size"]
    step = "as published" if found["shrink"] == 1 else f"images of {height} x {width}"
    numbers = [
        f"{found['tflop']:.1f}",
        f"{found['estimated']:.1f} GiB",
        f"{found['measured']:.1f} GiB",
        f"{found['seconds']:.0f}",
    ]
    return "| " + " | ".join([f"`{found['recipe']}`", f"batch 1, {step}", *numbers]) + " |"


if __name__ == "__main__":
    main()
