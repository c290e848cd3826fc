import shutil
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.ops import fold_in, per_camera, uniform

SEEDS = torch.tensor([1, 2])


def test_numbers_are_uniform():
    u = uniform(SEEDS, (1000, 100))
    # Four standard errors of 100000 draws: 4 / sqrt(12 * 1e5) for the mean, 4 / sqrt(180 * 1e5) for the
    # variance.
    assert_close(u.mean((1, 2)), torch.full((2,), 0.5), rtol=0, atol=3.7e-3)
    assert_close(u.var((1, 2)), torch.full((2,), 1 / 12), rtol=0, atol=1e-3)
    assert (u >= 0).all() and (u < 1).all()
    counts = torch.histc(u[0], 10, 0, 1)
    assert_close(counts, torch.full((10,), 1e4), rtol=0, atol=4 * 95)  # binomial: sqrt(1e5 * 0.1 * 0.9) = 95


def test_neighbours_and_samples_are_uncorrelated():
    u = uniform(SEEDS, (300, 300)) - 0.5
    for other in (u[0].roll(1, 0), u[0].roll(1, 1), u[1]):
        # Four standard deviations of a correlation of 90000 pairs.
        assert abs((u[0] * other).mean() * 12) < 4 / 300


def test_padding_an_axis_changes_nothing_else():
    assert torch.equal(uniform(SEEDS, (2, 5)), uniform(SEEDS, (3, 9))[:, :2, :5])


def test_a_sample_does_not_see_its_batch():
    assert torch.equal(uniform(SEEDS, (7,))[1], uniform(SEEDS[1:], (7,))[0])


def test_no_purpose_repeats_another():
    assert len({fold_in(SEEDS, k)[0].item() for k in range(100)}) == 100


def test_known_values_never_change():
    """Runs are repeatable across versions: these are the first numbers of seed 1."""
    assert_close(uniform(SEEDS, (2,))[0], torch.tensor(KNOWN), rtol=0, atol=0)


KNOWN = [0.7497482299804688, 0.3723933696746826]


def splitmix(bits):
    """The finaliser of splitmix64, as published."""
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    return bits ^ (bits >> 31)


@pytest.mark.parametrize("purpose", [0, 1, 7, 2**62, 2**63 - 1])
def test_a_purpose_is_folded_in_by_splitmix(purpose):
    seeds = [0, 1, 2**62 - 1, -5]
    expected = [splitmix(seed % 2**64 ^ splitmix(purpose * 0x9E3779B97F4A7C15 % 2**64)) for seed in seeds]
    assert [seed % 2**64 for seed in fold_in(torch.tensor(seeds), purpose).tolist()] == expected


@pytest.mark.parametrize("count", [1, 2, 6])
def test_every_camera_has_the_seed_of_its_number(count):
    alone = torch.stack([fold_in(SEEDS, 16 + n) for n in range(count)], 1)
    assert torch.equal(per_camera(SEEDS, count), alone.flatten())


# A fault in generated code ends the process, so it has one of its own. No size is a multiple of a vector's.
COMPILED = """
import torch
from renderpretrain import ops
from renderpretrain.samplers import LidarGuidedRays
from renderpretrain.data import Batch
from renderpretrain.geometry import Cameras, Points, Views

def step(seeds):
    folded = ops.fold_in(seeds, 3)
    return ops.uniform(folded, (1001,)), ops.uniform(folded, (7, 13)), folded

seeds = torch.arange(5)
for own, found in zip(step(seeds), torch.compile(step, fullgraph=True)(seeds)):
    assert torch.equal(own, found)

pose = torch.eye(4).expand(1, 2, 4, 4)
lens = torch.tensor([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]]).expand(1, 2, 3, 3)
points = torch.rand(1, 1001, 3) * torch.tensor([8.0, 6, 9]) - torch.tensor([4.0, 3, -1])
images, seen = torch.rand(1, 2, 3, 24, 32), torch.ones(1, 2, dtype=torch.bool)

def draw(points, seeds):
    cameras = Cameras(camera_to_world=pose, intrinsics=lens, image_size=(24, 32))
    views = Views(images, cameras, seen)
    return LidarGuidedRays(num_rays=33)(Batch(("a",), Points.from_table(points), seeds, views)).depth

torch._dynamo.config.capture_dynamic_output_shape_ops = True
own, found = draw(points, seeds[:1]), torch.compile(draw)(points, seeds[:1])
assert torch.allclose(own, found, rtol=1e-5, atol=1e-5)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the compiler's own back end needs one for C++")
def test_what_draws_compiles_with_the_default_back_end():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=500)
    assert done.stdout == "equal\n", (done.returncode, done.stderr[-3000:])
