"""A run that pictures and the viewer look at, trained once."""

import pytest

from renderpretrain.cli import main

SMALL = [
    "--set", "image_size=[32, 64]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=64",
    "--set", "sampler.num_samples=24", "--set", "sampler.num_importance=8",
    "--scenes", "1", "--holdout", "1", "--steps", "3", "--device", "cpu",
]  # fmt: skip


def ended(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as finished:
        main([str(argument) for argument in arguments])
    return finished.value.code or 0


@pytest.fixture
def end():
    """Runs a command and gives its exit code."""
    return ended


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of three steps, which has a point encoder and sees cameras for their colour."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert ended("pretrain", "unipad-lidar", "--out", out, *SMALL) == 0
    return out
